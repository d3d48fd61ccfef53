//! `NetlinkInterface`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;

use super::{
    ADDRESS, ADDRESSES, LINK_NAME, MTU, NAMESPACE, NODE, any_address, link, named, namespace, nodes,
};
use crate::net::{MacAddr, prefix};
use crate::resource::netlink::{InterfaceEnd, InterfaceKind, NetlinkInterface, Placed};
use crate::source::manifest::reader::{Fields, Read, Value};
use crate::source::manifest::schema::{Field, Literal, Takes};

const DEVICE_MTU: Field = Field::optional("mtu", MTU, "the kernel's choice", "MTU in bytes.");
const MAC: Field = Field::optional(
    "mac",
    Takes::Text("02:00:00:00:00:01"),
    "the kernel's choice",
    "Ethernet address.",
);
const UP: Field = Field::or(
    "up",
    Takes::Boolean,
    Literal::Boolean(true),
    "Bring the device up.",
);
const NOARP: Field = Field::optional(
    "noarp",
    Takes::Boolean,
    "`true` for dummy and ipip, else `false`",
    "Do not resolve neighbours.",
);
const KEEP_LINK_LOCAL: Field = Field::or(
    "keepLinkLocal",
    Takes::Boolean,
    Literal::Boolean(true),
    "Keep the IPv6 link-local addresses that the kernel creates; `false` deletes and prevents them.",
);

/// What all of them have.
const COMMON: [Field; 10] = [
    NODE,
    NAMESPACE,
    Field::required(
        "type",
        Takes::Words(&["dummy", "bridge", "veth", "vxlan", "geneve", "ipip"]),
        "dummy, bridge, veth, vxlan, geneve or ipip",
        "Kind of device. Changing it, or a parameter of it, recreates the device.",
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
    Takes::List(&Takes::Text("eth1")),
    Literal::List(&[]),
    "Ports of the bridge: devices of other manifests in the same namespace. (bridge)",
)];

const VETH: [Field; 1] = [Field::required(
    "peer",
    Takes::Map(&PEER),
    "the other end: its `name` at least",
    "The other end of the pair. (veth)",
)];

/// What the other end of a pair has.
const PEER: [Field; 8] = [
    NAMESPACE,
    Field::required(
        "name",
        Takes::Text("eth0"),
        "the other end's name",
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
    Field::required("vni", Takes::Integer(1, 0x00ff_ffff), "the VNI", "VNI. (vxlan)"),
    Field::optional(
        "local",
        Takes::Text("192.0.2.1"),
        "the kernel's choice",
        "Outer source. (vxlan, ipip)",
    ),
    Field::or(
        "dstport",
        Takes::Integer(1, 65_535),
        Literal::Integer(4789),
        "UDP port. (vxlan)",
    ),
    Field::optional(
        "group",
        Takes::Text("239.0.0.1"),
        "none",
        "Multicast group for packets without a known destination; it needs `dev`. (vxlan)",
    ),
    Field::optional(
        "dev",
        Takes::Text("eth0"),
        "none",
        "Device by which packets leave. (vxlan)",
    ),
    Field::or(
        "remotes",
        Takes::List(&Takes::Text("192.0.2.2")),
        Literal::List(&[]),
        "Peers that get packets without a known destination. (vxlan)",
    ),
];

const GENEVE: [Field; 3] = [
    Field::required("id", Takes::Integer(0, 0x00ff_ffff), "the VNI", "VNI. (geneve)"),
    Field::required(
        "remote",
        Takes::Text("192.0.2.2"),
        "the peer's address",
        "The peer. (geneve, ipip)",
    ),
    Field::or(
        "dstport",
        Takes::Integer(1, 65_535),
        Literal::Integer(6081),
        "UDP port. (geneve)",
    ),
];

const IPIP: [Field; 3] = [
    Field::optional(
        "local",
        Takes::Text("192.0.2.1"),
        "the kernel's choice",
        "Outer source. (ipip)",
    ),
    Field::required(
        "remote",
        Takes::Text("192.0.2.2"),
        "the peer's IPv4 address",
        "The peer. (ipip)",
    ),
    Field::or(
        "ttl",
        Takes::Either(&[Takes::Words(&["inherit"]), Takes::Integer(1, 255)]),
        Literal::Integer(64),
        "Outer TTL; `inherit` copies the inner one. (ipip)",
    ),
];

/// The types of devices, each with its fields.
pub(in crate::source::manifest) fn by_type() -> Vec<(&'static str, Vec<&'static Field>)> {
    let types = Type::ALL.into_iter();
    let types = types.map(|(name, kind)| (name, COMMON.iter().chain(kind.fields()).collect()));
    types.collect()
}

/// Those of all types; a name that several types have is there once for each.
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

    /// The fields that only it has.
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

    /// Devices that resolve nobody, unless told otherwise.
    fn is_noarp(self) -> bool {
        matches!(self, Type::Dummy | Type::Ipip)
    }
}

/// Reads the `spec`.
pub(in crate::source::manifest) fn read(name: &str, spec: &Value<'_>) -> Read<Placed<NetlinkInterface>> {
    let give = "dummy, bridge, veth, vxlan, geneve or ipip";
    let kind = spec
        .open_map()?
        .required_key("type", give, |value| value.word(&Type::ALL));
    // Without it, other fields mean nothing.
    let kind = kind?;
    let fields = spec.map(COMMON.iter().chain(kind.fields()))?;
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
    let addresses = fields.or("addresses", addresses);
    let mtu = fields.optional_integer("mtu");
    let mac = fields.optional("mac", |value| value.parse(mac));
    let up = fields.boolean("up");
    let noarp = fields.optional("noarp", Value::boolean);
    let keep_link_local = fields.boolean("keepLinkLocal");
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
            false => Err(value.refuse(format!(
                "`{group}` is no multicast group; `remotes` takes single peers"
            ))),
        }
    });
    let remotes = fields.or("remotes", |value| value.each("a list of addresses", unicast));
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
    let fields = value.map(&ADDRESS)?;
    let address = fields.required("address", |value| value.parse(cidr));
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
