//! The problems that a reconciliation finds, beside those of the plan.

use crate::apply::ApplyReport;
use crate::kernel::KernelError;
use crate::limits;
use crate::model::change::Verb;
use crate::model::facts::NodeFacts;
use crate::model::{Change, ChangeSet, Conflict, KernelState, Undecoded, Waiting};
use crate::net::Namespace;
use crate::resource::{Problem, Reason};
use crate::source::file::LoadErrors;
use crate::source::last_good::LastGoodError;

/// The problems of changes that were tried, and of changes that are still to be made.
#[must_use]
pub fn of_changes(report: &ApplyReport, residual: &ChangeSet) -> Vec<Problem> {
    let mut problems = residual.conflicts.iter().map(conflict).collect::<Vec<_>>();
    problems.extend(report.failures().map(|(change, error)| failed(change, error)));
    let waited_for = report.waited_for();
    problems.extend(
        waited_for
            .iter()
            .map(|(failed, waiting)| skipped(failed, waiting)),
    );
    // A conflict explains no other difference.
    if report.failures().next().is_none() {
        problems.extend(residual.changes.iter().map(|change| {
            Problem::error(
                Reason::NotConverged,
                change.to_string(),
                "not converged: the kernel accepted every change but still differs".to_owned(),
                "find out what else changes it at the same time; retried at every reconciliation".to_owned(),
            )
        }));
    }
    problems.extend(residual.waiting.iter().map(waiting));
    problems
}

/// The accepted manifests can't be stored for the next start.
pub(super) fn not_kept(error: &LastGoodError) -> Problem {
    Problem::warning(
        Reason::NotKept,
        "manifests".to_owned(),
        format!("the accepted manifests can't be stored: {error}"),
        "make the state directory writable; otherwise this node has no backstop routes if its manifests are \
         rejected at the next boot"
            .to_owned(),
    )
}

/// The newest version of the manifests is rejected.
pub(super) fn invalid(errors: &LoadErrors) -> Problem {
    Problem::error(
        Reason::SourceInvalid,
        "manifests".to_owned(),
        errors.to_string(),
        "correct the manifests; until then the agent keeps the previous version".to_owned(),
    )
}

/// The state of the kernel can't be read.
pub(super) fn unreadable_kernel(failure: &KernelError) -> Problem {
    Problem::error(
        Reason::ApplyFailed,
        "kernel".to_owned(),
        format!("the state of the kernel can't be read: {failure}"),
        "retried at every reconciliation; fix the kernel error above".to_owned(),
    )
}

/// The problem that a change failed. An object that can't be created because one exists that is not managed
/// by Adit is a conflict.
fn failed(change: &Change, error: &KernelError) -> Problem {
    let creates = change.action.verb() == Verb::Add;
    if creates && error.errno() == Some(libc::EEXIST) {
        return Problem::error(
            Reason::Conflict,
            change.located().to_string(),
            format!(
                "conflict: exists already and was not created by Adit: {}",
                error.source
            ),
            "delete or rename it; Adit does not change it, and retries at every reconciliation".to_owned(),
        );
    }
    Problem::error(
        Reason::ApplyFailed,
        change.to_string(),
        error.to_string(),
        "retried at every reconciliation; fix the kernel error above".to_owned(),
    )
}

/// The problem that changes were skipped because they depend on one that failed.
fn skipped(failed: &Change, waiting: &[&Change]) -> Problem {
    let named = waiting
        .iter()
        .take(limits::NAMED_CHANGES)
        .map(ToString::to_string);
    let named = named.collect::<Vec<_>>().join("; ");
    let more = match waiting.len().saturating_sub(limits::NAMED_CHANGES) {
        0 => String::new(),
        more => format!("; and {more} more"),
    };
    Problem::warning(
        Reason::Waiting,
        failed.located().to_string(),
        format!("waiting for `{failed}`, which failed: {named}{more}"),
        "fix that failure; then the agent makes these changes by itself".to_owned(),
    )
}

/// The problems that the nft table, namespaces or objects can't be read, without those that the plan reports
/// already.
#[must_use]
pub fn unreadable(observed: &KernelState, facts: &NodeFacts) -> Vec<Problem> {
    let is_reported = |namespace: &Namespace| {
        let presence = facts.namespaces.get(namespace);
        presence.is_some_and(|presence| presence.unknown().is_some())
    };
    let table = observed.firewall_unreadable.iter().map(|why| {
        Problem::error(
            Reason::FirewallUnreadable,
            "nft table inet adit".to_owned(),
            format!("the table can't be listed and is not changed: {why}"),
            "make sure that `nft -j list table inet adit` works; retried by the next reconciliations"
                .to_owned(),
        )
    });
    let unreadable = observed.unreadable.iter();
    let unreadable = unreadable.filter(|(namespace, _)| !is_reported(namespace));
    let namespaces = unreadable.map(|(namespace, why)| {
        Problem::warning(
            Reason::Waiting,
            namespace.to_string(),
            format!("the namespace can't be read, and nothing is changed in it: {why}"),
            "find out what keeps changing it; retried after some seconds, each time after a longer pause"
                .to_owned(),
        )
    });
    let here = observed.undecoded.iter();
    let here = here.map(|(kind, some)| undecoded((*kind).to_owned(), some));
    let elsewhere = observed.namespaces.iter().flat_map(|(namespace, state)| {
        let some = state.undecoded.iter();
        some.map(move |(kind, some)| undecoded(format!("{namespace}: {kind}"), some))
    });
    table.chain(namespaces).chain(here).chain(elsewhere).collect()
}

/// The problem that objects of a kind can't be decoded.
fn undecoded(kind: String, some: &Undecoded) -> Problem {
    Problem::warning(
        Reason::Undecoded,
        kind,
        format!(
            "{} objects of this kind can't be decoded and are skipped; the first one: {}",
            some.count, some.first
        ),
        "update Adit; until then the agent neither changes nor deletes them".to_owned(),
    )
}

/// The problem that a desired object waits for something that nobody announces.
#[must_use]
pub fn waiting(waiting: &Waiting) -> Problem {
    Problem::warning(
        Reason::Waiting,
        waiting.object.to_string(),
        format!("waiting for {}", waiting.what),
        "create it, or correct the manifest; the agent checks again every few seconds".to_owned(),
    )
}

/// The problem for a conflict.
#[must_use]
pub fn conflict(conflict: &Conflict) -> Problem {
    let (message, remedy) = match &conflict.holder {
        None => (
            format!(
                "conflict: exists already and was not created by Adit: {}",
                conflict.found
            ),
            "delete or rename it; Adit does not change it".to_owned(),
        ),
        Some((other, what)) => (
            format!(
                "conflict: device {other}, which was not created by Adit, has {what}: {}",
                conflict.found
            ),
            format!(
                "delete {other}, or choose another encapsulation, port or VNI; Adit does not change {other}"
            ),
        ),
    };
    Problem::error(Reason::Conflict, conflict.object.to_string(), message, remedy)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apply::Outcome;
    use crate::model::change::{LinkChange, LinkOperation, NetlinkChange};
    use crate::net::LinkName;
    use crate::resource::Severity;

    #[test]
    fn a_conflict_hides_no_difference_that_remains() {
        let set_up = |name: &str| {
            let name = LinkName::new(name).unwrap();
            Change::from(NetlinkChange::Link(LinkChange(name, LinkOperation::SetUp)))
        };
        let residual = ChangeSet {
            changes: vec![set_up("d0")],
            conflicts: vec![Conflict {
                object: set_up("d1").located(),
                found: "dummy".to_owned(),
                holder: None,
            }],
            ..ChangeSet::default()
        };
        let reasons = |report: &ApplyReport| {
            let problems = of_changes(report, &residual).into_iter();
            problems.map(|problem| problem.reason).collect::<Vec<_>>()
        };
        let done = |outcome| ApplyReport {
            outcomes: vec![(set_up("d0"), outcome)],
            ..ApplyReport::default()
        };
        assert_eq!(
            reasons(&done(Outcome::Done)),
            [Reason::Conflict, Reason::NotConverged]
        );
        let error = KernelError::of_change(std::io::Error::from_raw_os_error(libc::EIO));
        assert_eq!(
            reasons(&done(Outcome::Failed(error))),
            [Reason::Conflict, Reason::ApplyFailed]
        );
    }

    #[test]
    fn objects_that_can_t_be_decoded_are_warnings_of_their_kind_and_namespace() {
        let some = Undecoded {
            count: 2,
            first: "odd".to_owned(),
        };
        let there = KernelState {
            undecoded: [("rules", some.clone())].into(),
            ..KernelState::default()
        };
        let observed = KernelState {
            undecoded: [("routes", some)].into(),
            namespaces: [(Namespace::Name("red".to_owned()), there)].into(),
            ..KernelState::default()
        };
        let problems = unreadable(&observed, &NodeFacts::default());
        let found = problems.iter().map(|problem| {
            assert_eq!(problem.severity, Severity::Warning);
            (problem.reason, problem.subject.as_str())
        });
        let expected = [
            (Reason::Undecoded, "routes"),
            (Reason::Undecoded, "netns red: rules"),
        ];
        assert_eq!(found.collect::<Vec<_>>(), expected);
    }
}
