//! Where an agent keeps its things; each agent on a machine has its own.

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

/// Where an agent keeps its things.
#[derive(Clone, Debug, Args)]
pub struct Places {
    /// Keys and what must outlive a reboot
    #[arg(
        long,
        global = true,
        env = "ADIT_STATE_DIR",
        default_value = "/var/lib/adit",
        value_name = "DIR"
    )]
    #[arg(value_hint = ValueHint::DirPath, help_heading = "Places")]
    pub state_dir: PathBuf,
    /// The agent's socket and lock
    #[arg(
        long,
        global = true,
        env = "ADIT_RUN_DIR",
        default_value = "/run/adit",
        value_name = "DIR"
    )]
    #[arg(value_hint = ValueHint::DirPath, help_heading = "Places")]
    pub run_dir: PathBuf,
    /// Pinned maps and links, on a BPF file system
    #[arg(
        long,
        global = true,
        env = "ADIT_BPFFS",
        default_value = "/sys/fs/bpf/adit",
        value_name = "DIR"
    )]
    #[arg(value_hint = ValueHint::DirPath, help_heading = "Places")]
    pub bpffs: PathBuf,
}

impl Places {
    /// Takes the run directory for as long as something is changed.
    ///
    /// # Errors
    /// When a running agent has it, or it can't be made.
    pub(super) fn lock(&self, remedy: &'static str) -> Result<RunDirectory, Failure> {
        RunDirectory::acquire(&self.run_dir).map_err(|error| match error {
            ControlError::Locked(_) => Failure::new(Code::Refused, anyhow!(error).context(remedy)),
            error => Failure::new(Code::Error, anyhow!(error)),
        })
    }

    /// Gathers what commands must know of the machine, for reading.
    pub(super) fn gatherer(&self) -> Gatherer {
        Gatherer::new(self.state_dir.clone(), Duration::ZERO)
    }

    /// Refuses to go on where a newer version's dataplane stands.
    pub(super) fn refuse_newer(&self) -> Result<(), Failure> {
        match bpf::newer(&self.bpffs)? {
            None => Ok(()),
            Some(newer) => Err(Failure::new(
                Code::Refused,
                anyhow!(newer).context("nothing is changed"),
            )),
        }
    }
}

/// Which manifests, and which node of theirs this is.
#[derive(Clone, Debug, Args)]
pub struct Manifests {
    /// Manifest files and directories, or `-` for the standard input; may be repeated
    #[arg(short = 'f', long = "file", required = true, value_name = "PATH", num_args = 1..)]
    #[arg(value_hint = ValueHint::AnyPath)]
    pub paths: Vec<PathBuf>,
    /// Which TunnelNode this is [default: the hostname]
    #[arg(long, value_name = "NAME", env = "ADIT_NODE")]
    node: Option<String>,
}

impl Manifests {
    /// As if given on the command line.
    #[must_use]
    pub fn new(paths: Vec<PathBuf>, node: Option<String>) -> Manifests {
        Manifests { paths, node }
    }

    /// What these manifests say that this node shall be.
    ///
    /// # Errors
    /// When they are rejected, or this node is not among them.
    pub(super) fn intent(&self) -> Result<Intent, Failure> {
        let (intent, _) = load::load(&self.paths, self.node()?)?;
        Ok(intent)
    }

    /// The node that this is.
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
                anyhow!("the hostname: {error}; name the node by --node"),
            )
        })
    }
}
