//! `adit route flush`.

use anyhow::anyhow;
use clap::Args;

use super::{change, lock};
use crate::cli::directories::Directories;
use crate::cli::exit::Failure;
use crate::cli::output;
use crate::cli::privilege::{self, NET_ADMIN};
use crate::cli::uninstall::unread_namespaces;
use crate::kernel::{LinuxKernel, ObservationScope};
use crate::model::change::{NetlinkChange, RouteChange, RouteOperation};
use crate::model::{Action, Change};
use crate::reconcile::compare::Comparison;
use crate::source::namespaces;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Delete only routes of this table
    #[arg(long, value_name = "NUMBER")]
    table: Option<u32>,
    /// Delete `unreachable` and `blackhole` routes too; overlay traffic may then take the default route in
    /// cleartext
    #[arg(long)]
    include_unreachable: bool,
}

pub(super) async fn run(directories: &Directories, arguments: &Arguments) -> Result<(), Failure> {
    privilege::require(&[NET_ADMIN])?;
    let _lock = lock(directories)?;
    let mut kernel = LinuxKernel::without_bpf()?;
    let wanted = ObservationScope {
        remembered: namespaces::load(&directories.state_dir)?,
        ..ObservationScope::default()
    };
    let compared = Comparison::with_nothing(&mut kernel, &wanted).await?;
    let unread = unread_namespaces(&compared.facts.namespaces, &compared.observed);
    let in_table = |change: &Change| match &change.action {
        Action::Netlink(NetlinkChange::Route(RouteChange(key, RouteOperation::Delete(_)))) => {
            arguments.table.is_none_or(|table| key.table == table)
        }
        _ => false,
    };
    let is_kept = |change: &Change| !arguments.include_unreachable && is_backstop(change);
    let changes = compared.set.changes.iter();
    let kept = changes
        .filter(|change| in_table(change) && is_kept(change))
        .count();
    let part = |change: &Change| in_table(change) && !is_kept(change);
    let (report, done) = change(&mut kernel, compared, part).await;
    let mut text = format!("{} deleted.\n", routes(report.done(), ""));
    if kept > 0 {
        let kept = routes(kept, "unreachable or blackhole ");
        let line = format!("{kept} kept; --include-unreachable deletes them too.\n");
        text.push_str(&line);
    }
    let printed = output::report(&text);
    done?;
    printed?;
    match unread.is_empty() {
        true => Ok(()),
        false => Err(anyhow!(
            "could not read {}: routes of Adit may remain there",
            unread.join("; ")
        )
        .into()),
    }
}

/// A number of routes, as in `2 unreachable routes`.
fn routes(number: usize, kind: &str) -> String {
    format!("{number} {kind}route{}", if number == 1 { "" } else { "s" })
}

/// Whether a change deletes a route that keeps packets from taking a less specific one.
fn is_backstop(change: &Change) -> bool {
    matches!(
        &change.action,
        Action::Netlink(NetlinkChange::Route(RouteChange(_, RouteOperation::Delete(route)))) if route.refuses()
    )
}
