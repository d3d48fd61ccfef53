//! `adit uninstall`: removes everything that Adit manages, and nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::path::Path;

use anyhow::{Context, anyhow};
use clap::Args;

use super::directories::Directories;
use super::exit::{Code, Failure};
use super::output;
use super::privilege::{self, NET_ADMIN};
use crate::apply::Outcome;
use crate::kernel::wireguard::endpoints;
use crate::kernel::{LinuxKernel, ObservationScope, bpf};
use crate::model::facts::Presence;
use crate::model::{Change, KernelState, Object};
use crate::net::Namespace;
use crate::reconcile::compare::Comparison;
use crate::source::{last_good, namespaces, withdrawn};

/// Remove everything that Adit manages on this node
///
/// Removes all devices, routes, addresses, programs and maps that Adit manages, also in other network
/// namespaces. Everything else stays. Keys stay, too, unless --purge is given; manifests always stay.
///
/// Exit codes: 8 while an agent runs; 1 if something could not be removed, if a namespace could not be read or
/// an object not be decoded, or if BPF objects may be pinned on a BPF file system that is not visible here.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  adit uninstall\n  adit uninstall --purge")]
pub(super) struct Arguments {
    /// Remove the state directory too, with the keys in it
    #[arg(long)]
    purge: bool,
}

pub(super) async fn run(directories: &Directories, arguments: &Arguments) -> Result<(), Failure> {
    privilege::require(&[NET_ADMIN])?;
    let locks = directories.lock("stop the agent first")?;
    let _pins = lock_pins(&directories.bpffs)?;
    let mut kernel = LinuxKernel::without_bpf()?;
    let (remembered, mut unread) = match namespaces::load(&directories.state_dir) {
        Ok(remembered) => (remembered, Vec::new()),
        Err(error) => (BTreeSet::new(), vec![format!("the list of namespaces ({error})")]),
    };
    let wanted = ObservationScope {
        remembered,
        ..ObservationScope::default()
    };
    let mut compared = Comparison::with_nothing(&mut kernel, &wanted).await?;
    let pinned_elsewhere = pinned_elsewhere(&kernel, &compared.observed, &directories.bpffs);
    let (report, before) = compared.apply(&mut kernel, |_| true, || {}).await;
    let mut done = String::new();
    for (change, outcome) in &report.outcomes {
        match outcome {
            Outcome::Done => done.push_str(&format!("{change}\n")),
            Outcome::Failed(error) => output::note(&format!("{change}: {error}")),
            Outcome::Skipped { .. } => output::note(&format!("{change}: skipped after a failure")),
        }
    }
    // An output error must not stop the rest; it is returned at the end.
    let printed = output::report(&done);
    before?;
    let remaining = compared.set;
    unread.extend(unread_namespaces(&compared.facts.namespaces, &compared.observed));
    let undecoded = undecoded(&compared.observed);
    drop(kernel);
    let mut undone = Vec::new();
    if !remaining.is_empty() {
        let changes = remaining
            .changes
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>();
        undone.push(format!(
            "could not {}; run `adit uninstall` again",
            changes.join(", ")
        ));
    }
    // A remaining device may still run programs; a remaining nft table needs no pins.
    let is_table = |change: &Change| change.action.object() == Object::Firewall;
    if remaining.changes.iter().all(is_table)
        && let Err(error) = forget(directories)
    {
        undone.push(Failure::from(error).to_string());
    }
    if unread.is_empty() && remaining.is_empty() && undecoded.is_empty() {
        namespaces::forget(&directories.state_dir)?;
    }
    if !unread.is_empty() {
        undone.push(format!(
            "could not read {}: objects of Adit may remain there, including WireGuard keys; fix the error and run \
             `adit uninstall` again, or delete the objects with group or protocol 173 there and then the file {}",
            unread.join("; "),
            directories.state_dir.join(namespaces::NAME).display()
        ));
    }
    if !undecoded.is_empty() {
        undone.push(format!(
            "could not decode {}: objects of Adit may be among them; update Adit and run `adit uninstall` again, or delete \
             those with group or protocol 173",
            undecoded.join("; ")
        ));
    }
    undone.extend(pinned_elsewhere);
    if !undone.is_empty() {
        return Err(Failure::new(Code::Error, anyhow!(undone.join("\n"))));
    }
    if arguments.purge {
        purge(&directories.state_dir)?;
    }
    locks
        .run_directory
        .remove()
        .with_context(|| format!("removing {}", directories.run_dir.display()))?;
    printed?;
    output::report("Adit is removed from this node.\n")
}

/// Removes the state directory, if there is one.
fn purge(directory: &Path) -> anyhow::Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(anyhow!(error).context(format!("removing {}", directory.display())))
        }
        _ => Ok(()),
    }
}

/// Locks the directory of pins, if there is one.
fn lock_pins(bpffs: &Path) -> Result<Option<File>, Failure> {
    match bpf::lock(bpffs) {
        Err(error) if error.source.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) if bpf::is_locked(&error) => Err(Failure::new(
            Code::Refused,
            anyhow!(error).context("nothing was changed"),
        )),
        lock => Ok(Some(lock?)),
    }
}

/// Removes the pins, and the files of the state directory that describe previous runs.
fn forget(directories: &Directories) -> anyhow::Result<()> {
    bpf::uninstall(&directories.bpffs)?;
    withdrawn::forget(&directories.state_dir)?;
    last_good::forget(&directories.state_dir)?;
    endpoints::forget(&directories.state_dir)?;
    match bpf::newer(&directories.bpffs)? {
        None => Ok(()),
        Some(newer) => Err(anyhow!(newer).context("this version of Adit can't remove everything")),
    }
}

/// An error text if BPF objects of Adit may be pinned on a file system that is not visible here: they outlive
/// the devices.
fn pinned_elsewhere(kernel: &LinuxKernel, observed: &KernelState, bpffs: &Path) -> Option<String> {
    let why = match bpf::is_pinned(bpffs).and_then(|pinned| Ok(!pinned && kernel.has_programs(observed)?)) {
        Ok(false) => return None,
        Ok(true) => "the removed devices had BPF programs, or may have had them".to_owned(),
        Err(error) => format!("can't find out whether devices had BPF programs: {error}"),
    };
    Some(format!(
        "{why}, but {} contains no pins of Adit: if the pins are on a BPF file system that is not visible here, run \
         `adit uninstall` where it is mounted, or name its directory with --bpffs",
        bpffs.display()
    ))
}

/// The kinds of which some objects can't be decoded, each with their number and namespace.
fn undecoded(observed: &KernelState) -> Vec<String> {
    let of = |namespace: Option<&Namespace>, state: &KernelState| {
        let place = namespace.map(|namespace| format!(" of {namespace}"));
        let place = place.unwrap_or_default();
        let kinds = state.undecoded.iter();
        let kinds = kinds.map(|(kind, some)| format!("{} {kind}{place} ({})", some.count, some.first));
        kinds.collect::<Vec<_>>()
    };
    let elsewhere = observed.namespaces.iter();
    let elsewhere = elsewhere.flat_map(|(namespace, state)| of(Some(namespace), state));
    of(None, observed).into_iter().chain(elsewhere).collect()
}

/// The namespaces that may contain objects of Adit and could not be read, each with the reason.
pub(super) fn unread_namespaces(
    presence: &BTreeMap<Namespace, Presence>,
    observed: &KernelState,
) -> Vec<String> {
    let unknown = presence.iter().filter_map(|(namespace, found)| {
        let why = found.unknown()?;
        // A process or container that is now in the namespace of the agent has no other namespace any more.
        let is_other = *found == Presence::Own && !matches!(namespace, Namespace::Path(_));
        (!is_other).then(|| format!("{namespace}: {why}"))
    });
    let unreadable = observed.unreadable.iter();
    unknown
        .chain(unreadable.map(|(namespace, why)| format!("{namespace}: {why}")))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Undecoded;

    #[test]
    fn objects_that_can_t_be_decoded_are_named_in_every_namespace() {
        let some = |count| Undecoded {
            count,
            first: "odd".to_owned(),
        };
        let there = KernelState {
            undecoded: [("rules", some(2))].into(),
            ..KernelState::default()
        };
        let observed = KernelState {
            undecoded: [("routes", some(1))].into(),
            namespaces: [(Namespace::Name("red".to_owned()), there)].into(),
            ..KernelState::default()
        };
        assert_eq!(
            undecoded(&observed),
            ["1 routes (odd)", "2 rules of netns red (odd)"]
        );
        assert_eq!(undecoded(&KernelState::default()), [""; 0]);
    }
}
