//! Counters of wake-ups of the loop, of kernel events, and of repairs.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use prometheus::core::Collector;
use prometheus::proto::MetricFamily;
use prometheus::{IntCounterVec, Opts};

use super::Recorder;
use super::series::{counters, valid};
use crate::diff::repairs::RepairKind;
use crate::event::Event;
use crate::kernel::netlink::{EventCounts, EventKind};

/// Counters of drift. Clones share their counts.
#[derive(Clone, Debug)]
pub(super) struct DriftCounters {
    repairs: IntCounterVec,
    wakeups: IntCounterVec,
    /// Set once there is a subscription.
    events: Arc<OnceLock<Arc<EventCounts>>>,
}

impl Default for DriftCounters {
    fn default() -> DriftCounters {
        let family = |name, help, label| valid(IntCounterVec::new(Opts::new(name, help), &[label]));
        let counters = DriftCounters {
            repairs: family(
                "adit_drift_repairs_total",
                "Managed objects that something else changed and that the agent restored, by kind.",
                "kind",
            ),
            wakeups: family(
                "adit_reconcile_wakeups_total",
                "Events that woke the reconciliation loop, by cause. Several events may lead to one reconciliation.",
                "cause",
            ),
            events: Arc::default(),
        };
        for kind in RepairKind::all() {
            counters.repairs.with_label_values(&[kind.name()]);
        }
        for cause in CAUSES {
            counters.wakeups.with_label_values(&[cause]);
        }
        counters
    }
}

impl DriftCounters {
    pub(super) fn collect(&self) -> Vec<MetricFamily> {
        let mut families = self.repairs.collect();
        families.extend(self.wakeups.collect());
        if let Some(events) = self.events.get() {
            let received = EventKind::ALL.map(|kind| ([kind.name().to_owned()], events.received(kind)));
            families.extend(counters(
                "adit_kernel_events_total",
                "Messages that the kernel sent without a request, by kind.",
                ["kind"],
                received,
            ));
            families.extend(counters(
                "adit_kernel_event_overruns_total",
                "How often such messages were lost; each time leads to a full reconciliation.",
                [],
                [([], events.overruns())],
            ));
        }
        families
    }
}

impl Recorder {
    /// Makes the page show the counters of a subscription.
    pub fn counts_events(&self, counts: Arc<EventCounts>) {
        // A process has one agent, and an agent one subscription.
        let _first_stays = self.drift.events.set(counts);
    }

    /// Counts a wake-up of the loop.
    pub fn woken(&self, event: Event) {
        if let Some(cause) = cause(event) {
            self.drift.wakeups.with_label_values(&[cause]).inc();
        }
    }

    /// Counts restored objects.
    pub fn repaired(&self, numbers: &BTreeMap<RepairKind, u64>) {
        for (kind, number) in numbers {
            self.drift
                .repairs
                .with_label_values(&[kind.name()])
                .inc_by(*number);
        }
    }
}

const CAUSES: [&str; 6] = ["source", "event", "overrun", "period", "revision", "retry"];

fn cause(event: Event) -> Option<&'static str> {
    Some(match event {
        Event::SourceChanged => "source",
        Event::KernelChanged => "event",
        Event::EventsLost => "overrun",
        Event::Resync => "period",
        Event::Recheck => "revision",
        Event::Retry => "retry",
        Event::Stop => return None,
    })
}
