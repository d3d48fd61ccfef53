//! `adit doctor`: whether this machine has what an agent needs, and what stands in its way.
//!
//! One file a group of checks: each gathers facts into a value, and judges the value by a pure function. Nothing is
//! changed.

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

use super::exit::{Code, Failure};
use super::output::{self, Format, Paint};
use super::places::{Manifests, Places};
use crate::kernel::bpf::Mechanism;
use crate::kernel::{Kernel as _, LinuxKernel};
use crate::model::KernelState;
use crate::net::Family;
use crate::resource::Intent;
use finding::{Finding, Level};
use overlay::Wanted;

/// Exits with 0 when nothing keeps an agent from working, and with 5 when something does. With manifests it also
/// judges what they need: device kinds, ports, forwarding, the way to each peer.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  adit doctor\n  adit doctor -f /etc/adit/manifests --node a\n  adit doctor --json | jq -r '.[] | select(.level == \"error\") | .remedy'"
)]
pub(super) struct Arguments {
    /// Manifest files and directories, or `-` for the standard input; may be repeated
    #[arg(short = 'f', long = "file", value_name = "PATH", num_args = 1..)]
    #[arg(value_hint = ValueHint::AnyPath)]
    paths: Vec<std::path::PathBuf>,
    /// Which TunnelNode this is [default: the hostname]
    #[arg(long, value_name = "NAME", env = "ADIT_NODE")]
    node: Option<String>,
    /// Output format
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
    /// The same as `-o json`
    #[arg(long, conflicts_with = "output")]
    json: bool,
    /// Only what is wrong
    #[arg(short, long)]
    quiet: bool,
}

pub(super) async fn run(places: &Places, arguments: Arguments) -> Result<(), Failure> {
    let format = if arguments.json {
        Format::Json
    } else {
        arguments.output
    };
    let quiet = arguments.quiet;
    let intent = intent(arguments)?;
    let mut findings = examine(places, intent.as_ref()).await?;
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

async fn examine(places: &Places, intent: Option<&Intent>) -> Result<Vec<Finding>, Failure> {
    let root = Path::new("/");
    // Reading devices and routes takes no privilege.
    let mut linux = LinuxKernel::without_bpf()?;
    let mut state = KernelState::default();
    linux.observe_links(&mut state).await?;
    let (facts, wanted) = match intent {
        None => (linux.facts(&BTreeSet::new()).await?, Wanted::default()),
        Some(intent) => {
            let facts = places.gatherer().gather(&mut linux, intent).await?;
            let wanted = Wanted::of(intent, &facts);
            (facts, wanted)
        }
    };
    let mut findings = kernel::judge(&kernel::Facts::gather(root, &places.bpffs)?, &wanted);
    // To ask for the mechanism takes privilege.
    findings.extend(families::judge(&facts, Mechanism::probe().ok()));
    findings.extend(settings::judge(&settings::Facts::gather(root, &wanted), &wanted));
    findings.extend(devices::judge(&state.links, &wanted));
    findings.extend(ports::judge(
        &crate::kernel::udp::sockets(root),
        &state.links,
        &wanted,
    ));
    findings.extend(firewall::judge(&firewall::Facts::gather(root).await));
    findings.extend(managers::judge(&managers::Facts::gather(root)));
    findings.extend(files::judge(&files::Facts::gather(&places.state_dir)));
    findings.extend(wanted.findings);
    Ok(findings)
}

/// The manifests' word for a family, for sentences.
fn name(family: Family) -> &'static str {
    match family {
        Family::Ipv4 => "IPv4",
        Family::Ipv6 => "IPv6",
    }
}
