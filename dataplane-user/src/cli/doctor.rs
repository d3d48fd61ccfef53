//! `adit doctor`: what this machine lacks, and what conflicts with Adit.
//!
//! One file for each group of checks: it gathers facts into a value, and a pure function judges the value.
//! Nothing is changed.

mod devices;
mod families;
mod files;
mod finding;
mod firewall;
mod kernel;
mod managers;
mod overlay;
mod ports;
mod settings;

use std::collections::BTreeSet;
use std::path::Path;

use clap::{Args, ValueHint};

use super::directories::{Directories, Manifests};
use super::exit::{Code, Failure};
use super::output::{self, Format, Paint};
use crate::kernel::bpf::Mechanism;
use crate::kernel::{Kernel as _, LinuxKernel};
use crate::model::KernelState;
use crate::net::Family;
use crate::resource::Intent;
use finding::{Finding, Level};
use overlay::Requirements;

/// Check what this machine lacks and what conflicts with Adit
///
/// Each warning and each error has a remedy. With manifests, the check includes what they need: kinds of
/// devices, UDP ports, forwarding, and the path to each peer. Nothing is changed.
///
/// Exit codes: 0 if an agent can work, 5 if there are errors.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  adit doctor\n  adit doctor -f /etc/adit/manifests --node a\n  adit doctor --json | jq -r '.[] | select(.level == \"error\") | .remedy'"
)]
pub(super) struct Arguments {
    /// Manifest file or directory, or `-` for standard input; may be repeated
    #[arg(short = 'f', long = "file", value_name = "PATH", num_args = 1..)]
    #[arg(value_hint = ValueHint::AnyPath)]
    paths: Vec<std::path::PathBuf>,
    /// Name of the TunnelNode of this machine [default: the hostname]
    #[arg(long, value_name = "NAME", env = "ADIT_NODE")]
    node: Option<String>,
    /// Output format
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
    /// Same as `-o json`
    #[arg(long, conflicts_with = "output")]
    json: bool,
    /// Show only warnings and errors
    #[arg(short, long)]
    quiet: bool,
}

pub(super) async fn run(directories: &Directories, arguments: Arguments) -> Result<(), Failure> {
    let format = if arguments.json {
        Format::Json
    } else {
        arguments.output
    };
    let quiet = arguments.quiet;
    let intent = intent(arguments)?;
    let mut findings = examine(directories, intent.as_ref()).await?;
    if quiet {
        findings.retain(|finding| finding.level != Level::Ok);
    }
    output::show(&match format {
        Format::Json => output::json(&findings)?,
        Format::Text => finding::render(&findings, Paint::of_stdout()),
    })?;
    if findings.iter().any(|finding| finding.level == Level::Error) {
        return Err(Failure::silent(Code::Degraded));
    }
    Ok(())
}

fn intent(arguments: Arguments) -> Result<Option<Intent>, Failure> {
    if arguments.paths.is_empty() {
        return Ok(None);
    }
    let manifests = Manifests::new(arguments.paths, arguments.node);
    manifests.intent().map(Some)
}

async fn examine(directories: &Directories, intent: Option<&Intent>) -> Result<Vec<Finding>, Failure> {
    let root = Path::new("/");
    // Reading devices and routes needs no capability.
    let mut linux = LinuxKernel::without_bpf()?;
    let mut state = KernelState::default();
    linux.observe_links(&mut state).await?;
    let (facts, requirements) = match intent {
        None => (linux.facts(&BTreeSet::new()).await?, Requirements::default()),
        Some(intent) => {
            let facts = directories.gatherer().gather(&mut linux, intent).await?;
            let requirements = Requirements::of(intent, &facts);
            (facts, requirements)
        }
    };
    let mut findings = kernel::judge(&kernel::Facts::gather(root, &directories.bpffs)?, &requirements);
    // Without capabilities the probe fails, and the finding is skipped.
    findings.extend(families::judge(&facts, Mechanism::probe().ok()));
    findings.extend(settings::judge(
        &settings::Facts::gather(root, &requirements),
        &requirements,
    ));
    findings.extend(devices::judge(&state, &requirements));
    findings.extend(ports::judge(
        &crate::kernel::udp_sockets::sockets(root),
        &state.links,
        &requirements,
    ));
    findings.extend(firewall::judge(&firewall::Facts::gather(root).await));
    findings.extend(managers::judge(&managers::Facts::gather(root)));
    findings.extend(files::judge(&files::Facts::gather(&directories.state_dir)));
    findings.extend(requirements.findings);
    Ok(findings)
}

/// The name of a family, for sentences.
fn name(family: Family) -> &'static str {
    match family {
        Family::Ipv4 => "IPv4",
        Family::Ipv6 => "IPv6",
    }
}
