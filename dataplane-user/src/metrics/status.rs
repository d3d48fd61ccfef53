//! Metrics of the status: readiness, peers, networks and problems.

use prometheus::proto::MetricFamily;

use super::series::gauges;
use crate::status::Status;

pub(super) fn collect(status: &Status) -> Vec<MetricFamily> {
    let problems = status.problems.iter();
    let peers = status.peers.iter();
    let networks = status.networks.iter();
    [
        gauges(
            "adit_build_info",
            "The agent; always 1.",
            ["version"],
            [([status.version.clone()], 1)],
        ),
        gauges(
            "adit_ready",
            "Whether the node is ready.",
            [],
            [([], u64::from(status.ready))],
        ),
        gauges(
            "adit_config_synced",
            "Whether a complete, valid set of manifests was ever loaded.",
            [],
            [([], u64::from(status.source.synced))],
        ),
        gauges(
            "adit_reconcile_age_seconds",
            "Time since the last reconciliation ended.",
            [],
            status.reconciliation.ended_ago_s.map(|age| ([], age)),
        ),
        gauges(
            "adit_residual_changes",
            "Changes that are still to be made.",
            [],
            [([], status.reconciliation.residual as u64)],
        ),
        gauges(
            "adit_peers",
            "Peers that this node has a link to.",
            ["network", "encapsulation"],
            peers.map(|peer| ([peer.network.clone(), peer.encapsulation.to_string()], 1)),
        ),
        gauges(
            "adit_network_mtu_bytes",
            "The overlay MTU on this node.",
            ["network"],
            networks.map(|network| ([network.name.clone()], u64::from(network.mtu))),
        ),
        gauges(
            "adit_problems",
            "Current problems, by severity and reason.",
            ["severity", "reason"],
            problems.map(|problem| ([problem.severity.name().to_owned(), problem.reason.clone()], 1)),
        ),
    ]
    .concat()
}
