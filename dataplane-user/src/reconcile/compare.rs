//! The steps of a reconciliation: gather, plan, observe and diff; and if there are changes, apply, observe
//! and diff again. The agent and all commands that compare or change kernel state use them.

use tracing::debug;

use super::problems;
use crate::apply::{ApplyReport, apply};
use crate::diff::{diff, readable};
use crate::gather::Gatherer;
use crate::kernel::{Kernel, KernelError, ObservationScope};
use crate::limits;
use crate::model::facts::NodeFacts;
use crate::model::{Change, ChangeSet, KernelState};
use crate::plan::{plan, shadowing_routes, withdrawn};
use crate::resource::{Intent, Problem};

/// The desired state, the observed state, and the changes between them.
#[derive(Debug)]
pub struct Comparison {
    /// The facts about the machine that the plan used.
    pub facts: NodeFacts,
    /// The desired state, without namespaces that can't be read. For a namespace that may be one of these
    /// under another name, it is the observed state.
    pub desired: KernelState,
    /// The observed state.
    pub observed: KernelState,
    /// The changes from the observed to the desired state.
    pub set: ChangeSet,
    /// Problems and warnings of the plan.
    pub planned: Vec<Problem>,
}

impl Comparison {
    /// Gathers facts and compares. Calls `heartbeat` after each step that may take long.
    ///
    /// # Errors
    /// When the state of the kernel can't be read.
    pub async fn new(
        kernel: &mut impl Kernel,
        gatherer: &mut Gatherer,
        intent: &Intent,
        heartbeat: impl Fn(),
    ) -> Result<Comparison, KernelError> {
        let mut facts = gatherer.gather(kernel, intent).await?;
        heartbeat();
        if !gatherer.knows_withdrawn() {
            let (used, _) = plan(intent, &facts);
            kernel.prepare(&used);
            let observed = kernel.observe().await?;
            facts.withdrawn = withdrawn(intent, &facts, &used, &observed);
            gatherer.set_shown(facts.withdrawn.clone());
            heartbeat();
        }
        Comparison::with(kernel, intent, facts, heartbeat).await
    }

    /// Compares with facts that were gathered before. `heartbeat` as for [`Comparison::new`].
    ///
    /// # Errors
    /// When the state of the kernel can't be read.
    pub async fn with(
        kernel: &mut impl Kernel,
        intent: &Intent,
        facts: NodeFacts,
        heartbeat: impl Fn(),
    ) -> Result<Comparison, KernelError> {
        let (whole, mut planned) = plan(intent, &facts);
        kernel.prepare(&whole);
        let (desired, observed, set) = observe(kernel, &whole, heartbeat).await?;
        planned.extend(shadowing_routes(intent, &facts, &observed));
        Ok(Comparison {
            facts,
            desired,
            observed,
            set,
            planned,
        })
    }

    /// Compares with an empty desired state, to remove everything: in this namespace and in those that
    /// `wanted` names.
    ///
    /// # Errors
    /// When the state of the kernel can't be read.
    pub async fn with_nothing(
        kernel: &mut impl Kernel,
        wanted: &ObservationScope,
    ) -> Result<Comparison, KernelError> {
        let facts = NodeFacts {
            namespaces: kernel.open_namespaces(wanted).await?,
            ..NodeFacts::default()
        };
        let (desired, observed) = (KernelState::default(), kernel.observe().await?);
        Ok(Comparison {
            facts,
            set: diff(&observed, &desired),
            desired,
            observed,
            planned: Vec::new(),
        })
    }

    /// Applies the changes that `part` selects, and compares again: then `set` has those of them that are
    /// still to be made, and all conflicts and pending objects. Returns the outcome of each change, and the
    /// state observed before, or why the kernel can't be read any more. `heartbeat` as for
    /// [`Comparison::new`].
    pub async fn apply(
        &mut self,
        kernel: &mut impl Kernel,
        part: impl Fn(&Change) -> bool,
        heartbeat: impl Fn(),
    ) -> (ApplyReport, Result<KernelState, KernelError>) {
        let set = std::mem::take(&mut self.set).only(&part);
        let report = apply(kernel, set).await;
        heartbeat();
        let before = kernel.observe().await.map(|observed| {
            self.set = diff(&observed, &self.desired);
            self.set.retain(|_, change| part(change));
            std::mem::replace(&mut self.observed, observed)
        });
        (report, before)
    }

    /// All problems before anything is changed: of the plan, of objects that can't be read, conflicts and
    /// pending objects.
    #[must_use]
    pub fn problems(&self) -> Vec<Problem> {
        let mut problems = self.planned.clone();
        problems.extend(problems::unreadable(&self.observed, &self.facts));
        problems.extend(self.set.conflicts.iter().map(problems::conflict));
        problems.extend(self.set.waiting.iter().map(problems::waiting));
        problems
    }
}

/// The desired state without namespaces that can't be read, the observed state, and the changes between them.
/// Observes again if they differ and the kernel has changed since: the observation may show half of a change.
async fn observe(
    kernel: &mut impl Kernel,
    whole: &KernelState,
    heartbeat: impl Fn(),
) -> Result<(KernelState, KernelState, ChangeSet), KernelError> {
    let mut left = limits::OBSERVATIONS;
    loop {
        let observed = kernel.observe().await?;
        heartbeat();
        let desired = readable(whole, &observed);
        let set = diff(&observed, &desired);
        left -= 1;
        if set.is_empty() || left == 0 || !kernel.is_outdated().await {
            return Ok((desired, observed, set));
        }
        debug!("observing again: the kernel changed meanwhile");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::fake::FakeKernel;
    use crate::model::change::{BpfChange, DeleteVersion};

    /// A state that differs from the empty one.
    fn with_rubbish(version: u32) -> KernelState {
        KernelState {
            older_versions: [version].into(),
            ..KernelState::default()
        }
    }

    #[tokio::test]
    async fn a_state_that_changed_meanwhile_is_observed_again_but_not_for_ever() {
        for (torn, seen, left) in [(2, 1, 0), (9, 13, 6)] {
            let mut kernel = FakeKernel::new(with_rubbish(1));
            kernel.torn = (11..11 + torn).map(with_rubbish).collect();
            let observed = observe(&mut kernel, &KernelState::default(), || {}).await;
            let (_, observed, set) = observed.unwrap();
            assert_eq!(observed, with_rubbish(seen));
            assert_eq!((set.changes.len(), kernel.torn.len()), (1, left));
        }
    }

    #[tokio::test]
    async fn a_part_is_applied_and_the_rest_of_it_is_reported() {
        let state = KernelState {
            older_versions: [1, 2, 3].into(),
            ..KernelState::default()
        };
        let mut kernel = FakeKernel::new(state.clone());
        kernel.failing.insert(1);
        let mut compared = Comparison::with_nothing(&mut kernel, &ObservationScope::default())
            .await
            .unwrap();
        let of = |version| Change::from(BpfChange::Version(DeleteVersion(version)));
        assert_eq!(compared.set.changes, [of(1), of(2), of(3)]);
        let part = |change: &Change| *change != of(3);
        let (report, before) = compared.apply(&mut kernel, part, || {}).await;
        assert_eq!((report.done(), before.unwrap()), (1, state));
        assert_eq!(compared.observed.older_versions, [2, 3].into());
        assert_eq!(compared.set.changes, [of(2)]);
    }
}
