//! `adit map`: what the pinned BPF maps hold, with or without a running agent.

mod view;

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;

use anyhow::anyhow;
use clap::{Args, Subcommand};

use super::exit::{Code, Failure};
use super::output::{self, Format};
use super::places::Places;
use super::privilege::{self, BPF};
use crate::kernel::KernelError;
use crate::kernel::bpf::{Bpf, name_sources};
use crate::net::NodeName;
use crate::serve::control;

/// Exits with 3 when no maps are pinned, or `lookup` finds no prefix.
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
    /// Everything: prefixes, groups, next hops, classes, sources
    Dump,
    /// Where the kernel's own lookup leads for an overlay address
    Lookup {
        /// An IPv4 or IPv6 address
        #[arg(value_name = "IP")]
        address: IpAddr,
    },
    /// Packets and bytes by verdict, by next hop and by source
    Stats {
        /// Also verdicts that never happened
        #[arg(short, long)]
        all: bool,
    },
}

pub(super) async fn run(places: &Places, arguments: &Arguments) -> Result<(), Failure> {
    privilege::require(&[BPF])?;
    let bpf = Bpf::open_read_only(&places.bpffs).map_err(|error| not_pinned(places, error))?;
    match arguments.command {
        Command::Dump => {
            let mut dump = bpf.dump()?;
            name_sources(&mut dump.sources, &dump.next_hops, &peers(places).await);
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
            name_sources(&mut report.sources, &report.next_hops, &peers(places).await);
            show(arguments.output, &report, |report| view::stats(report, all))
        }
    }
}

/// The names of peers by their underlay addresses, as a running agent tells them: next hops in maps have names as well, but what is
/// sent by routes has none there. None where no agent runs: the maps are worth reading all the same.
async fn peers(places: &Places) -> BTreeMap<IpAddr, NodeName> {
    let status = match control::status(&places.run_dir).await {
        Ok(status) => status,
        Err(error) => {
            tracing::debug!(%error, "names come from the maps alone");
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

fn not_pinned(places: &Places, error: KernelError) -> Failure {
    if error.source.kind() == io::ErrorKind::NotFound {
        let bpffs = places.bpffs.display();
        return Failure::new(
            Code::NotFound,
            anyhow!(
                "no maps are pinned below {bpffs}: no agent has needed BPF programs here; say where by --bpffs"
            ),
        );
    }
    error.into()
}
