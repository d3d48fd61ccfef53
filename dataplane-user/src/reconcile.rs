//! The loop: when to load and to reconcile, and what is remembered from one reconciliation to the next.
//!
//! One task runs it. It waits only for an [`Event`]; it may be dropped between any two changes, because the next start
//! begins with what the kernel holds. Status, metrics and the log are made elsewhere, from what it tells a [`Listener`].

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

/// What an agent is told at its start.
#[derive(Clone, Debug)]
pub struct Config {
    /// Manifest files and directories.
    pub paths: Vec<PathBuf>,
    /// Which node this is.
    pub node: NodeName,
    /// Where the node's key is.
    pub state_directory: PathBuf,
    /// Told of all keys that are in use, so that private ones are found.
    pub keys: KeyRing,
    /// How long it waits before it does something again.
    pub pauses: Pauses,
    /// What the loop gives its signs of life to.
    pub heartbeat: Heartbeat,
}

/// The agent of one node.
pub struct Agent<K> {
    kernel: K,
    gatherer: Gatherer,
    config: Config,
    /// The last good resources, seen from this node.
    intent: Option<Intent>,
    /// What is wrong with the newest version of the source.
    rejected: Option<Rejected>,
    /// Why the accepted manifests are not in the state directory.
    not_kept: Option<Problem>,
    drift: Drift,
    passes: u64,
    /// When the last one ended.
    passed: Instant,
    /// Passes in a row that left something undone.
    failures: u32,
    /// Whether something waits for what nobody announces.
    waits: bool,
}

impl<K: Kernel> Agent<K> {
    /// An agent that has not loaded anything yet.
    pub fn new(kernel: K, config: Config) -> Agent<K> {
        Agent {
            kernel,
            gatherer: Gatherer::new(config.state_directory.clone(), config.pauses.names)
                .with_keys(config.keys.clone())
                .with_drain(config.pauses.drain),
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

    /// Runs until told to stop. What the kernel holds then stays.
    pub async fn run(mut self, mut events: mpsc::Receiver<Event>, listener: &mut impl Listener) {
        self.config.heartbeat.busy();
        self.begin(&[], listener);
        self.load(listener);
        self.pass(listener).await;
        while let Some(event) = self.next(&mut events).await {
            // What has gathered meanwhile is one wake-up.
            let mut gathered = vec![event];
            if event == Event::Recheck && !self.changed_silently().await {
                continue;
            }
            self.back_off(&gathered).await;
            while let Ok(further) = events.try_recv() {
                // The pass that follows sees more than a look does.
                if further != Event::Recheck {
                    gathered.push(further);
                }
            }
            if gathered.contains(&Event::Stop) {
                break;
            }
            self.begin(&gathered, listener);
            if gathered.iter().any(Event::may_change_the_source) {
                self.load(listener);
            }
            self.pass(listener).await;
        }
        info!("stopping; the dataplane stays as it is");
    }

    /// Waits for the next event, and gives signs of life meanwhile.
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

    /// Whether something changed without an event. While passes leave something undone, they follow anyway.
    async fn changed_silently(&mut self) -> bool {
        if self.failures > 0 || self.intent.is_none() {
            return false;
        }
        match self.kernel.changed_silently().await {
            Ok(None) => {
                debug!("nothing changed without an event");
                false
            }
            Ok(Some(what)) => {
                info!("{what} changed, and no event told of it");
                true
            }
            Err(failure) => {
                debug!("a full pass, as what changes without events can't be read: {failure}");
                true
            }
        }
    }

    /// When to try again: after a pass that left something undone, longer each time; what was repaired too often, when its
    /// pause is over; where something waits, steadily; where endpoints have names, when those are to be looked up anew;
    /// after a change of keys, when a second link may go.
    fn retry_after(&self) -> Option<Duration> {
        let pauses = &self.config.pauses;
        let failed = (self.failures > 0).then(|| {
            let delay = pauses
                .first_retry
                .saturating_mul(1 << (self.failures - 1).min(16))
                .min(pauses.longest_retry);
            // Since the pass: what wakes the loop and leads to none must not put it off.
            delay.saturating_sub(self.passed.elapsed())
        });
        let waiting = pauses.waiting.saturating_sub(self.passed.elapsed());
        let due = self.gatherer.names_due().into_iter();
        let due = due.chain(self.gatherer.drain_due());
        let due = due.map(|due| due.max(waiting));
        let waiting = self.waits.then_some(waiting);
        let times = failed.into_iter().chain(waiting).chain(due);
        times.chain(self.drift.next_try()).min()
    }

    /// A pass that fails may cause the very event that wakes the next one: that one does not come at once.
    async fn back_off(&self, woken: &[Event]) {
        if self.failures > 0 && woken == [Event::KernelChanged] {
            let retry = self.passed + self.config.pauses.first_retry;
            tokio::time::sleep_until(retry.into()).await;
        }
    }

    /// Announces the next reconciliation, before it reads anything.
    fn begin(&mut self, woken_by: &[Event], listener: &mut impl Listener) {
        self.passes += 1;
        listener.begun(self.passes, woken_by);
    }

    /// Loads the manifests; a version that is rejected leaves the one before, also that before a restart.
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

    /// What this node was to be when manifests were accepted last, by this agent or one before it.
    fn last_good(&self) -> Option<Intent> {
        let directory = &self.config.state_directory;
        last_good::intent(directory, self.config.node.clone()).unwrap_or_else(|error| {
            warn!("the last good manifests can't be used: {error}");
            None
        })
    }

    /// One pass over the kernel, if there is anything to go by.
    async fn pass(&mut self, listener: &mut impl Listener) {
        let started = Instant::now();
        let of_source = self.rejected.iter().map(Rejected::problem);
        let mut problems = of_source.chain(self.not_kept.clone()).collect::<Vec<_>>();
        let mut reconciled = None;
        if let Some(intent) = self.intent.clone() {
            let machine = (&mut self.kernel, &mut self.gatherer);
            let memory = (&mut self.drift, &self.config.heartbeat);
            let result = reconcile(machine, &intent, memory).await;
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
        let undone = |problem: &Problem| {
            matches!(
                problem.reason,
                Reason::ApplyFailed | Reason::NotConverged | Reason::FirewallUnreadable
            )
        };
        let waits = |problem: &Problem| matches!(problem.reason, Reason::Waiting | Reason::KeyRotation);
        self.waits = problems.iter().any(waits);
        self.failures = if problems.iter().any(undone) {
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
}

/// Leads the kernel to what the intent says; what it did, and the problems.
async fn reconcile(
    (kernel, gatherer): (&mut impl Kernel, &mut Gatherer),
    intent: &Intent,
    (drift, heartbeat): (&mut Drift, &Heartbeat),
) -> Result<(Reconciled, Vec<Problem>), Unread> {
    let beat = || heartbeat.record();
    let mut compared = Comparison::new(kernel, gatherer, intent, beat).await?;
    let mut problems = std::mem::take(&mut compared.planned);
    let repairs = drift.sort_out(&compared.observed, &compared.target, &mut compared.set);
    let mut reconciled = Reconciled::default();
    if !compared.set.is_empty() {
        info!(changes = compared.set.changes.len(), "applying");
        compared.set.changes.iter().for_each(|change| debug!("{change}"));
        let (applied, before) = compared.apply(kernel, |_| true, beat).await;
        reconciled.repaired = drift.made(repairs, &applied);
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
        drift.leave_out(&compared.observed, &compared.target, &mut compared.set);
    }
    let Comparison {
        facts,
        target,
        observed,
        set,
        ..
    } = compared;
    if set.is_empty() {
        drift.reached(readable(&target, &observed));
    } else {
        drift.missed(&observed, &target, &set);
    }
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
