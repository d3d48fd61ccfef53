//! What is wrong, as a reconciliation finds it.

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

/// What is wrong with the changes that were made, and with those that are left.
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
    if problems.is_empty() && !residual.is_empty() {
        problems.extend(residual.changes.iter().map(|change| {
            Problem::error(
                Reason::NotConverged,
                change.to_string(),
                "the kernel accepted every change but still differs".to_owned(),
                "something else may be changing it at the same time; retried at every reconciliation"
                    .to_owned(),
            )
        }));
    }
    problems.extend(residual.waiting.iter().map(waiting));
    problems
}

/// The accepted manifests can't be kept for the next start.
pub(super) fn not_kept(error: &LastGoodError) -> Problem {
    Problem::warning(
        Reason::NotKept,
        "manifests".to_owned(),
        format!("the accepted manifests can't be kept: {error}"),
        "make the state directory writable; without them, manifests that are rejected at the next boot leave this \
         node without backstop routes"
            .to_owned(),
    )
}

/// The newest manifests are rejected.
pub(super) fn invalid(errors: &LoadErrors) -> Problem {
    Problem::error(
        Reason::SourceInvalid,
        "manifests".to_owned(),
        errors.to_string(),
        "correct them; until then the last good version goes on".to_owned(),
    )
}

/// The kernel's state can't be read.
pub(super) fn unreadable_kernel(failure: &KernelError) -> Problem {
    Problem::error(
        Reason::ApplyFailed,
        "kernel".to_owned(),
        format!("its state can't be read: {failure}"),
        "retried at every reconciliation".to_owned(),
    )
}

/// The problem that a change failed. What can't be created because something is there already, which is not ours, is a conflict.
fn failed(change: &Change, error: &KernelError) -> Problem {
    let creates = change.action.verb() == Verb::Add;
    if creates && error.errno() == Some(libc::EEXIST) {
        return Problem::error(
            Reason::Conflict,
            change.located().to_string(),
            format!("something that is not Adit's stands here: {}", error.source),
            "remove or rename it; it is left alone, and tried again at each reconciliation".to_owned(),
        );
    }
    Problem::error(
        Reason::ApplyFailed,
        change.to_string(),
        error.to_string(),
        "retried at every reconciliation; fix the kernel error above".to_owned(),
    )
}

/// The problem that changes were skipped, as they depend on one that failed.
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
        "mend that failure; these changes follow by themselves".to_owned(),
    )
}

/// The problems that the nft table, namespaces and objects can't be read, as far as the plan does not tell of them already.
#[must_use]
pub fn unreadable(observed: &KernelState, facts: &NodeFacts) -> Vec<Problem> {
    let is_told = |namespace: &Namespace| {
        let presence = facts.namespaces.get(namespace);
        presence.is_some_and(|presence| presence.unknown().is_some())
    };
    let table = observed.firewall_unreadable.iter().map(|why| {
        Problem::error(
            Reason::FirewallUnreadable,
            "nft table inet adit".to_owned(),
            format!("it can't be listed, and stays as it is: {why}"),
            "see that `nft -j list table inet adit` works; it is listed again by the next reconciliations"
                .to_owned(),
        )
    });
    let unreadable = observed.unreadable.iter();
    let unreadable = unreadable.filter(|(namespace, _)| !is_told(namespace));
    let namespaces = unreadable.map(|(namespace, why)| {
        Problem::warning(
            Reason::Waiting,
            namespace.to_string(),
            format!("it can't be read, what stands there stays as it is: {why}"),
            "it is read again after some seconds, ever more rarely; find out what changes so much there"
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
            "{} of them can't be decoded and are skipped; the first one: {}",
            some.count, some.first
        ),
        "update Adit; until then it neither changes nor deletes them".to_owned(),
    )
}

/// The problem that something waits.
#[must_use]
pub fn waiting(waiting: &Waiting) -> Problem {
    Problem::warning(
        Reason::Waiting,
        waiting.object.to_string(),
        format!("waiting: {}", waiting.what),
        "make it, or correct the manifest; it is looked for again every few seconds".to_owned(),
    )
}

/// The problem that a conflict is.
#[must_use]
pub fn conflict(conflict: &Conflict) -> Problem {
    let (message, remedy) = match &conflict.holder {
        None => (
            format!("something that is not Adit's stands here: {}", conflict.found),
            "remove or rename it; it is left alone".to_owned(),
        ),
        Some((other, what)) => (
            format!("{other}, which is not Adit's, has {what}: {}", conflict.found),
            format!("remove {other}, or choose another encapsulation, port or VNI; it is left alone"),
        ),
    };
    Problem::error(Reason::Conflict, conflict.object.to_string(), message, remedy)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::Severity;

    #[test]
    fn objects_that_can_t_be_decoded_are_warnings_of_their_kind_and_place() {
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
        let told = problems.iter().map(|problem| {
            assert_eq!(problem.severity, Severity::Warning);
            (problem.reason, problem.subject.as_str())
        });
        let expected = [
            (Reason::Undecoded, "routes"),
            (Reason::Undecoded, "netns red: rules"),
        ];
        assert_eq!(told.collect::<Vec<_>>(), expected);
    }
}
