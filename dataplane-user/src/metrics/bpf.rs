//! Metrics of the BPF maps.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;

use dataplane_ebpf::layout::NextHopState;
use dataplane_ebpf::verdict::Verdict;
use prometheus::proto::MetricFamily;

use super::series::{counters, gauges};
use crate::kernel::KernelError;
use crate::kernel::bpf::{Bpf, CounterReport, MapUsage, NextHopEntry, SourceEntry, VerdictCount};
use crate::net::Encapsulation;
use crate::status::{PeerStatus, Status};

/// The maps as read at one moment.
#[derive(Clone, Debug, Default)]
pub struct MapReading {
    /// All counters.
    pub counters: CounterReport,
    /// Entries and capacity of each map.
    pub usage: Vec<MapUsage>,
}

impl MapReading {
    /// Reads the pinned maps.
    ///
    /// # Errors
    /// When nothing is pinned or a map can't be read.
    pub fn take(bpffs: &Path) -> Result<MapReading, KernelError> {
        let bpf = Bpf::open_read_only(bpffs)?;
        Ok(MapReading {
            counters: bpf.counters()?,
            usage: bpf.usage()?,
        })
    }
}

pub(super) fn collect(status: &Status, maps: Option<&MapReading>, details: bool) -> Vec<MetricFamily> {
    let readable = gauges(
        "adit_maps_readable",
        "Whether the BPF maps could be read for this page.",
        [],
        [([], u64::from(maps.is_some()))],
    );
    let Some(MapReading { counters, usage }) = maps else {
        return readable;
    };
    [
        readable,
        verdicts(&counters.egress, &counters.ingress),
        next_hops(status, &counters.next_hops, details),
        sources(status, &counters.sources),
        fill(usage),
    ]
    .concat()
}

fn verdicts(egress: &[VerdictCount], ingress: &[VerdictCount]) -> Vec<MetricFamily> {
    let packets = |count: &VerdictCount| ([count.name.to_owned()], count.counters.packets);
    let bytes = |count: &VerdictCount| ([count.name.to_owned()], count.counters.bytes);
    // The ingress programs pass every packet: only the egress program drops.
    let drops = egress
        .iter()
        .filter(|count| count.name != Verdict::Forwarded.name());
    [
        counters(
            "adit_egress_packets_total",
            "Packets that reached the egress program, by verdict.",
            ["verdict"],
            egress.iter().map(packets),
        ),
        counters(
            "adit_egress_bytes_total",
            "Bytes of packets that reached the egress program, without outer headers, by verdict.",
            ["verdict"],
            egress.iter().map(bytes),
        ),
        counters(
            "adit_ingress_packets_total",
            "Packets that came out of tunnel devices, by verdict.",
            ["verdict"],
            ingress.iter().map(packets),
        ),
        counters(
            "adit_ingress_bytes_total",
            "Bytes of packets that came out of tunnel devices, without outer headers, by verdict.",
            ["verdict"],
            ingress.iter().map(bytes),
        ),
        counters(
            "adit_dropped_packets_total",
            "Packets that the egress program dropped, by reason.",
            ["reason"],
            drops.map(packets),
        ),
    ]
    .concat()
}

fn next_hops(status: &Status, entries: &[NextHopEntry], details: bool) -> Vec<MetricFamily> {
    let peer = |entry: &NextHopEntry| {
        [
            entry.next_hop.node.to_string(),
            network(status, entry.next_hop.class.vni),
            entry.next_hop.class.tunnel.encapsulation().to_string(),
        ]
    };
    let with_remote = |entry: &NextHopEntry| {
        let [node, network, encapsulation] = peer(entry);
        // Prometheus treats an empty label as absent.
        let remote = details.then(|| entry.next_hop.remote.to_string());
        [node, network, encapsulation, remote.unwrap_or_default()]
    };
    let labels = ["peer", "network", "encapsulation"];
    [
        gauges(
            "adit_next_hop_usable",
            "Whether packets are sent to the next hop; 0 if it is marked as down.",
            ["peer", "network", "encapsulation", "remote"],
            entries
                .iter()
                .map(|entry| (with_remote(entry), u64::from(entry.state == NextHopState::USABLE))),
        ),
        counters(
            "adit_peer_transmit_packets_total",
            "Packets sent to the peer.",
            labels,
            entries.iter().map(|entry| (peer(entry), entry.counters.packets)),
        ),
        counters(
            "adit_peer_transmit_bytes_total",
            "Bytes sent to the peer, without outer headers.",
            labels,
            entries.iter().map(|entry| (peer(entry), entry.counters.bytes)),
        ),
    ]
    .concat()
}

/// Packets received from each peer. Packets over WireGuard links and links without encapsulation don't pass
/// the ingress programs, so these links have no such series.
fn sources(status: &Status, entries: &[SourceEntry]) -> Vec<MetricFamily> {
    let mut peers: BTreeMap<(IpAddr, Encapsulation), Vec<&PeerStatus>> = BTreeMap::new();
    for peer in &status.peers {
        if let Some(remote) = peer.remote {
            peers.entry((remote, peer.encapsulation)).or_default().push(peer);
        }
    }
    let sender = |entry: &SourceEntry| {
        let source = entry.source;
        let encapsulation = source.tunnel.encapsulation();
        let network = network(status, source.vni);
        let mut found = peers.get(&(source.address, encapsulation))?.iter();
        let peer = found.find(|peer| source.vni == 0 || peer.network == network)?;
        let labels = [peer.node.to_string(), network, encapsulation.to_string()];
        Some((labels, entry.counters))
    };
    // A source without a peer belonged to a peer that was removed a moment ago.
    let rows = entries.iter().filter_map(sender).collect::<Vec<_>>();
    let labels = ["peer", "network", "encapsulation"];
    [
        counters(
            "adit_peer_receive_packets_total",
            "Packets received from the peer.",
            labels,
            rows.iter()
                .map(|(labels, counters)| (labels.clone(), counters.packets)),
        ),
        counters(
            "adit_peer_receive_bytes_total",
            "Bytes received from the peer, without outer headers.",
            labels,
            rows.iter()
                .map(|(labels, counters)| (labels.clone(), counters.bytes)),
        ),
    ]
    .concat()
}

fn fill(usage: &[MapUsage]) -> Vec<MetricFamily> {
    let map = |usage: &MapUsage| [usage.name.to_owned()];
    [
        gauges(
            "adit_map_entries",
            "Entries of the BPF map that are in use.",
            ["map"],
            usage.iter().map(|one| (map(one), one.entries as u64)),
        ),
        gauges(
            "adit_map_capacity",
            "Entries that fit into the BPF map.",
            ["map"],
            usage.iter().map(|one| (map(one), u64::from(one.capacity))),
        ),
    ]
    .concat()
}

/// The network of a VNI; empty if it was removed a moment ago, and for encapsulations without VNI.
fn network(status: &Status, vni: u32) -> String {
    let network = status.networks.iter().find(|network| network.vni == vni);
    network.map(|network| network.name.clone()).unwrap_or_default()
}
