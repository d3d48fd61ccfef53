//! Metrics of WireGuard devices, as read when the page was requested.

use std::collections::BTreeMap;

use prometheus::proto::MetricFamily;

use super::series::{counters, gauges};
use crate::net::{LinkName, PublicKey};
use crate::status::{SessionStatus, Status};

/// A peer of a managed device that is not a node of the manifests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnnamedPeer {
    /// The device.
    pub device: LinkName,
    /// The public key of the peer; in base64 it is the label `peer`.
    pub public_key: PublicKey,
    /// Its session, as read from the device.
    pub session: SessionStatus,
}

/// Peers without a name are counted; their sessions are shown only with `details`, because the label is the
/// key.
pub(super) fn collect(status: &Status, unnamed: &[UnnamedPeer], details: bool) -> Vec<MetricFamily> {
    // A node in two networks is one peer of a device.
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
            "adit_wireguard_peers",
            "WireGuard peers, by device.",
            ["interface"],
            peers.keys().map(|[device, _]| ([device.clone()], 1)),
        ),
        gauges(
            "adit_wireguard_peer_established",
            "Whether there is a session with the peer.",
            labels,
            sessions().map(|(labels, session)| (labels, u64::from(session.established))),
        ),
        gauges(
            "adit_wireguard_peer_handshake_age_seconds",
            "Time since the last handshake; 0 if there was none.",
            labels,
            sessions().map(|(labels, session)| (labels, session.handshake_age_s.unwrap_or(0))),
        ),
        gauges(
            "adit_wireguard_peer_endpoint_age_seconds",
            "Time since the endpoint of the peer was seen to change; 0 if it has none.",
            labels,
            sessions().map(|(labels, session)| (labels, session.endpoint_age_s.unwrap_or(0))),
        ),
        counters(
            "adit_wireguard_peer_receive_bytes_total",
            "Bytes received from the peer, with WireGuard's headers.",
            labels,
            sessions().map(|(labels, session)| (labels, session.received_bytes)),
        ),
        counters(
            "adit_wireguard_peer_transmit_bytes_total",
            "Bytes sent to the peer, with WireGuard's headers.",
            labels,
            sessions().map(|(labels, session)| (labels, session.sent_bytes)),
        ),
    ]
    .concat()
}
