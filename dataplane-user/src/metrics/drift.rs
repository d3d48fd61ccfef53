//! What the loop was woken by, what the kernel told, and what was put right.

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

/// Counts about drift. Clones share them.
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
                "Objects of ours that something else changed and that were put right, by kind.",
                "kind",
            ),
            wakeups: family(
                "adit_reconcile_wakeups_total",
                "What made the loop pass over the kernel; what gathers during a pass is one pass.",
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
                (
                    "adit_kernel_events_total",
                    "Messages that the kernel sent of its own accord, by what they are about.",
                ),
                ["kind"],
                received,
            ));
            families.extend(counters(
                (
                    "adit_kernel_event_overruns_total",
                    "Times that such messages were lost; each leads to a full pass.",
                ),
                [],
                [([], events.overruns())],
            ));
        }
        families
    }
}

impl Recorder {
    /// Has the page tell of what a subscription hears.
    pub fn counts_events(&self, counts: Arc<EventCounts>) {
        // A second subscription would be another agent's.
        let _first_stays = self.drift.events.set(counts);
    }

    /// The loop was woken.
    pub fn woken(&self, event: Event) {
        if let Some(cause) = cause(event) {
            self.drift.wakeups.with_label_values(&[cause]).inc();
        }
    }

    /// Objects were put right.
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
