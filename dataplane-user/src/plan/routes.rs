//! Routes: for each prefix of a network an anchor route that leads to the BPF program, if there is one, and a
//! backstop route behind it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use crate::model::{
    ANCHOR_METRIC, BACKSTOP_METRIC, KernelState, MAIN_TABLE, Owner, Route, RouteKey, RouteKind,
};
use crate::net::{Family, LinkName};
use crate::resource::{Dataplane, Intent, Problem, Reason};

use super::NetworkLink;
use super::links::overlay_address;
use crate::model::devices::ANCHOR;

/// The gateways of anchor routes. No such host exists: with a gateway the kernel keeps one neighbour for all
/// destinations, without one it creates a neighbour for each destination.
const GATEWAY_V4: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);
const GATEWAY_V6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);

pub(super) fn plan(
    intent: &Intent,
    networks: &[NetworkLink<'_>],
    desired: &mut KernelState,
    problems: &mut Vec<Problem>,
) {
    for links in networks {
        let mtu = links.mtu();
        for &prefix in &links.network.prefixes {
            let source = overlay_address(intent.node(), links.network, Family::of_prefix(prefix));
            let Some(source) = source else {
                problems.push(no_source(intent, links, prefix));
                continue;
            };
            if links.dataplane == Dataplane::Ebpf {
                desired.routes.insert(
                    RouteKey::new(MAIN_TABLE, prefix, ANCHOR_METRIC),
                    anchor(source, mtu),
                );
            }
        }
    }
}

/// Backstop routes: they refuse the packets of a network for which no other route exists.
pub(super) fn backstops(networks: &[NetworkLink<'_>], desired: &mut KernelState) {
    for prefix in networks.iter().flat_map(|links| &links.network.prefixes) {
        let backstop = Route {
            owner: Owner::Adit,
            kind: RouteKind::Unreachable,
        };
        desired
            .routes
            .insert(RouteKey::new(MAIN_TABLE, *prefix, BACKSTOP_METRIC), backstop);
    }
}

/// An anchor route. It always has a source, because otherwise the underlay address leaks into the overlay,
/// and always an MTU, because nothing else limits packets reliably.
fn anchor(source: IpAddr, mtu: u32) -> Route {
    let gateway = match Family::of(source) {
        Family::Ipv4 => IpAddr::V4(GATEWAY_V4),
        Family::Ipv6 => IpAddr::V6(GATEWAY_V6),
    };
    let link = LinkName::constant(ANCHOR);
    Route {
        owner: Owner::Adit,
        kind: RouteKind::Gateway {
            gateway,
            link,
            source: Some(source),
            mtu: Some(mtu),
        },
    }
}

fn no_source(intent: &Intent, links: &NetworkLink<'_>, prefix: IpNet) -> Problem {
    let family = Family::of_prefix(prefix);
    Problem::warning(
        Reason::Incomplete,
        format!("TunnelNode/{}", intent.node().name),
        format!(
            "the node has no {family} address in TunnelNetwork/{}, so it can't reach {prefix}",
            links.network.name
        ),
        format!("add an address in {prefix} to spec.addresses"),
    )
}
