//! One reconciliation: gather, plan, observe, diff, and where something is to be changed apply, observe, diff. The agent and all
//! commands that compare or change kernel state do it by this.

use tracing::debug;

use super::problems;
use crate::apply::{ApplyReport, apply};
use crate::diff::{diff, readable};
use crate::gather::Gatherer;
use crate::kernel::{Kernel, KernelError, Wanted};
use crate::limits;
use crate::model::facts::NodeFacts;
use crate::model::{Change, ChangeSet, KernelState};
use crate::plan::plan;
use crate::resource::{Intent, Problem};

/// What the manifests say, what the kernel holds, and what leads from this to that.
#[derive(Debug)]
pub struct Comparison {
    /// What was known of the machine.
    pub facts: NodeFacts,
    /// What shall be; of what can't be read now, what is.
    pub target: KernelState,
    /// What is.
    pub observed: KernelState,
    /// What is to be done.
    pub set: ChangeSet,
    /// What the plan could not do, or warns of.
    pub planned: Vec<Problem>,
}

impl Comparison {
    /// `beat` is called when something that may take long has ended.
    ///
    /// # Errors
    /// When the kernel can't be read.
    pub async fn new(
        kernel: &mut impl Kernel,
        gatherer: &mut Gatherer,
        intent: &Intent,
        beat: impl Fn(),
    ) -> Result<Comparison, KernelError> {
        let facts = gatherer.gather(kernel, intent).await?;
        beat();
        Comparison::with(kernel, intent, facts, beat).await
    }

    /// With facts that are known already.
    ///
    /// # Errors
    /// When the kernel can't be read.
    pub async fn with(
        kernel: &mut impl Kernel,
        intent: &Intent,
        facts: NodeFacts,
        beat: impl Fn(),
    ) -> Result<Comparison, KernelError> {
        let (whole, planned) = plan(intent, &facts);
        kernel.prepare(&whole);
        let (target, observed, set) = observe(kernel, &whole, beat).await?;
        Ok(Comparison {
            facts,
            target,
            observed,
            set,
            planned,
        })
    }

    /// Compares what the kernel holds with nothing at all, as for removing: in this namespace and in those that `wanted` names.
    ///
    /// # Errors
    /// When the kernel can't be read.
    pub async fn with_nothing(kernel: &mut impl Kernel, wanted: &Wanted) -> Result<Comparison, KernelError> {
        let facts = NodeFacts {
            namespaces: kernel.look_for(wanted).await?,
            ..NodeFacts::default()
        };
        let (target, observed) = (KernelState::default(), kernel.observe().await?);
        Ok(Comparison {
            facts,
            set: diff(&observed, &target),
            target,
            observed,
            planned: Vec::new(),
        })
    }

    /// Makes those of the changes that are part of `part`, and compares again: then `set` has what is left of that part, with all
    /// conflicts and all that waits. Returns what became of each change, and what the kernel held before, or why it can't be read
    /// any more. `beat` as for [`Comparison::new`].
    pub async fn apply(
        &mut self,
        kernel: &mut impl Kernel,
        part: impl Fn(&Change) -> bool,
        beat: impl Fn(),
    ) -> (ApplyReport, Result<KernelState, KernelError>) {
        let set = std::mem::take(&mut self.set).only(&part);
        let report = apply(kernel, set).await;
        beat();
        let before = kernel.observe().await.map(|observed| {
            self.set = diff(&observed, &self.target);
            self.set.retain(|_, change| part(change));
            std::mem::replace(&mut self.observed, observed)
        });
        (report, before)
    }

    /// All that is wrong before anything is changed: with the plan, with what can't be read, and with what stands in the way.
    #[must_use]
    pub fn problems(&self) -> Vec<Problem> {
        let mut problems = self.planned.clone();
        problems.extend(problems::unreadable(&self.observed, &self.facts));
        problems.extend(self.set.conflicts.iter().map(problems::conflict));
        problems.extend(self.set.waiting.iter().map(problems::waiting));
        problems
    }
}

/// The target as far as it can be reached, what is, and what is to be done. Observes again while what differs from the target may be
/// half of something that happened right then.
async fn observe(
    kernel: &mut impl Kernel,
    whole: &KernelState,
    beat: impl Fn(),
) -> Result<(KernelState, KernelState, ChangeSet), KernelError> {
    let mut left = limits::OBSERVATIONS;
    loop {
        let observed = kernel.observe().await?;
        beat();
        let target = readable(whole, &observed);
        let set = diff(&observed, &target);
        left -= 1;
        if set.is_empty() || left == 0 || !kernel.is_outdated().await {
            return Ok((target, observed, set));
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
    async fn what_changed_meanwhile_is_observed_again_and_not_for_ever() {
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
    async fn a_part_is_applied_and_what_is_left_of_it_is_told() {
        let state = KernelState {
            older_versions: [1, 2, 3].into(),
            ..KernelState::default()
        };
        let mut kernel = FakeKernel::new(state.clone());
        kernel.failing.insert(1);
        let mut compared = Comparison::with_nothing(&mut kernel, &Wanted::default())
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
