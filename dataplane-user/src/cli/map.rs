//! `adit map`: what the pinned BPF maps hold, with or without a running agent.

mod view;

use std::io;
use std::net::IpAddr;

use anyhow::anyhow;
use clap::{Args, Subcommand};

use super::exit::{Code, Failure};
use super::output::{self, Format};
use super::places::Places;
use super::privilege::{self, BPF};
use crate::kernel::KernelError;
use crate::kernel::bpf::Bpf;
use crate::serve::control;
use crate::status::PeerStatus;
use view::{DumpView, LookupView, Peers, StatsView};

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
            let view = DumpView::new(&bpf.dump()?, &peers(places).await);
            show(arguments.output, &view, DumpView::text)
        }
        Command::Lookup { address } => {
            let result = bpf.lookup(address)?;
            show(arguments.output, &LookupView::from(&result), LookupView::text)?;
            if result.prefix.is_some() {
                Ok(())
            } else {
                Err(Failure::silent(Code::NotFound))
            }
        }
        Command::Stats { all } => {
            let view = StatsView::new(&bpf.counters()?, &peers(places).await);
            show(arguments.output, &view, |view| view.text(all))
        }
    }
}

/// None where no agent runs: the maps are worth reading all the same.
async fn peers(places: &Places) -> Peers {
    let status = match control::status(&places.run_dir).await {
        Ok(status) => status,
        Err(error) => {
            tracing::debug!(%error, "names come from the maps alone");
            return Peers::new();
        }
    };
    let name = |peer: PeerStatus| Some((peer.remote.parse().ok()?, peer.node));
    status.peers.into_iter().filter_map(name).collect()
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
