//! UDP ports that tunnels need and a process uses.

use std::collections::{BTreeMap, BTreeSet};

use super::finding::Finding;
use super::overlay::Requirements;
use crate::kernel::udp_sockets::Socket;
use crate::model::{Link, Owner};
use crate::net::LinkName;

/// Judges the ports. Those of tunnel devices are checked in `devices`.
pub(super) fn judge(
    sockets: &[Socket],
    links: &BTreeMap<LinkName, Link>,
    requirements: &Requirements,
) -> Vec<Finding> {
    let devices = links
        .values()
        .filter_map(|link| link.kind.udp_port())
        .collect::<BTreeSet<_>>();
    // A WireGuard device of Adit uses its port while it is up.
    let is_ours = |name: &LinkName| {
        links
            .get(name)
            .is_some_and(|link| link.owner == Owner::Adit && link.up)
    };
    let wireguard = requirements
        .wireguard
        .iter()
        .filter(|(_, device)| !is_ours(device));
    let ports = requirements
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
                        "UDP {port}, which {purpose} needs, is used by {}",
                        socket.holder()
                    ),
                    format!(
                        "stop it, or set another port in the manifest of the network (spec.ports.{purpose})"
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
    fn a_used_port_is_found_unless_a_tunnel_uses_it() {
        let socket = Socket { port: 4789, inode: 0 };
        let levels = |links: &BTreeMap<_, _>| {
            let findings = judge(&[socket], links, &Requirements::default());
            findings.iter().map(|finding| finding.level).collect::<Vec<_>>()
        };
        assert_eq!(levels(&BTreeMap::new()), [Level::Error, Level::Ok]);
        let vxlan = Link {
            owner: Owner::Adit,
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
        let requirements = Requirements {
            encapsulations: Some(BTreeSet::new()),
            wireguard: [(4789, name.clone())].into(),
            ..Requirements::default()
        };
        let wireguard = Link {
            kind: LinkKind::WireGuard,
            ..vxlan
        };
        let foreign = Link {
            owner: Owner::Other,
            ..wireguard.clone()
        };
        for (link, expected) in [
            (None, vec![Level::Error]),
            (Some(foreign), vec![Level::Error]),
            (Some(wireguard), vec![]),
        ] {
            let links = link.map(|link| (name.clone(), link)).into_iter().collect();
            let findings = judge(&[socket], &links, &requirements);
            assert_eq!(
                findings.iter().map(|finding| finding.level).collect::<Vec<_>>(),
                expected
            );
        }
    }
}
