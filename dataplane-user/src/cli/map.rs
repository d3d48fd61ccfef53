//! `adit map`: the contents of the pinned BPF maps, with or without a running agent.

mod view;

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;

use anyhow::anyhow;
use clap::{Args, Subcommand};

use super::directories::Directories;
use super::exit::{Code, Failure};
use super::output::{self, Format};
use super::privilege::{self, BPF};
use crate::kernel::KernelError;
use crate::kernel::bpf::{Bpf, name_sources};
use crate::net::NodeName;
use crate::serve::control;

/// Read the BPF maps, with or without a running agent
///
/// Exit code 3 means that no maps are pinned, or that `lookup` found no prefix.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  adit map dump\n  adit map lookup 10.2.0.1\n  adit map stats -o json | jq '.egress[] | select(.packets > 0)'"
)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
    /// Output format
    #[arg(short, long, value_enum, default_value_t, global = true)]
    output: Format,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Print all maps: prefixes, next hops, classes, sources
    Dump,
    /// Look up an overlay address as the kernel does
    Lookup {
        /// IPv4 or IPv6 address in the overlay
        #[arg(value_name = "IP")]
        address: IpAddr,
    },
    /// Print packets and bytes by verdict, by next hop and by source
    Stats {
        /// Include verdicts without packets
        #[arg(short, long)]
        all: bool,
    },
}

pub(super) async fn run(directories: &Directories, arguments: &Arguments) -> Result<(), Failure> {
    privilege::require(&[BPF])?;
    let bpf = Bpf::open_read_only(&directories.bpffs).map_err(|error| not_pinned(directories, error))?;
    match arguments.command {
        Command::Dump => {
            let mut dump = bpf.dump()?;
            name_sources(&mut dump.sources, &dump.next_hops, &peers(directories).await);
            show(arguments.output, &dump, view::dump)
        }
        Command::Lookup { address } => {
            let result = bpf.lookup(address)?;
            show(arguments.output, &result, view::lookup)?;
            if result.prefix.is_some() {
                Ok(())
            } else {
                Err(Failure::silent(Code::NotFound))
            }
        }
        Command::Stats { all } => {
            let mut report = bpf.counters()?;
            name_sources(&mut report.sources, &report.next_hops, &peers(directories).await);
            show(arguments.output, &report, |report| view::stats(report, all))
        }
    }
}

/// The names of peers by underlay address, from a running agent. The maps have names only for next hops of
/// dataplane `ebpf`. Empty if no agent runs, because the maps are useful without names, too.
async fn peers(directories: &Directories) -> BTreeMap<IpAddr, NodeName> {
    let status = match control::status(&directories.run_dir).await {
        Ok(status) => status,
        Err(error) => {
            tracing::debug!(%error, "no names from the agent; using those of the maps");
            return BTreeMap::new();
        }
    };
    let peers = status.peers.into_iter();
    peers.filter_map(|peer| Some((peer.remote?, peer.node))).collect()
}

fn show<T: serde::Serialize>(format: Format, view: &T, text: impl Fn(&T) -> String) -> Result<(), Failure> {
    output::show(&match format {
        Format::Json => output::json(view)?,
        Format::Text => text(view),
    })
}

fn not_pinned(directories: &Directories, error: KernelError) -> Failure {
    if error.source.kind() == io::ErrorKind::NotFound {
        let bpffs = directories.bpffs.display();
        return Failure::new(
            Code::NotFound,
            anyhow!(
                "no BPF maps are pinned below {bpffs}: no agent has loaded BPF programs there; --bpffs names another \
                 directory"
            ),
        );
    }
    error.into()
}
