//! What the nft table `inet adit` holds: chains in their places, and rules in order.
//!
//! A closed set of expressions that is rendered for nft and read back from it. Whatever else stands in the table is kept
//! as text, so that it differs from all that could be wanted.

mod change;
mod name;

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;

use super::Owner;
use super::rule::Mark;
use crate::net::{Family, LinkName};

pub use change::NftChange;
pub use name::{quoted, unquoted};

/// The table, as it is or as it shall be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Firewall {
    /// By the table's comment. Nothing else is told of a foreign one.
    pub owner: Owner,
    /// The rules of each chain, in order.
    pub chains: BTreeMap<Chain, Vec<Rule>>,
    /// What else is in it, and was not put there by us: other chains, or ours in other places, sets, objects.
    pub strange: BTreeSet<String>,
}

/// A base chain; its policy is to accept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Chain {
    /// What comes in, before connections are tracked.
    RawPrerouting,
    /// What goes out, before connections are tracked.
    RawOutput,
    /// What comes in, to be marked.
    ManglePrerouting,
    /// What goes out, to be marked, and then routed by its mark.
    MangleOutput,
    /// What is for this machine.
    Input,
    /// What is forwarded, to be changed.
    MangleForward,
    /// What is forwarded.
    Forward,
    /// What leaves, the first packet of each connection.
    Postrouting,
}

/// Where a chain is hooked in (linux/netfilter.h; names and priorities as nft has them).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its name.
    pub name: &'static str,
    /// Its type.
    pub kind: &'static str,
    /// The hook.
    pub hook: &'static str,
    /// The priority; lower ones come first.
    pub priority: i32,
}

/// A rule: what it does with packets that match all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// In the order in which they are looked at.
    pub matches: Vec<Match>,
    /// What is done then.
    pub action: Action,
}

/// What a packet must be like. Sets are never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Match {
    /// It came in by one of these devices.
    In(BTreeSet<LinkName>),
    /// It came in by none of these devices.
    NotIn(BTreeSet<LinkName>),
    /// It leaves by one of these devices.
    Out(BTreeSet<LinkName>),
    /// The kernel's route to its source leads by one of these devices: `fib saddr oifname`.
    SourceRoutedBy(BTreeSet<LinkName>),
    /// No route of the kernel leads to its source by the device that it came in by: `fib saddr . iif oif missing`. An
    /// address of this machine has none.
    NoRouteBack,
    /// It is of this family.
    Family(Family),
    /// One of its addresses is in a set, or is not.
    Address {
        /// Which of the two.
        side: Side,
        /// Whether it is in the set.
        within: bool,
        /// Of one family, none in another, no two of which make a wider one.
        prefixes: BTreeSet<IpNet>,
    },
    /// One of its ports is in a set.
    Port(Transport, Side, BTreeSet<u16>),
    /// It is for an address of this machine, for all or for a group: `fib daddr type { local, broadcast, multicast }`.
    NotUnicast,
    /// No answer to its connection was seen yet: `ct state new`.
    New,
    /// It is on the way back: `ct direction reply`.
    Reply,
    /// Its connection's mark has these bits.
    ConnectionMark(Mark),
    /// It is the first or the second of a TCP connection.
    Syn,
    /// Something else.
    Strange(String),
}

/// An end of a packet's way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    /// Where it is from.
    Source,
    /// Where it goes.
    Destination,
}

/// What has ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// What is done with a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// It passes this chain; those of other tables have their own say.
    Accept,
    /// It is counted and gone.
    Drop,
    /// The rest of the chain is left out.
    Return,
    /// Its source becomes the address of the device that it leaves by.
    Masquerade,
    /// Its MSS becomes what the ways there and back can carry, where it is larger.
    ClampMss,
    /// Its connection is not tracked.
    Notrack,
    /// Its connection's mark gets these bits; those beyond the mask stay.
    MarkConnection(Mark),
    /// Its own mark gets these bits; those beyond the mask stay.
    MarkPacket(Mark),
    /// Something else.
    Strange(String),
}

impl Firewall {
    /// A table of ours without rules.
    #[must_use]
    pub fn ours() -> Firewall {
        Firewall {
            owner: Owner::Ours,
            chains: BTreeMap::new(),
            strange: BTreeSet::new(),
        }
    }

    /// Somebody else's table.
    #[must_use]
    pub fn foreign() -> Firewall {
        Firewall {
            owner: Owner::Foreign,
            ..Firewall::ours()
        }
    }

    /// Appends a rule to a chain.
    pub fn push(&mut self, chain: Chain, matches: Vec<Match>, action: Action) {
        let rules = self.chains.entry(chain).or_default();
        rules.push(Rule { matches, action });
    }

    /// The devices of all rules whose names nft has no words for; see [`quoted`].
    #[must_use]
    pub fn unspeakable(&self) -> BTreeSet<&LinkName> {
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

    /// How many rules masquerade packets of a family.
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

    /// Takes a device out of all rules; rules about nothing but it go.
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

    /// Its name and place.
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

/// The packets that a kind of rule drops.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DropReason {
    /// Plain packets whose source belongs to the overlay, or that are for this node's overlay addresses.
    Cleartext,
    /// Packets to a tunnel's port from an address that is no peer's.
    Port,
}

impl DropReason {
    /// All, in order.
    pub const ALL: [DropReason; 2] = [DropReason::Cleartext, DropReason::Port];

    /// The stable word.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            DropReason::Cleartext => "cleartext",
            DropReason::Port => "port",
        }
    }

    /// The reason of all rules that drop in a chain of this name; `None`: no rule of Adit's drops there.
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

/// A set of prefixes as rules have it: none within another, no two of which make a wider one.
#[must_use]
pub fn aggregate(prefixes: impl IntoIterator<Item = IpNet>) -> BTreeSet<IpNet> {
    let prefixes = prefixes.into_iter().map(|prefix| prefix.trunc()).collect();
    IpNet::aggregate(&prefixes).into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_goes_with_its_last_device() {
        let links = |names: &[&'static str]| names.iter().map(|name| LinkName::constant(name)).collect();
        let mut firewall = Firewall::ours();
        firewall.push(
            Chain::MangleForward,
            vec![Match::In(links(&["a", "b"]))],
            Action::ClampMss,
        );
        firewall.push(Chain::Forward, vec![Match::In(links(&["b"]))], Action::Accept);
        firewall.forget_link(&LinkName::constant("b"));
        let mut left = Firewall::ours();
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
