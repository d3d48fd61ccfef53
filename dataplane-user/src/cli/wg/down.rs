//! `adit wg down`: does what `wg-quick down` does.

use std::fs;

use anyhow::anyhow;
use clap::Args;

use super::quick::{self, Quick, Source};
use super::up::all_done;
use super::{export, lock};
use crate::apply::apply;
use crate::cli::exit::{Code, Failure};
use crate::cli::interrupt::Interrupts;
use crate::cli::output;
use crate::cli::privilege::{self, NET_ADMIN};
use crate::diff::diff;
use crate::hub;
use crate::kernel::netlink::Netlink;
use crate::kernel::nft;
use crate::kernel::wireguard::{WireGuard, no_private_keys};
use crate::kernel::{ByHand, Kernel as _};
use crate::model::{KernelState, LinkKind, Owner};
use crate::wg_quick::Config;

/// Remove an interface that `adit wg up` or `wg-quick up` created
///
/// Removes its routes, the rules and nft tables of its default route, and its name servers, too. If the file
/// has `SaveConfig = true`, the state of the interface is saved to the file first.
///
/// Exit codes: 3 if there is no such interface, 8 if the agent manages it or it is not a WireGuard interface.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  adit wg down wg0\n  adit wg down ./home.conf --allow-hooks")]
pub(super) struct Arguments {
    #[command(flatten)]
    source: Source,
}

pub(super) async fn run(arguments: &Arguments) -> Result<(), Failure> {
    let path = quick::path(&arguments.source.file);
    // An interface that is given by name is removed even if its file does not exist.
    let without_file = !arguments.source.file.contains('/') && fs::metadata(&path).is_err();
    let quick = match without_file {
        true => Quick {
            name: quick::interface(&path)?,
            path,
            config: Config::default(),
        },
        false => Quick::read(&arguments.source.file)?,
    };
    privilege::require(&[NET_ADMIN])?;
    let mut netlink = Netlink::open()?;
    match netlink.link(&quick.name).await? {
        Some(link) if link.kind == LinkKind::WireGuard && link.owner == Owner::Adit => {
            let text = format!("the agent manages {}: remove its manifest instead", quick.name);
            return Err(Failure::new(Code::Refused, anyhow!(text)));
        }
        Some(link) if link.kind == LinkKind::WireGuard => {}
        Some(link) => {
            let text = format!("{} is not a WireGuard interface, but {}", quick.name, link.kind);
            return Err(Failure::new(Code::Refused, anyhow!(text)));
        }
        None => {
            let text = format!("there is no interface {}", quick.name);
            return Err(Failure::new(Code::NotFound, anyhow!(text)));
        }
    }
    let hooks = quick.config.interface.hooks.clone();
    let allowed = arguments.source.allow_hooks;
    let mut interrupts = Interrupts::none();
    quick
        .run_hooks("PreDown", &hooks.pre_down, allowed, &mut interrupts)
        .await?;
    let lock = lock::acquire(&mut interrupts).await?;
    let mut wireguard = WireGuard::open(no_private_keys())?;
    if quick.config.interface.save_config {
        save(&quick, &mut netlink, &mut wireguard).await?;
    }
    let listing = wireguard.list_device(&quick.name, false).await?;
    let mut prefixes = listing.peers.iter().flat_map(|peer| &peer.allowed_ips);
    let has_default_route = prefixes.any(|prefix| prefix.prefix_len() == 0);
    let mut kernel = ByHand::open(no_private_keys())?;
    kernel.own(&quick.name, if has_default_route { listing.fwmark } else { 0 });
    // The interface is removed even if its nft tables can't be; that error is returned at the end.
    let protection = nft::quick::remove(&quick.name).await;
    remove(&mut kernel).await?;
    drop(lock);
    quick.unset_dns()?;
    quick
        .run_hooks("PostDown", &hooks.post_down, allowed, &mut interrupts)
        .await?;
    Ok(protection?)
}

/// Deletes the device with its routes, and its rules.
async fn remove(kernel: &mut ByHand) -> Result<(), Failure> {
    let observed = kernel.observe().await?;
    all_done(&apply(kernel, diff(&observed, &KernelState::default())).await)
}

/// Writes the state of the interface to the file. Settings that exist only in the file are kept.
async fn save(quick: &Quick, netlink: &mut Netlink, wireguard: &mut WireGuard) -> Result<(), Failure> {
    let mut config = export::config(&quick.name, netlink, wireguard).await?;
    let former = &quick.config.interface;
    let mtu = former.mtu.and(config.interface.mtu);
    config.interface.mtu = mtu;
    config.interface.dns.clone_from(&former.dns);
    config.interface.dns_search.clone_from(&former.dns_search);
    config.interface.table = former.table;
    config.interface.hooks = former.hooks.clone();
    config.interface.save_config = true;
    if former.fwmark == 0 {
        // The mark of a default route is chosen again by `up`.
        config.interface.fwmark = 0;
    }
    for warning in hub::rewrite(&quick.path, config.render().as_bytes()).await? {
        output::note(&warning.to_string());
    }
    Ok(())
}
