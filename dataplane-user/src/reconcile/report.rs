//! What the loop tells of its work.

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

/// Whoever is told what the loop does. What it is told of each reconciliation comes in the order of these functions.
pub trait Listener {
    /// A reconciliation begins, before it reads anything: its number, from 1, and what woke the loop.
    fn begun(&mut self, number: u64, woken_by: &[Event]);

    /// The manifests are others than before.
    fn loaded(&mut self, loaded: Loaded<'_>);

    /// A reconciliation has ended.
    fn ended(&mut self, report: Report<'_>);
}

/// Tells nobody.
impl Listener for () {
    fn begun(&mut self, _number: u64, _woken_by: &[Event]) {}

    fn loaded(&mut self, _loaded: Loaded<'_>) {}

    fn ended(&mut self, _report: Report<'_>) {}
}

/// A new version of the manifests.
#[derive(Clone, Copy, Debug)]
pub enum Loaded<'a> {
    /// It is the one that counts from now on.
    Accepted(&'a Intent),
    /// It is rejected.
    Rejected {
        /// Why, in one or more lines.
        message: &'a str,
        /// Whether there is a previous version, which counts on.
        keeps_previous: bool,
    },
}

/// What a reconciliation came to.
#[derive(Debug)]
pub struct Report<'a> {
    /// Its number, from 1.
    pub number: u64,
    /// The manifests that count; `None`: there were never valid ones.
    pub intent: Option<&'a Intent>,
    /// Why the newest version of the manifests is rejected; it is among the problems too.
    pub rejected: Option<&'a Rejected>,
    /// All that is wrong.
    pub problems: Vec<Problem>,
    /// What was found and done, or why the kernel's state could not be read; `None`: there are no manifests to go by.
    pub reconciled: Option<Result<Reconciled, Unread>>,
    /// How long it took.
    pub duration: Duration,
}

/// The kernel's state could not be read, before anything was changed or after.
#[derive(Debug)]
pub struct Unread {
    /// Why.
    pub error: KernelError,
    /// What became of each change that was tried before.
    pub applied: ApplyReport,
    /// How many objects were restored by these.
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

/// What was found and done.
#[derive(Debug, Default)]
pub struct Reconciled {
    /// What was known of the machine.
    pub facts: NodeFacts,
    /// What the kernel held at first; `None`: nothing was changed.
    pub before: Option<KernelState>,
    /// What it held at last.
    pub observed: KernelState,
    /// What became of each change.
    pub applied: ApplyReport,
    /// How many objects were restored that something else had changed.
    pub repaired: BTreeMap<RepairKind, u64>,
    /// The same since the agent started.
    pub repairs: Repairs,
    /// How many changes are still to be made.
    pub residual: usize,
}
