//! The contents of the nft table `inet adit`: base chains and their rules, in order.
//!
//! A closed set of expressions that is rendered for nft and parsed from its output. Everything else in the
//! table is kept as text, so that it differs from every desired table.

mod change;
mod name;

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;

use super::Owner;
use super::rule::Mark;
use crate::net::{Family, LinkName};

pub use change::NftChange;
pub use name::{quoted, unquoted};

/// The table, desired or observed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Firewall {
    /// Who manages it, by its comment. Of a table that Adit does not manage, nothing else is known.
    pub owner: Owner,
    /// The rules of each chain, in order.
    pub chains: BTreeMap<Chain, Vec<Rule>>,
    /// Anything else in it, which Adit did not add: other chains, known chains at another hook, sets,
    /// objects.
    pub strange: BTreeSet<String>,
}

/// A base chain; its policy is accept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Chain {
    /// Incoming packets, before connection tracking.
    RawPrerouting,
    /// Outgoing packets, before connection tracking.
    RawOutput,
    /// Incoming packets, to set marks.
    ManglePrerouting,
    /// Outgoing packets, to set marks; the kernel then routes them by the mark.
    MangleOutput,
    /// Packets to this machine.
    Input,
    /// Forwarded packets, to change them.
    MangleForward,
    /// Forwarded packets.
    Forward,
    /// Outgoing and forwarded packets; only the first packet of each connection.
    Postrouting,
}

/// The hook of a base chain (linux/netfilter.h; names and priorities as in nft).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its name.
    pub name: &'static str,
    /// Its type.
    pub kind: &'static str,
    /// The hook.
    pub hook: &'static str,
    /// The priority; chains with lower ones run first.
    pub priority: i32,
}

/// A rule: an action for the packets that match all conditions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The conditions, in order.
    pub matches: Vec<Match>,
    /// The action.
    pub action: Action,
}

/// A condition on a packet. Sets are never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Match {
    /// It arrived on one of these devices.
    In(BTreeSet<LinkName>),
    /// It arrived on none of these devices.
    NotIn(BTreeSet<LinkName>),
    /// It leaves through one of these devices.
    Out(BTreeSet<LinkName>),
    /// The kernel's route to its source leads through one of these devices: `fib saddr oifname`.
    SourceRoutedBy(BTreeSet<LinkName>),
    /// The kernel has no route to its source through the device on which it arrived: `fib saddr . iif oif
    /// missing`. There is none to an address of this machine.
    NoRouteBack,
    /// It has this family.
    Family(Family),
    /// One of its addresses is in a set, or is not in it.
    Address {
        /// The source or the destination address.
        side: Side,
        /// Whether it must be in the set; else it must not be.
        within: bool,
        /// Prefixes of one family; none contains another one, and no two can be merged.
        prefixes: BTreeSet<IpNet>,
    },
    /// One of its ports is in a set.
    Port(Transport, Side, BTreeSet<u16>),
    /// Its destination is local, broadcast or multicast: `fib daddr type { local, broadcast, multicast }`.
    NotUnicast,
    /// Its connection has no answer yet: `ct state new`.
    New,
    /// It is an answer: `ct direction reply`.
    Reply,
    /// The mark of its connection has these bits.
    ConnectionMark(Mark),
    /// It is the first or the second packet of a TCP connection (SYN is set).
    Syn,
    /// Something else.
    Strange(String),
}

/// The source or the destination of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    /// The source.
    Source,
    /// The destination.
    Destination,
}

/// A transport protocol with ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// An action on a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Accept it in this chain; chains of other tables still see it.
    Accept,
    /// Count and drop it.
    Drop,
    /// Skip the rest of the chain.
    Return,
    /// Set its source to the address of the device through which it leaves.
    Masquerade,
    /// Reduce its MSS to what fits into the paths in both directions.
    ClampMss,
    /// Don't track its connection.
    Notrack,
    /// Set these bits in the mark of its connection; bits outside the mask stay.
    MarkConnection(Mark),
    /// Set these bits in its own mark; bits outside the mask stay.
    MarkPacket(Mark),
    /// Something else.
    Strange(String),
}

impl Firewall {
    /// A table managed by Adit, without rules.
    #[must_use]
    pub fn managed() -> Firewall {
        Firewall {
            owner: Owner::Adit,
            chains: BTreeMap::new(),
            strange: BTreeSet::new(),
        }
    }

    /// A table that Adit does not manage.
    #[must_use]
    pub fn not_managed() -> Firewall {
        Firewall {
            owner: Owner::Other,
            ..Firewall::managed()
        }
    }

    /// Appends a rule to a chain.
    pub fn push(&mut self, chain: Chain, matches: Vec<Match>, action: Action) {
        let rules = self.chains.entry(chain).or_default();
        rules.push(Rule { matches, action });
    }

    /// The devices in rules whose names nft can't express; see [`quoted`].
    #[must_use]
    pub fn inexpressible_links(&self) -> BTreeSet<&LinkName> {
        let matches = self.rules().flat_map(|rule| &rule.matches);
        let links = matches.filter_map(|one| match one {
            Match::In(links) | Match::NotIn(links) | Match::Out(links) | Match::SourceRoutedBy(links) => {
                Some(links)
            }
            _ => None,
        });
        links.flatten().filter(|link| quoted(link).is_none()).collect()
    }

    /// All rules, in order.
    pub fn rules(&self) -> impl Iterator<Item = &Rule> {
        self.chains.values().flatten()
    }

    /// The number of rules that masquerade packets of a family.
    #[must_use]
    pub fn masquerades(&self, family: Family) -> usize {
        let of_family = |rule: &&Rule| {
            rule.matches.iter().any(|one| match one {
                Match::Address { prefixes, .. } => {
                    prefixes.iter().any(|prefix| Family::of_prefix(*prefix) == family)
                }
                _ => false,
            })
        };
        self.rules()
            .filter(|rule| rule.action == Action::Masquerade)
            .filter(of_family)
            .count()
    }

    /// Removes a device from all rules, and the rules that name only this device.
    pub fn forget_link(&mut self, name: &LinkName) {
        let keeps = |rule: &mut Rule| {
            rule.matches.iter_mut().all(|one| match one {
                Match::In(links) | Match::NotIn(links) | Match::Out(links) | Match::SourceRoutedBy(links) => {
                    links.remove(name);
                    !links.is_empty()
                }
                _ => true,
            })
        };
        for rules in self.chains.values_mut() {
            rules.retain_mut(keeps);
        }
        self.chains.retain(|_, rules| !rules.is_empty());
    }
}

impl Chain {
    /// All, in order.
    pub const ALL: [Chain; 8] = [
        Chain::RawPrerouting,
        Chain::RawOutput,
        Chain::ManglePrerouting,
        Chain::MangleOutput,
        Chain::Input,
        Chain::MangleForward,
        Chain::Forward,
        Chain::Postrouting,
    ];

    /// Its name and hook.
    #[must_use]
    pub fn place(self) -> Place {
        let (name, kind, hook, priority) = match self {
            Chain::RawPrerouting => ("raw_prerouting", "filter", "prerouting", -300),
            Chain::RawOutput => ("raw_output", "filter", "output", -300),
            Chain::ManglePrerouting => ("mangle_prerouting", "filter", "prerouting", -150),
            Chain::MangleOutput => ("mangle_output", "route", "output", -150),
            Chain::Input => ("input", "filter", "input", 0),
            Chain::MangleForward => ("mangle_forward", "filter", "forward", -150),
            Chain::Forward => ("forward", "filter", "forward", 0),
            Chain::Postrouting => ("postrouting", "nat", "postrouting", 100),
        };
        Place {
            name,
            kind,
            hook,
            priority,
        }
    }
}

/// Why a rule drops packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DropReason {
    /// Cleartext packets with a source in the overlay, or to the overlay addresses of this node.
    Cleartext,
    /// Packets to the port of a tunnel from an address of no peer.
    Port,
}

impl DropReason {
    /// All, in order.
    pub const ALL: [DropReason; 2] = [DropReason::Cleartext, DropReason::Port];

    /// The stable name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            DropReason::Cleartext => "cleartext",
            DropReason::Port => "port",
        }
    }

    /// The reason of the rules that drop packets in the chain with this name; `None`: Adit has no such rule
    /// there.
    #[must_use]
    pub fn of_chain(name: &str) -> Option<DropReason> {
        let is = |chain: Chain| chain.place().name == name;
        match () {
            () if is(Chain::RawPrerouting) => Some(DropReason::Cleartext),
            () if is(Chain::Input) => Some(DropReason::Port),
            () => None,
        }
    }
}

/// The smallest set of prefixes with the same addresses: none contains another one, and no two can be merged.
#[must_use]
pub fn aggregate(prefixes: impl IntoIterator<Item = IpNet>) -> BTreeSet<IpNet> {
    let prefixes = prefixes.into_iter().map(|prefix| prefix.trunc()).collect();
    IpNet::aggregate(&prefixes).into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_is_deleted_with_its_last_device() {
        let links = |names: &[&'static str]| names.iter().map(|name| LinkName::constant(name)).collect();
        let mut firewall = Firewall::managed();
        firewall.push(
            Chain::MangleForward,
            vec![Match::In(links(&["a", "b"]))],
            Action::ClampMss,
        );
        firewall.push(Chain::Forward, vec![Match::In(links(&["b"]))], Action::Accept);
        firewall.forget_link(&LinkName::constant("b"));
        let mut left = Firewall::managed();
        left.push(
            Chain::MangleForward,
            vec![Match::In(links(&["a"]))],
            Action::ClampMss,
        );
        assert_eq!(firewall, left);
    }

    #[test]
    fn neighbours_are_one_prefix() {
        let prefixes =
            ["10.0.0.0/8", "11.0.0.0/8", "10.1.0.0/16", "fd00::/32"].map(|text| text.parse().unwrap());
        let expected = ["10.0.0.0/7", "fd00::/32"].map(|text| text.parse().unwrap());
        assert_eq!(aggregate(prefixes), BTreeSet::from(expected));
    }
}
