//! `adit early`: what must stand before any network is up.

use std::time::Duration;

use anyhow::anyhow;
use clap::Args;

use super::exit::{Code, Failure};
use super::places::{Manifests, Places};
use super::privilege::{self, NET_ADMIN};
use crate::apply::apply;
use crate::diff::diff;
use crate::gather::Gatherer;
use crate::kernel::{Kernel, LinuxKernel};
use crate::model::{Change, ChangeSet, RouteKind};
use crate::net::LinkName;
use crate::plan::plan;
use crate::resource::Intent;
use crate::source;

/// Makes adit0 with this node's overlay addresses, and the routes that refuse overlay traffic while no agent has run:
/// for the boot, before the network is up. It leads no traffic anywhere, and takes nothing away.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  adit early -f /etc/adit/manifests")]
pub(super) struct Arguments {
    #[command(flatten)]
    manifests: Manifests,
}

pub(super) async fn run(places: &Places, arguments: &Arguments) -> Result<(), Failure> {
    let resources = source::load(&arguments.manifests.paths)?;
    let intent =
        Intent::new(resources, arguments.manifests.node()?).map_err(|problem| anyhow!("{problem}"))?;
    privilege::require(&[NET_ADMIN])?;
    let _lock = match places.lock("a running agent makes all of this itself") {
        Err(failure) if failure.code == Code::Refused => return Err(failure),
        // Refusing overlay traffic matters more: no agent that runs has this directory.
        Err(failure) => {
            eprintln!("adit: going on without a lock: {failure}");
            None
        }
        Ok(lock) => Some(lock),
    };
    let mut kernel = LinuxKernel::without_bpf()?;
    let mut gatherer = Gatherer::new(places.state_dir.clone(), Duration::ZERO);
    let facts = gatherer.gather(&mut kernel, &intent).await?;
    let (target, _) = plan(&intent, &facts);
    let mut set = diff(&kernel.observe().await?, &target);
    set.changes.retain(is_early);
    let conflicts = set
        .conflicts
        .iter()
        .map(|conflict| conflict.object.to_string())
        .collect::<Vec<_>>();
    let report = apply(
        &mut kernel,
        ChangeSet {
            changes: set.changes,
            ..ChangeSet::default()
        },
    )
    .await;
    for (change, _) in &report.outcomes {
        println!("{change}");
    }
    let failures = report
        .failures()
        .map(|(change, error)| format!("{change}: {error}"))
        .chain(
            conflicts
                .into_iter()
                .map(|object| format!("something that is not Adit's stands in the place of {object}")),
        )
        .collect::<Vec<_>>();
    if failures.is_empty() {
        return Ok(());
    }
    Err(Failure::new(Code::Error, anyhow!("{}", failures.join("; "))))
}

/// The anchor device, its settings and addresses, and the backstops: nothing of it forwards.
fn is_early(change: &Change) -> bool {
    let anchor = LinkName::constant(crate::plan::ANCHOR);
    match change {
        Change::CreateLink(link, _) | Change::SetLinkUp(link) => *link == anchor,
        Change::SetSysctl(link, ..) => *link == anchor,
        Change::CreateAddress(link, ..) => *link == anchor,
        Change::CreateRoute(_, route) => route.kind == RouteKind::Unreachable,
        _ => false,
    }
}
