//! `cargo xtask lab`: hosts and pods in namespaces, an agent a host, traffic between all of them, and what the
//! underlay saw of it.
mod agent;
mod capture;
mod dataplane;
mod encapsulation;
mod family;
mod guest;
mod hold;
mod interrupt;
mod keys;
mod links;
mod manifest;
mod netns;
mod pairs;
mod plain;
mod probe;
mod report;
mod sabotage;
mod shared;
mod site;
mod socket;
mod stage;
mod topology;
mod traffic;
mod verdict;
mod wishes;

use std::collections::BTreeSet;
use std::env;
use std::ffi::OsString;
use std::io::{self, IsTerminal as _};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::ValueEnum as _;

pub use self::dataplane::Dataplane;
pub use self::encapsulation::Encapsulation;
pub use self::sabotage::Sabotage;
pub use self::topology::Underlay;
use self::wishes::Wishes;
use crate::setup::{self, Need};
use crate::vm::{KernelName, With};
use crate::workspace::Profile;
use crate::{progress, workspace};

/// Join hosts and pods in network namespaces by real agents, send traffic between all of them, and show what the
/// underlay saw.
///
/// Exits with 0 when everything arrived and nothing went bare, with 1 when not, with 125 when it could not be run to its
/// end. Sent and received are packets in JSON, bytes for TCP.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  cargo xtask lab\n  cargo xtask lab --underlay ipv6 --encapsulation vxlan\n  \
    cargo xtask lab --underlay dual --mixed --encapsulation geneve,vxlan,ipip,wireguard,none\n  \
    cargo xtask lab --dataplane mixed --encapsulation geneve,wireguard\n  \
    cargo xtask lab --shared-prefix --encapsulation wireguard\n  \
    cargo xtask lab --hold\n  cargo xtask lab --json | jq -c 'select(.sent != .received)'"
)]
pub struct Args {
    /// How many hosts.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u8).range(2..=26))]
    nodes: u8,
    /// The encapsulations, one after another; links that can't carry IPv6 are not tried with it.
    #[arg(
        long,
        value_enum,
        value_name = "LIST",
        value_delimiter = ',',
        default_value = "geneve,vxlan"
    )]
    encapsulation: Vec<Encapsulation>,
    /// Each node asks for another one of them, so that links differ: as many rounds as it takes until each is used.
    #[arg(long)]
    mixed: bool,
    /// What carries the packets that nodes send.
    #[arg(long, value_enum, default_value = "ebpf")]
    dataplane: Dataplane,
    /// The first two nodes carry a common prefix as well, with a pod's address that both have; all others send to it.
    /// Not where a link to either has no encapsulation: there the underlay chooses.
    #[arg(long)]
    shared_prefix: bool,
    /// The address families of the underlay.
    #[arg(long, value_enum, default_value = "ipv4")]
    underlay: Underlay,
    /// Run on this kernel, in a virtual machine; without it on the host's, if that can do it, else on 6.12.
    #[arg(long, value_enum)]
    kernel: Option<KernelName>,
    /// What runs that kernel; without it, the fastest that works here.
    #[arg(long, value_enum, env = "ADIT_VM_WITH")]
    with: Option<With>,
    /// Print one JSON object a line: each way, family and kind of traffic, then a summary.
    #[arg(long)]
    json: bool,
    /// Leave it up when done, and say how to look around.
    #[arg(long)]
    hold: bool,
    /// With the first encapsulation, kill the first host's agent and break one thing there: this has to fail.
    #[arg(long, value_enum)]
    sabotage: Option<Sabotage>,
    /// The agent's program: run here and now, everything has been prepared.
    #[arg(long, hide = true)]
    adit: Option<PathBuf>,
    /// The output ends on a terminal, even if it doesn't look so from here.
    #[arg(long, hide = true)]
    colour: bool,
}

impl Args {
    /// What is asked for cannot be; in words, if so.
    fn check(&self) -> Result<()> {
        if self.shared_prefix && usize::from(self.nodes) <= shared::CARRIERS {
            bail!("--shared-prefix needs --nodes 3 or more: two carry it, the others send");
        }
        if self.dataplane != Dataplane::Ebpf && (self.shared_prefix || self.sabotage.is_some()) {
            bail!("--shared-prefix and --sabotage are about the programs: they need --dataplane ebpf");
        }
        let first = self.rounds().into_iter().next();
        let has_vni = first.is_some_and(|round| round.agreed([0, 1]).has_vni());
        if self.sabotage == Some(Sabotage::Vni) && !has_vni {
            bail!("--sabotage vni needs geneve or vxlan as the first encapsulation: others have no VNI");
        }
        Ok(())
    }

    /// What the manifests ask for, round by round.
    fn rounds(&self) -> Vec<Wishes> {
        let nodes = usize::from(self.nodes);
        match self.mixed {
            true => wishes::mixed(&self.encapsulation, nodes),
            false => wishes::uniform(&self.encapsulation, nodes),
        }
    }

    /// The same as words for another process, without where to run.
    fn to_words(&self) -> Vec<OsString> {
        let name = |value: &dyn Fn() -> Option<clap::builder::PossibleValue>| {
            value()
                .map(|value| value.get_name().to_owned())
                .unwrap_or_default()
        };
        let list: Vec<&str> = self
            .encapsulation
            .iter()
            .map(|encapsulation| encapsulation.name())
            .collect();
        let mut words = vec![
            format!("--nodes={}", self.nodes),
            format!("--encapsulation={}", list.join(",")),
            format!("--dataplane={}", self.dataplane.name()),
            format!("--underlay={}", name(&|| self.underlay.to_possible_value())),
        ];
        words.extend(
            self.sabotage
                .map(|sabotage| format!("--sabotage={}", sabotage.name())),
        );
        words.extend(self.mixed.then(|| "--mixed".to_owned()));
        words.extend(self.shared_prefix.then(|| "--shared-prefix".to_owned()));
        words.extend(self.json.then(|| "--json".to_owned()));
        words.extend(self.hold.then(|| "--hold".to_owned()));
        words.into_iter().map(OsString::from).collect()
    }
}

/// Exit code of a lab that could not be run to its end: no answer to whether the dataplane works.
const NOT_RUN: u8 = 125;

/// Sets up what is missing, builds the agent, and runs the lab here or in a virtual machine.
pub fn run(args: &Args) -> Result<ExitCode> {
    match place_and_run(args) {
        Ok(code) => Ok(ExitCode::from(code)),
        Err(error) => {
            eprintln!("Error: {error:#}");
            Ok(ExitCode::from(NOT_RUN))
        }
    }
}

fn place_and_run(args: &Args) -> Result<u8> {
    args.check()?;
    if let Some(adit) = &args.adit {
        return stage::run(args, adit).map(verdict);
    }
    setup::ensure(&[Need::Build, Need::Lab])?;
    let adit = workspace::adit(Profile::Quick)?;
    // Where two nodes name none of them, it's GENEVE.
    let auto = args.mixed.then_some(Encapsulation::Geneve);
    let encapsulations: BTreeSet<Encapsulation> = args.encapsulation.iter().copied().chain(auto).collect();
    let kernel = match args.kernel {
        Some(kernel) => kernel,
        None => match probe::obstacle(&encapsulations)? {
            None => {
                progress::say("on this machine's own kernel");
                return stage::run(args, &adit).map(verdict);
            }
            Some(why) => {
                let kernel = KernelName::default();
                let name = kernel.name();
                progress::say(format_args!(
                    "not on this machine: {why}; in a virtual machine, on {name}"
                ));
                kernel
            }
        },
    };
    guest::run(args, kernel, &adit)
}

fn verdict(good: bool) -> u8 {
    u8::from(!good)
}

/// Does standard output end on a terminal whose user wants colours (<https://no-color.org>)?
fn is_coloured() -> bool {
    io::stdout().is_terminal() && env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}
