//! The loop: it decides when to load manifests and when to reconcile, and keeps state between
//! reconciliations.
//!
//! One task runs it. It waits only for an [`Event`]. It may be dropped between any two changes, because the
//! next start begins with the observed state. Status, metrics and log are written elsewhere, by the
//! [`Listener`] of its reports.

pub mod compare;
pub mod load;
pub mod problems;
mod report;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tracing::{debug, info, warn};

use self::compare::Comparison;
use self::load::Rejected;
use crate::diff::readable;
use crate::drift::Drift;
use crate::event::Event;
use crate::gather::Gatherer;
use crate::heartbeat::Heartbeat;
use crate::kernel::Kernel;
use crate::model::ChangeSet;
use crate::net::NodeName;
use crate::pauses::Pauses;
use crate::resource::{Intent, Problem, Reason};
use crate::source::{KeyRing, last_good};

pub use self::report::{Listener, Loaded, Reconciled, Report, Unread};

/// Settings of an agent.
#[derive(Clone, Debug)]
pub struct Config {
    /// Manifest files and directories.
    pub paths: Vec<PathBuf>,
    /// The name of this node.
    pub node: NodeName,
    /// The directory with the key of the node and other files of the agent: the last accepted manifests,
    /// withdrawn peers, namespaces.
    pub state_directory: PathBuf,
    /// The public keys in use; it finds the private key of each.
    pub keys: KeyRing,
    /// The times between retries and the like.
    pub pauses: Pauses,
    /// Records that the loop is alive.
    pub heartbeat: Heartbeat,
}

/// The agent of one node.
pub struct Agent<K> {
    kernel: K,
    gatherer: Gatherer,
    config: Config,
    /// The resources accepted last, as seen from this node.
    intent: Option<Intent>,
    /// Why the newest version of the manifests is rejected.
    rejected: Option<Rejected>,
    /// The problem that the accepted manifests are not in the state directory.
    not_kept: Option<Problem>,
    drift: Drift,
    /// The number of reconciliations so far.
    passes: u64,
    /// When the last reconciliation ended.
    passed: Instant,
    /// Consecutive reconciliations that did not converge.
    failures: u32,
    /// Whether an object waits for something that sends no event.
    waits: bool,
}

impl<K: Kernel> Agent<K> {
    /// An agent that has not loaded anything yet.
    pub fn new(kernel: K, config: Config) -> Agent<K> {
        Agent {
            kernel,
            gatherer: Gatherer::new(config.state_directory.clone(), config.pauses.names)
                .with_keys(config.keys.clone())
                .with_rotation_overlap(config.pauses.rotation_overlap),
            drift: Drift::new(config.pauses),
            config,
            intent: None,
            rejected: None,
            not_kept: None,
            passes: 0,
            passed: Instant::now(),
            failures: 0,
            waits: false,
        }
    }

    /// Runs until [`Event::Stop`], and leaves the kernel state as it is.
    pub async fn run(mut self, mut events: mpsc::Receiver<Event>, listener: &mut impl Listener) {
        self.config.heartbeat.busy();
        self.begin(&[], listener);
        self.load(listener);
        self.pass(listener).await;
        while let Some(event) = self.next(&mut events).await {
            // All pending events lead to one reconciliation.
            let mut pending = vec![event];
            if event == Event::Recheck && !self.changed_silently().await {
                continue;
            }
            self.back_off(&pending).await;
            while let Ok(further) = events.try_recv() {
                // The reconciliation that follows sees more than a recheck does.
                if further != Event::Recheck {
                    pending.push(further);
                }
            }
            if pending.contains(&Event::Stop) {
                break;
            }
            self.begin(&pending, listener);
            if pending.iter().any(Event::may_change_the_source) {
                self.load(listener);
            }
            self.pass(listener).await;
        }
        info!("stopping; traffic continues");
    }

    /// Waits for the next event, and records heartbeats meanwhile.
    async fn next(&self, events: &mut mpsc::Receiver<Event>) -> Option<Event> {
        let heartbeat = &self.config.heartbeat;
        loop {
            heartbeat.idle();
            let retry = self.retry_after();
            let event = match retry.into_iter().chain(heartbeat.interval()).min() {
                None => events.recv().await,
                Some(delay) => match tokio::time::timeout(delay, events.recv()).await {
                    Ok(event) => event,
                    Err(_) if retry.is_none_or(|retry| retry > delay) => continue,
                    Err(_) => Some(Event::Retry),
                },
            };
            heartbeat.busy();
            return event;
        }
    }

    /// Whether something changed without an event. Not checked after a failure, because a retry follows
    /// anyway.
    async fn changed_silently(&mut self) -> bool {
        if self.failures > 0 || self.intent.is_none() {
            return false;
        }
        match self.kernel.changed_silently().await {
            Ok(None) => {
                debug!("nothing changed without an event");
                false
            }
            Ok(Some(object)) => {
                info!("{object} changed without an event");
                true
            }
            Err(failure) => {
                debug!("full reconciliation: changes without events can't be detected: {failure}");
                true
            }
        }
    }

    /// The time until the next retry, the earliest of these: after a failure, a delay that doubles each time;
    /// while something waits, a fixed interval; for an object that was repaired too often, the end of its
    /// pause; for endpoints with names, the next look-up; after a key rotation, the end of the second link.
    /// `None` if none applies.
    fn retry_after(&self) -> Option<Duration> {
        let pauses = &self.config.pauses;
        let failed = (self.failures > 0).then(|| {
            let delay = pauses
                .first_retry
                .saturating_mul(1 << (self.failures - 1).min(16))
                .min(pauses.longest_retry);
            // Counted from the last reconciliation: a wake-up that leads to none must not postpone the retry.
            delay.saturating_sub(self.passed.elapsed())
        });
        let waiting = pauses.waiting.saturating_sub(self.passed.elapsed());
        let due = self.gatherer.names_due().into_iter();
        let due = due.chain(self.gatherer.rotation_due());
        let due = due.map(|due| due.max(waiting));
        let waiting = self.waits.then_some(waiting);
        let times = failed.into_iter().chain(waiting).chain(due);
        times.chain(self.drift.next_retry()).min()
    }

    /// Delays a reconciliation after a failure: the failed one may have caused the event that woke the loop.
    async fn back_off(&self, woken: &[Event]) {
        if self.failures > 0 && woken == [Event::KernelChanged] {
            let retry = self.passed + self.config.pauses.first_retry;
            tokio::time::sleep_until(retry.into()).await;
        }
    }

    /// Reports that a reconciliation begins, before it reads anything.
    fn begin(&mut self, woken_by: &[Event], listener: &mut impl Listener) {
        self.passes += 1;
        listener.begun(self.passes, woken_by);
    }

    /// Loads the manifests. If they are rejected, the previous version stays in use, also after a restart.
    fn load(&mut self, listener: &mut impl Listener) {
        let known = self.rejected.take();
        match load::load(&self.config.paths, self.config.node.clone()) {
            Ok((intent, files)) => {
                let is_new = self.intent.as_ref() != Some(&intent);
                if is_new {
                    listener.loaded(Loaded::Accepted(&intent));
                    self.intent = Some(intent);
                }
                if is_new || self.not_kept.is_some() {
                    let kept = last_good::store(&self.config.state_directory, &files);
                    self.not_kept = kept.err().map(|error| problems::not_kept(&error));
                }
            }
            Err(rejected) => {
                let message = rejected.to_string();
                if known.is_none_or(|known| known.to_string() != message) {
                    if self.intent.is_none() {
                        self.intent = self.last_good();
                    }
                    let keeps_previous = self.intent.is_some();
                    listener.loaded(Loaded::Rejected {
                        message: &message,
                        keeps_previous,
                    });
                }
                self.rejected = Some(rejected);
            }
        }
    }

    /// The manifests accepted last, by this agent or an earlier one, as seen from this node.
    fn last_good(&self) -> Option<Intent> {
        let directory = &self.config.state_directory;
        last_good::intent(directory, self.config.node.clone()).unwrap_or_else(|error| {
            warn!("the manifests accepted last can't be used: {error}");
            None
        })
    }

    /// Reconciles once, if manifests were ever accepted, and reports the result.
    async fn pass(&mut self, listener: &mut impl Listener) {
        let started = Instant::now();
        let of_source = self.rejected.iter().map(Rejected::problem);
        let mut problems = of_source.chain(self.not_kept.clone()).collect::<Vec<_>>();
        let mut reconciled = None;
        if let Some(intent) = self.intent.clone() {
            let result = self.reconcile(&intent).await;
            self.kernel.release_namespaces();
            match &result {
                Ok((_, found)) => problems.extend(found.iter().cloned()),
                Err(unread) => {
                    problems.push(problems::unreadable_kernel(&unread.error));
                    problems.extend(problems::of_changes(&unread.applied, &ChangeSet::default()));
                }
            }
            reconciled = Some(result.map(|(reconciled, _)| reconciled));
        }
        let failed = |problem: &Problem| {
            matches!(
                problem.reason,
                Reason::ApplyFailed | Reason::NotConverged | Reason::FirewallUnreadable
            )
        };
        let waits = |problem: &Problem| matches!(problem.reason, Reason::Waiting | Reason::KeyRotation);
        self.waits = problems.iter().any(waits);
        self.failures = if problems.iter().any(failed) {
            self.failures.saturating_add(1)
        } else {
            0
        };
        self.config.heartbeat.reconciled();
        self.passed = Instant::now();
        listener.ended(Report {
            number: self.passes,
            intent: self.intent.as_ref(),
            rejected: self.rejected.as_ref(),
            problems,
            reconciled,
            duration: started.elapsed(),
        });
    }

    /// Changes the kernel to the desired state of an intent. Returns what was done, and the problems.
    async fn reconcile(&mut self, intent: &Intent) -> Result<(Reconciled, Vec<Problem>), Unread> {
        let (kernel, gatherer, drift) = (&mut self.kernel, &mut self.gatherer, &mut self.drift);
        let record = || self.config.heartbeat.record();
        let mut compared = Comparison::new(kernel, gatherer, intent, record).await?;
        let mut problems = std::mem::take(&mut compared.planned);
        let repairs = drift.find_repairs(&compared.observed, &compared.desired, &mut compared.set);
        let mut reconciled = Reconciled::default();
        if !compared.set.is_empty() {
            info!(changes = compared.set.changes.len(), "applying changes");
            compared.set.changes.iter().for_each(|change| debug!("{change}"));
            let (applied, before) = compared.apply(kernel, |_| true, record).await;
            reconciled.repaired = drift.record(repairs, &applied);
            reconciled.applied = applied;
            match before {
                Ok(before) => reconciled.before = Some(before),
                Err(error) => {
                    return Err(Unread {
                        error,
                        applied: reconciled.applied,
                        repaired: reconciled.repaired,
                    });
                }
            }
            drift.skip_held(&compared.observed, &compared.desired, &mut compared.set);
        }
        let Comparison {
            facts,
            desired,
            observed,
            set,
            ..
        } = compared;
        drift.ended(&observed, readable(&desired, &observed), &set);
        gatherer.forget_namespaces(&facts, intent, &observed, &set);
        problems.extend(problems::unreadable(&observed, &facts));
        problems.extend(drift.problems());
        problems.extend(problems::of_changes(&reconciled.applied, &set));
        let reconciled = Reconciled {
            facts,
            observed,
            residual: set.changes.len(),
            repairs: drift.repairs().clone(),
            ..reconciled
        };
        Ok((reconciled, problems))
    }
}
