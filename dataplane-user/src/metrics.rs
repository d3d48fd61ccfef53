//! What the agent counts about itself, and the page that shows it with what the kernel counts.
//!
//! The loop records into a [`Recorder`]; [`page`] renders it with a status and what was read from the maps at that
//! moment. Labels are closed enums or configured names.

mod drift;
mod firewall;
mod kernel;
mod node;
mod series;
#[cfg(test)]
mod tests;
mod wireguard;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use prometheus::core::Collector;
use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGaugeVec, Opts, TextEncoder};

use crate::apply::{ApplyReport, Outcome};
use crate::diff::order::Stage;
use crate::model::wireguard::DeviceChange;
use crate::model::{Change, KernelState, LinkKind, MAIN_TABLE, Owner};
use crate::status::Status;

pub use self::kernel::MapReading;

/// How a pass ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PassResult {
    /// The kernel holds what it should.
    Converged,
    /// Something is left undone.
    Incomplete,
    /// The kernel's state can't be read.
    Failed,
    /// There is nothing to go by: no valid manifests were ever loaded.
    Idle,
}

impl PassResult {
    const ALL: [PassResult; 4] = [
        PassResult::Converged,
        PassResult::Incomplete,
        PassResult::Failed,
        PassResult::Idle,
    ];

    fn name(self) -> &'static str {
        match self {
            PassResult::Converged => "converged",
            PassResult::Incomplete => "incomplete",
            PassResult::Failed => "failed",
            PassResult::Idle => "idle",
        }
    }
}

/// What the loop counts. Clones share their counts, also between threads.
#[derive(Clone, Debug)]
pub struct Recorder {
    started: Instant,
    /// When the loop last came round, in milliseconds after the start.
    beat: Arc<AtomicU64>,
    passes: IntCounterVec,
    duration: Histogram,
    reloads: IntCounterVec,
    link_operations: IntCounterVec,
    link_errors: IntCounterVec,
    routes_added: IntCounter,
    routes_removed: IntCounter,
    route_errors: IntCounter,
    route_duration: Histogram,
    wireguard_added: IntCounter,
    wireguard_removed: IntCounter,
    wireguard_errors: IntCounter,
    wireguard_duration: Histogram,
    interfaces: IntGaugeVec,
    routes: IntGaugeVec,
    firewall: firewall::FirewallRecorder,
    drift: drift::DriftCounters,
}

/// Upper bounds of the histogram of passes, in seconds: an idle pass takes milliseconds, one that fills 100 000
/// prefixes seconds.
const DURATIONS: [f64; 12] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0,
];

impl Default for Recorder {
    fn default() -> Recorder {
        let counter = |name, help| series::valid(IntCounter::new(name, help));
        let counters = |name, help, label| series::valid(IntCounterVec::new(Opts::new(name, help), &[label]));
        let gauges = |name, help, label| series::valid(IntGaugeVec::new(Opts::new(name, help), &[label]));
        let durations = |name, help| {
            let options = HistogramOpts::new(name, help).buckets(DURATIONS.to_vec());
            series::valid(Histogram::with_opts(options))
        };
        let recorder = Recorder {
            started: Instant::now(),
            beat: Arc::default(),
            passes: counters(
                "adit_reconcile_passes_total",
                "Passes over the kernel, by how they ended.",
                "result",
            ),
            duration: durations(
                "adit_reconcile_duration_seconds",
                "How long passes over the kernel took.",
            ),
            reloads: counters(
                "adit_config_reloads_total",
                "New versions of the manifests, by whether they were taken.",
                "result",
            ),
            link_operations: counters(
                "adit_interface_operations_total",
                "Changes made to devices.",
                "operation",
            ),
            link_errors: counters(
                "adit_interface_operation_errors_total",
                "Changes to devices that the kernel refused.",
                "operation",
            ),
            routes_added: counter("adit_routes_added_total", "Routes made or replaced."),
            routes_removed: counter("adit_routes_removed_total", "Routes deleted."),
            route_errors: counter(
                "adit_route_sync_errors_total",
                "Changes to routes that the kernel refused.",
            ),
            route_duration: durations(
                "adit_route_sync_duration_seconds",
                "How long changes to routes took, by the stage of a pass.",
            ),
            wireguard_added: counter("adit_wireguard_peers_added_total", "WireGuard peers added."),
            wireguard_removed: counter("adit_wireguard_peers_removed_total", "WireGuard peers removed."),
            wireguard_errors: counter(
                "adit_wireguard_configure_errors_total",
                "Changes to WireGuard devices that were refused.",
            ),
            wireguard_duration: durations(
                "adit_wireguard_configure_duration_seconds",
                "How long changes to WireGuard devices took, by the stage of a pass.",
            ),
            interfaces: gauges("adit_interfaces", "Devices of ours, by kind.", "type"),
            routes: gauges("adit_routes_installed", "Routes of ours, by table.", "table"),
            firewall: firewall::FirewallRecorder::default(),
            drift: drift::DriftCounters::default(),
        };
        // A rate needs the zero that it starts from.
        for result in PassResult::ALL {
            recorder.passes.with_label_values(&[result.name()]);
        }
        for taken in [true, false] {
            recorder.reloads.with_label_values(&[reload(taken)]);
        }
        for operation in OPERATIONS {
            recorder.link_operations.with_label_values(&[operation]);
            recorder.link_errors.with_label_values(&[operation]);
        }
        recorder
    }
}

impl Recorder {
    /// The loop has come round.
    pub fn beat(&self) {
        let now = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.beat.store(now, Ordering::Relaxed);
    }

    /// How long ago that was.
    #[must_use]
    pub fn silence(&self) -> Duration {
        let beat = Duration::from_millis(self.beat.load(Ordering::Relaxed));
        self.started.elapsed().saturating_sub(beat)
    }

    /// A pass has ended.
    pub fn pass(&self, duration: Duration, result: PassResult) {
        self.duration.observe(duration.as_secs_f64());
        self.passes.with_label_values(&[result.name()]).inc();
    }

    /// A new version of the manifests was taken or refused.
    pub fn reload(&self, taken: bool) {
        self.reloads.with_label_values(&[reload(taken)]).inc();
    }

    /// Changes were made, or refused.
    pub fn applied(&self, report: &ApplyReport) {
        self.firewall.applied(report);
        for (change, outcome) in &report.outcomes {
            let done = match outcome {
                Outcome::Done => true,
                Outcome::Failed(_) => false,
                Outcome::Skipped => continue,
            };
            if let Some(operation) = link_operation(change) {
                let counters = if done {
                    &self.link_operations
                } else {
                    &self.link_errors
                };
                counters.with_label_values(&[operation]).inc();
            }
            match change {
                Change::CreateRoute(..) | Change::ReplaceRoute(..) if done => self.routes_added.inc(),
                Change::DeleteRoute(..) if done => self.routes_removed.inc(),
                Change::CreateRoute(..) | Change::ReplaceRoute(..) | Change::DeleteRoute(..) => {
                    self.route_errors.inc();
                }
                Change::SetWireGuard(_, change) => self.wireguard_changed(change, done),
                _ => {}
            }
        }
        for (stage, duration) in &report.durations {
            let histogram = match stage {
                Stage::Backstops | Stage::Anchors | Stage::DeleteAnchors | Stage::DeleteBackstops => {
                    &self.route_duration
                }
                Stage::WireGuard | Stage::RemovePeers => &self.wireguard_duration,
                _ => continue,
            };
            histogram.observe(duration.as_secs_f64());
        }
    }

    fn wireguard_changed(&self, change: &DeviceChange, done: bool) {
        match change {
            _ if !done => self.wireguard_errors.inc(),
            DeviceChange::AddPeer(..) => self.wireguard_added.inc(),
            DeviceChange::RemovePeer(_) => self.wireguard_removed.inc(),
            _ => {}
        }
    }

    /// The kernel holds this.
    pub fn observed(&self, state: &KernelState) {
        self.firewall.observed(state.firewall.as_ref());
        self.interfaces.reset();
        for link in state.links.values().filter(|link| link.owner == Owner::Ours) {
            self.interfaces.with_label_values(&[kind(&link.kind)]).inc();
        }
        self.routes.reset();
        for (key, _) in state
            .routes
            .iter()
            .filter(|(_, route)| route.owner == Owner::Ours)
        {
            let table = if key.table == MAIN_TABLE {
                "main".to_owned()
            } else {
                key.table.to_string()
            };
            self.routes.with_label_values(&[table.as_str()]).inc();
        }
    }

    fn collect(&self) -> Vec<prometheus::proto::MetricFamily> {
        let all: [&dyn Collector; 15] = [
            &self.passes,
            &self.duration,
            &self.reloads,
            &self.link_operations,
            &self.link_errors,
            &self.routes_added,
            &self.routes_removed,
            &self.route_errors,
            &self.route_duration,
            &self.wireguard_added,
            &self.wireguard_removed,
            &self.wireguard_errors,
            &self.wireguard_duration,
            &self.interfaces,
            &self.routes,
        ];
        let mut families: Vec<_> = all.iter().flat_map(|collector| collector.collect()).collect();
        families.extend(self.drift.collect());
        families
    }
}

/// The page that a scraper gets, in Prometheus' text format.
///
/// # Errors
/// When it can't be encoded.
pub fn page(recorder: &Recorder, status: &Status, maps: Option<&MapReading>) -> prometheus::Result<String> {
    let mut families = recorder.collect();
    families.extend(recorder.firewall.collect());
    families.extend(node::collect(status));
    families.extend(kernel::collect(status, maps));
    families.extend(wireguard::collect(status));
    // A family without series is none: the text format has no place for it.
    families.retain(|family| !family.get_metric().is_empty());
    families.sort_by(|a, b| a.name().cmp(b.name()));
    TextEncoder::new().encode_to_string(&families)
}

const OPERATIONS: [&str; 4] = ["create", "modify", "up", "delete"];

fn link_operation(change: &Change) -> Option<&'static str> {
    match change {
        Change::CreateLink(..) => Some("create"),
        Change::ModifyLink(..) => Some("modify"),
        Change::SetLinkUp(..) => Some("up"),
        Change::DeleteLink(..) => Some("delete"),
        _ => None,
    }
}

fn reload(taken: bool) -> &'static str {
    if taken { "success" } else { "failure" }
}

fn kind(kind: &LinkKind) -> &'static str {
    match kind {
        LinkKind::Dummy => "dummy",
        LinkKind::Geneve { .. } => "geneve",
        LinkKind::Vxlan { .. } => "vxlan",
        LinkKind::Ipip { .. } => "ipip",
        LinkKind::Ip6tnl { .. } => "ip6tnl",
        LinkKind::WireGuard => "wireguard",
        LinkKind::Other(_) => "other",
    }
}
