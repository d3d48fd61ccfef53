//! `adit early`: what must stand before any network is up.

use anyhow::anyhow;
use clap::Args;

use super::exit::{Code, Failure};
use super::output;
use super::places::{Manifests, Places};
use super::privilege::{self, NET_ADMIN};
use crate::kernel::LinuxKernel;
use crate::model::change::{
    AddressChange, AddressOperation, LinkChange, LinkOperation, NetlinkChange, RouteChange, RouteOperation,
};
use crate::model::{Action, Change, RouteKind};
use crate::net::LinkName;
use crate::reconcile::compare::Comparison;
use crate::reconcile::problems;
use crate::resource::{Intent, Reason};
use crate::source::last_good;

/// Makes adit0 with this node's overlay addresses, and the routes that refuse overlay traffic while no agent has run:
/// for the boot, before the network is up. It leads no traffic anywhere, and takes nothing away. Where the manifests are
/// rejected, it uses those that an agent on this node accepted last, and says so.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  adit early -f /etc/adit/manifests")]
pub(super) struct Arguments {
    #[command(flatten)]
    manifests: Manifests,
}

pub(super) async fn run(places: &Places, arguments: &Arguments) -> Result<(), Failure> {
    let manifests = &arguments.manifests;
    let intent = manifests
        .intent()
        .or_else(|rejected| last_good(places, manifests, &rejected))?;
    privilege::require(&[NET_ADMIN])?;
    let _lock = match places.lock("a running agent makes all of this itself") {
        Err(failure) if failure.code == Code::Refused => return Err(failure),
        // Refusing overlay traffic matters more: no agent that runs has this directory.
        Err(failure) => {
            output::note(&format!("going on without a lock: {failure}"));
            None
        }
        Ok(lock) => Some(lock),
    };
    let mut kernel = LinuxKernel::without_bpf()?;
    let mut compared = Comparison::new(&mut kernel, &mut places.gatherer(), &intent, || {}).await?;
    let planned = compared.planned.iter();
    planned
        .filter(|problem| concerns_early(problem.reason))
        .for_each(|problem| output::note(&problem.to_string()));
    let (report, before) = compared.apply(&mut kernel, is_early, || {}).await;
    let changes = report.outcomes.iter();
    let told = output::report(
        &changes
            .map(|(change, _)| format!("{change}\n"))
            .collect::<String>(),
    );
    before?;
    let mut undone = problems::of_changes(&report, &compared.set);
    undone.retain(|problem| concerns_early(problem.reason));
    Failure::unless_done(&undone)?;
    told
}

/// What this node was to be when an agent accepted manifests last; what keeps the present ones from being used is told.
fn last_good(places: &Places, manifests: &Manifests, rejected: &Failure) -> Result<Intent, Failure> {
    let node = manifests.node()?;
    let kept = last_good::intent(&places.state_dir, node).map_err(anyhow::Error::new);
    match kept.and_then(|intent| intent.ok_or_else(|| anyhow!("none were ever accepted on this node"))) {
        Ok(intent) => {
            output::note(&format!(
                "warning: manifests rejected; using the last good ones: {rejected}"
            ));
            Ok(intent)
        }
        Err(error) => Err(Failure::new(
            rejected.code,
            anyhow!("{rejected}\nthe last good manifests can't be used either: {error:#}"),
        )),
    }
}

/// Whether such a problem concerns what stands before the network is up. The others speak of what the network brings (paths to peers,
/// addresses of names, other namespaces) or of what the agent does later; whether they last, its status tells.
fn concerns_early(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::Conflict | Reason::ApplyFailed | Reason::NotConverged | Reason::NoFamily
    )
}

/// The anchor device, its settings and addresses, and the backstops: nothing of it forwards.
fn is_early(change: &Change) -> bool {
    let anchor = LinkName::constant(crate::model::devices::ANCHOR);
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
