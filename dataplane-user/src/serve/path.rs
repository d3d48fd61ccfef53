//! The path of each peer, from the next hops in the maps, and received packets, from the known sources in the
//! maps.

use std::collections::BTreeMap;
use std::net::IpAddr;

use dataplane_ebpf::layout::{Counters, NextHopState};

use crate::kernel::bpf::{CounterReport, NextHopEntry, SourceEntry};
use crate::kernel::nft::Count;
use crate::model::NodeLabel;
use crate::net::Encapsulation;
use crate::resource::Dataplane;
use crate::status::{NetworkStatus, PathStatus, PeerStatus, Status};

/// Sets path and received packets of each peer from the maps. For a peer with several next hops (one for each
/// inner family), counters are added up, and the path is usable if one of them is.
pub(super) fn fill_in(status: &mut Status, report: &CounterReport) {
    // There may be thousands of peers and next hops, so they are joined by key.
    let mut by_end: BTreeMap<(&NodeLabel, IpAddr), Vec<&NextHopEntry>> = BTreeMap::new();
    for entry in &report.next_hops {
        let end = (&entry.next_hop.node, entry.next_hop.remote);
        by_end.entry(end).or_default().push(entry);
    }
    let received = received(report);
    for peer in &mut status.peers {
        let network = status
            .networks
            .iter()
            .find(|network| network.name == peer.network);
        let label = NodeLabel::of(&peer.node);
        let entries = peer
            .remote
            .and_then(|remote| by_end.get(&(&label, remote)))
            .into_iter()
            .flatten()
            .filter(|entry| leads_to(entry, peer, network));
        let path = entries.fold(None, |path: Option<PathStatus>, entry| {
            let path = path.unwrap_or_else(|| PathStatus {
                device: device(entry, report),
                gateway: entry.next_hop.gateway,
                usable: false,
                packets: 0,
                bytes: 0,
            });
            Some(PathStatus {
                usable: path.usable || entry.state == NextHopState::USABLE,
                packets: path.packets.wrapping_add(entry.counters.packets),
                bytes: path.bytes.wrapping_add(entry.counters.bytes),
                ..path
            })
        });
        if peer.dataplane != Dataplane::Routes {
            peer.path = path;
        }
        // Encapsulations without VNI have VNI 0, which no network has.
        let mut vnis = network.map(|network| network.vni).into_iter().chain([0]);
        peer.received = peer.remote.and_then(|remote| {
            vnis.find_map(|vni| received.get(&(remote, peer.encapsulation, vni)).copied())
        });
    }
}

/// Received packets, by underlay address, encapsulation and VNI.
fn received(report: &CounterReport) -> BTreeMap<(IpAddr, Encapsulation, u32), Count> {
    let entry = |entry: &SourceEntry| {
        let source = entry.source;
        let Counters { packets, bytes } = entry.counters;
        let from = (source.address, source.tunnel.encapsulation(), source.vni);
        (from, Count { packets, bytes })
    };
    report.sources.iter().map(entry).collect()
}

/// Whether a next hop with the name and address of a peer has its network and encapsulation.
fn leads_to(entry: &NextHopEntry, peer: &PeerStatus, network: Option<&NetworkStatus>) -> bool {
    let class = &entry.next_hop.class;
    // Encapsulations without VNI have VNI 0.
    let of_network = class.vni == 0 || network.is_some_and(|network| network.vni == class.vni);
    of_network && class.tunnel.encapsulation() == peer.encapsulation
}

/// The current name of the device of a class.
fn device(entry: &NextHopEntry, report: &CounterReport) -> Option<String> {
    let class = report
        .classes
        .iter()
        .find(|known| known.class == entry.next_hop.class)?;
    let name = nix::net::if_::if_indextoname(class.ifindex).ok()?;
    Some(name.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::{Class, NextHop, Source, TunnelKind};
    use crate::net::NodeName;

    fn entry(node: &str, vni: u32, packets: u64, state: NextHopState) -> NextHopEntry {
        let class = Class {
            tunnel: TunnelKind::Geneve,
            unit: 0,
            vni,
            source_mac: None,
            ttl: 64,
            dscp: None,
            dont_fragment: true,
            zero_checksum: false,
            underlay: None,
        };
        NextHopEntry {
            slot: 1,
            next_hop: Arc::new(NextHop {
                node: NodeLabel::of(&NodeName::new(node).unwrap()),
                remote: [192, 0, 2, 1].into(),
                local: [192, 0, 2, 2].into(),
                destination_mac: None,
                gateway: None,
                class,
            }),
            state,
            weight: None,
            counters: Counters {
                packets,
                bytes: packets * 100,
            },
        }
    }

    fn status() -> Status {
        let peer = |node: &str| PeerStatus {
            node: NodeName::new(node).unwrap(),
            network: "pods".to_owned(),
            encapsulation: Encapsulation::Geneve,
            remote: Some([192, 0, 2, 1].into()),
            local: Some([192, 0, 2, 2].into()),
            mtu: 1450,
            wireguard: None,
            withdrawn: false,
            dataplane: Dataplane::Ebpf,
            path: None,
            received: None,
        };
        Status {
            networks: vec![NetworkStatus {
                name: "pods".to_owned(),
                prefixes: Vec::new(),
                mtu: 1450,
                vni: 7,
            }],
            peers: vec![peer("b"), peer("c")],
            ..Status::default()
        }
    }

    #[test]
    fn a_peers_next_hops_add_up_and_others_do_not_count() {
        let report = CounterReport {
            next_hops: vec![
                entry("b", 7, 3, NextHopState::DOWN),
                entry("b", 7, 4, NextHopState::USABLE),
                entry("b", 8, 100, NextHopState::USABLE),
                entry("d", 7, 100, NextHopState::USABLE),
            ],
            ..CounterReport::default()
        };
        let mut status = status();
        fill_in(&mut status, &report);
        let path = status.peers[0].path.clone().unwrap();
        assert_eq!((path.usable, path.packets, path.bytes), (true, 7, 700));
        assert_eq!(path.device, None);
        assert_eq!(status.peers[1].path, None);
    }

    #[test]
    fn received_packets_are_found_by_address_encapsulation_and_vni() {
        let source = |address: [u8; 4], tunnel, vni, packets| SourceEntry {
            source: Source {
                address: address.into(),
                tunnel,
                vni,
            },
            node: None,
            counters: Counters {
                packets,
                bytes: packets * 100,
            },
        };
        let others = [
            source([192, 0, 2, 1], TunnelKind::Geneve, 8, 1),
            source([192, 0, 2, 1], TunnelKind::Vxlan, 7, 2),
            source([192, 0, 2, 9], TunnelKind::Geneve, 7, 3),
        ];
        let received = |more: &[SourceEntry], encapsulation: Encapsulation| {
            let mut status = status();
            status.peers[0].encapsulation = encapsulation;
            let report = CounterReport {
                sources: [&others, more].concat(),
                ..CounterReport::default()
            };
            fill_in(&mut status, &report);
            status.peers[0]
                .received
                .map(|received| (received.packets, received.bytes))
        };
        let both = [
            source([192, 0, 2, 1], TunnelKind::Geneve, 7, 4),
            source([192, 0, 2, 1], TunnelKind::Ipip, 0, 5),
        ];
        assert_eq!(received(&[], Encapsulation::Geneve), None);
        assert_eq!(received(&both, Encapsulation::Geneve), Some((4, 400)));
        assert_eq!(received(&both, Encapsulation::Ipip), Some((5, 500)));
        assert_eq!(received(&both, Encapsulation::None), None);
    }
}
