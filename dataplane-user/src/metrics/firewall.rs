//! Metrics of the nft table: its rules, under the names that other agents use for masquerading, and the
//! packets that they dropped.

use prometheus::core::Collector;
use prometheus::proto::MetricFamily;
use prometheus::{IntGaugeVec, Opts};

use super::series::{self, counters};
use crate::model::Firewall;
use crate::net::Family;
use crate::status::Status;

/// The packets that rules dropped, as read for the status.
pub(super) fn dropped(status: &Status) -> Vec<MetricFamily> {
    let dropped = || status.dropped.iter();
    [
        counters(
            "adit_firewall_dropped_packets_total",
            "Packets that rules of the nft table dropped, by reason.",
            ["reason"],
            dropped().map(|(reason, count)| ([reason.name().to_owned()], count.packets)),
        ),
        counters(
            "adit_firewall_dropped_bytes_total",
            "Bytes of the packets that rules of the nft table dropped.",
            ["reason"],
            dropped().map(|(reason, count)| ([reason.name().to_owned()], count.bytes)),
        ),
    ]
    .concat()
}

/// Clones share their counts.
#[derive(Clone, Debug)]
pub(super) struct FirewallRecorder {
    rules: IntGaugeVec,
}

impl Default for FirewallRecorder {
    fn default() -> FirewallRecorder {
        let rules = Opts::new("adit_masquerade_rules", "Rules that masquerade, by family.");
        let recorder = FirewallRecorder {
            rules: series::valid(IntGaugeVec::new(rules, &["family"])),
        };
        recorder.observed(None);
        recorder
    }
}

impl FirewallRecorder {
    /// Records the observed table; `None`: there is none.
    pub(super) fn observed(&self, firewall: Option<&Firewall>) {
        for (family, name) in [(Family::Ipv4, "ipv4"), (Family::Ipv6, "ipv6")] {
            let rules = firewall.map_or(0, |firewall| firewall.masquerades(family));
            let rules = i64::try_from(rules).unwrap_or(i64::MAX);
            self.rules.with_label_values(&[name]).set(rules);
        }
    }

    pub(super) fn collect(&self) -> Vec<MetricFamily> {
        self.rules.collect()
    }
}
