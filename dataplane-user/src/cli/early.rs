//! `adit early`: backstop routes and the addresses of adit0, before any network is up.

use anyhow::anyhow;
use clap::Args;

use super::directories::{Directories, Manifests, lock_namespace};
use super::exit::{Code, Failure};
use super::output;
use super::privilege::{self, NET_ADMIN};
use crate::kernel::LinuxKernel;
use crate::model::change::{
    AddressChange, AddressOperation, LinkChange, LinkOperation, Located, NetlinkChange, RouteChange,
    RouteOperation,
};
use crate::model::devices::ANCHOR;
use crate::model::{Action, BACKSTOP_METRIC, Change, Object, RouteKind};
use crate::net::LinkName;
use crate::reconcile::compare::Comparison;
use crate::reconcile::problems;
use crate::resource::{Intent, Reason};
use crate::source::last_good;

/// Protect the node at boot, before the network is up
///
/// Creates adit0 with the overlay addresses of this node, and routes that refuse overlay traffic until the
/// agent runs. It forwards nothing and deletes nothing. If the manifests are rejected, it uses those that an
/// agent on this node accepted last, and prints a warning. On a node that is in no network there is nothing to
/// protect, and a note says so.
///
/// Exit code 8 means that an agent runs.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  adit early -f /etc/adit/manifests")]
pub(super) struct Arguments {
    #[command(flatten)]
    manifests: Manifests,
}

pub(super) async fn run(directories: &Directories, arguments: &Arguments) -> Result<(), Failure> {
    let manifests = &arguments.manifests;
    let intent = manifests
        .intent()
        .or_else(|rejected| last_good(directories, manifests, &rejected))?;
    privilege::require(&[NET_ADMIN])?;
    if !intent.is_member() {
        output::note(&format!(
            "nothing to protect: no TunnelNode is named `{}`, or it is in no network",
            intent.node().name
        ));
    }
    let _lock = match lock_namespace("not needed while an agent runs") {
        Err(failure) if failure.code == Code::Refused => return Err(failure),
        // Refusing overlay traffic matters more than the lock.
        Err(failure) => {
            output::note(&format!("warning: continuing without a lock: {failure}"));
            None
        }
        Ok(lock) => Some(lock),
    };
    let mut kernel = LinuxKernel::without_bpf()?;
    let mut compared = Comparison::new(&mut kernel, &mut directories.gatherer(), &intent, || {}).await?;
    let planned = compared.planned.iter();
    planned
        .filter(|problem| concerns_early(problem.reason))
        .for_each(|problem| output::note(&problem.to_string()));
    let (report, before) = compared.apply(&mut kernel, is_early, || {}).await;
    let changes = report.outcomes.iter();
    let printed = output::report(
        &changes
            .map(|(change, _)| format!("{change}\n"))
            .collect::<String>(),
    );
    before?;
    compared
        .set
        .conflicts
        .retain(|conflict| is_early_object(&conflict.object));
    let mut undone = problems::of_changes(&report, &compared.set);
    undone.retain(|problem| concerns_early(problem.reason));
    Failure::unless_done(&undone)?;
    printed
}

/// The intent of the last accepted manifests. Prints a warning with the reason why the current ones were
/// rejected.
fn last_good(
    directories: &Directories,
    manifests: &Manifests,
    rejected: &Failure,
) -> Result<Intent, Failure> {
    let node = manifests.node()?;
    let kept = last_good::intent(&directories.state_dir, node).map_err(anyhow::Error::new);
    match kept
        .and_then(|intent| intent.ok_or_else(|| anyhow!("no manifests were ever accepted on this node")))
    {
        Ok(intent) => {
            output::note(&format!(
                "warning: manifests rejected; using the last accepted ones: {rejected}"
            ));
            Ok(intent)
        }
        Err(error) => Err(Failure::new(
            rejected.code,
            anyhow!(
                "{rejected}\nthe last accepted manifests can't be used either: {}",
                Failure::from(error)
            ),
        )),
    }
}

/// Whether a problem concerns what `early` creates. Other problems are about what the network provides later
/// (paths to peers, addresses of names, other namespaces) or about later work of the agent; its status shows
/// them if they remain.
fn concerns_early(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::Conflict | Reason::ApplyFailed | Reason::NotConverged | Reason::NoFamily
    )
}

/// Whether an object is one that `early` creates.
fn is_early_object(located: &Located) -> bool {
    let is_anchor = |link: &LinkName| link.as_str() == ANCHOR;
    located.namespace.is_none()
        && match &located.object {
            Object::Link(link) | Object::Address(link, _) | Object::Sysctl(link, _) => is_anchor(link),
            Object::Route(key) => key.metric == BACKSTOP_METRIC,
            _ => false,
        }
}

/// Whether a change creates the anchor device, its settings, its addresses or a backstop route. None of them
/// forwards.
fn is_early(change: &Change) -> bool {
    let anchor = LinkName::constant(ANCHOR);
    match &change.action {
        _ if change.namespace.is_some() => false,
        Action::Netlink(NetlinkChange::Link(LinkChange(
            link,
            LinkOperation::Create(_) | LinkOperation::SetUp,
        ))) => *link == anchor,
        Action::Netlink(NetlinkChange::Address(AddressChange(link, _, AddressOperation::Create(_)))) => {
            *link == anchor
        }
        Action::Sysctl(change) => change.link == anchor,
        Action::Netlink(NetlinkChange::Route(RouteChange(_, RouteOperation::Create(route)))) => {
            route.kind == RouteKind::Unreachable
        }
        _ => false,
    }
}
