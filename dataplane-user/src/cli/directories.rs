//! The directories of an agent, and the manifests. Each agent on a machine has its own directories.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::anyhow;
use clap::{Args, ValueHint};

use super::exit::{Code, Failure};
use crate::gather::Gatherer;
use crate::kernel::bpf;
use crate::net::NodeName;
use crate::reconcile::load;
use crate::resource::Intent;
use crate::serve::control::{ControlError, RunDirectory};
use crate::serve::lock::{LockError, NamespaceLock};

/// The directories of an agent.
#[derive(Clone, Debug, Args)]
pub struct Directories {
    /// Directory of keys and of state that outlives a reboot
    #[arg(
        long,
        global = true,
        env = "ADIT_STATE_DIR",
        default_value = "/var/lib/adit",
        value_name = "DIR"
    )]
    #[arg(value_hint = ValueHint::DirPath, help_heading = "Directories")]
    pub state_dir: PathBuf,
    /// Directory of the socket and the lock of the agent
    #[arg(
        long,
        global = true,
        env = "ADIT_RUN_DIR",
        default_value = "/run/adit",
        value_name = "DIR"
    )]
    #[arg(value_hint = ValueHint::DirPath, help_heading = "Directories")]
    pub run_dir: PathBuf,
    /// Directory of pinned maps and links, on a BPF file system
    #[arg(
        long,
        global = true,
        env = "ADIT_BPFFS",
        default_value = "/sys/fs/bpf/adit",
        value_name = "DIR"
    )]
    #[arg(value_hint = ValueHint::DirPath, help_heading = "Directories")]
    pub bpffs: PathBuf,
}

/// The locks of an agent, or of a command that changes something.
#[derive(Debug)]
pub(super) struct Locks {
    pub(super) namespace: NamespaceLock,
    pub(super) run_directory: RunDirectory,
}

/// Locks the network namespace. `reason` precedes the error if another process has the lock.
///
/// # Errors
/// [`Code::Refused`] when an agent or another command has the lock; [`Code::Error`] when a process of another user
/// has it, or the kernel refuses it.
pub(super) fn lock_namespace(reason: &'static str) -> Result<NamespaceLock, Failure> {
    NamespaceLock::acquire().map_err(|error| match error {
        LockError::Held(ref holder) if holder.may_be_an_agent() => {
            Failure::new(Code::Refused, anyhow!(error).context(reason))
        }
        LockError::Held(_) => Failure::new(Code::Error, anyhow!("{error}; it is no process of Adit: end it")),
        LockError::Failed(_) => Failure::new(Code::Error, anyhow!(error)),
    })
}

impl Directories {
    /// Locks the network namespace and the run directory for the duration of a change. `reason` precedes the
    /// error if another process has one of the locks.
    ///
    /// # Errors
    /// When an agent or another command has a lock, or when the directory can't be created.
    pub(super) fn lock(&self, reason: &'static str) -> Result<Locks, Failure> {
        let namespace = lock_namespace(reason)?;
        let run_directory = RunDirectory::acquire(&self.run_dir).map_err(|error| match error {
            ControlError::Locked { .. } => Failure::new(Code::Refused, anyhow!(error).context(reason)),
            error => Failure::new(Code::Error, anyhow!(error)),
        })?;
        Ok(Locks {
            namespace,
            run_directory,
        })
    }

    /// Gathers facts about the machine for commands that only read.
    pub(super) fn gatherer(&self) -> Gatherer {
        Gatherer::new(self.state_dir.clone(), Duration::ZERO)
    }

    /// Refuses if a newer version of Adit has created a dataplane here.
    pub(super) fn refuse_newer(&self) -> Result<(), Failure> {
        match bpf::newer(&self.bpffs)? {
            None => Ok(()),
            Some(newer) => Err(Failure::new(
                Code::Refused,
                anyhow!(newer).context("nothing was changed"),
            )),
        }
    }
}

/// The manifests, and the name of this node.
#[derive(Clone, Debug, Args)]
pub struct Manifests {
    /// Manifest file or directory, or `-` for standard input; may be repeated
    #[arg(short = 'f', long = "file", required = true, value_name = "PATH", num_args = 1..)]
    #[arg(value_hint = ValueHint::AnyPath)]
    pub paths: Vec<PathBuf>,
    /// Name of the TunnelNode of this machine [default: the hostname]
    #[arg(long, value_name = "NAME", env = "ADIT_NODE")]
    node: Option<String>,
}

impl Manifests {
    /// As if given on the command line.
    #[must_use]
    pub fn new(paths: Vec<PathBuf>, node: Option<String>) -> Manifests {
        Manifests { paths, node }
    }

    /// The manifests as seen from this node.
    ///
    /// # Errors
    /// When they are rejected, or when they do not contain this node.
    pub(super) fn intent(&self) -> Result<Intent, Failure> {
        let (intent, _) = load::load(&self.paths, self.node()?)?;
        Ok(intent)
    }

    /// The name of this node.
    ///
    /// # Errors
    /// When the name, or the hostname, is no valid node name.
    pub fn node(&self) -> Result<NodeName, Failure> {
        if let Some(name) = &self.node {
            return NodeName::new(name)
                .map_err(|error| Failure::new(Code::Error, anyhow!("--node: {error}")));
        }
        let hostname = nix::unistd::gethostname()?;
        let hostname = hostname.to_string_lossy().to_lowercase();
        NodeName::new(&hostname).map_err(|error| {
            Failure::new(
                Code::Error,
                anyhow!("the hostname is not a node name: {error}; name the node with --node"),
            )
        })
    }
}
