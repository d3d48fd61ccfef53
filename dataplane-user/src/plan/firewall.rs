//! The nft table: masquerading, segments that fit, tunnels that are not tracked, ports for peers alone, and no plain packets
//! that pretend to be the overlay's.

mod cleartext;

use std::collections::BTreeSet;

use ipnet::IpNet;

use crate::model::firewall::{Action, Chain, Firewall, Match, Side, Transport, aggregate};
use crate::model::{KernelState, LinkKind};
use crate::net::Encapsulation;
use crate::net::family::host_prefix;
use crate::net::{Family, LinkName};
use crate::resource::{FirewallOptions, Intent, Network, Problem, Reason};

use super::{NetworkLink, return_path};
use crate::model::facts::Nft;
use crate::model::facts::NodeFacts;

/// Comes after devices and WireGuard: their names and ports are the target's.
pub(super) fn plan(
    intent: &Intent,
    (facts, networks): (&NodeFacts, &[NetworkLink<'_>]),
    target: &mut KernelState,
    problems: &mut Vec<Problem>,
) {
    let mut firewall = Firewall::ours();
    let devices: BTreeSet<LinkName> = target.links.keys().cloned().collect();
    notrack(intent, target, &mut firewall);
    cleartext::plan(intent, (facts, networks), &devices, &mut firewall);
    protect(intent, target, &mut firewall);
    forward(intent, &devices, &mut firewall);
    let ipv6 = facts.nft != Nft::WithoutIpv6Nat;
    masquerade(intent, &devices, ipv6, &mut firewall);
    return_path::chains(intent, &mut firewall);
    if firewall.chains.is_empty() {
        return;
    }
    problems.extend(lacking(intent, facts.nft));
    if facts.nft.is_usable() {
        problems.extend(leave_out_unspeakable(&mut firewall));
        target.firewall = Some(firewall);
    }
}

/// Takes the devices out of all rules whose names nft has no words for. They are foreign ones: Adit's own names are plain.
fn leave_out_unspeakable(firewall: &mut Firewall) -> Vec<Problem> {
    let links: Vec<LinkName> = firewall.unspeakable().into_iter().cloned().collect();
    let leave_out = |link: LinkName| {
        firewall.forget_link(&link);
        let name = link.as_str().escape_debug();
        Problem::error(
            Reason::Unsupported,
            format!("link {name}"),
            format!(
                "nft has no words for the device name \"{name}\": no rule of table `inet adit` is about this device, so it is no \
                 return path, and plain packets of peers that come in by it are dropped"
            ),
            "rename the device: without quotation marks, and without an asterisk at the end of a name that has a backslash or \
             15 bytes"
                .to_owned(),
        )
    };
    links.into_iter().map(leave_out).collect()
}

/// Outer UDP of the tunnels that are there: what comes to their ports, and what leaves for them.
fn notrack(intent: &Intent, target: &KernelState, firewall: &mut Firewall) {
    let untracked = |encapsulation| any(intent, |options| options.notrack.contains(&encapsulation));
    let mut ports = BTreeSet::new();
    for (encapsulation, port) in tunnel_ports(target) {
        if untracked(encapsulation) {
            ports.insert(port);
        }
    }
    if !ports.is_empty() {
        for chain in [Chain::RawPrerouting, Chain::RawOutput] {
            let to = Match::Port(Transport::Udp, Side::Destination, ports.clone());
            firewall.push(chain, vec![to], Action::Notrack);
        }
    }
    if !untracked(Encapsulation::WireGuard) {
        return;
    }
    // A peer's port may be another than ours.
    let own: BTreeSet<u16> = target
        .wireguard
        .values()
        .map(|device| device.listen_port)
        .collect();
    if !own.is_empty() {
        for (chain, side) in [
            (Chain::RawPrerouting, Side::Destination),
            (Chain::RawOutput, Side::Source),
        ] {
            firewall.push(
                chain,
                vec![Match::Port(Transport::Udp, side, own.clone())],
                Action::Notrack,
            );
        }
    }
}

/// The ports of GENEVE and VXLAN that are there; WireGuard asks for no protection, it knows its peers by their keys.
fn tunnel_ports(target: &KernelState) -> impl Iterator<Item = (Encapsulation, u16)> {
    target.links.values().filter_map(|link| match link.kind {
        LinkKind::Geneve { port } => Some((Encapsulation::Geneve, port)),
        LinkKind::Vxlan { port, .. } => Some((Encapsulation::Vxlan, port)),
        _ => None,
    })
}

/// Only peers reach the tunnels' ports. What is managed by stays open, whatever the ports are.
fn protect(intent: &Intent, target: &KernelState, firewall: &mut Firewall) {
    let ports: BTreeSet<u16> = tunnel_ports(target).map(|(_, port)| port).collect();
    if ports.is_empty() || !any(intent, |options| options.protect_ports) {
        return;
    }
    let open: BTreeSet<u16> = asking(intent, |options| options.protect_ports)
        .flat_map(|options| options.management_ports.iter().copied())
        .collect();
    if !open.is_empty() {
        for transport in [Transport::Tcp, Transport::Udp] {
            let to = Match::Port(transport, Side::Destination, open.clone());
            firewall.push(Chain::Input, vec![to], Action::Accept);
        }
    }
    let peers = || intent.networks().flat_map(|network| intent.peers(network));
    for family in Family::BOTH {
        let known = peers().filter_map(|peer| peer.underlay.address(family));
        let known = aggregate(known.map(host_prefix));
        let from_others = if known.is_empty() {
            Match::Family(family)
        } else {
            Match::Address {
                side: Side::Source,
                within: false,
                prefixes: known,
            }
        };
        let to = Match::Port(Transport::Udp, Side::Destination, ports.clone());
        firewall.push(Chain::Input, vec![to, from_others], Action::Drop);
    }
}

/// What crosses tunnels. A device that is not a tunnel may have a larger MTU, and what answers it then sends segments that
/// no tunnel takes; not everyone hears of that by ICMP.
fn forward(intent: &Intent, devices: &BTreeSet<LinkName>, firewall: &mut Firewall) {
    if devices.is_empty() {
        return;
    }
    let (from, to) = (|| Match::In(devices.clone()), || Match::Out(devices.clone()));
    if any(intent, |options| options.clamp_mss) {
        for crossing in [from(), to()] {
            firewall.push(Chain::MangleForward, vec![crossing, Match::Syn], Action::ClampMss);
        }
    }
    if any(intent, |options| options.accept_forward) {
        firewall.push(Chain::Forward, vec![from(), to()], Action::Accept);
    }
}

/// What is not masqueraded comes first, always.
fn masquerade(intent: &Intent, devices: &BTreeSet<LinkName>, ipv6: bool, firewall: &mut Firewall) {
    let masqueraded: Vec<(&Network, &BTreeSet<IpNet>)> = intent
        .networks()
        .filter_map(|network| Some((network, network.masquerade.as_ref()?)))
        .collect();
    let families: Vec<Family> = Family::BOTH
        .into_iter()
        .filter(|&family| family == Family::Ipv4 || ipv6)
        .filter(|&family| {
            masqueraded
                .iter()
                .any(|(network, _)| !of(&network.prefixes, family).is_empty())
        })
        .collect();
    if families.is_empty() {
        return;
    }
    let chain = Chain::Postrouting;
    let address = |side, prefixes| Match::Address {
        side,
        within: true,
        prefixes,
    };
    firewall.push(chain, vec![Match::Out(devices.clone())], Action::Return);
    firewall.push(chain, vec![Match::NotUnicast], Action::Return);
    let networks = intent.resources().networks.values();
    let overlay: BTreeSet<IpNet> = networks
        .flat_map(|network| network.prefixes.iter().copied())
        .collect();
    for &family in &families {
        firewall.push(
            chain,
            vec![address(Side::Destination, of(&overlay, family))],
            Action::Return,
        );
    }
    let pairs = || {
        families
            .iter()
            .flat_map(|&family| masqueraded.iter().map(move |one| (family, one)))
    };
    for (family, (network, excluded)) in pairs() {
        let (sources, excluded) = (of(&network.prefixes, family), of(excluded, family));
        if !sources.is_empty() && !excluded.is_empty() {
            let matches = vec![
                address(Side::Source, sources),
                address(Side::Destination, excluded),
            ];
            firewall.push(chain, matches, Action::Return);
        }
    }
    for (family, (network, _)) in pairs() {
        let sources = of(&network.prefixes, family);
        if !sources.is_empty() {
            firewall.push(chain, vec![address(Side::Source, sources)], Action::Masquerade);
        }
    }
}

/// The prefixes of one family.
pub(super) fn of(prefixes: &BTreeSet<IpNet>, family: Family) -> BTreeSet<IpNet> {
    aggregate(
        prefixes
            .iter()
            .copied()
            .filter(|prefix| Family::of_prefix(*prefix) == family),
    )
}

fn asking(
    intent: &Intent,
    asks: impl Fn(&FirewallOptions) -> bool,
) -> impl Iterator<Item = &FirewallOptions> {
    intent
        .networks()
        .map(|network| &network.firewall)
        .filter(move |options| asks(options))
}

fn any(intent: &Intent, asks: impl Fn(&FirewallOptions) -> bool) -> bool {
    asking(intent, asks).next().is_some()
}

/// What can't be had on this machine.
fn lacking(intent: &Intent, nft: Nft) -> Vec<Problem> {
    let (message, remedy) = match nft {
        Nft::Usable => return Vec::new(),
        Nft::WithoutIpv6Nat => return without_ipv6(intent),
        Nft::NoProgram => (
            "there is no program `nft`, so the table `inet adit` is not made",
            "apt-get install nftables",
        ),
        Nft::NoTables => (
            "this kernel has no nf_tables, so the table `inet adit` is not made",
            "modprobe nf_tables; where that fails, install the package with the kernel's modules",
        ),
    };
    let mut problems: Vec<Problem> = intent
        .networks()
        .filter_map(|network| {
            let wanted = wanted(network)?;
            Some(Problem::error(
                Reason::Incomplete,
                format!("TunnelNetwork/{}", network.name),
                format!("{message}: {wanted}"),
                remedy.to_owned(),
            ))
        })
        .collect();
    problems.extend(return_path::lacking(intent, message, remedy));
    if problems.is_empty() {
        problems.push(Problem::warning(
            Reason::Incomplete,
            "firewall".to_owned(),
            format!("{message}: TCP over routers may stall on large segments, and tunnels' UDP is tracked"),
            remedy.to_owned(),
        ));
    }
    problems
}

/// What a network asks for and does not get without the table; nothing where that is for comfort alone.
fn wanted(network: &Network) -> Option<String> {
    let losses = [
        (network.masquerade.is_some(), "nothing is masqueraded"),
        (network.firewall.protect_ports, "the tunnels' ports are open"),
        (
            network.drops_cleartext(),
            "plain packets that pretend to be the overlay's get in",
        ),
    ];
    let losses = losses.into_iter().filter(|(asked, _)| *asked);
    let losses: Vec<&str> = losses.map(|(_, loss)| loss).collect();
    (!losses.is_empty()).then(|| losses.join(", and "))
}

fn without_ipv6(intent: &Intent) -> Vec<Problem> {
    let concerned = intent
        .networks()
        .filter(|network| network.masquerade.is_some() && !of(&network.prefixes, Family::Ipv6).is_empty());
    let problem = |network: &Network| {
        Problem::warning(
            Reason::Unsupported,
            format!("TunnelNetwork/{}", network.name),
            "this kernel can't masquerade IPv6; IPv4 is masqueraded all the same".to_owned(),
            "boot a kernel with NAT for IPv6 (CONFIG_NF_NAT, CONFIG_NFT_MASQ, CONFIG_NF_TABLES_IPV6) and restart the agent"
                .to_owned(),
        )
    };
    concerned.map(problem).collect()
}
