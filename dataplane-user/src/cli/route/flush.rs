//! `adit route flush`.

use clap::Args;

use super::{failures, lock};
use crate::apply::apply;
use crate::cli::exit::Failure;
use crate::cli::output;
use crate::cli::places::Places;
use crate::cli::privilege::{self, NET_ADMIN};
use crate::diff::diff;
use crate::kernel::{Kernel, LinuxKernel, Wanted};
use crate::model::change::{NetlinkChange, RouteChange, RouteOperation};
use crate::model::{Action, Change, KernelState};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Only of this table
    #[arg(long, value_name = "NUMBER")]
    table: Option<u32>,
    /// Delete `unreachable` and `blackhole` routes too; overlay traffic may then leave by the default route, in the clear
    #[arg(long)]
    include_unreachable: bool,
}

pub(super) async fn run(places: &Places, arguments: &Arguments) -> Result<(), Failure> {
    privilege::require(&[NET_ADMIN])?;
    let _lock = lock(places)?;
    let mut kernel = LinuxKernel::without_bpf()?;
    kernel.look_for(&Wanted::default()).await?;
    let set = diff(&kernel.observe().await?, &KernelState::default());
    let in_table = |change: &Change| match &change.action {
        Action::Netlink(NetlinkChange::Route(RouteChange(key, RouteOperation::Delete(_)))) => {
            arguments.table.is_none_or(|table| key.table == table)
        }
        _ => false,
    };
    let mut set = set.only(in_table);
    let found = set.changes.len();
    if !arguments.include_unreachable {
        set.retain(|_, change| !is_backstop(change));
    }
    let kept = found - set.changes.len();
    let report = apply(&mut kernel, set).await;
    let mut text = format!("{} routes deleted.\n", report.done());
    if kept > 0 {
        let line =
            format!("{kept} unreachable or blackhole routes kept; --include-unreachable deletes them too.\n");
        text.push_str(&line);
    }
    let told = output::report(&text);
    failures(&report)?;
    told
}

/// Whether it deletes a route that keeps packets from taking another one.
fn is_backstop(change: &Change) -> bool {
    matches!(
        &change.action,
        Action::Netlink(NetlinkChange::Route(RouteChange(_, RouteOperation::Delete(route)))) if route.refuses()
    )
}
