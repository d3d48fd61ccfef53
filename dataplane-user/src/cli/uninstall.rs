//! `adit uninstall`: removes everything of ours, and nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::Path;

use anyhow::{Context, anyhow};
use clap::Args;

use super::exit::{Code, Failure};
use super::output;
use super::places::Places;
use super::privilege::{self, NET_ADMIN};
use crate::apply::Outcome;
use crate::kernel::wireguard::endpoints;
use crate::kernel::{LinuxKernel, Wanted, bpf};
use crate::model::facts::Presence;
use crate::model::{Change, KernelState, Object};
use crate::net::Namespace;
use crate::reconcile::compare::Comparison;
use crate::source::{last_good, namespaces, withdrawn};

/// Removes all devices, routes, addresses, programs and maps that Adit manages, also in other network namespaces; everything
/// else stays. Exits with 8 while an agent runs, and with 1 when something could not be removed, a namespace could not be
/// looked into, or BPF objects may be pinned on a BPF file system that is not visible here. Manifests and keys stay unless
/// --purge is given.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  adit uninstall\n  adit uninstall --purge")]
pub(super) struct Arguments {
    /// Removes the state directory too, with the keys in it
    #[arg(long)]
    purge: bool,
}

pub(super) async fn run(places: &Places, arguments: &Arguments) -> Result<(), Failure> {
    privilege::require(&[NET_ADMIN])?;
    let run_directory = places.lock("stop the agent before uninstalling")?;
    let mut kernel = LinuxKernel::without_bpf()?;
    let (remembered, mut unseen) = match namespaces::load(&places.state_dir) {
        Ok(remembered) => (remembered, Vec::new()),
        Err(error) => (BTreeSet::new(), vec![format!("the list of namespaces: {error}")]),
    };
    let wanted = Wanted {
        remembered,
        ..Wanted::default()
    };
    let mut compared = Comparison::with_nothing(&mut kernel, &wanted).await?;
    let pinned_elsewhere = pinned_elsewhere(&kernel, &compared.observed, &places.bpffs);
    let (report, before) = compared.apply(&mut kernel, |_| true, || {}).await;
    let mut done = String::new();
    for (change, outcome) in &report.outcomes {
        match outcome {
            Outcome::Done => done.push_str(&format!("{change}\n")),
            Outcome::Failed(error) => output::note(&format!("{change}: {error}")),
            Outcome::Skipped { .. } => output::note(&format!("{change}: skipped after a failure")),
        }
    }
    // The rest is done all the same.
    let told = output::report(&done);
    before?;
    let left = compared.set;
    unseen.extend(not_looked_at(&compared.facts.namespaces, &compared.observed));
    drop(kernel);
    let mut undone = Vec::new();
    if !left.is_empty() {
        let changes = left.changes.iter().map(ToString::to_string).collect::<Vec<_>>();
        undone.push(format!("could not {}", changes.join(", ")));
    }
    // A device may still run programs; the table needs nothing that is pinned.
    let is_table = |change: &Change| change.action.object() == Object::Firewall;
    if left.changes.iter().all(is_table)
        && let Err(error) = forget(places)
    {
        undone.push(format!("{error:#}"));
    }
    if unseen.is_empty() && left.is_empty() {
        namespaces::forget(&places.state_dir)?;
    }
    if !unseen.is_empty() {
        undone.push(format!(
            "could not look into {}: what Adit left there, keys of WireGuard included, is still there; mend that and run \
             `adit uninstall` again, or delete there what has group or protocol 173 and then {}",
            unseen.join("; "),
            places.state_dir.join(namespaces::NAME).display()
        ));
    }
    undone.extend(pinned_elsewhere);
    if !undone.is_empty() {
        return Err(Failure::new(Code::Error, anyhow!(undone.join("\n"))));
    }
    if arguments.purge {
        match fs::remove_dir_all(&places.state_dir) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(anyhow!(error)
                    .context(format!("removing {}", places.state_dir.display()))
                    .into());
            }
            _ => {}
        }
    }
    run_directory
        .remove()
        .with_context(|| format!("removing {}", places.run_dir.display()))?;
    told?;
    output::report("Nothing of Adit's is left on this node.\n")
}

/// Removes what is pinned, and what the state directory says of the past.
fn forget(places: &Places) -> anyhow::Result<()> {
    bpf::uninstall(&places.bpffs)?;
    withdrawn::forget(&places.state_dir)?;
    last_good::forget(&places.state_dir)?;
    endpoints::forget(&places.state_dir)?;
    match bpf::newer(&places.bpffs)? {
        None => Ok(()),
        Some(newer) => Err(anyhow!(newer).context("this version can't remove all that is there")),
    }
}

/// A warning where BPF objects of Adit may be pinned on a file system that is not visible here: they outlive the devices.
fn pinned_elsewhere(kernel: &LinuxKernel, observed: &KernelState, bpffs: &Path) -> Option<String> {
    let why = match bpf::is_pinned(bpffs).and_then(|pinned| Ok(!pinned && kernel.has_programs(observed)?)) {
        Ok(false) => return None,
        Ok(true) => "devices that are gone may have had BPF programs of Adit's".to_owned(),
        Err(error) => format!("it can't be told whether devices had BPF programs: {error}"),
    };
    Some(format!(
        "{why}, and {} has none of Adit's pins: if they are on a BPF file system that is not visible here, run `adit uninstall` \
         where it is mounted, or with its --bpffs",
        bpffs.display()
    ))
}

/// The namespaces in which something of ours may be and that could not be looked at, each with the reason.
fn not_looked_at(presence: &BTreeMap<Namespace, Presence>, observed: &KernelState) -> Vec<String> {
    let unknown = presence.iter().filter_map(|(namespace, found)| {
        let why = found.unknown()?;
        // Of a process or a container that is in the agent's own namespace, the former one has ended.
        let is_other = *found == Presence::Own && !matches!(namespace, Namespace::Path(_));
        (!is_other).then(|| format!("{namespace}: {why}"))
    });
    let unreadable = observed.unreadable.iter();
    unknown
        .chain(unreadable.map(|(namespace, why)| format!("{namespace}: {why}")))
        .collect()
}
