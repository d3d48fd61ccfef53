//! The kinds of links: encodes and decodes `IFLA_LINKINFO`.

use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::RawFd;

use netlink_packet_core::{
    DecodeError, NlaBuffer, NlasIterator, Parseable, ParseableParametrized as _, parse_string,
};
use netlink_packet_route::IpProtocol;
use netlink_packet_route::link::{
    InfoData, InfoGeneve, InfoIpTunnel, InfoKind, InfoVeth, InfoVxlan, LinkMessage,
};
use rtnetlink::{LinkMessageBuilder, LinkUnspec};

use crate::model::{LINK_GROUP, LinkKind};
use crate::net::{LinkName, PortRange};

/// Encodes the kind of a link; `None` for kinds that Adit does not create. `lower` is the index of the lower
/// device, `peer` the open namespace of the other end of a pair.
///
/// The builders of rtnetlink 0.24 are not used here, because each kind has a builder of another type:
/// attributes that all links have would have to be set for each.
pub(super) fn write(
    kind: &LinkKind,
    lower: Option<u32>,
    peer: Option<RawFd>,
) -> Option<LinkMessageBuilder<LinkUnspec>> {
    let (kind, data) = match kind {
        LinkKind::Dummy => (InfoKind::Dummy, None),
        LinkKind::Geneve { port } => {
            let geneve = vec![
                InfoGeneve::CollectMetadata,
                InfoGeneve::Port(*port),
                InfoGeneve::UdpZeroCsum6Rx(true),
            ];
            (InfoKind::Geneve, Some(InfoData::Geneve(geneve)))
        }
        LinkKind::Vxlan { port, source_ports } => {
            let mut vxlan = vec![
                InfoVxlan::CollectMetadata(true),
                InfoVxlan::Port(*port),
                // Learning is on by default and would fill the forwarding table with the addresses of peers.
                InfoVxlan::Learning(false),
                InfoVxlan::UDPZeroCsumRX(true),
            ];
            let range = source_ports.map(|range| InfoVxlan::PortRange((range.low(), range.high())));
            vxlan.extend(range);
            (InfoKind::Vxlan, Some(InfoData::Vxlan(vxlan)))
        }
        LinkKind::WireGuard => (InfoKind::Wireguard, None),
        LinkKind::Ipip { protocol } => (InfoKind::IpIp, Some(InfoData::IpTunnel(ip_tunnel(*protocol)))),
        LinkKind::Ip6tnl { protocol } => (InfoKind::Ip6Tnl, Some(InfoData::IpTunnel(ip_tunnel(*protocol)))),
        LinkKind::Bridge => (InfoKind::Bridge, None),
        LinkKind::Veth(other) => {
            let end = InfoVeth::Peer(veth_end(&other.name, peer));
            (InfoKind::Veth, Some(InfoData::Veth(end)))
        }
        LinkKind::VxlanTo {
            vni,
            local,
            port,
            group,
            lower: _,
        } => {
            let mut vxlan = vxlan_to(*vni, *port, *local, *group);
            vxlan.extend(lower.map(InfoVxlan::Link));
            (InfoKind::Vxlan, Some(InfoData::Vxlan(vxlan)))
        }
        LinkKind::GeneveTo { vni, remote, port } => {
            let remote = match remote {
                IpAddr::V4(remote) => InfoGeneve::Remote(*remote),
                IpAddr::V6(remote) => InfoGeneve::Remote6(*remote),
            };
            let geneve = vec![
                InfoGeneve::Id(*vni),
                remote,
                InfoGeneve::Port(*port),
                InfoGeneve::UdpZeroCsum6Rx(true),
            ];
            (InfoKind::Geneve, Some(InfoData::Geneve(geneve)))
        }
        LinkKind::IpipTo { local, remote, ttl } => {
            let tunnel = vec![
                InfoIpTunnel::Local((*local).into()),
                InfoIpTunnel::Remote((*remote).into()),
                InfoIpTunnel::Ttl(*ttl),
                InfoIpTunnel::PMtuDisc(true),
                InfoIpTunnel::Protocol(IpProtocol::Ipip),
            ];
            (InfoKind::IpIp, Some(InfoData::IpTunnel(tunnel)))
        }
        LinkKind::Other(_) => return None,
    };
    let message = LinkMessageBuilder::new_with_info_kind(kind);
    Some(match data {
        Some(data) => message.set_info_data(data),
        None => message,
    })
}

/// The attributes of a VXLAN device with a fixed VNI.
fn vxlan_to(vni: u32, port: u16, local: Option<IpAddr>, group: Option<IpAddr>) -> Vec<InfoVxlan> {
    let mut vxlan = vec![
        InfoVxlan::Id(vni),
        InfoVxlan::Port(port),
        InfoVxlan::UDPZeroCsumRX(true),
    ];
    vxlan.extend(local.map(|local| match local {
        IpAddr::V4(local) => InfoVxlan::Local(local),
        IpAddr::V6(local) => InfoVxlan::Local6(local),
    }));
    vxlan.extend(group.map(|group| match group {
        IpAddr::V4(group) => InfoVxlan::Group(group),
        IpAddr::V6(group) => InfoVxlan::Group6(group),
    }));
    vxlan
}

/// The other end of a pair: down and marked, as the end that the message creates.
fn veth_end(name: &LinkName, namespace: Option<RawFd>) -> LinkMessage {
    let mut end = LinkUnspec::new_with_name(name.as_str()).link_group(LINK_GROUP);
    if let Some(namespace) = namespace {
        end = end.setns_by_fd(namespace);
    }
    end.build()
}

fn ip_tunnel(protocol: u8) -> Vec<InfoIpTunnel> {
    vec![
        InfoIpTunnel::CollectMetadata,
        InfoIpTunnel::Protocol(protocol.into()),
    ]
}

/// Decodes an `IFLA_LINKINFO`, and the index of the lower device; `None` for devices without kind.
pub(super) fn read(info: &[u8]) -> Result<Option<(LinkKind, Option<u32>)>, DecodeError> {
    let mut kind = None;
    let mut data = Vec::new();
    for attribute in NlasIterator::new(info) {
        let attribute = attribute?;
        match attribute.kind() {
            libc::IFLA_INFO_KIND => kind = Some(parse_string(attribute.value())?),
            libc::IFLA_INFO_DATA => data = attribute.value().to_vec(),
            _ => {}
        }
    }
    Ok(kind.map(|kind| {
        let kind = match kind.as_str() {
            "dummy" => LinkKind::Dummy,
            "bridge" => LinkKind::Bridge,
            "geneve" => read_geneve(&parse_all(&data)),
            "vxlan" => return read_vxlan(&parse_all(&data)),
            "wireguard" => LinkKind::WireGuard,
            "ipip" | "ip6tnl" => read_ip_tunnel(kind, &data),
            _ => LinkKind::Other(kind),
        };
        (kind, None)
    }))
}

/// The attributes that can be decoded; newer kernels have more.
fn parse_all<T>(data: &[u8]) -> Vec<T>
where
    T: for<'a> Parseable<NlaBuffer<&'a [u8]>>,
{
    let attributes = NlasIterator::new(data).filter_map(Result::ok);
    attributes
        .filter_map(|attribute| T::parse(&attribute).ok())
        .collect()
}

fn read_geneve(data: &[InfoGeneve]) -> LinkKind {
    let mut port = 0;
    let mut external = false;
    let mut takes_zero_checksums = true;
    let (mut id, mut remote) = (0, None);
    let mut more = Vec::new();
    for attribute in data {
        match attribute {
            InfoGeneve::Id(number) => id = *number,
            InfoGeneve::Remote(address) => remote = Some(IpAddr::V4(*address)),
            InfoGeneve::Remote6(address) => remote = Some(IpAddr::V6(*address)),
            InfoGeneve::Port(number) => port = *number,
            InfoGeneve::CollectMetadata => external = true,
            InfoGeneve::UdpZeroCsum6Rx(takes) => takes_zero_checksums = *takes,
            InfoGeneve::Local(local) => more.push(format!("local {local}")),
            InfoGeneve::Local6(local) => more.push(format!("local {local}")),
            InfoGeneve::InnerProtoInherit => more.push("innerprotoinherit".to_owned()),
            _ => {}
        }
    }
    if !takes_zero_checksums {
        more.push("noudp6zerocsumrx".to_owned());
    }
    match remote {
        None if external && more.is_empty() && id == 0 => return LinkKind::Geneve { port },
        Some(remote) if !external && more.is_empty() => {
            return LinkKind::GeneveTo {
                vni: id,
                remote,
                port,
            };
        }
        _ => {}
    }
    let remote = remote.map(|remote| format!("remote {remote}"));
    let id = (id != 0).then(|| format!("id {id}"));
    let more = id.into_iter().chain(remote).chain(more).collect::<Vec<_>>();
    other("geneve", external, port, &more)
}

fn read_vxlan(data: &[InfoVxlan]) -> (LinkKind, Option<u32>) {
    let mut port = 0;
    let mut external = false;
    let mut learns = false;
    let (mut id, mut group, mut local, mut lower) = (0, None, None, None);
    let mut source_ports = None;
    let mut more = Vec::new();
    for attribute in data {
        match attribute {
            InfoVxlan::Port(number) => port = *number,
            InfoVxlan::CollectMetadata(on) => external = *on,
            InfoVxlan::Id(number) => id = *number,
            InfoVxlan::Group(remote) => group = Some(IpAddr::V4(*remote)),
            InfoVxlan::Group6(remote) => group = Some(IpAddr::V6(*remote)),
            InfoVxlan::Local(address) => local = Some(IpAddr::V4(*address)),
            InfoVxlan::Local6(address) => local = Some(IpAddr::V6(*address)),
            InfoVxlan::Link(index) => lower = Some(*index).filter(|index| *index != 0),
            InfoVxlan::Learning(on) => learns = *on,
            InfoVxlan::PortRange((low, high)) => source_ports = PortRange::new(*low, *high),
            InfoVxlan::UDPZeroCsumRX(false) => more.push("noudp6zerocsumrx"),
            InfoVxlan::Proxy(true) => more.push("proxy"),
            InfoVxlan::Rsc(true) => more.push("rsc"),
            InfoVxlan::L2Miss(true) => more.push("l2miss"),
            InfoVxlan::L3Miss(true) => more.push("l3miss"),
            InfoVxlan::RemCsumTX(true) => more.push("remcsumtx"),
            InfoVxlan::RemCsumRX(true) => more.push("remcsumrx"),
            InfoVxlan::Gbp => more.push("gbp"),
            InfoVxlan::Gpe => more.push("gpe"),
            InfoVxlan::Vnifilter(true) => more.push("vnifilter"),
            _ => {}
        }
    }
    let plain = LinkKind::VxlanTo {
        vni: id,
        local,
        port,
        group,
        // It is found by its index when all devices have been read.
        lower: None,
    };
    let nothing = (id, group, local, lower) == (0, None, None, None);
    match external {
        true if nothing && !learns && more.is_empty() => {
            return (LinkKind::Vxlan { port, source_ports }, None);
        }
        false if learns && more.is_empty() => return (plain, lower),
        _ => {}
    }
    // The text of a plain device, followed by its additional settings.
    let text = plain.to_string();
    let rest = text.split_once(" id ").map_or("", |(_, rest)| rest);
    let mut all = Vec::new();
    all.extend((id != 0).then(|| format!("id {rest}")));
    all.extend(lower.map(|lower| format!("dev if{lower}")));
    all.extend(learns.then(|| "learning".to_owned()));
    all.extend(more.into_iter().map(str::to_owned));
    (other("vxlan", external, port, &all), lower)
}

/// A flow-based tunnel ignores all other settings, because the tunnel key contains everything.
fn read_ip_tunnel(kind: String, data: &[u8]) -> LinkKind {
    let info_kind = match kind.as_str() {
        "ipip" => InfoKind::IpIp,
        _ => InfoKind::Ip6Tnl,
    };
    let (mut protocol, mut ttl) = (0, 0);
    let (mut source, mut destination) = (Ipv4Addr::UNSPECIFIED, Ipv4Addr::UNSPECIFIED);
    let mut external = false;
    let mut more = String::new();
    for attribute in NlasIterator::new(data).filter_map(Result::ok) {
        match InfoIpTunnel::parse_with_param(&attribute, info_kind.clone()) {
            Ok(InfoIpTunnel::CollectMetadata) => external = true,
            Ok(InfoIpTunnel::Protocol(number)) => protocol = u8::from(number),
            Ok(InfoIpTunnel::Ttl(number)) => ttl = number,
            Ok(InfoIpTunnel::Remote(IpAddr::V4(remote))) => destination = remote,
            Ok(InfoIpTunnel::Local(IpAddr::V4(local))) => source = local,
            Ok(InfoIpTunnel::Remote(remote)) if !remote.is_unspecified() => {
                more.push_str(&format!(" remote {remote}"));
            }
            Ok(InfoIpTunnel::Local(local)) if !local.is_unspecified() => {
                more.push_str(&format!(" local {local}"));
            }
            _ => {}
        }
    }
    match (external, info_kind) {
        (false, InfoKind::IpIp)
            if protocol == u8::from(IpProtocol::Ipip) && !destination.is_unspecified() =>
        {
            LinkKind::IpipTo {
                local: source,
                remote: destination,
                ttl,
            }
        }
        (true, InfoKind::IpIp) => LinkKind::Ipip { protocol },
        (true, _) => LinkKind::Ip6tnl { protocol },
        (false, _) => {
            let ends = [("local", source), ("remote", destination)];
            let ends = ends.iter().filter(|(_, end)| !end.is_unspecified());
            let ends: String = ends.map(|(word, end)| format!(" {word} {end}")).collect();
            LinkKind::Other(kind + &ends + &more)
        }
    }
}

fn other(kind: &str, external: bool, port: u16, more: &[String]) -> LinkKind {
    let external = if external { " external" } else { "" };
    let more: String = more.iter().map(|word| format!(" {word}")).collect();
    LinkKind::Other(format!("{kind}{external} dstport {port}{more}"))
}
