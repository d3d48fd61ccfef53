//! `NetlinkInterface`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;

use super::{
    ADDRESS, ADDRESSES, LINK_NAME, MTU, NAMESPACE, NODE, any_address, link, named, namespace, nodes,
};
use crate::net::{MacAddr, prefix};
use crate::resource::netlink::{InterfaceEnd, InterfaceKind, Namespaced, NetlinkInterface};
use crate::source::manifest::reader::{Fields, Read, Value};
use crate::source::manifest::schema::{Accepts, Field, Literal};

const DEVICE_MTU: Field = Field::optional("mtu", MTU, "chosen by the kernel", "MTU in bytes.");
const MAC: Field = Field::optional(
    "mac",
    Accepts::Text("02:00:00:00:00:01"),
    "chosen by the kernel",
    "Ethernet address of the device.",
);
const UP: Field = Field::or(
    "up",
    Accepts::Boolean,
    Literal::Boolean(true),
    "Set the device up.",
);
const NOARP: Field = Field::optional(
    "noarp",
    Accepts::Boolean,
    "`true` for dummy and ipip, else `false`",
    "Do not resolve neighbours (no ARP or neighbour discovery).",
);
const KEEP_LINK_LOCAL: Field = Field::or(
    "keepLinkLocal",
    Accepts::Boolean,
    Literal::Boolean(true),
    "Keep the IPv6 link-local addresses that the kernel creates; `false` deletes and prevents them.",
);

/// The fields of all types of devices.
const COMMON: [Field; 10] = [
    NODE,
    NAMESPACE,
    Field::required(
        "type",
        Accepts::Words(&["dummy", "bridge", "veth", "vxlan", "geneve", "ipip"]),
        "dummy, bridge, veth, vxlan, geneve or ipip",
        "Type of the device. A change of the type or of a parameter of it recreates the device.",
    ),
    LINK_NAME,
    ADDRESSES,
    DEVICE_MTU,
    MAC,
    UP,
    NOARP,
    KEEP_LINK_LOCAL,
];

const BRIDGE: [Field; 1] = [Field::or(
    "ports",
    Accepts::List(&Accepts::Text("eth1")),
    Literal::List(&[]),
    "Ports of the bridge: devices of other manifests in the same namespace. (bridge)",
)];

const VETH: [Field; 1] = [Field::required(
    "peer",
    Accepts::Map(&PEER),
    "at least the `name` of the other end",
    "The other end of the pair. (veth)",
)];

/// The fields of the other end of a veth pair.
const PEER: [Field; 8] = [
    NAMESPACE,
    Field::required(
        "name",
        Accepts::Text("eth0"),
        "the name of the other end",
        "Name of the other end.",
    ),
    ADDRESSES,
    DEVICE_MTU,
    MAC,
    UP,
    NOARP,
    KEEP_LINK_LOCAL,
];

const VXLAN: [Field; 6] = [
    Field::required("vni", Accepts::Integer(1, 0x00ff_ffff), "the VNI", "VNI. (vxlan)"),
    Field::optional(
        "local",
        Accepts::Text("192.0.2.1"),
        "chosen by the kernel",
        "Outer source address. (vxlan, ipip)",
    ),
    Field::or(
        "dstport",
        Accepts::Integer(1, 65_535),
        Literal::Integer(4789),
        "UDP port. (vxlan)",
    ),
    Field::optional(
        "group",
        Accepts::Text("239.0.0.1"),
        "none",
        "Multicast group for packets without a known destination; it requires `dev`. (vxlan)",
    ),
    Field::optional(
        "dev",
        Accepts::Text("eth0"),
        "none",
        "Device through which outer packets leave. (vxlan)",
    ),
    Field::or(
        "remotes",
        Accepts::List(&Accepts::Text("192.0.2.2")),
        Literal::List(&[]),
        "Addresses of peers that get packets without a known destination. (vxlan)",
    ),
];

const GENEVE: [Field; 3] = [
    Field::required("id", Accepts::Integer(0, 0x00ff_ffff), "the VNI", "VNI. (geneve)"),
    Field::required(
        "remote",
        Accepts::Text("192.0.2.2"),
        "the address of the peer",
        "Address of the peer. (geneve, ipip)",
    ),
    Field::or(
        "dstport",
        Accepts::Integer(1, 65_535),
        Literal::Integer(6081),
        "UDP port. (geneve)",
    ),
];

const IPIP: [Field; 3] = [
    Field::optional(
        "local",
        Accepts::Text("192.0.2.1"),
        "chosen by the kernel",
        "Outer source address. (ipip)",
    ),
    Field::required(
        "remote",
        Accepts::Text("192.0.2.2"),
        "the IPv4 address of the peer",
        "Address of the peer. (ipip)",
    ),
    Field::or(
        "ttl",
        Accepts::Either(&[Accepts::Words(&["inherit"]), Accepts::Integer(1, 255)]),
        Literal::Integer(64),
        "TTL of the outer header; `inherit` copies it from the inner header. (ipip)",
    ),
];

/// All types of devices, each with its fields.
pub(in crate::source::manifest) fn by_type() -> Vec<(&'static str, Vec<&'static Field>)> {
    let types = Type::ALL.into_iter();
    let types = types.map(|(name, kind)| (name, COMMON.iter().chain(kind.fields()).collect()));
    types.collect()
}

/// The fields of all types. A name that several types have appears once for each.
pub(in crate::source::manifest) fn all_fields() -> Vec<&'static Field> {
    let of_types = Type::ALL.into_iter().flat_map(|(_, kind)| kind.fields());
    COMMON.iter().chain(of_types).collect()
}

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

    /// The fields that only this type has.
    fn fields(self) -> &'static [Field] {
        match self {
            Type::Dummy => &[],
            Type::Bridge => &BRIDGE,
            Type::Veth => &VETH,
            Type::Vxlan => &VXLAN,
            Type::Geneve => &GENEVE,
            Type::Ipip => &IPIP,
        }
    }

    /// Whether devices of this type do not resolve neighbours by default.
    fn is_noarp(self) -> bool {
        matches!(self, Type::Dummy | Type::Ipip)
    }
}

/// Reads the `spec`.
pub(in crate::source::manifest) fn read(name: &str, spec: &Value<'_>) -> Read<Namespaced<NetlinkInterface>> {
    let give = "dummy, bridge, veth, vxlan, geneve or ipip";
    let kind = spec
        .open_map()?
        .required_key("type", give, |value| value.word(&Type::ALL));
    // Without the type the other fields can't be checked.
    let kind = kind?;
    let fields = spec.map(COMMON.iter().chain(kind.fields()))?;
    let nodes = nodes(&fields);
    let namespace = namespace(&fields);
    let end = end(name, &fields, kind);
    let what = what(&fields, kind);
    Ok(Namespaced {
        nodes: nodes?,
        namespace: namespace?,
        object: NetlinkInterface {
            end: end?,
            kind: what?,
        },
    })
}

/// The fields that each end of a device has.
fn end(default_name: &str, fields: &Fields<'_>, kind: Type) -> Read<InterfaceEnd> {
    let name = named(default_name, fields);
    let addresses = fields.or("addresses", addresses);
    let mtu = fields.optional_integer("mtu");
    let mac = fields.optional("mac", |value| value.parse(mac));
    let up = fields.boolean("up");
    let noarp = fields.optional("noarp", Value::boolean);
    let keep_link_local = fields.boolean("keepLinkLocal");
    if let (Some(value), Type::Ipip) = (fields.get("mac"), kind) {
        return Err(value.reject("ipip devices have no Ethernet address; remove `mac`"));
    }
    let (name, alias) = name?;
    Ok(InterfaceEnd {
        name,
        alias,
        addresses: addresses?,
        mtu: mtu?,
        mac: mac?,
        up: up?,
        arp: !noarp?.unwrap_or(kind.is_noarp()),
        keep_link_local: keep_link_local?,
    })
}

fn what(fields: &Fields<'_>, kind: Type) -> Read<InterfaceKind> {
    match kind {
        Type::Dummy => Ok(InterfaceKind::Dummy),
        Type::Bridge => {
            let ports = fields.or("ports", |value| value.each("a list of devices' names", link));
            Ok(InterfaceKind::Bridge {
                ports: ports?.into_iter().collect(),
            })
        }
        Type::Veth => fields.required("peer", |value| {
            let fields = value.map(&PEER)?;
            let named = fields.required("name", |value| value.text().map(str::to_owned));
            let namespace = namespace(&fields);
            Ok(InterfaceKind::Veth {
                peer: end(&named?, &fields, Type::Veth)?,
                namespace: namespace?,
            })
        }),
        Type::Vxlan => vxlan(fields),
        Type::Geneve => {
            let vni = fields.required("id", |value| fields.in_range("id", value));
            let remote = fields.required("remote", unicast);
            let port = fields.integer("dstport");
            Ok(InterfaceKind::Geneve {
                vni: vni?,
                remote: remote?,
                port: port?,
            })
        }
        Type::Ipip => {
            let local = fields.optional("local", ipv4);
            let remote = fields.required("remote", ipv4);
            let ttl = fields.or("ttl", |value| {
                if value.is_text() {
                    return value.word(&[("inherit", 0)]);
                }
                fields.in_range("ttl", value)
            });
            Ok(InterfaceKind::Ipip {
                local: local?.unwrap_or(Ipv4Addr::UNSPECIFIED),
                remote: remote?,
                ttl: ttl?,
            })
        }
    }
}

fn vxlan(fields: &Fields<'_>) -> Read<InterfaceKind> {
    let vni = fields.required("vni", |value| fields.in_range("vni", value));
    let local = fields.optional("local", unicast);
    let port = fields.integer("dstport");
    let lower = fields.optional("dev", link);
    let group = fields.optional("group", |value| {
        let group = value.parse(any_address)?;
        match group.is_multicast() {
            true => Ok(group),
            false => Err(value.reject(format!(
                "`{group}` is not a multicast address; give unicast addresses in `remotes`"
            ))),
        }
    });
    let remotes = fields.or("remotes", |value| value.each("a list of addresses", unicast));
    let (local, lower, group, remotes) = (local?, lower?, group?, remotes?);
    if let (Some(value), Some(_), None) = (fields.get("group"), group, &lower) {
        return Err(
            value.reject("a multicast group needs `dev`; give the device through which the group is reached")
        );
    }
    let all = local.iter().chain(&group).chain(&remotes);
    let families = all.map(IpAddr::is_ipv4).collect::<BTreeSet<_>>();
    if families.len() > 1 {
        let message =
            "`local`, `group` and `remotes` are of different families; give only IPv4 or only IPv6 addresses";
        return Err(fields.value().reject(message));
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
            return Err(item.reject(format!("`{address}` is given twice")));
        }
    }
    Ok(addresses)
}

fn one_address(value: &Value<'_>) -> Read<(IpNet, Option<IpAddr>)> {
    if value.is_text() {
        return Ok((value.parse(cidr)?, None));
    }
    let fields = value.map(&ADDRESS)?;
    let address = fields.required("address", |value| value.parse(cidr));
    let peer = fields.optional("peer", |value| value.parse(cidr));
    let (address, peer) = (address?, peer?);
    let Some(peer) = peer else {
        return Ok((address, None));
    };
    if peer.addr().is_ipv4() != address.addr().is_ipv4() {
        return Err(value.reject(format!(
            "`{}` and its peer are of different families; give two addresses of one family",
            address.addr()
        )));
    }
    // As in `ip address`, the prefix length is that of the peer.
    let address = IpNet::new(address.addr(), peer.prefix_len()).expect("of one family");
    Ok((address, Some(peer.addr())))
}

fn cidr(text: &str) -> Result<IpNet, String> {
    prefix::parse_or_address(text).ok_or_else(|| {
        format!(
            "`{text}` is not an address; expected for example `10.0.0.1/24` or `fd00::1/64`, without leading zeros"
        )
    })
}

fn unicast(value: &Value<'_>) -> Read<IpAddr> {
    let address = value.parse(any_address)?;
    if address.is_multicast() || address.is_unspecified() {
        return Err(value.reject(format!("`{address}` is not a unicast address")));
    }
    Ok(address)
}

fn ipv4(value: &Value<'_>) -> Read<Ipv4Addr> {
    match unicast(value)? {
        IpAddr::V4(address) => Ok(address),
        IpAddr::V6(address) => Err(value.reject(format!(
            "`{address}` is an IPv6 address; ipip devices need IPv4 addresses"
        ))),
    }
}

fn mac(text: &str) -> Result<MacAddr, String> {
    let error = || format!("`{text}` is not an Ethernet address; expected for example `02:00:00:00:00:01`");
    let bytes = text.split(':').map(|byte| match byte.len() {
        2 => u8::from_str_radix(byte, 16).map_err(|_| error()),
        _ => Err(error()),
    });
    let bytes = bytes.collect::<Result<Vec<_>, _>>()?;
    let mac = MacAddr(bytes.try_into().map_err(|_| error())?);
    if mac.0[0] & 1 != 0 || mac.0 == [0; 6] {
        return Err(format!(
            "`{text}` can't be the address of a device; expected a unicast address, for example `02:00:00:00:00:01`"
        ));
    }
    Ok(mac)
}
