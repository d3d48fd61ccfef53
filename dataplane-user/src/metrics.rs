//! Counters of the agent, and the page that shows them together with counters of the kernel.
//!
//! The loop records into a [`Recorder`]; [`page`] renders it with a status and with the BPF maps as read at
//! that moment. Labels are closed enums or configured names.

mod bpf;
mod changes;
mod drift;
mod firewall;
mod series;
mod status;
#[cfg(test)]
mod tests;
mod wireguard;

use std::time::Duration;

use prometheus::core::Collector;
use prometheus::{Histogram, HistogramOpts, IntCounterVec, IntGauge, IntGaugeVec, Opts, TextEncoder};

use crate::apply::ApplyReport;
use crate::model::{KernelState, LinkKind, MAIN_TABLE, Owner, PrefixTarget};
use crate::status::Status;

pub use self::bpf::MapReading;
pub use self::wireguard::UnnamedPeer;

/// How a reconciliation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReconciliationResult {
    /// The observed state is the desired state.
    Converged,
    /// Changes are still to be made.
    Incomplete,
    /// The state of the kernel can't be read.
    Failed,
    /// There is no desired state: no valid manifests were ever loaded.
    Idle,
}

impl ReconciliationResult {
    const ALL: [ReconciliationResult; 4] = [
        ReconciliationResult::Converged,
        ReconciliationResult::Incomplete,
        ReconciliationResult::Failed,
        ReconciliationResult::Idle,
    ];

    fn name(self) -> &'static str {
        match self {
            ReconciliationResult::Converged => "converged",
            ReconciliationResult::Incomplete => "incomplete",
            ReconciliationResult::Failed => "failed",
            ReconciliationResult::Idle => "idle",
        }
    }
}

/// The counters of the loop. Clones share their counts, also between threads.
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

/// Upper bounds of histograms, in seconds: a reconciliation without changes takes milliseconds, one that
/// fills 100 000 prefixes takes seconds.
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
                "Reconciliations, by how they ended.",
                "result",
            ),
            duration: durations("adit_reconcile_duration_seconds", "Duration of reconciliations."),
            reloads: counters(
                "adit_config_reloads_total",
                "New versions of the manifests, by whether they were accepted.",
                "result",
            ),
            interfaces: gauges("adit_interfaces", "Managed devices, by kind.", "type"),
            routes: gauges("adit_routes_installed", "Managed routes, by table.", "table"),
            ecmp_routes: series::valid(IntGauge::new(
                "adit_ecmp_routes_installed",
                "Prefixes that lead to more than one next hop.",
            )),
            changes: changes::ChangeCounters::default(),
            firewall: firewall::FirewallRecorder::default(),
            drift: drift::DriftCounters::default(),
        };
        // Series exist from the start, so that the first increase counts in a rate.
        for result in ReconciliationResult::ALL {
            recorder.passes.with_label_values(&[result.name()]);
        }
        for accepted in [true, false] {
            recorder.reloads.with_label_values(&[reload(accepted)]);
        }
        recorder
    }
}

impl Recorder {
    /// Counts a reconciliation that has ended.
    pub fn reconciliation(&self, duration: Duration, result: ReconciliationResult) {
        self.duration.observe(duration.as_secs_f64());
        self.passes.with_label_values(&[result.name()]).inc();
    }

    /// Counts a new version of the manifests, accepted or rejected.
    pub fn reload(&self, accepted: bool) {
        self.reloads.with_label_values(&[reload(accepted)]).inc();
    }

    /// Counts changes, made or refused.
    pub fn applied(&self, report: &ApplyReport) {
        self.changes.applied(report);
    }

    /// Records the observed state.
    pub fn observed(&self, state: &KernelState) {
        self.firewall.observed(state.firewall.as_ref());
        self.interfaces.reset();
        let links = [state].into_iter().chain(state.namespaces.values());
        let links = links.flat_map(|state| state.links.values());
        for link in links.filter(|link| link.owner == Owner::Adit) {
            self.interfaces.with_label_values(&[kind(&link.kind)]).inc();
        }
        let groups = state.prefixes.values().filter(|target| is_group(target)).count();
        let namespaces = [state].into_iter().chain(state.namespaces.values());
        let routes = namespaces.flat_map(|state| state.routes.values());
        let managed = routes.filter(|route| route.owner == Owner::Adit);
        let routes = managed.filter(|route| route.kind.hops() > 1).count();
        self.ecmp_routes
            .set(i64::try_from(groups + routes).unwrap_or(i64::MAX));
        self.routes.reset();
        let namespaces = [state].into_iter().chain(state.namespaces.values());
        let routes = namespaces.flat_map(|state| &state.routes);
        for (key, _) in routes.filter(|(_, route)| route.owner == Owner::Adit) {
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

/// Everything that a page shows beside the [`Recorder`], as read when the page was requested.
#[derive(Clone, Copy, Debug)]
pub struct Reading<'a> {
    /// The status.
    pub status: &'a Status,
    /// The BPF maps, if they can be read.
    pub maps: Option<&'a MapReading>,
    /// Peers of managed WireGuard devices that the status does not name.
    pub unnamed: &'a [UnnamedPeer],
}

/// The page that a scraper gets, in the text format of Prometheus. Public keys and addresses of the underlay
/// are labels only with `details`.
///
/// # Errors
/// When the page can't be encoded.
pub fn page(recorder: &Recorder, reading: &Reading<'_>, details: bool) -> prometheus::Result<String> {
    let &Reading {
        status,
        maps,
        unnamed,
    } = reading;
    let mut families = recorder.collect();
    families.extend(recorder.firewall.collect());
    families.extend(status::collect(status));
    families.extend(firewall::dropped(status));
    families.extend(bpf::collect(status, maps, details));
    families.extend(wireguard::collect(status, unnamed, details));
    // The text format can't express a family without series.
    families.retain(|family| !family.get_metric().is_empty());
    families.sort_by(|a, b| a.name().cmp(b.name()));
    TextEncoder::new().encode_to_string(&families)
}

fn is_group(target: &PrefixTarget) -> bool {
    matches!(target, PrefixTarget::Group(_))
}

fn reload(accepted: bool) -> &'static str {
    if accepted { "success" } else { "failure" }
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
