//! What a link is: `IFLA_LINKINFO`.

use netlink_packet_core::{
    DecodeError, NlaBuffer, NlasIterator, Parseable, ParseableParametrized as _, parse_string,
};
use netlink_packet_route::link::{InfoData, InfoGeneve, InfoIpTunnel, InfoKind, InfoVxlan, LinkInfo};

use crate::model::LinkKind;

/// The attributes that make a link of this kind; `None` for kinds that we don't make.
pub(super) fn write(kind: &LinkKind) -> Option<Vec<LinkInfo>> {
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
        LinkKind::Vxlan { port } => {
            let vxlan = vec![
                InfoVxlan::CollectMetadata(true),
                InfoVxlan::Port(*port),
                // On by default, and it would fill the forwarding table with the peers' addresses.
                InfoVxlan::Learning(false),
                InfoVxlan::UDPZeroCsumRX(true),
            ];
            (InfoKind::Vxlan, Some(InfoData::Vxlan(vxlan)))
        }
        LinkKind::WireGuard => (InfoKind::Wireguard, None),
        LinkKind::Ipip { protocol } => (InfoKind::IpIp, Some(InfoData::IpTunnel(ip_tunnel(*protocol)))),
        LinkKind::Ip6tnl { protocol } => (InfoKind::Ip6Tnl, Some(InfoData::IpTunnel(ip_tunnel(*protocol)))),
        LinkKind::Other(_) => return None,
    };
    let mut info = vec![LinkInfo::Kind(kind)];
    info.extend(data.map(LinkInfo::Data));
    Some(info)
}

fn ip_tunnel(protocol: u8) -> Vec<InfoIpTunnel> {
    vec![
        InfoIpTunnel::CollectMetadata,
        InfoIpTunnel::Protocol(protocol.into()),
    ]
}

/// What an `IFLA_LINKINFO` says; nothing for devices without kind.
pub(super) fn read(info: &[u8]) -> Result<Option<LinkKind>, DecodeError> {
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
    Ok(kind.map(|kind| match kind.as_str() {
        "dummy" => LinkKind::Dummy,
        "geneve" => read_geneve(&parse_all(&data)),
        "vxlan" => read_vxlan(&parse_all(&data)),
        "wireguard" => LinkKind::WireGuard,
        "ipip" | "ip6tnl" => read_ip_tunnel(kind, &data),
        _ => LinkKind::Other(kind),
    }))
}

/// The attributes that can be read; newer kernels have more.
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
    let mut more = Vec::new();
    for attribute in data {
        match attribute {
            InfoGeneve::Port(number) => port = *number,
            InfoGeneve::CollectMetadata => external = true,
            InfoGeneve::UdpZeroCsum6Rx(takes) => takes_zero_checksums = *takes,
            InfoGeneve::Id(id) if *id != 0 => more.push(format!("id {id}")),
            InfoGeneve::Remote(remote) => more.push(format!("remote {remote}")),
            InfoGeneve::Remote6(remote) => more.push(format!("remote {remote}")),
            InfoGeneve::Local(local) => more.push(format!("local {local}")),
            InfoGeneve::Local6(local) => more.push(format!("local {local}")),
            InfoGeneve::InnerProtoInherit => more.push("innerprotoinherit".to_owned()),
            _ => {}
        }
    }
    if !takes_zero_checksums {
        more.push("noudp6zerocsumrx".to_owned());
    }
    if external && more.is_empty() {
        return LinkKind::Geneve { port };
    }
    other("geneve", external, port, &more)
}

fn read_vxlan(data: &[InfoVxlan]) -> LinkKind {
    let mut port = 0;
    let mut external = false;
    let mut more = Vec::new();
    for attribute in data {
        match attribute {
            InfoVxlan::Port(number) => port = *number,
            InfoVxlan::CollectMetadata(on) => external = *on,
            InfoVxlan::Id(id) if *id != 0 => more.push(format!("id {id}")),
            InfoVxlan::Group(remote) => more.push(format!("remote {remote}")),
            InfoVxlan::Group6(remote) => more.push(format!("remote {remote}")),
            InfoVxlan::Local(local) => more.push(format!("local {local}")),
            InfoVxlan::Local6(local) => more.push(format!("local {local}")),
            InfoVxlan::Link(index) => more.push(format!("dev if{index}")),
            InfoVxlan::Learning(true) => more.push("learning".to_owned()),
            InfoVxlan::UDPZeroCsumRX(false) => more.push("noudp6zerocsumrx".to_owned()),
            InfoVxlan::Proxy(true) => more.push("proxy".to_owned()),
            InfoVxlan::Rsc(true) => more.push("rsc".to_owned()),
            InfoVxlan::L2Miss(true) => more.push("l2miss".to_owned()),
            InfoVxlan::L3Miss(true) => more.push("l3miss".to_owned()),
            InfoVxlan::RemCsumTX(true) => more.push("remcsumtx".to_owned()),
            InfoVxlan::RemCsumRX(true) => more.push("remcsumrx".to_owned()),
            InfoVxlan::Gbp => more.push("gbp".to_owned()),
            InfoVxlan::Gpe => more.push("gpe".to_owned()),
            InfoVxlan::Vnifilter(true) => more.push("vnifilter".to_owned()),
            _ => {}
        }
    }
    if external && more.is_empty() {
        return LinkKind::Vxlan { port };
    }
    other("vxlan", external, port, &more)
}

/// A flow-based one ignores whatever else is configured: the tunnel key has all of it.
fn read_ip_tunnel(kind: String, data: &[u8]) -> LinkKind {
    let info_kind = match kind.as_str() {
        "ipip" => InfoKind::IpIp,
        _ => InfoKind::Ip6Tnl,
    };
    let mut protocol = 0;
    let mut external = false;
    let mut more = String::new();
    for attribute in NlasIterator::new(data).filter_map(Result::ok) {
        match InfoIpTunnel::parse_with_param(&attribute, info_kind.clone()) {
            Ok(InfoIpTunnel::CollectMetadata) => external = true,
            Ok(InfoIpTunnel::Protocol(number)) => protocol = u8::from(number),
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
        (true, InfoKind::IpIp) => LinkKind::Ipip { protocol },
        (true, _) => LinkKind::Ip6tnl { protocol },
        (false, _) => LinkKind::Other(kind + &more),
    }
}

fn other(kind: &str, external: bool, port: u16, more: &[String]) -> LinkKind {
    let external = if external { " external" } else { "" };
    let more: String = more.iter().map(|word| format!(" {word}")).collect();
    LinkKind::Other(format!("{kind}{external} dstport {port}{more}"))
}
