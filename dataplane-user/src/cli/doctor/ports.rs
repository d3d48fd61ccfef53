//! UDP ports that our tunnels want and a process has.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use super::devices;
use super::finding::Finding;
use super::overlay::Wanted;
use crate::model::{Link, Owner};
use crate::net::LinkName;

/// A bound UDP socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Socket {
    /// Its port.
    pub(super) port: u16,
    /// Its inode, by which its process is found.
    pub(super) inode: u64,
}

/// The bound UDP sockets of this namespace, both families.
pub(super) fn sockets(root: &Path) -> Vec<Socket> {
    let tables = ["udp", "udp6"].map(|name| fs::read_to_string(root.join("proc/net").join(name)));
    tables
        .iter()
        .flatten()
        .flat_map(|table| table.lines().filter_map(parse))
        .collect()
}

/// A line of /proc/net/udp: number, local address and port in hex, and so on; the tenth word is the inode.
fn parse(line: &str) -> Option<Socket> {
    let words = line.split_whitespace().collect::<Vec<_>>();
    let (_, port) = words.get(1)?.rsplit_once(':')?;
    Some(Socket {
        port: u16::from_str_radix(port, 16).ok()?,
        inode: words.get(9)?.parse().ok()?,
    })
}

/// A port that a tunnel device has is that device's affair.
pub(super) fn judge(sockets: &[Socket], links: &BTreeMap<LinkName, Link>, wanted: &Wanted) -> Vec<Finding> {
    let devices = links
        .values()
        .filter_map(|link| devices::port(&link.kind))
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
                        holder(socket.inode)
                    ),
                    format!(
                        "end it, or give the network another port in its manifest (spec.ports.{purpose})"
                    ),
                ),
            },
        )
        .collect()
}

/// The process that has a socket, as far as we may see.
fn holder(inode: u64) -> String {
    let socket = format!("socket:[{inode}]");
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let mut processes = entries.filter(|entry| {
        let descriptors = fs::read_dir(entry.path().join("fd"))
            .into_iter()
            .flatten()
            .flatten();
        let mut targets = descriptors.filter_map(|descriptor| fs::read_link(descriptor.path()).ok());
        targets.any(|target| target.as_os_str() == socket.as_str())
    });
    let Some(process) = processes.next() else {
        return "a process that can't be seen from here".to_owned();
    };
    let name = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
    format!(
        "process {} ({})",
        process.file_name().to_string_lossy(),
        name.trim()
    )
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;
    use crate::model::LinkKind;

    const TABLE: &str = "   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops
  123: 0100007F:12B5 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 4242 2 0000000000000000 0
";

    #[test]
    fn the_kernels_table_is_read() {
        let sockets = TABLE.lines().filter_map(parse).collect::<Vec<_>>();
        assert_eq!(
            sockets,
            [Socket {
                port: 4789,
                inode: 4242
            }]
        );
    }

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
