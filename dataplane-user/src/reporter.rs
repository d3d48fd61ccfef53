//! Reports each reconciliation in the status, the metrics and the log.

use tokio::sync::watch;
use tracing::{debug, error, info, warn};

use crate::apply::{ApplyReport, Outcome};
use crate::event::Event;
use crate::kernel;
use crate::metrics::{ReconciliationResult, Recorder};
use crate::plan::network_links;
use crate::reconcile::{Config, Listener, Loaded, Reconciled, Report};
use crate::resource::Intent;
use crate::status::{ProblemStatus, ReconciliationStatus, RepairsStatus, SourceStatus, Status};

/// The listener that writes the status, the metrics and the log.
#[derive(Debug)]
pub struct Reporter {
    status: watch::Sender<Status>,
    recorder: Recorder,
}

impl Reporter {
    /// The listener of an agent; the status is that of an agent that has not loaded anything yet.
    #[must_use]
    pub fn new(config: &Config) -> Reporter {
        let paths = config.paths.iter().map(|path| path.display().to_string());
        let initial = Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            kernel: kernel::release(),
            node: config.node.to_string(),
            source: SourceStatus {
                paths: paths.collect(),
                ..SourceStatus::default()
            },
            ..Status::default()
        };
        Reporter {
            status: watch::Sender::new(initial),
            recorder: Recorder::default(),
        }
    }

    /// The status, for readers.
    #[must_use]
    pub fn status(&self) -> watch::Receiver<Status> {
        self.status.subscribe()
    }

    /// The counters of the loop.
    #[must_use]
    pub fn recorder(&self) -> Recorder {
        self.recorder.clone()
    }

    fn count(&self, report: &Report<'_>) {
        let result = match &report.reconciled {
            None => ReconciliationResult::Idle,
            Some(Err(unread)) => {
                self.recorder.applied(&unread.applied);
                self.recorder.repaired(&unread.repaired);
                ReconciliationResult::Failed
            }
            Some(Ok(reconciled)) => {
                for state in reconciled.before.iter().chain([&reconciled.observed]) {
                    self.recorder.observed(state);
                }
                self.recorder.applied(&reconciled.applied);
                self.recorder.repaired(&reconciled.repaired);
                match reconciled.residual {
                    0 => ReconciliationResult::Converged,
                    _ => ReconciliationResult::Incomplete,
                }
            }
        };
        self.recorder.reconciliation(report.duration, result);
    }

    /// Logs the differences from the last reconciliation, so that each change of state is logged once.
    fn log(&self, next: &Status, report: &Report<'_>) {
        let before = self.status.borrow();
        // Problems of the manifests were logged when these were loaded.
        let of_source = report
            .rejected
            .map(|rejected| ProblemStatus::from(&rejected.problem()));
        let is_new = |problem: &&ProblemStatus| {
            !before.problems.contains(problem) && of_source.as_ref() != Some(problem)
        };
        for problem in next.problems.iter().filter(is_new) {
            let ProblemStatus {
                reason,
                subject,
                message,
                remedy,
                ..
            } = problem;
            warn!(reason, subject, "{message}; {remedy}");
        }
        let is_solved = |problem: &&ProblemStatus| !next.problems.contains(problem);
        for problem in before.problems.iter().filter(is_solved) {
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

impl Listener for Reporter {
    fn begun(&mut self, number: u64, woken_by: &[Event]) {
        woken_by.iter().for_each(|event| self.recorder.woken(*event));
        self.status
            .send_modify(|status| status.reconciliation.begun = number);
    }

    fn loaded(&mut self, loaded: Loaded<'_>) {
        match loaded {
            Loaded::Accepted(intent) => {
                info!(nodes = intent.resources().nodes.len(), "manifests accepted");
                self.recorder.reload(true);
            }
            Loaded::Rejected {
                message,
                keeps_previous,
            } => {
                let consequence = match keeps_previous {
                    true => "keeping the previous version",
                    false => "there is no previous version, so nothing is changed",
                };
                error!("manifests rejected; {consequence}:\n{message}");
                self.recorder.reload(false);
            }
        }
    }

    fn ended(&mut self, report: Report<'_>) {
        let mut next = self.status.borrow().clone();
        next.source.synced = report.intent.is_some();
        next.source.error = report.rejected.map(ToString::to_string);
        match (report.intent, &report.reconciled) {
            (Some(intent), Some(Ok(reconciled))) => {
                log_outcomes(&reconciled.applied);
                fill_in(&mut next, intent, reconciled);
            }
            (_, Some(Err(unread))) => {
                log_outcomes(&unread.applied);
                error!("the state of the kernel can't be read: {}", unread.error);
            }
            _ => {}
        }
        next.reconciliation.number = report.number;
        next.reconciliation.begun = report.number;
        next.reconciliation.duration_us = u64::try_from(report.duration.as_micros()).unwrap_or(u64::MAX);
        self.count(&report);
        next.set_problems(&report.problems);
        self.log(&next, &report);
        self.status.send_replace(next);
    }
}

fn fill_in(status: &mut Status, intent: &Intent, reconciled: &Reconciled) {
    let links = network_links(intent, &reconciled.facts);
    status.set_links(intent, &links);
    status.set_declared_peers(intent, &reconciled.facts);
    status.set_routed_paths(&links, &reconciled.observed);
    status.repairs = RepairsStatus::from(&reconciled.repairs);
    status.reconciliation = ReconciliationStatus::of(&reconciled.applied, reconciled.residual);
    status.recreated += status.reconciliation.recreated;
}

fn log_outcomes(report: &ApplyReport) {
    for (change, outcome) in &report.outcomes {
        match outcome {
            Outcome::Done => debug!("done: {change}"),
            // A failure also becomes a problem, which is logged as a warning.
            Outcome::Failed(failure) => debug!("failed: {change}: {failure}"),
            Outcome::Skipped { .. } => debug!("skipped after a failure: {change}"),
        }
    }
}
