//! `adit wg up`: does what `wg-quick up` does, completely or not at all. The file becomes a declared device;
//! plan, diff and apply create it, as in the agent. This file adds what manifests have no field for:
//! commands, name servers, and the nft tables that protect a default route.

use std::collections::BTreeMap;
use std::net::IpAddr;

use anyhow::anyhow;
use clap::Args;
use ipnet::IpNet;

use super::quick::{Quick, Source};
use super::{lock, protect};
use crate::apply::{ApplyReport, Outcome, apply};
use crate::cli::exit::{Code, Failure};
use crate::cli::interrupt::Interrupts;
use crate::cli::output;
use crate::cli::privilege::{self, NET_ADMIN};
use crate::diff::diff;
use crate::kernel::ByHand;
use crate::kernel::netlink::Netlink;
use crate::kernel::nft;
use crate::kernel::wireguard::private_keys;
use crate::model::change::{AddressChange, Existence, LinkChange, LinkOperation, NetlinkChange, RuleChange};
use crate::model::facts::{NodeFacts, OwnKey};
use crate::model::{Action, ChangeSet, KernelState, Link, LinkKind, Owner};
use crate::net::{Family, KeySource, LinkName};
use crate::reconcile::compare::Comparison;
use crate::resource::Intent;
use crate::wg_quick::up::{Machine, intent};

/// Create a WireGuard interface from a wg-quick file
///
/// Creates the interface with addresses, MTU and routes; for a default route also rules and nft tables; and
/// sets the name servers. If a step fails, all of it is undone. No agent keeps, changes or removes this
/// interface. For an interface that the agent keeps, convert the file to a manifest with `adit wg import`.
///
/// Settings of the whole machine stay as they are. A warning is printed if a default route needs
/// net.ipv4.conf.all.src_valid_mark = 1, because an underlay device has a strict rp_filter (1).
///
/// SIGINT, SIGTERM and SIGHUP undo all changes; the exit code is then 130, 143 or 129. Exit code 8 means that
/// the interface exists already.
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
    let mut netlink = Netlink::open()?;
    refuse_existing(&quick.name, &mut netlink).await?;
    let key = quick.config.interface.private_key.clone();
    let mut kernel = ByHand::open(private_keys(key))?;
    let names = quick.look_up().await?;
    let (hooks, allowed) = (&quick.config.interface.hooks, arguments.source.allow_hooks);
    let mut interrupts = Interrupts::listen()?;
    quick
        .run_hooks("PreUp", &hooks.pre_up, allowed, &mut interrupts)
        .await?;
    let lock = lock::acquire(&mut interrupts).await?;
    refuse_existing(&quick.name, &mut netlink).await?;
    let (facts, machine) = facts(&quick, names, &mut netlink).await?;
    let interface = quick
        .config
        .interface(&quick.name, source(&quick), &facts, &machine);
    let mark = interface.fwmark;
    let Comparison {
        facts,
        desired,
        mut set,
        ..
    } = compare(&mut kernel, &intent(interface), facts).await?;
    in_the_order_of(&quick.config.interface.addresses, &mut set);
    interrupts.check().await?;
    // Before anything is sent through the interface.
    protect::create(&quick.name, mark, &desired).await;
    let report = apply(&mut kernel, set).await;
    let mut result = all_done(&report);
    if result.is_ok() {
        drop(lock);
        result = finish(&quick, allowed, &mut interrupts).await;
    }
    match result {
        Ok(()) => {
            let by_ipv4 = facts.paths.iter().filter(|(address, _)| address.is_ipv4());
            let uplinks = by_ipv4.map(|(_, path)| path.link.clone()).collect();
            protect::warn_of_strict_filter(&quick.name, &desired, &uplinks);
        }
        Err(_) => undo(&quick, &desired, &report, &mut kernel).await,
    }
    result
}

/// Which device has the name of the interface, and what to do.
fn in_use(name: &LinkName, device: &LinkName, link: &Link) -> String {
    if device != name {
        return format!(
            "{name} is an alternative name of the device {device}: rename the file, or remove the name with \
             `ip link property del dev {device} altname {name}`"
        );
    }
    match (link.owner, &link.kind) {
        (Owner::Adit, _) => {
            format!(
                "the agent manages a device {name}: rename the file, or remove the manifest of the device"
            )
        }
        (_, LinkKind::WireGuard) => format!("{name} exists already: `adit wg down {name}` removes it"),
        (_, kind) => {
            format!("{name} exists already and is no WireGuard interface, but {kind}: rename the file")
        }
    }
}

/// The steps after the changes of the kernel. Signals are checked between the steps, so that each step is
/// complete.
async fn finish(quick: &Quick, allowed: bool, interrupts: &mut Interrupts) -> Result<(), Failure> {
    interrupts.check().await?;
    quick.set_dns()?;
    let post_up = &quick.config.interface.hooks.post_up;
    quick.run_hooks("PostUp", post_up, allowed, interrupts).await?;
    interrupts.check().await
}

/// The changes; an error if there is a conflict, or if the interface could only be created in part.
async fn compare(kernel: &mut ByHand, intent: &Intent, facts: NodeFacts) -> Result<Comparison, Failure> {
    let comparison = Comparison::with(kernel, intent, facts, || ()).await?;
    if let Some(conflict) = comparison.set.conflicts.first() {
        return Err(anyhow!("{} exists already: {}", conflict.object, conflict.found).into());
    }
    match comparison.problems().into_iter().next() {
        Some(problem) => Err(anyhow!("{}: {}", problem.subject, problem.message).into()),
        None => Ok(comparison),
    }
}

/// Sorts the changes so that addresses are added in the order of the file, which kernel states do not have:
/// the kernel prefers the first address of a subnet as the source.
fn in_the_order_of(addresses: &[IpNet], set: &mut ChangeSet) {
    let position = |action: &Action| match action {
        Action::Netlink(NetlinkChange::Address(AddressChange(_, address, _))) => {
            addresses.iter().position(|other| other == address)
        }
        _ => None,
    };
    let steps = std::mem::take(&mut set.changes).into_iter();
    let mut steps = steps
        .zip(std::mem::take(&mut set.dependencies))
        .collect::<Vec<_>>();
    // For a single device the order of ranks satisfies all dependencies.
    steps.sort_by_key(|(change, _)| (change.rank(), position(&change.action)));
    (set.changes, set.dependencies) = steps.into_iter().unzip();
}

/// The first failure; later ones may be consequences of it.
pub(super) fn all_done(report: &ApplyReport) -> Result<(), Failure> {
    match report.failures().next() {
        Some((change, error)) => Err(error.again().about(change).into()),
        None => Ok(()),
    }
}

/// The device and the rules that this run created, or may have created although it failed: not a device of
/// this name that another program created meanwhile. With the device the kernel deletes everything else.
fn created(report: &ApplyReport) -> KernelState {
    let mut state = KernelState::default();
    for (change, outcome) in &report.outcomes {
        let is_created = match outcome {
            Outcome::Done => true,
            Outcome::Failed(error) => error.errno() != Some(libc::EEXIST),
            Outcome::Skipped { .. } => false,
        };
        match &change.action {
            Action::Netlink(NetlinkChange::Link(LinkChange(name, LinkOperation::Create(link))))
                if is_created =>
            {
                state.links.insert(name.clone(), link.clone());
            }
            Action::Netlink(NetlinkChange::Rule(RuleChange(rule, Existence::Create))) if is_created => {
                state.rules.insert(rule.clone());
            }
            _ => {}
        }
    }
    state
}

/// Undoes what this run did. Failures are printed as notes, because the command returns the original failure.
async fn undo(quick: &Quick, desired: &KernelState, report: &ApplyReport, kernel: &mut ByHand) {
    if !desired.rules.is_empty()
        && let Err(error) = nft::quick::remove(&quick.name).await
    {
        output::note(&error.to_string());
    }
    let undone = apply(kernel, diff(&created(report), &KernelState::default())).await;
    if let Err(failure) = all_done(&undone) {
        output::note(&format!("can't remove {}: {failure}", quick.name));
    }
    // Name servers are only set after all changes.
    if all_done(report).is_ok()
        && let Err(error) = quick.unset_dns()
    {
        output::note(&error.to_string());
    }
}

/// The source of the private key.
fn source(quick: &Quick) -> KeySource {
    KeySource::File(quick.path.display().to_string())
}

/// Refuses if a device of this name exists.
async fn refuse_existing(name: &LinkName, netlink: &mut Netlink) -> Result<(), Failure> {
    match netlink.named(name).await? {
        None => Ok(()),
        Some((device, link)) => Err(Failure::new(Code::Refused, anyhow!(in_use(name, &device, &link)))),
    }
}

/// The facts for the plan, with the addresses of names, and facts that only wg-quick files need.
async fn facts(
    quick: &Quick,
    names: BTreeMap<String, Vec<IpAddr>>,
    netlink: &mut Netlink,
) -> Result<(NodeFacts, Machine), Failure> {
    let endpoints = quick.config.peers.iter().filter_map(|peer| peer.resolve(&names));
    // An endpoint with a device is on the link of that device, without a route.
    let routed = endpoints.filter(|endpoint| endpoint.device.is_none());
    let addresses = routed.map(|endpoint| endpoint.address).collect();
    let mut facts = netlink.facts(&addresses).await?;
    let key = quick.config.interface.private_key.as_ref();
    let key = key.map(|key| (source(quick), OwnKey::Known(key.public_key())));
    facts.wireguard.keys = key.into_iter().collect();
    facts.wireguard.names = names;
    let mut machine = Machine {
        default_mtu: netlink.default_mtu().await?,
        tables: netlink.tables_in_use().await?,
        ..Machine::default()
    };
    for family in Family::BOTH {
        // As the kernel chooses it: one before the second rule; the first rule is that of the local table.
        let rules = netlink.all_rules(family).await?;
        let second = rules
            .get(1)
            .map(|rule| rule.priority)
            .filter(|priority| *priority > 0);
        if let Some(second) = second {
            machine.next_priority.insert(family, second - 1);
        }
    }
    Ok((facts, machine))
}
