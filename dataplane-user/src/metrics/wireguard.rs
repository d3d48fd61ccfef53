//! What WireGuard's devices said when the page was asked for, as metrics.

use std::collections::BTreeMap;

use prometheus::proto::MetricFamily;

use super::series::{counters, gauges};
use crate::net::{LinkName, PublicKey};
use crate::status::{SessionStatus, Status};

/// A peer of a device of ours that is no node which the manifests name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnnamedPeer {
    /// The device.
    pub device: LinkName,
    /// The peer's public key; its label is that in base64.
    pub public_key: PublicKey,
    /// What the device says of it.
    pub session: SessionStatus,
}

/// Peers without a name are counted; what each says is told only with `details`, as its key is its label.
pub(super) fn collect(status: &Status, unnamed: &[UnnamedPeer], details: bool) -> Vec<MetricFamily> {
    // A peer of two networks is one peer of a device.
    let links = status
        .peers
        .iter()
        .filter_map(|peer| Some((peer, peer.wireguard.as_ref()?)));
    let named = links.map(|(peer, link)| {
        (
            [link.device.to_string(), peer.node.to_string()],
            link.session.as_ref(),
        )
    });
    let unnamed = unnamed.iter();
    let unnamed = unnamed.map(|peer| {
        (
            [peer.device.to_string(), peer.public_key.to_string()],
            details.then_some(&peer.session),
        )
    });
    let peers: BTreeMap<[String; 2], Option<&SessionStatus>> = named.chain(unnamed).collect();
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
        gauges(
            (
                "adit_wireguard_peer_endpoint_age_seconds",
                "Time since the peer's endpoint was seen to change; 0: it has none.",
            ),
            labels,
            sessions().map(|(labels, session)| (labels, session.endpoint_age_s.unwrap_or(0))),
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
