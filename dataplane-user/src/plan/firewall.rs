//! The nft table: masquerading, MSS clamping, no connection tracking for tunnels, tunnel ports open to peers
//! only, and drop rules for cleartext packets with overlay addresses.

mod cleartext;

use std::collections::BTreeSet;

use ipnet::IpNet;

use crate::model::firewall::{Action, Chain, Firewall, Match, Side, Transport, aggregate};
use crate::model::{KernelState, LinkKind};
use crate::net::Encapsulation;
use crate::net::family::host_prefix;
use crate::net::{Family, LinkName};
use crate::resource::{FirewallOptions, Intent, Network, Problem, Reason};

use super::{Inputs, return_path};
use crate::model::facts::Nft;

/// Runs after devices and WireGuard are planned: it reads their names and ports from the desired state.
pub(super) fn plan(inputs: Inputs<'_>, desired: &mut KernelState, problems: &mut Vec<Problem>) {
    let Inputs { intent, facts, .. } = inputs;
    let mut firewall = Firewall::managed();
    let devices: BTreeSet<LinkName> = desired.links.keys().cloned().collect();
    notrack(intent, desired, &mut firewall);
    cleartext::plan(inputs, &devices, &mut firewall);
    protect(intent, desired, &mut firewall);
    forward(intent, &devices, &mut firewall);
    let ipv6 = facts.nft != Nft::WithoutIpv6Nat;
    masquerade(intent, &devices, ipv6, &mut firewall);
    return_path::chains(intent, &mut firewall);
    if firewall.chains.is_empty() {
        return;
    }
    problems.extend(lacking(intent, facts.nft));
    if facts.nft.is_usable() {
        problems.extend(skip_inexpressible(&mut firewall));
        desired.firewall = Some(firewall);
    }
}

/// Removes from all rules the devices whose names nft can't express, with a problem for each. Only devices
/// that Adit does not manage can have such names.
fn skip_inexpressible(firewall: &mut Firewall) -> Vec<Problem> {
    let links: Vec<LinkName> = firewall.inexpressible_links().into_iter().cloned().collect();
    let skip = |link: LinkName| {
        firewall.forget_link(&link);
        let name = link.as_str().escape_debug();
        Problem::error(
            Reason::Unsupported,
            format!("link {name}"),
            format!(
                "nft can't express the device name \"{name}\", so no rule of table `inet adit` names this device: it can't be a \
                 return path, and cleartext packets of peers that arrive on it are dropped"
            ),
            "rename the device: use no quotation marks, and no asterisk at the end of a name that contains a backslash or has \
             15 bytes"
                .to_owned(),
        )
    };
    links.into_iter().map(skip).collect()
}

/// Excludes the outer UDP packets of the desired tunnels from connection tracking, incoming and outgoing.
fn notrack(intent: &Intent, desired: &KernelState, firewall: &mut Firewall) {
    let untracked = |encapsulation| any(intent, |options| options.notrack.contains(&encapsulation));
    let mut ports = BTreeSet::new();
    for (encapsulation, port) in tunnel_ports(desired) {
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
    // The port of a peer may differ from the port of this node.
    let own: BTreeSet<u16> = desired
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

/// The UDP ports of the desired GENEVE and VXLAN devices. WireGuard needs no protection: it authenticates its
/// peers.
fn tunnel_ports(desired: &KernelState) -> impl Iterator<Item = (Encapsulation, u16)> {
    desired.links.values().filter_map(|link| match link.kind {
        LinkKind::Geneve { port } => Some((Encapsulation::Geneve, port)),
        LinkKind::Vxlan { port, .. } => Some((Encapsulation::Vxlan, port)),
        _ => None,
    })
}

/// Accepts packets to the tunnel ports from peers only. Management ports stay open, even if a tunnel uses the
/// same port.
fn protect(intent: &Intent, desired: &KernelState, firewall: &mut Firewall) {
    let ports: BTreeSet<u16> = tunnel_ports(desired).map(|(_, port)| port).collect();
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

/// Rules for forwarded packets. A device that is not a tunnel may have a larger MTU than the tunnels, so its
/// hosts announce an MSS that does not fit into the tunnels, and not every host receives the ICMP message
/// about it.
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

/// Masquerading. The exceptions always come before the rules that masquerade.
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

/// Problems for the firewall features that this machine lacks.
fn lacking(intent: &Intent, nft: Nft) -> Vec<Problem> {
    let (message, remedy) = match nft {
        Nft::Usable => return Vec::new(),
        Nft::WithoutIpv6Nat => return without_ipv6(intent),
        Nft::NoProgram => (
            "the program `nft` is missing, so the table `inet adit` is not created",
            "install nftables (on Debian: `apt-get install nftables`)",
        ),
        Nft::NoTables => (
            "this kernel has no nf_tables, so the table `inet adit` is not created",
            "run `modprobe nf_tables`; if that fails, install the package with the modules of the kernel",
        ),
    };
    let mut problems: Vec<Problem> = intent
        .networks()
        .filter_map(|network| {
            let losses = losses(network)?;
            Some(Problem::error(
                Reason::Incomplete,
                format!("TunnelNetwork/{}", network.name),
                format!("{message}: {losses}"),
                remedy.to_owned(),
            ))
        })
        .collect();
    problems.extend(return_path::lacking(intent, message, remedy));
    if problems.is_empty() {
        problems.push(Problem::warning(
            Reason::Incomplete,
            "firewall".to_owned(),
            format!("{message}: forwarded TCP connections may stall on large segments, and conntrack tracks the UDP of tunnels"),
            remedy.to_owned(),
        ));
    }
    problems
}

/// What a network loses without the table; `None` if it only loses optimizations.
fn losses(network: &Network) -> Option<String> {
    let losses = [
        (network.masquerade.is_some(), "nothing is masqueraded"),
        (
            network.firewall.protect_ports,
            "the ports of the tunnels are open to everybody",
        ),
        (
            network.drops_cleartext(),
            "cleartext packets with overlay source addresses are accepted",
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
            "this kernel can't masquerade IPv6; IPv4 is masqueraded".to_owned(),
            "boot a kernel with NAT for IPv6 (CONFIG_NF_NAT, CONFIG_NFT_MASQ, CONFIG_NF_TABLES_IPV6) and restart the agent"
                .to_owned(),
        )
    };
    concerned.map(problem).collect()
}
