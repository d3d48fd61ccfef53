//! What WireGuard's devices said when the page was asked for, as metrics.

use std::collections::BTreeMap;

use prometheus::proto::MetricFamily;

use super::series::{counters, gauges};
use crate::status::{SessionStatus, Status};

pub(super) fn collect(status: &Status) -> Vec<MetricFamily> {
    // A peer of two networks is one peer of a device.
    let links = status
        .peers
        .iter()
        .filter_map(|peer| Some((peer, peer.wireguard.as_ref()?)));
    let peers: BTreeMap<[String; 2], Option<&SessionStatus>> = links
        .map(|(peer, link)| ([link.device.clone(), peer.node.clone()], link.session.as_ref()))
        .collect();
    let sessions = || {
        peers
            .iter()
            .filter_map(|(labels, session)| Some((labels.clone(), (*session)?)))
    };
    let labels = ["interface", "peer"];
    [
        gauges(
            ("adit_wireguard_peers", "WireGuard peers, by device."),
            ["interface"],
            peers.keys().map(|[device, _]| ([device.clone()], 1)),
        ),
        gauges(
            (
                "adit_wireguard_peer_established",
                "Whether there is a session with the peer.",
            ),
            labels,
            sessions().map(|(labels, session)| (labels, u64::from(session.established))),
        ),
        gauges(
            (
                "adit_wireguard_peer_handshake_age_seconds",
                "Time since the last handshake; 0: there was none.",
            ),
            labels,
            sessions().map(|(labels, session)| (labels, session.handshake_age_s.unwrap_or(0))),
        ),
        counters(
            (
                "adit_wireguard_peer_receive_bytes_total",
                "Bytes received from the peer, with WireGuard's headers.",
            ),
            labels,
            sessions().map(|(labels, session)| (labels, session.received_bytes)),
        ),
        counters(
            (
                "adit_wireguard_peer_transmit_bytes_total",
                "Bytes sent to the peer, with WireGuard's headers.",
            ),
            labels,
            sessions().map(|(labels, session)| (labels, session.sent_bytes)),
        ),
    ]
    .concat()
}
