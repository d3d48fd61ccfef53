//! Reports of the loop.

use std::collections::BTreeMap;
use std::time::Duration;

use super::load::Rejected;
use crate::apply::ApplyReport;
use crate::diff::repairs::RepairKind;
use crate::drift::Repairs;
use crate::event::Event;
use crate::kernel::KernelError;
use crate::model::KernelState;
use crate::model::facts::NodeFacts;
use crate::resource::{Intent, Problem};

/// Receives the reports of the loop; for each reconciliation in the order of these functions.
pub trait Listener {
    /// A reconciliation begins and has not read anything yet: its number, from 1, and the events that woke
    /// the loop.
    fn begun(&mut self, number: u64, woken_by: &[Event]);

    /// The manifests have changed.
    fn loaded(&mut self, loaded: Loaded<'_>);

    /// A reconciliation has ended.
    fn ended(&mut self, report: Report<'_>);
}

/// Ignores all reports.
impl Listener for () {
    fn begun(&mut self, _number: u64, _woken_by: &[Event]) {}

    fn loaded(&mut self, _loaded: Loaded<'_>) {}

    fn ended(&mut self, _report: Report<'_>) {}
}

/// A new version of the manifests.
#[derive(Clone, Copy, Debug)]
pub enum Loaded<'a> {
    /// It is in use from now on.
    Accepted(&'a Intent),
    /// It is rejected.
    Rejected {
        /// Why, in one or more lines.
        message: &'a str,
        /// Whether there is a previous version, which stays in use.
        keeps_previous: bool,
    },
}

/// The result of a reconciliation.
#[derive(Debug)]
pub struct Report<'a> {
    /// Its number, from 1.
    pub number: u64,
    /// The manifests in use; `None` if none were ever accepted.
    pub intent: Option<&'a Intent>,
    /// Why the newest version of the manifests is rejected; it is among the problems too.
    pub rejected: Option<&'a Rejected>,
    /// All problems.
    pub problems: Vec<Problem>,
    /// What was found and done, or why the state of the kernel could not be read; `None` without manifests.
    pub reconciled: Option<Result<Reconciled, Unread>>,
    /// Its duration.
    pub duration: Duration,
}

/// The state of the kernel could not be read, before or after changes.
#[derive(Debug)]
pub struct Unread {
    /// Why.
    pub error: KernelError,
    /// The outcome of each change that was tried before.
    pub applied: ApplyReport,
    /// How many objects these changes restored, by kind.
    pub repaired: BTreeMap<RepairKind, u64>,
}

impl From<KernelError> for Unread {
    fn from(error: KernelError) -> Unread {
        Unread {
            error,
            applied: ApplyReport::default(),
            repaired: BTreeMap::new(),
        }
    }
}

/// What a reconciliation found and did.
#[derive(Debug, Default)]
pub struct Reconciled {
    /// The facts about the machine.
    pub facts: NodeFacts,
    /// The state observed first; `None` if nothing was changed.
    pub before: Option<KernelState>,
    /// The state observed last.
    pub observed: KernelState,
    /// The outcome of each change.
    pub applied: ApplyReport,
    /// How many objects were restored that something else had changed, by kind.
    pub repaired: BTreeMap<RepairKind, u64>,
    /// All repairs since the agent started.
    pub repairs: Repairs,
    /// How many changes are still to be made.
    pub residual: usize,
}
