//! `adit wg up`: what `wg-quick up` does, by netlink, and all of it or nothing.

use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::anyhow;
use clap::Args;

use super::protect;
use super::quick::{Quick, Source};
use crate::cli::exit::{Code, Failure};
use crate::cli::interrupt::Interrupts;
use crate::cli::output;
use crate::cli::privilege::{self, NET_ADMIN};
use crate::kernel::KernelError;
use crate::kernel::netlink::Netlink;
use crate::kernel::nft;
use crate::kernel::wireguard::{PrivateKeys, WireGuard};
use crate::model::Rule;
use crate::model::change::{DeleteLinkReason, LinkChange, LinkOperation, NetlinkChange};
use crate::net::{Family, LinkName};
use crate::wg_quick::Config;
use crate::wg_quick::up::{Facts, Setup};

/// Makes the interface that a file of wg-quick describes, with addresses, MTU, routes, rules and nft tables for a default route, and
/// name servers. It is the user's own then: no agent keeps it, changes it or takes it away. A WireGuardInterface is kept by the
/// agent (`adit wg import` prints one). Nothing is set for the whole machine: with a default route, an underlay's device that has
/// a strict rp_filter (1) wants net.ipv4.conf.all.src_valid_mark = 1, and a warning says so.
///
/// SIGINT, SIGTERM and SIGHUP undo what is done so far, and the command then exits with 130, 143 or 129.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  adit wg up wg0\n  adit wg up ./home.conf\n  adit wg up wg0 --allow-hooks"
)]
pub(super) struct Arguments {
    #[command(flatten)]
    source: Source,
}

pub(super) async fn run(arguments: &Arguments) -> Result<(), Failure> {
    let quick = Quick::read(&arguments.source.file)?;
    privilege::require(&[NET_ADMIN])?;
    quick.check_dns()?;
    let mut netlink = Netlink::open()?.by_hand();
    if netlink.link(&quick.name).await?.is_some() {
        let text = format!(
            "{0} is there already: `adit wg down {0}` takes it away",
            quick.name
        );
        return Err(Failure::new(Code::Refused, anyhow!(text)));
    }
    let mut wireguard = WireGuard::open(private_key(&quick.config))?;
    let (facts, uplinks) = facts(&quick, &mut netlink).await?;
    let setup = Setup::new(&quick.name, &quick.config, &facts);
    let (hooks, allowed) = (&quick.config.interface.hooks, arguments.source.allow_hooks);
    let mut interrupts = Interrupts::listen()?;
    quick
        .run_hooks(("PreUp", &hooks.pre_up), allowed, &mut interrupts)
        .await?;
    netlink.make(std::slice::from_ref(&setup.create)).await?;
    let mut made = make(&quick, &setup, (&mut netlink, &mut wireguard), &mut interrupts).await;
    if made.is_ok() {
        let post_up = ("PostUp", &hooks.post_up[..]);
        made = quick.run_hooks(post_up, allowed, &mut interrupts).await;
    }
    if made.is_ok() {
        made = interrupts.check().await;
    }
    match made {
        Ok(()) => protect::warn_of_strict_filter(&quick.name, &setup, &uplinks),
        Err(_) => undo(&quick, &setup, &mut netlink).await,
    }
    made
}

/// All that follows the device itself. A signal is heard between the steps, so that each of them is whole.
async fn make(
    quick: &Quick,
    setup: &Setup,
    (netlink, wireguard): (&mut Netlink, &mut WireGuard),
    interrupts: &mut Interrupts,
) -> Result<(), Failure> {
    interrupts.check().await?;
    let changes = setup.wireguard.iter().collect::<Vec<_>>();
    wireguard.set_device(&quick.name, &changes).await?;
    interrupts.check().await?;
    // Before anything is sent through the interface.
    protect::create(&quick.name, &quick.config, setup).await;
    interrupts.check().await?;
    netlink.make(&setup.rest).await?;
    interrupts.check().await?;
    quick.set_dns()
}

/// The failure is what is told; what can't be undone is told beside it.
async fn undo(quick: &Quick, setup: &Setup, netlink: &mut Netlink) {
    let rules = setup.rules().cloned().collect::<Vec<_>>();
    if !rules.is_empty()
        && let Err(error) = nft::quick::remove(&quick.name).await
    {
        output::note(&error.to_string());
    }
    if let Err(error) = take_away(&quick.name, &rules, netlink).await {
        output::note(&format!("{} stays: {error}", quick.name));
    }
    if let Err(error) = quick.unset_dns() {
        output::note(&error.to_string());
    }
}

/// Deletes a device, with its routes, and rules.
pub(super) async fn take_away(
    name: &LinkName,
    rules: &[Rule],
    netlink: &mut Netlink,
) -> Result<(), KernelError> {
    for rule in rules {
        netlink.delete_foreign_rule(rule).await?;
    }
    let delete = LinkOperation::Delete(DeleteLinkReason::Unneeded);
    netlink
        .make(&[NetlinkChange::Link(LinkChange(name.clone(), delete))])
        .await
}

/// The file's own key.
fn private_key(config: &Config) -> PrivateKeys {
    let key = config.interface.private_key.clone();
    Arc::new(move |_| {
        key.clone()
            .ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    })
}

/// What must be known of the machine, and the devices that lead to endpoints by IPv4.
async fn facts(quick: &Quick, netlink: &mut Netlink) -> Result<(Facts, BTreeSet<LinkName>), Failure> {
    let names = quick.look_up().await?;
    let addresses = quick
        .config
        .peers
        .iter()
        .filter_map(|peer| peer.endpoint.as_ref());
    let addresses = addresses.filter_map(|endpoint| match &endpoint.host {
        crate::resource::node::Host::Address(address) => Some(*address),
        crate::resource::node::Host::Scoped(..) | crate::resource::node::Host::Name(_) => None,
    });
    let addresses = addresses.chain(names.values().map(SocketAddr::ip));
    let ways = netlink.facts(&addresses.collect()).await?.paths;
    let by_ipv4 = ways.iter().filter(|(address, _)| address.is_ipv4());
    let uplinks = by_ipv4.map(|(_, way)| way.link.clone()).collect();
    let mut facts = Facts {
        names,
        mtus: ways
            .into_iter()
            .map(|(address, way)| (address, way.mtu))
            .collect(),
        default_mtu: netlink.default_mtu().await?,
        tables: netlink.tables_in_use().await?,
        ..Facts::default()
    };
    for family in Family::BOTH {
        // The kernel's own choice: one before the second rule; the first is that of the local table.
        let rules = netlink.all_rules(family).await?;
        let second = rules
            .get(1)
            .map(|rule| rule.priority)
            .filter(|priority| *priority > 0);
        if let Some(second) = second {
            facts.next_priority.insert(family, second - 1);
        }
    }
    Ok((facts, uplinks))
}
