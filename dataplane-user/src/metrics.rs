//! What the agent counts about itself, and the page that shows it with what the kernel counts.
//!
//! The loop records into a [`Recorder`]; [`page`] renders it with a status and what was read from the maps at that
//! moment. Labels are closed enums or configured names.

mod changes;
mod drift;
mod firewall;
mod kernel;
mod node;
mod series;
#[cfg(test)]
mod tests;
mod wireguard;

use std::time::Duration;

use prometheus::core::Collector;
use prometheus::{Histogram, HistogramOpts, IntCounterVec, IntGauge, IntGaugeVec, Opts, TextEncoder};

use crate::apply::ApplyReport;
use crate::model::{KernelState, LinkKind, MAIN_TABLE, Owner, Target};
use crate::status::Status;

pub use self::kernel::MapReading;
pub use self::wireguard::UnnamedPeer;

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
    passes: IntCounterVec,
    duration: Histogram,
    reloads: IntCounterVec,
    interfaces: IntGaugeVec,
    routes: IntGaugeVec,
    ecmp_routes: IntGauge,
    changes: changes::ChangeCounters,
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
        let counters = |name, help, label| series::valid(IntCounterVec::new(Opts::new(name, help), &[label]));
        let gauges = |name, help, label| series::valid(IntGaugeVec::new(Opts::new(name, help), &[label]));
        let durations = |name, help| {
            let options = HistogramOpts::new(name, help).buckets(DURATIONS.to_vec());
            series::valid(Histogram::with_opts(options))
        };
        let recorder = Recorder {
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
            interfaces: gauges("adit_interfaces", "Devices of ours, by kind.", "type"),
            routes: gauges("adit_routes_installed", "Routes of ours, by table.", "table"),
            ecmp_routes: series::valid(IntGauge::new(
                "adit_ecmp_routes_installed",
                "Prefixes that lead to more than one next hop.",
            )),
            changes: changes::ChangeCounters::default(),
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
        recorder
    }
}

impl Recorder {
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
        self.changes.applied(report);
    }

    /// The kernel holds this.
    pub fn observed(&self, state: &KernelState) {
        self.firewall.observed(state.firewall.as_ref());
        self.interfaces.reset();
        let links = [state].into_iter().chain(state.namespaces.values());
        let links = links.flat_map(|state| state.links.values());
        for link in links.filter(|link| link.owner == Owner::Ours) {
            self.interfaces.with_label_values(&[kind(&link.kind)]).inc();
        }
        let groups = state.prefixes.values().filter(|target| is_group(target)).count();
        let places = [state].into_iter().chain(state.namespaces.values());
        let routes = places.flat_map(|state| state.routes.values());
        let ours = routes.filter(|route| route.owner == Owner::Ours);
        let routes = ours.filter(|route| route.kind.hops() > 1).count();
        self.ecmp_routes
            .set(i64::try_from(groups + routes).unwrap_or(i64::MAX));
        self.routes.reset();
        let places = [state].into_iter().chain(state.namespaces.values());
        let routes = places.flat_map(|state| &state.routes);
        for (key, _) in routes.filter(|(_, route)| route.owner == Owner::Ours) {
            let table = if key.table == MAIN_TABLE {
                "main".to_owned()
            } else {
                key.table.to_string()
            };
            self.routes.with_label_values(&[table.as_str()]).inc();
        }
    }

    fn collect(&self) -> Vec<prometheus::proto::MetricFamily> {
        let all: [&dyn Collector; 6] = [
            &self.passes,
            &self.duration,
            &self.reloads,
            &self.interfaces,
            &self.routes,
            &self.ecmp_routes,
        ];
        let mut families: Vec<_> = all.iter().flat_map(|collector| collector.collect()).collect();
        families.extend(self.drift.collect());
        families.extend(self.changes.collect());
        families
    }
}

/// What was read when the page was asked for.
#[derive(Clone, Copy, Debug)]
pub struct Reading<'a> {
    /// The status.
    pub status: &'a Status,
    /// What the maps say, if they can be read.
    pub maps: Option<&'a MapReading>,
    /// Peers of Adit's WireGuard devices that the status does not name.
    pub unnamed: &'a [UnnamedPeer],
}

/// The page that a scraper gets, in Prometheus' text format; public keys and addresses of the underlay are labels only with
/// `details`.
///
/// # Errors
/// When it can't be encoded.
pub fn page(recorder: &Recorder, reading: &Reading<'_>, details: bool) -> prometheus::Result<String> {
    let &Reading {
        status,
        maps,
        unnamed,
    } = reading;
    let mut families = recorder.collect();
    families.extend(recorder.firewall.collect());
    families.extend(node::collect(status));
    families.extend(kernel::collect(status, maps, details));
    families.extend(wireguard::collect(status, unnamed, details));
    // A family without series is none: the text format has no place for it.
    families.retain(|family| !family.get_metric().is_empty());
    families.sort_by(|a, b| a.name().cmp(b.name()));
    TextEncoder::new().encode_to_string(&families)
}

fn is_group(target: &Target) -> bool {
    matches!(target, Target::Group(_))
}

fn reload(taken: bool) -> &'static str {
    if taken { "success" } else { "failure" }
}

fn kind(kind: &LinkKind) -> &'static str {
    match kind {
        LinkKind::Dummy => "dummy",
        LinkKind::Geneve { .. } | LinkKind::GeneveTo { .. } => "geneve",
        LinkKind::Vxlan { .. } | LinkKind::VxlanTo { .. } => "vxlan",
        LinkKind::Ipip { .. } | LinkKind::IpipTo { .. } => "ipip",
        LinkKind::Bridge => "bridge",
        LinkKind::Veth(_) => "veth",
        LinkKind::Ip6tnl { .. } => "ip6tnl",
        LinkKind::WireGuard => "wireguard",
        LinkKind::Other(_) => "other",
    }
}
