//! `adit wg down`: what `wg-quick down` does.

use std::fs;

use anyhow::anyhow;
use clap::Args;

use super::export;
use super::quick::{self, Quick, Source};
use super::up::take_away;
use crate::cli::exit::{Code, Failure};
use crate::cli::interrupt::Interrupts;
use crate::cli::output;
use crate::cli::privilege::{self, NET_ADMIN};
use crate::hub;
use crate::kernel::ByHand;
use crate::kernel::netlink::Netlink;
use crate::kernel::nft;
use crate::kernel::wireguard::{WireGuard, no_private_keys};
use crate::model::{LinkKind, Owner};
use crate::wg_quick::Config;

/// Removes an interface that `adit wg up` or `wg-quick up` created, with its routes, the rules and nft tables of its default route,
/// and its name servers. Where the file says `SaveConfig = true`, what the interface is goes into the file first.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  adit wg down wg0\n  adit wg down ./home.conf --allow-hooks")]
pub(super) struct Arguments {
    #[command(flatten)]
    source: Source,
}

pub(super) async fn run(arguments: &Arguments) -> Result<(), Failure> {
    let path = quick::path(&arguments.source.file);
    // An interface by its name needs no file: it is taken away all the same.
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
        Some(link) if link.kind == LinkKind::WireGuard && link.owner == Owner::Ours => {
            let text = format!("the agent keeps {}: take its manifest away instead", quick.name);
            return Err(Failure::new(Code::Refused, anyhow!(text)));
        }
        Some(link) if link.kind == LinkKind::WireGuard => {}
        Some(link) => {
            let text = format!("{} is no WireGuard interface, but {}", quick.name, link.kind);
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
        .run_hooks(("PreDown", &hooks.pre_down), allowed, &mut interrupts)
        .await?;
    let mut wireguard = WireGuard::open(no_private_keys())?;
    if quick.config.interface.save_config {
        save(&quick, &mut netlink, &mut wireguard).await?;
    }
    let listing = wireguard.list_device(&quick.name, false).await?;
    let mut prefixes = listing.peers.iter().flat_map(|peer| &peer.allowed_ips);
    let leads_everywhere = prefixes.any(|prefix| prefix.prefix_len() == 0);
    let mut kernel = ByHand::open(no_private_keys())?;
    kernel.own(&quick.name, if leads_everywhere { listing.fwmark } else { 0 });
    // An interface whose protection can't be removed goes all the same.
    let protection = nft::quick::remove(&quick.name).await;
    take_away(&mut kernel).await?;
    quick.unset_dns()?;
    quick
        .run_hooks(("PostDown", &hooks.post_down), allowed, &mut interrupts)
        .await?;
    Ok(protection?)
}

/// Writes into the file what the interface is; what only the file knows stays.
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
        // That of a default route is found anew.
        config.interface.fwmark = 0;
    }
    for warning in hub::rewrite(&quick.path, config.render().as_bytes()).await? {
        output::note(&warning.to_string());
    }
    Ok(())
}
