//! `adit uninstall`: removes everything of ours, and nothing else.

use std::fs;
use std::io;

use anyhow::{Context, anyhow};
use clap::Args;

use super::exit::{Code, Failure};
use super::output;
use super::places::Places;
use super::privilege::{self, NET_ADMIN};
use crate::apply::{Outcome, apply};
use crate::control::{ControlError, RunDirectory};
use crate::diff::diff;
use crate::kernel::{Kernel, LinuxKernel, Wanted, bpf};
use crate::model::KernelState;
use crate::source::{last_good, withdrawn};

/// Refuses (8) while an agent runs. Devices, routes, addresses, programs and maps of ours go; what is not ours stays.
/// Manifests and keys stay unless --purge is given.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  adit uninstall\n  adit uninstall --purge")]
pub(super) struct Arguments {
    /// Removes the state directory too, with the keys in it
    #[arg(long)]
    purge: bool,
}

pub(super) async fn run(places: &Places, arguments: &Arguments) -> Result<(), Failure> {
    privilege::require(&[NET_ADMIN])?;
    let run_directory = RunDirectory::acquire(&places.run_dir).map_err(|error| match error {
        ControlError::Locked(_) => Failure::new(
            Code::Refused,
            anyhow!(error).context("stop the agent before uninstalling"),
        ),
        other => other.into(),
    })?;
    let mut kernel = LinuxKernel::without_bpf()?;
    let nothing = KernelState::default();
    kernel.look_for(&Wanted::default()).await?;
    let set = diff(&kernel.observe().await?, &nothing);
    let report = apply(&mut kernel, set).await;
    let mut done = String::new();
    for (change, outcome) in &report.outcomes {
        match outcome {
            Outcome::Done => done.push_str(&format!("{change}\n")),
            Outcome::Failed(error) => output::note(&format!("{change}: {}", error.beside(change))),
            Outcome::Skipped => output::note(&format!("{change}: skipped after a failure")),
        }
    }
    // The rest is done all the same.
    let told = output::report(&done);
    let left = diff(&kernel.observe().await?, &nothing);
    if !left.is_empty() {
        let left = left
            .changes
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(", ");
        return Err(Failure::new(Code::Error, anyhow!("could not {left}")));
    }
    drop(kernel);
    bpf::uninstall(&places.bpffs)?;
    withdrawn::forget(&places.state_dir)?;
    last_good::forget(&places.state_dir)?;
    if let Some(newer) = bpf::newer(&places.bpffs)? {
        return Err(anyhow!(newer)
            .context("this version can't remove all that is there")
            .into());
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
