//! The loop: load, plan, observe, diff, apply, observe again. The only file that sees every stage.
//!
//! One task runs it. It waits only for an [`Event`]; it may be dropped between any two changes, because the next start
//! begins with what the kernel holds.

pub mod compare;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use tracing::{debug, error, info, warn};

use self::compare::Comparison;
use crate::apply::{ApplyReport, Outcome, apply};
use crate::diff::{diff, readable};
use crate::drift::Drift;
use crate::gather::Gatherer;
use crate::heartbeat::Heartbeat;
use crate::kernel::{Kernel, KernelError};
use crate::metrics::{PassResult, Recorder};
use crate::net::NodeName;
use crate::pauses::Pauses;
use crate::plan::network_links;
use crate::resource::{Intent, Problem, Reason};
use crate::source::file::{self, LoadErrors};
use crate::source::{KeyRing, last_good};
use crate::status::{self, ProblemStatus, Status};

/// What the loop wakes up for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The manifests may have changed.
    SourceChanged,
    /// Something of the kernel's that concerns us changed.
    KernelChanged,
    /// Events of the kernel were lost, so that anything may have changed.
    EventsLost,
    /// It is time for a full pass, whether or not something happened.
    Resync,
    /// It is time for a look at what changes without events.
    Recheck,
    /// The last pass left something undone.
    Retry,
    /// The agent shall end; the dataplane stays.
    Stop,
}

impl Event {
    fn may_change_the_source(&self) -> bool {
        !matches!(self, Event::KernelChanged | Event::Recheck)
    }
}

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
    source_problems: Vec<Problem>,
    /// The same as one text, for the status; told by the pass that follows, together with all else.
    source_error: Option<String>,
    /// Why the accepted manifests are not in the state directory.
    not_kept: Option<Problem>,
    status: watch::Sender<Status>,
    recorder: Recorder,
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
    /// An agent that has not loaded anything yet, and where to read its status.
    pub fn new(kernel: K, config: Config) -> (Agent<K>, watch::Receiver<Status>) {
        let initial = Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            kernel: crate::kernel::release(),
            node: config.node.to_string(),
            source: status::SourceStatus {
                paths: config
                    .paths
                    .iter()
                    .map(|path| path.display().to_string())
                    .collect(),
                ..Default::default()
            },
            ..Status::default()
        };
        let (status, receiver) = watch::channel(initial);
        let agent = Agent {
            kernel,
            gatherer: Gatherer::new(config.state_directory.clone(), config.pauses.names)
                .with_keys(config.keys.clone())
                .with_drain(config.pauses.drain),
            drift: Drift::new(config.pauses),
            config,
            intent: None,
            source_problems: Vec::new(),
            source_error: None,
            not_kept: None,
            status,
            recorder: Recorder::default(),
            passes: 0,
            passed: Instant::now(),
            failures: 0,
            waits: false,
        };
        (agent, receiver)
    }

    /// What it counts.
    #[must_use]
    pub fn recorder(&self) -> Recorder {
        self.recorder.clone()
    }

    /// Runs until told to stop. What the kernel holds then stays.
    pub async fn run(mut self, mut events: mpsc::Receiver<Event>) {
        self.config.heartbeat.works();
        self.begin();
        self.load();
        self.pass().await;
        while let Some(event) = self.next(&mut events).await {
            // What has gathered meanwhile is one wake-up.
            let mut gathered = vec![event];
            if event == Event::Recheck && !self.stirred().await {
                continue;
            }
            self.calm_down(&gathered).await;
            while let Ok(further) = events.try_recv() {
                // The pass that follows sees more than a look does.
                if further != Event::Recheck {
                    gathered.push(further);
                }
            }
            if gathered.contains(&Event::Stop) {
                break;
            }
            gathered.iter().for_each(|event| self.recorder.woken(*event));
            self.begin();
            if gathered.iter().any(Event::may_change_the_source) {
                self.load();
            }
            self.pass().await;
        }
        info!("stopping; the dataplane stays as it is");
    }

    /// Waits for the next event, and gives signs of life meanwhile.
    async fn next(&self, events: &mut mpsc::Receiver<Event>) -> Option<Event> {
        let heartbeat = &self.config.heartbeat;
        loop {
            heartbeat.rests();
            let retry = self.retry_after();
            let event = match retry.into_iter().chain(heartbeat.interval()).min() {
                None => events.recv().await,
                Some(delay) => match tokio::time::timeout(delay, events.recv()).await {
                    Ok(event) => event,
                    Err(_) if retry.is_none_or(|retry| retry > delay) => continue,
                    Err(_) => Some(Event::Retry),
                },
            };
            heartbeat.works();
            return event;
        }
    }

    /// Whether something changed without an event. While passes leave something undone, they follow anyway.
    async fn stirred(&mut self) -> bool {
        if self.failures > 0 || self.intent.is_none() {
            return false;
        }
        match self.kernel.stirred().await {
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
    async fn calm_down(&self, woken: &[Event]) {
        if self.failures > 0 && woken == [Event::KernelChanged] {
            let retry = self.passed + self.config.pauses.first_retry;
            tokio::time::sleep_until(retry.into()).await;
        }
    }

    /// Announces the next reconciliation, before it reads anything.
    fn begin(&mut self) {
        self.passes += 1;
        self.status.send_modify(|status| status.pass.begun = self.passes);
    }

    /// Loads the source; a version that is rejected leaves the one before, also that before a restart.
    fn load(&mut self) {
        let (accepted, problems, message) = match file::load_set(&self.config.paths) {
            Ok(set) => match Intent::new(set.resources, self.config.node.clone()) {
                Ok(intent) => (Some((intent, set.files)), Vec::new(), None),
                Err(problem) => {
                    let message = problem.to_string();
                    (None, vec![problem], Some(message))
                }
            },
            Err(errors) => (None, vec![invalid(&errors)], Some(errors.to_string())),
        };
        let known = self.source_error.clone();
        if let Some(message) = &message
            && known.as_ref() != Some(message)
        {
            if self.intent.is_none() {
                self.intent = self.last_good();
            }
            let running = if self.intent.is_some() {
                "keeping the previous version"
            } else {
                "nothing is changed"
            };
            error!("manifests rejected; {running}:\n{message}");
            self.recorder.reload(false);
        }
        if let Some((intent, files)) = accepted {
            let is_new = self.intent.as_ref() != Some(&intent);
            if is_new {
                info!(nodes = intent.resources().nodes.len(), "loaded the manifests");
                self.recorder.reload(true);
                self.intent = Some(intent);
            }
            if is_new || self.not_kept.is_some() {
                let kept = last_good::store(&self.config.state_directory, &files);
                self.not_kept = kept.err().map(|error| not_kept(&error));
            }
        }
        self.source_problems = problems;
        self.source_error = message;
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
    async fn pass(&mut self) {
        let started = Instant::now();
        let mut next = self.status.borrow().clone();
        next.source.synced = self.intent.is_some();
        next.source.error = self.source_error.clone();
        let mut problems = self.source_problems.clone();
        problems.extend(self.not_kept.clone());
        let mut result = PassResult::Idle;
        if let Some(intent) = self.intent.clone() {
            let machine = (&mut self.kernel, &mut self.gatherer);
            let memory = (&mut self.drift, &self.recorder, &self.config.heartbeat);
            let reconciled = reconcile(machine, &intent, &mut next, memory).await;
            self.kernel.rest();
            match reconciled {
                Ok(found) => {
                    problems.extend(found);
                    result = match next.pass.residual {
                        0 => PassResult::Converged,
                        _ => PassResult::Incomplete,
                    };
                }
                Err(failure) => {
                    error!("the kernel's state can't be read: {failure}");
                    problems.push(unreadable(&failure));
                    result = PassResult::Failed;
                }
            }
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
        (next.pass.number, next.pass.begun) = (self.passes, self.passes);
        next.pass.duration_us = micros(started.elapsed());
        self.recorder.pass(started.elapsed(), result);
        self.config.heartbeat.reconciled();
        self.passed = Instant::now();
        next.set_problems(problems);
        self.announce(&next);
        self.status.send_replace(next);
    }

    /// Logs what differs from the last pass; each change of state once.
    fn announce(&self, next: &Status) {
        let before = self.status.borrow();
        let is_new = |problem: &&ProblemStatus| !before.problems.contains(problem);
        // What is wrong with the source was logged when it was loaded.
        let from_source = self
            .source_problems
            .iter()
            .map(ProblemStatus::from)
            .collect::<Vec<_>>();
        for problem in next
            .problems
            .iter()
            .filter(is_new)
            .filter(|p| !from_source.contains(p))
        {
            let ProblemStatus {
                reason,
                subject,
                message,
                remedy,
                ..
            } = problem;
            warn!(reason, subject, "{message}; {remedy}");
        }
        for problem in before
            .problems
            .iter()
            .filter(|problem| !next.problems.contains(problem))
        {
            info!(
                reason = problem.reason,
                subject = problem.subject,
                "solved: {}",
                problem.message
            );
        }
        if next.ready != before.ready {
            info!(
                ready = next.ready,
                peers = next.peers.len(),
                "{}",
                if next.ready { "ready" } else { "not ready" }
            );
        }
    }
}

/// Leads the kernel to what the intent says; fills in the status and returns the problems.
async fn reconcile(
    (kernel, gatherer): (&mut impl Kernel, &mut Gatherer),
    intent: &Intent,
    status: &mut Status,
    (drift, recorder, heartbeat): (&mut Drift, &Recorder, &Heartbeat),
) -> Result<Vec<Problem>, KernelError> {
    let beat = || heartbeat.beat();
    let Comparison {
        facts,
        target,
        mut observed,
        mut set,
        planned: mut problems,
    } = Comparison::new(kernel, gatherer, intent, beat).await?;
    let links = network_links(intent, &facts);
    status.set_links(intent, &links);
    status.set_declared_peers(intent, &facts);

    let repairs = drift.sort_out(&observed, &target, &mut set);
    let report = if set.is_empty() {
        recorder.observed(&observed);
        status.set_routed_ways(&links, &observed);
        ApplyReport::default()
    } else {
        info!(changes = set.changes.len(), "applying");
        set.changes.iter().for_each(|change| debug!("{change}"));
        let report = apply(kernel, set).await;
        heartbeat.beat();
        log_outcomes(&report);
        recorder.applied(&report);
        recorder.repaired(&drift.made(repairs, &report));
        observed = kernel.observe().await?;
        recorder.observed(&observed);
        status.set_routed_ways(&links, &observed);
        set = diff(&observed, &target);
        drift.leave_out(&observed, &target, &mut set);
        report
    };
    if set.is_empty() {
        drift.reached(readable(&target, &observed));
    } else {
        drift.missed(&observed, &target, &set);
    }
    gatherer.forget_namespaces(&facts, intent, &observed, &set);
    problems.extend(status::unreadable(&observed, &facts));
    problems.extend(drift.problems());
    status.repairs = drift.status();
    let (pass, found) = status::of_pass(&report, &set);
    status.recreated += pass.recreated;
    status.pass = pass;
    problems.extend(found);
    Ok(problems)
}

fn log_outcomes(report: &ApplyReport) {
    for (change, outcome) in &report.outcomes {
        match outcome {
            Outcome::Done => debug!("done: {change}"),
            // Failures become problems, and a new problem is a warning.
            Outcome::Failed(failure) => debug!("failed: {change}: {failure}"),
            Outcome::Skipped { .. } => debug!("left out after a failure: {change}"),
        }
    }
}

fn not_kept(error: &last_good::LastGoodError) -> Problem {
    Problem::warning(
        Reason::NotKept,
        "manifests".to_owned(),
        format!("the accepted manifests can't be kept: {error}"),
        "make the state directory writable; without them, manifests that are rejected at the next boot leave this \
         node without backstop routes"
            .to_owned(),
    )
}

fn invalid(errors: &LoadErrors) -> Problem {
    Problem::error(
        Reason::SourceInvalid,
        "manifests".to_owned(),
        errors.to_string(),
        "correct them; until then the last good version goes on".to_owned(),
    )
}

fn unreadable(failure: &KernelError) -> Problem {
    Problem::error(
        Reason::ApplyFailed,
        "kernel".to_owned(),
        format!("its state can't be read: {failure}"),
        "it is tried again at each pass".to_owned(),
    )
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
