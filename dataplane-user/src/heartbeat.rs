//! The heartbeat of the reconciliation loop: the loop records it, other threads and the systemd watchdog read
//! it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use sd_notify::NotifyState;

use crate::limits;

/// The heartbeat. Clones share it, also between threads.
#[derive(Clone, Debug)]
pub struct Heartbeat {
    started: Instant,
    /// The interval of full reconciliations.
    resync: Duration,
    /// The time without a heartbeat after which the systemd watchdog kills the agent; `None` without a
    /// watchdog.
    watchdog: Option<Duration>,
    signs: Arc<Signs>,
}

/// Times in milliseconds since the start.
#[derive(Debug, Default)]
struct Signs {
    last: AtomicU64,
    reconciled: AtomicU64,
    has_reconciled: AtomicBool,
    works: AtomicBool,
}

impl Heartbeat {
    /// The heartbeat of a loop that starts now: with the interval of its full reconciliations, and the time
    /// without a heartbeat after which the systemd watchdog kills the agent (sd_watchdog_enabled(3)). Each
    /// heartbeat notifies the watchdog.
    #[must_use]
    pub fn new(resync: Duration, watchdog: Option<Duration>) -> Heartbeat {
        Heartbeat {
            started: Instant::now(),
            resync,
            watchdog,
            signs: Arc::default(),
        }
    }

    /// The interval at which an idle loop must record a heartbeat; `None` if it need not.
    #[must_use]
    pub fn interval(&self) -> Option<Duration> {
        self.watchdog.map(|watchdog| watchdog / 2)
    }

    /// The loop begins to work: from now on it must record a heartbeat after each step.
    pub fn busy(&self) {
        self.signs.works.store(true, Ordering::Relaxed);
        self.record();
    }

    /// The loop has finished a step.
    pub fn record(&self) {
        self.signs.last.store(self.now(), Ordering::Relaxed);
        if self.watchdog.is_some()
            && let Err(error) = sd_notify::notify(&[NotifyState::Watchdog])
        {
            tracing::debug!("the systemd watchdog can't be notified: {error}");
        }
    }

    /// A reconciliation has ended, with any result.
    pub fn reconciled(&self) {
        self.signs.reconciled.store(self.now(), Ordering::Relaxed);
        self.signs.has_reconciled.store(true, Ordering::Relaxed);
        self.record();
    }

    /// The loop waits for an event.
    pub fn idle(&self) {
        self.record();
        self.signs.works.store(false, Ordering::Relaxed);
    }

    /// How long ago the last reconciliation ended; `None` if none has ended yet.
    #[must_use]
    pub fn reconciled_ago(&self) -> Option<Duration> {
        let has = self.signs.has_reconciled.load(Ordering::Relaxed);
        has.then(|| self.since(&self.signs.reconciled))
    }

    /// Why the loop counts as hanging, in a few words; `None` if it does not.
    #[must_use]
    pub fn hangs(&self) -> Option<String> {
        let works = self.signs.works.load(Ordering::Relaxed);
        hangs(
            works,
            self.since(&self.signs.last),
            self.since(&self.signs.reconciled),
            self.resync,
        )
    }

    fn now(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn since(&self, then: &AtomicU64) -> Duration {
        let then = Duration::from_millis(then.load(Ordering::Relaxed));
        self.started.elapsed().saturating_sub(then)
    }
}

/// A busy loop records a heartbeat after each step. An idle loop is woken by the next full reconciliation at
/// the latest. That one may be delayed, so it must have ended after twice the interval.
fn hangs(works: bool, silence: Duration, reconciled: Duration, resync: Duration) -> Option<String> {
    if works && silence > limits::LONGEST_STEP {
        let seconds = silence.as_secs();
        return Some(format!(
            "a step of the reconciliation has been running for {seconds} s"
        ));
    }
    let late = !works && silence > resync.saturating_add(limits::LONGEST_STEP);
    if late || reconciled > resync.saturating_mul(2).saturating_add(limits::LONGEST_STEP) {
        let seconds = reconciled.as_secs();
        let resync = resync.as_secs();
        return Some(format!(
            "the last reconciliation ended {seconds} s ago, but full reconciliations are due every {resync} s"
        ));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: fn(u64) -> Duration = Duration::from_secs;

    #[test]
    fn a_loop_hangs_when_a_step_or_the_next_reconciliation_does_not_end() {
        // Whether it works, seconds since its last heartbeat and its last reconciliation, `--resync`.
        let cases = [
            (true, 1, 1, 3600, false),
            (true, 31, 31, 3600, true),
            (true, 31, 31, 1, true),
            // Idle between two reconciliations that are an hour apart.
            (false, 3000, 3000, 3600, false),
            (false, 5, 3650, 3600, false),
            (false, 5, 7231, 3600, true),
            (false, 3631, 3631, 3600, true),
            (false, 20, 20, 1, false),
            (false, 32, 32, 1, true),
            // It is woken again and again, but never finishes a reconciliation.
            (true, 0, 33, 1, true),
        ];
        for case @ (works, silence, reconciled, resync, expected) in cases {
            let found = hangs(works, S(silence), S(reconciled), S(resync));
            assert_eq!(found.is_some(), expected, "{case:?}: {found:?}");
        }
    }

    #[test]
    fn a_reconciliation_is_as_old_as_its_end() {
        let heartbeat = Heartbeat::new(S(1), None);
        assert_eq!(heartbeat.reconciled_ago(), None);
        heartbeat.busy();
        heartbeat.reconciled();
        heartbeat.idle();
        assert!(heartbeat.clone().reconciled_ago().is_some_and(|age| age < S(1)));
        assert_eq!(heartbeat.hangs(), None);
    }
}
