//! `adit plan`: what `run` would change.

use std::time::Duration;

use clap::Args;
use serde::Serialize;

use super::exit::{Code, Failure};
use super::output::{self, Format};
use super::places::{Manifests, Places};
use super::privilege::{self, BPF, NET_ADMIN, PERFMON};
use crate::diff::diff;
use crate::diff::order::Stage;
use crate::gather::{Gatherer, private_keys};
use crate::kernel::bpf::BpfOptions;
use crate::kernel::{Kernel, LinuxKernel};
use crate::model::{Change, ChangeSet};
use crate::resource::{Intent, Problem, Severity};
use crate::source::{self, KeyRing};
use crate::status::{ProblemStatus, conflict, unreadable, waiting};

/// Reads the kernel, changes nothing. Exits with 0 when nothing is to be done, 4 when something is, 5 when
/// nothing can be done and the node is not ready all the same, 1 when the manifests are wrong.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  adit plan -f /etc/adit/manifests\n  adit plan -f new.yaml --node a -o json | jq -r '.changes[].text'"
)]
pub(super) struct Arguments {
    #[command(flatten)]
    manifests: Manifests,
    /// Output format
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

#[derive(Serialize)]
struct Output {
    node: String,
    changes: Vec<ChangeOutput>,
    problems: Vec<ProblemStatus>,
}

#[derive(Serialize)]
struct ChangeOutput {
    action: &'static str,
    kind: &'static str,
    text: String,
}

pub(super) async fn run(places: &Places, arguments: &Arguments) -> Result<(), Failure> {
    let resources = source::load(&arguments.manifests.paths)?;
    let intent = Intent::new(resources, arguments.manifests.node()?)
        .map_err(|problem| anyhow::anyhow!("{problem}"))?;
    privilege::require(&[NET_ADMIN, BPF, PERFMON])?;
    places.refuse_newer()?;
    let options = BpfOptions {
        compare_by_tag: true,
        ..BpfOptions::new(&places.bpffs)
    };
    let mut kernel = LinuxKernel::open(&options, private_keys(&KeyRing::new(&places.state_dir)))?;
    let mut gatherer = Gatherer::new(places.state_dir.clone(), Duration::ZERO);
    let facts = gatherer.gather(&mut kernel, &intent).await?;
    let (target, mut problems) = crate::plan::plan(&intent, &facts);
    let observed = kernel.observe().await?;
    let set = diff(&observed, &target);
    problems.extend(unreadable(&observed, &facts));
    problems.extend(set.conflicts.iter().map(conflict));
    problems.extend(set.waiting.iter().map(waiting));

    match arguments.output {
        Format::Json => output::json(&to_output(&intent, &set, &problems))?,
        Format::Text => print(&set, &problems),
    }
    if !set.is_empty() {
        return Err(Failure::silent(Code::Changes));
    }
    // Nothing can be done, and yet the node would not be ready.
    if problems.iter().any(|problem| problem.severity == Severity::Error) {
        return Err(Failure::silent(Code::Degraded));
    }
    Ok(())
}

fn to_output(intent: &Intent, set: &ChangeSet, problems: &[Problem]) -> Output {
    let change = |change: &Change| {
        let (action, kind) = describe(change);
        ChangeOutput {
            action,
            kind,
            text: change.to_string(),
        }
    };
    Output {
        node: intent.node().name.to_string(),
        changes: set.changes.iter().map(change).collect(),
        problems: problems.iter().map(ProblemStatus::from).collect(),
    }
}

fn print(set: &ChangeSet, problems: &[Problem]) {
    for change in &set.changes {
        let sign = match describe(change).0 {
            "add" => '+',
            "delete" => '-',
            _ => '~',
        };
        println!("{sign} {change}");
    }
    for problem in problems {
        println!("! {problem}");
    }
    match (set.changes.len(), interruptions(set)) {
        (0, _) => println!("Nothing to do."),
        (1, 0) => println!("1 change."),
        (changes, 0) => println!("{changes} changes."),
        (changes, anew) => {
            println!(
                "{changes} changes; {anew} devices are made anew, traffic through them stops meanwhile."
            );
        }
    }
}

fn interruptions(set: &ChangeSet) -> usize {
    set.changes
        .iter()
        .filter(|change| Stage::of(change) == Stage::RecreateLinks)
        .count()
}

/// A change's verb and its object's kind.
fn describe(change: &Change) -> (&'static str, &'static str) {
    match change.bare() {
        Change::MoveAddress(..) => ("set", "address"),
        Change::SetLinkDown(..) | Change::SetMaster(..) | Change::SetAlias(..) => ("set", "link"),
        Change::AddFlood(..) => ("add", "default_destination"),
        Change::DeleteFlood(..) => ("delete", "default_destination"),
        Change::In(..) => unreachable!("it is bare"),
        Change::CreateLink(..) => ("add", "link"),
        Change::ModifyLink(..) | Change::SetLinkUp(..) => ("set", "link"),
        Change::DeleteLink(..) => ("delete", "link"),
        Change::CreateAddress(..) => ("add", "address"),
        Change::ReplaceAddress(..) => ("set", "address"),
        Change::DeleteAddress(..) => ("delete", "address"),
        Change::CreateRoute(..) => ("add", "route"),
        Change::ReplaceRoute(..) => ("set", "route"),
        Change::DeleteRoute(..) => ("delete", "route"),
        Change::CreateRouteTarget(..) => ("add", "nexthop"),
        Change::ReplaceRouteGroup(..) => ("set", "nexthop"),
        Change::DeleteRouteTarget(..) => ("delete", "nexthop"),
        Change::PutNeighbour(..) => ("set", "neighbour"),
        Change::DeleteNeighbour(..) => ("delete", "neighbour"),
        Change::CreateRule(..) => ("add", "rule"),
        Change::DeleteRule(..) => ("delete", "rule"),
        Change::SetSysctl(..) => ("set", "sysctl"),
        Change::SetWireGuard(..) => ("set", "wireguard"),
        Change::CreateFirewall(_) => ("add", "firewall"),
        Change::ReplaceFirewall(_) => ("set", "firewall"),
        Change::DeleteFirewall => ("delete", "firewall"),
        Change::Attach(..) => ("add", "program"),
        Change::ReplaceProgram(..) => ("set", "program"),
        Change::TakeOverProgram(..) => ("set", "program"),
        Change::DeleteVersion(..) => ("delete", "version"),
        Change::Detach(..) => ("delete", "program"),
        Change::PutClass(..) => ("set", "class"),
        Change::DeleteClass(..) => ("delete", "class"),
        Change::PutNextHop(..) => ("add", "next_hop"),
        Change::SetNextHopDown(..) => ("set", "next_hop"),
        Change::DeleteNextHop(..) => ("delete", "next_hop"),
        Change::PutGroup(..) => ("add", "group"),
        Change::DeleteGroup(..) => ("delete", "group"),
        Change::PutPrefix(..) => ("set", "prefix"),
        Change::DeletePrefix(..) => ("delete", "prefix"),
        Change::PutSource(..) => ("add", "source"),
        Change::DeleteSource(..) => ("delete", "source"),
    }
}
