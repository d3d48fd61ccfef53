//! What the loop counts of the nft table, under the names that masquerading has elsewhere.

use prometheus::core::Collector;
use prometheus::proto::MetricFamily;
use prometheus::{Histogram, HistogramOpts, IntCounter, IntGaugeVec, Opts};

use super::{DURATIONS, series};
use crate::apply::{ApplyReport, Outcome};
use crate::diff::order::Stage;
use crate::model::{Change, Firewall};
use crate::net::Family;

/// Clones share their counts.
#[derive(Clone, Debug)]
pub(super) struct FirewallRecorder {
    rules: IntGaugeVec,
    duration: Histogram,
    errors: IntCounter,
    rebuilds: IntCounter,
}

impl Default for FirewallRecorder {
    fn default() -> FirewallRecorder {
        let counter = |name, help| series::valid(IntCounter::new(name, help));
        let rules = Opts::new("adit_masquerade_rules", "Rules that masquerade, by family.");
        let duration = HistogramOpts::new(
            "adit_masquerade_sync_duration_seconds",
            "How long changes of the nft table took.",
        );
        let recorder = FirewallRecorder {
            rules: series::valid(IntGaugeVec::new(rules, &["family"])),
            duration: series::valid(Histogram::with_opts(duration.buckets(DURATIONS.to_vec()))),
            errors: counter(
                "adit_masquerade_sync_errors_total",
                "Changes of the nft table that were refused.",
            ),
            rebuilds: counter(
                "adit_masquerade_chain_rebuilds_total",
                "Times that the nft table was made or replaced as a whole.",
            ),
        };
        recorder.observed(None);
        recorder
    }
}

impl FirewallRecorder {
    /// Changes were made, or refused.
    pub(super) fn applied(&self, report: &ApplyReport) {
        for (change, outcome) in &report.outcomes {
            match (change, outcome) {
                (
                    Change::CreateFirewall(_) | Change::ReplaceFirewall(_) | Change::DeleteFirewall,
                    Outcome::Failed(_),
                ) => self.errors.inc(),
                (Change::CreateFirewall(_) | Change::ReplaceFirewall(_), Outcome::Done) => {
                    self.rebuilds.inc();
                }
                _ => {}
            }
        }
        for (stage, duration) in &report.durations {
            if matches!(stage, Stage::Firewall | Stage::DeleteFirewall) {
                self.duration.observe(duration.as_secs_f64());
            }
        }
    }

    /// The kernel holds this.
    pub(super) fn observed(&self, firewall: Option<&Firewall>) {
        for (family, name) in [(Family::Ipv4, "ipv4"), (Family::Ipv6, "ipv6")] {
            let rules = firewall.map_or(0, |firewall| firewall.masquerades(family));
            let rules = i64::try_from(rules).unwrap_or(i64::MAX);
            self.rules.with_label_values(&[name]).set(rules);
        }
    }

    pub(super) fn collect(&self) -> Vec<MetricFamily> {
        let all: [&dyn Collector; 4] = [&self.rules, &self.duration, &self.errors, &self.rebuilds];
        all.into_iter().flat_map(Collector::collect).collect()
    }
}
