//! `NetlinkInterface`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;

use super::{any_address, link, named, namespace, nodes};
use crate::net::{MacAddr, prefix};
use crate::resource::netlink::{InterfaceEnd, InterfaceKind, NetlinkInterface, Placed};
use crate::source::manifest::reader::{Fields, Read, Value};

/// What all of them have.
const COMMON: [&str; 10] = [
    "node",
    "namespace",
    "type",
    "name",
    "addresses",
    "mtu",
    "mac",
    "up",
    "noarp",
    "keepLinkLocal",
];
const VXLAN_PORT: u16 = 4789;
const GENEVE_PORT: u16 = 6081;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Type {
    Dummy,
    Bridge,
    Veth,
    Vxlan,
    Geneve,
    Ipip,
}

impl Type {
    const ALL: [(&'static str, Type); 6] = [
        ("dummy", Type::Dummy),
        ("bridge", Type::Bridge),
        ("veth", Type::Veth),
        ("vxlan", Type::Vxlan),
        ("geneve", Type::Geneve),
        ("ipip", Type::Ipip),
    ];

    /// The fields that only it has.
    fn fields(self) -> &'static [&'static str] {
        match self {
            Type::Dummy => &[],
            Type::Bridge => &["ports"],
            Type::Veth => &["peer"],
            Type::Vxlan => &["vni", "local", "dstport", "group", "dev", "remotes"],
            Type::Geneve => &["id", "remote", "dstport"],
            Type::Ipip => &["local", "remote", "ttl"],
        }
    }

    /// Devices that resolve nobody, unless told otherwise.
    fn is_noarp(self) -> bool {
        matches!(self, Type::Dummy | Type::Ipip)
    }
}

/// Reads the `spec`.
pub(in crate::source::manifest) fn read(name: &str, spec: &Value<'_>) -> Read<Placed<NetlinkInterface>> {
    let kind = spec
        .open_map()?
        .required("type", "dummy, bridge, veth, vxlan, geneve or ipip", |value| {
            value.word(&Type::ALL)
        });
    // Without it, other fields mean nothing.
    let kind = kind?;
    let known = COMMON.iter().chain(kind.fields()).copied().collect::<Vec<_>>();
    let fields = spec.map(&known)?;
    let nodes = nodes(&fields);
    let namespace = namespace(&fields);
    let end = end(name, &fields, kind);
    let what = what(&fields, kind);
    Ok(Placed {
        nodes: nodes?,
        namespace: namespace?,
        object: NetlinkInterface {
            end: end?,
            kind: what?,
        },
    })
}

/// What each end says of itself.
fn end(default_name: &str, fields: &Fields<'_>, kind: Type) -> Read<InterfaceEnd> {
    let name = named(default_name, fields);
    let addresses = fields.or("addresses", BTreeMap::new(), addresses);
    let mtu = fields.optional("mtu", |value| value.integer(68..=65_535_u32));
    let mac = fields.optional("mac", |value| value.parse(mac));
    let up = fields.or("up", true, Value::boolean);
    let noarp = fields.or("noarp", kind.is_noarp(), Value::boolean);
    let keep_link_local = fields.or("keepLinkLocal", true, Value::boolean);
    if let (Some(value), Type::Ipip) = (fields.get("mac"), kind) {
        return Err(value.refuse("ipip devices have no Ethernet address"));
    }
    let (name, alias) = name?;
    Ok(InterfaceEnd {
        name,
        alias,
        addresses: addresses?,
        mtu: mtu?,
        mac: mac?,
        up: up?,
        arp: !noarp?,
        keep_link_local: keep_link_local?,
    })
}

fn what(fields: &Fields<'_>, kind: Type) -> Read<InterfaceKind> {
    match kind {
        Type::Dummy => Ok(InterfaceKind::Dummy),
        Type::Bridge => {
            let ports = fields.or("ports", Vec::new(), |value| {
                value.each("a list of devices' names", link)
            });
            Ok(InterfaceKind::Bridge {
                ports: ports?.into_iter().collect(),
            })
        }
        Type::Veth => fields.required("peer", "the other end: its `name` at least", |value| {
            // All but the node and the type, which are the pair's.
            let known = COMMON.iter().filter(|field| !["node", "type"].contains(field));
            let fields = value.map(&known.copied().collect::<Vec<_>>())?;
            let named = fields.required("name", "the other end's name", |value| {
                value.text().map(str::to_owned)
            });
            let namespace = namespace(&fields);
            Ok(InterfaceKind::Veth {
                peer: end(&named?, &fields, Type::Veth)?,
                namespace: namespace?,
            })
        }),
        Type::Vxlan => vxlan(fields),
        Type::Geneve => {
            let vni = fields.required("id", "the VNI", |value| value.integer(0..=0x00ff_ffff));
            let remote = fields.required("remote", "the peer's address", unicast);
            let port = fields.or("dstport", GENEVE_PORT, |value| value.integer(1..=u16::MAX));
            Ok(InterfaceKind::Geneve {
                vni: vni?,
                remote: remote?,
                port: port?,
            })
        }
        Type::Ipip => {
            let local = fields.or("local", Ipv4Addr::UNSPECIFIED, ipv4);
            let remote = fields.required("remote", "the peer's IPv4 address", ipv4);
            let ttl = fields.or("ttl", 64, |value| {
                if value.is_text() {
                    return value.word(&[("inherit", 0)]);
                }
                value.integer(1..=u8::MAX)
            });
            Ok(InterfaceKind::Ipip {
                local: local?,
                remote: remote?,
                ttl: ttl?,
            })
        }
    }
}

fn vxlan(fields: &Fields<'_>) -> Read<InterfaceKind> {
    let vni = fields.required("vni", "the VNI", |value| value.integer(1..=0x00ff_ffff));
    let local = fields.optional("local", unicast);
    let port = fields.or("dstport", VXLAN_PORT, |value| value.integer(1..=u16::MAX));
    let lower = fields.optional("dev", link);
    let group = fields.optional("group", |value| {
        let group = value.parse(any_address)?;
        match group.is_multicast() {
            true => Ok(group),
            false => Err(value.refuse(format!(
                "`{group}` is no multicast group; `remotes` takes single peers"
            ))),
        }
    });
    let remotes = fields.or("remotes", Vec::new(), |value| {
        value.each("a list of addresses", unicast)
    });
    let (local, lower, group, remotes) = (local?, lower?, group?, remotes?);
    if let (Some(value), Some(_), None) = (fields.get("group"), group, &lower) {
        return Err(value.refuse("a multicast group needs `dev`, the device by which it is reached"));
    }
    let all = local.iter().chain(&group).chain(&remotes);
    let families = all.map(IpAddr::is_ipv4).collect::<BTreeSet<_>>();
    if families.len() > 1 {
        let message = "`local`, `group` and `remotes` are of one family, all IPv4 or all IPv6";
        return Err(fields.value().refuse(message));
    }
    Ok(InterfaceKind::Vxlan {
        vni: vni?,
        local,
        port: port?,
        group,
        lower,
        remotes: remotes.into_iter().collect(),
    })
}

/// CIDRs with host bits, bare addresses, or `{ address, peer }`.
pub(super) fn addresses(value: &Value<'_>) -> Read<BTreeMap<IpNet, Option<IpAddr>>> {
    let mut addresses = BTreeMap::new();
    for item in value.list("a list of addresses")? {
        let (address, peer) = one_address(&item)?;
        if addresses.insert(address, peer).is_some() {
            return Err(item.refuse(format!("`{address}` is given twice")));
        }
    }
    Ok(addresses)
}

fn one_address(value: &Value<'_>) -> Read<(IpNet, Option<IpAddr>)> {
    if value.is_text() {
        return Ok((value.parse(cidr)?, None));
    }
    let fields = value.map(&["address", "peer"])?;
    let address = fields.required("address", "the device's address", |value| value.parse(cidr));
    let peer = fields.optional("peer", |value| value.parse(cidr));
    let (address, peer) = (address?, peer?);
    let Some(peer) = peer else {
        return Ok((address, None));
    };
    if peer.addr().is_ipv4() != address.addr().is_ipv4() {
        return Err(value.refuse(format!(
            "`{}` and its peer are of different families",
            address.addr()
        )));
    }
    // As `ip address` has it: the prefix length is that of the peer.
    let address = IpNet::new(address.addr(), peer.prefix_len()).expect("of one family");
    Ok((address, Some(peer.addr())))
}

fn cidr(text: &str) -> Result<IpNet, String> {
    prefix::parse_or_address(text).ok_or_else(|| {
        format!(
            "`{text}` is no address; expected such as `10.0.0.1/24` or `fd00::1/64`, without leading zeros"
        )
    })
}

fn unicast(value: &Value<'_>) -> Read<IpAddr> {
    let address = value.parse(any_address)?;
    if address.is_multicast() || address.is_unspecified() {
        return Err(value.refuse(format!("`{address}` is no unicast address")));
    }
    Ok(address)
}

fn ipv4(value: &Value<'_>) -> Read<Ipv4Addr> {
    match unicast(value)? {
        IpAddr::V4(address) => Ok(address),
        IpAddr::V6(address) => Err(value.refuse(format!(
            "`{address}` is no IPv4 address, and ipip carries no other"
        ))),
    }
}

fn mac(text: &str) -> Result<MacAddr, String> {
    let error = || format!("`{text}` is no Ethernet address; expected such as `02:00:00:00:00:01`");
    let bytes = text.split(':').map(|byte| match byte.len() {
        2 => u8::from_str_radix(byte, 16).map_err(|_| error()),
        _ => Err(error()),
    });
    let bytes = bytes.collect::<Result<Vec<_>, _>>()?;
    let mac = MacAddr(bytes.try_into().map_err(|_| error())?);
    if mac.0[0] & 1 != 0 || mac.0 == [0; 6] {
        return Err(format!("`{text}` is no address that a device can have"));
    }
    Ok(mac)
}
