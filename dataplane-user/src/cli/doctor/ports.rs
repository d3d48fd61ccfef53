//! UDP ports that our tunnels want and a process has.

use std::collections::{BTreeMap, BTreeSet};

use super::finding::Finding;
use super::overlay::Wanted;
use crate::kernel::udp::Socket;
use crate::model::{Link, Owner};
use crate::net::LinkName;

/// A port that a tunnel device has is that device's affair.
pub(super) fn judge(sockets: &[Socket], links: &BTreeMap<LinkName, Link>, wanted: &Wanted) -> Vec<Finding> {
    let devices = links
        .values()
        .filter_map(|link| link.kind.udp_port())
        .collect::<BTreeSet<_>>();
    // Our WireGuard device has its port while it is up.
    let is_ours = |name: &LinkName| {
        links
            .get(name)
            .is_some_and(|link| link.owner == Owner::Ours && link.up)
    };
    let wireguard = wanted.wireguard.iter().filter(|(_, device)| !is_ours(device));
    let ports = wanted
        .ports()
        .into_iter()
        .filter(|(port, _)| !devices.contains(port))
        .chain(wireguard.map(|(port, _)| (*port, "wireguard")));
    ports
        .map(
            |(port, purpose)| match sockets.iter().find(|socket| socket.port == port) {
                None => Finding::ok("port", format!("UDP {port} ({purpose}) is free")),
                Some(socket) => Finding::error(
                    "port",
                    format!(
                        "UDP {port}, which {purpose} wants, is taken by {}",
                        socket.holder()
                    ),
                    format!(
                        "end it, or give the network another port in its manifest (spec.ports.{purpose})"
                    ),
                ),
            },
        )
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;
    use crate::model::LinkKind;

    #[test]
    fn a_taken_port_is_found_unless_a_tunnel_has_it() {
        let socket = Socket { port: 4789, inode: 0 };
        let levels = |links: &BTreeMap<_, _>| {
            let findings = judge(&[socket], links, &Wanted::default());
            findings.iter().map(|finding| finding.level).collect::<Vec<_>>()
        };
        assert_eq!(levels(&BTreeMap::new()), [Level::Error, Level::Ok]);
        let vxlan = Link {
            owner: Owner::Ours,
            kind: LinkKind::Vxlan {
                port: 4789,
                source_ports: None,
            },
            mac: None,
            mtu: None,
            arp: false,
            generates_addresses: false,
            up: true,
        };
        assert_eq!(
            levels(&[(LinkName::constant("adit-vxlan"), vxlan.clone())].into()),
            [Level::Ok]
        );

        let name = LinkName::constant("adit-wg1");
        let wanted = Wanted {
            encapsulations: Some(BTreeSet::new()),
            wireguard: [(4789, name.clone())].into(),
            ..Wanted::default()
        };
        let wireguard = Link {
            kind: LinkKind::WireGuard,
            ..vxlan
        };
        let foreign = Link {
            owner: Owner::Foreign,
            ..wireguard.clone()
        };
        for (link, expected) in [
            (None, vec![Level::Error]),
            (Some(foreign), vec![Level::Error]),
            (Some(wireguard), vec![]),
        ] {
            let links = link.map(|link| (name.clone(), link)).into_iter().collect();
            let findings = judge(&[socket], &links, &wanted);
            assert_eq!(
                findings.iter().map(|finding| finding.level).collect::<Vec<_>>(),
                expected
            );
        }
    }
}
