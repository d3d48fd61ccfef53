//! Random changes to messages of rtnetlink about each kind of object. A managed object that is decoded is
//! equal to the object in the message by which Adit would create it.

use std::net::IpAddr;

use netlink_packet_route::AddressFamily;
use proptest::test_runner::TestCaseError;

use super::events::Interest;
use super::link_table::LinkTable;
use super::marks::Marks;
use super::message::{Request, messages};
use super::nexthop::NextHopTable;
use super::{address, flood, link, neighbour, nexthop, nsid, route, rule, unmarked};
use crate::fuzz::{Verdict, feed, same};
use crate::kernel::fuzz::bodies;
use crate::model::{Owner, Route, RouteKey};
use crate::net::Family;

const LINKS: &[u8] = include_bytes!("../examples/links");
const ADDRESSES: &[u8] = include_bytes!("../examples/addresses");
const ROUTES_IPV4: &[u8] = include_bytes!("../examples/routes-ipv4");
const ROUTES_IPV6: &[u8] = include_bytes!("../examples/routes-ipv6");
const RULES_IPV4: &[u8] = include_bytes!("../examples/rules-ipv4");
const RULES_IPV6: &[u8] = include_bytes!("../examples/rules-ipv6");
const NEIGHBOURS: &[u8] = include_bytes!("../examples/neighbours");
const FLOOD: &[u8] = include_bytes!("../examples/flood");
const NEXT_HOPS: &[u8] = include_bytes!("../examples/nexthops");
const NUMBERS: &[u8] = include_bytes!("../examples/numbers");
const FOUND: [&[u8]; 3] = [
    include_bytes!("../examples/found-ipv4"),
    include_bytes!("../examples/found-ipv6"),
    include_bytes!("../examples/path"),
];

/// The devices of the examples.
fn devices() -> Vec<link::Observed> {
    let devices = bodies(LINKS);
    let devices = devices
        .iter()
        .filter_map(|body| link::read(body).expect("as the kernel wrote it"));
    devices.collect()
}

fn next_hops(links: &LinkTable) -> NextHopTable {
    let objects = bodies(NEXT_HOPS);
    let objects = objects
        .iter()
        .filter_map(|body| nexthop::read(body, links).expect("as the kernel wrote it"));
    let mut table = NextHopTable::default();
    table.refill(objects.collect());
    table
}

/// The body of a request.
fn body(request: &Request) -> Vec<u8> {
    let mut datagram = Vec::new();
    request.write(&mut datagram, 0, 1);
    messages(&datagram).expect("as it was written")[0].body.to_vec()
}

/// Decodes a request, which must succeed and must not yield `None`.
fn again<T, E: std::fmt::Display>(read: Result<Option<T>, E>) -> Result<T, TestCaseError> {
    match read {
        Ok(Some(read)) => Ok(read),
        Ok(None) => Err(TestCaseError::fail("the encoded object decodes to nothing")),
        Err(error) => Err(TestCaseError::fail(format!(
            "the encoded object can't be decoded: {error}"
        ))),
    }
}

#[test]
fn links() {
    feed(&bodies(LINKS), &[], |bytes| {
        let Ok(Some(read)) = link::read(bytes) else {
            return Ok(Verdict::Refused);
        };
        let marks = match read.link.owner {
            Owner::Adit => Marks::Adit,
            _ => Marks::None,
        };
        let Some(request) = link::create(&read.name, &read.link, read.lower, None, marks) else {
            return Ok(Verdict::Accepted);
        };
        let made = again(link::read(&body(&request)))?;
        // A request has no link layer, which would tell that there is a MAC address, and does not contain
        // what follows a creation.
        let mut expected = read.link.clone();
        (expected.mac, expected.up, expected.generates_addresses) = (None, false, false);
        same(&(expected, read.name), &(made.link, made.name))
    });
}

#[test]
fn addresses() {
    feed(&bodies(ADDRESSES), &[], |bytes| {
        let Ok(Some(read)) = address::read(bytes) else {
            return Ok(Verdict::Refused);
        };
        let mut expected = read.address;
        let marks = match expected.owner {
            Owner::Adit => Marks::Adit,
            _ => Marks::None,
        };
        let request = address::create(read.index, read.prefix, read.address, marks);
        let made = again(address::read(&body(&request)))?;
        if marks == Marks::None {
            expected.owner = Owner::Other;
        }
        same(
            &(read.index, read.prefix, expected),
            &(made.index, made.prefix, made.address),
        )
    });
}

#[test]
fn routes_of_ipv4() {
    routes(AddressFamily::Inet, ROUTES_IPV4);
}

#[test]
fn routes_of_ipv6() {
    routes(AddressFamily::Inet6, ROUTES_IPV6);
}

fn routes(family: AddressFamily, dump: &[u8]) {
    let links: LinkTable = devices().iter().collect();
    let next_hops = next_hops(&links);
    feed(&bodies(dump), &[], |bytes| {
        let known = route::Known {
            links: &links,
            next_hops: &next_hops,
        };
        let read = |body: &[u8]| route::read(body, family, known, &route::Others::default());
        let Ok(Some((key, route))) = read(bytes) else {
            return Ok(Verdict::Refused);
        };
        if route.owner != Owner::Adit {
            return Ok(Verdict::Accepted);
        }
        written_again(&key, &route, known, read)
    });
}

/// Decodes a managed route from the request that creates it.
fn written_again(
    key: &RouteKey,
    route: &Route,
    known: route::Known<'_>,
    read: impl Fn(&[u8]) -> Result<Option<(RouteKey, Route)>, netlink_packet_core::DecodeError>,
) -> Result<Verdict, TestCaseError> {
    // A missing device or object, or a kind that Adit does not create.
    let Ok(Some(request)) = route::write(route::Mode::Create, key, &route.kind, known, Marks::Adit) else {
        return Ok(Verdict::Accepted);
    };
    let made = again(read(&body(&request)))?;
    same(&(*key, route.clone()), &made)
}

#[test]
fn every_desired_route_of_ipv4() {
    every_route(AddressFamily::Inet, ROUTES_IPV4);
}

#[test]
fn every_desired_route_of_ipv6() {
    every_route(AddressFamily::Inet6, ROUTES_IPV6);
}

fn every_route(family: AddressFamily, dump: &[u8]) {
    let links: LinkTable = devices().iter().collect();
    let mut examples = bodies(dump);
    examples.extend(FOUND.iter().flat_map(|answer| bodies(answer)));
    feed(&examples, &[], |bytes| {
        let by = unmarked::read_route_by(bytes, family, 3);
        let by = by.ok().flatten().is_some();
        let way = route::read_path(bytes).ok().flatten().is_some();
        let found = route::read_found(bytes, &links).ok().flatten().is_some();
        let default = route::defaults::read(bytes, family, &links).ok().flatten();
        Ok(Verdict::of(
            (by || way || found || default.is_some()).then_some(&()),
        ))
    });
}

#[test]
fn rules_of_ipv4() {
    rules(Family::Ipv4, RULES_IPV4);
}

#[test]
fn rules_of_ipv6() {
    rules(Family::Ipv6, RULES_IPV6);
}

fn rules(family: Family, dump: &[u8]) {
    feed(&bodies(dump), &[], |bytes| {
        let Ok((rule, _)) = rule::read_any(bytes, family) else {
            return Ok(Verdict::Refused);
        };
        let Some(request) = rule::create(&rule, Marks::Adit) else {
            return Ok(Verdict::Accepted);
        };
        let made = again(rule::read(&body(&request), family))?;
        same(&rule, &made)
    });
}

#[test]
fn neighbours() {
    feed(&bodies(NEIGHBOURS), &[], |bytes| {
        let Ok(Some(read)) = neighbour::read(bytes) else {
            return Ok(Verdict::Refused);
        };
        let request = neighbour::put(read.index, read.address, read.neighbour.mac);
        let made = again(neighbour::read(&body(&request)))?;
        same(
            &(read.index, read.address, read.neighbour.mac),
            &(made.index, made.address, made.neighbour.mac),
        )
    });
}

#[test]
fn default_destinations() {
    let vxlan = devices().into_iter().find(|device| device.name.as_str() == "vx");
    let index = vxlan.expect("it is among the examples").index;
    feed(&bodies(FLOOD), &[], |bytes| {
        let Ok(Some(to)) = flood::read(bytes, index) else {
            return Ok(Verdict::Refused);
        };
        let made: IpAddr = again(flood::read(&body(&flood::add(index, to)), index))?;
        same(&to, &made)
    });
}

#[test]
fn next_hop_objects() {
    let links: LinkTable = devices().iter().collect();
    let known = next_hops(&links);
    feed(&bodies(NEXT_HOPS), &[], |bytes| {
        let (Ok(Some(read)), Ok(Some(id))) = (nexthop::read(bytes, &links), nexthop::id(bytes)) else {
            return Ok(Verdict::Refused);
        };
        let mut table = NextHopTable::default();
        table.refill(vec![read]);
        let object = table.object(id);
        let Some(request) = nexthop::create(id, &object, &known, &links) else {
            return Ok(Verdict::Accepted);
        };
        let made = again(nexthop::read(&body(&request), &links))?;
        let mut again = NextHopTable::default();
        again.refill(vec![made]);
        same(&object, &again.object(id))
    });
}

#[test]
fn numbers_of_namespaces() {
    feed(&bodies(NUMBERS), &[], |bytes| {
        Ok(Verdict::of(nsid::read(bytes).as_ref()))
    });
}

#[test]
fn datagrams_of_answers_and_events() {
    let devices = devices();
    let seen = || {
        let mut interest = Interest::default();
        interest.observed(&devices, tokio::time::Instant::now());
        interest
    };
    let mut interest = seen();
    interest.set_elsewhere([(7, seen())].into(), None);
    let mut examples: Vec<Vec<u8>> = [ADDRESSES, NEIGHBOURS, NEXT_HOPS, NUMBERS]
        .into_iter()
        .chain([ROUTES_IPV4, ROUTES_IPV6, RULES_IPV4, RULES_IPV6])
        .map(<[u8]>::to_vec)
        .collect();
    examples.push(LINKS[..4096].to_vec());
    feed(&examples, &[], |bytes| {
        let Ok(messages) = messages(bytes) else {
            return Ok(Verdict::Refused);
        };
        for message in &messages {
            for namespace in [None, Some(7)] {
                interest.matter_from(namespace, message);
            }
            // Check all messages, because the kind may be wrong, too.
            let refused = message.verdict().err();
            refused.map(|failure| failure.into_error("try it").to_string());
        }
        Ok(Verdict::Accepted)
    });
}
