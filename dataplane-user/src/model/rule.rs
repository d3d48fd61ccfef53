//! Policy rules: which routing table is looked up for which packets.

use std::collections::BTreeSet;
use std::fmt;

use ipnet::IpNet;

use super::change::{Existence, Operation, Verb, Whole};
use super::order::{Around, Condition, Needs, Stage};
use super::{Action, KernelState, MAIN_TABLE, NetlinkChange, Object};
use crate::net::{Family, LinkName};

/// A policy rule managed by Adit. The kernel orders rules by priority and changes none in place, so all
/// fields are the identity of a rule: one with another value is another rule. Rules of others never conflict
/// with it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rule {
    /// The family of the packets.
    pub family: Family,
    /// Whether the rule is negated: it matches packets for which the other selectors do *not* all match.
    pub not: bool,
    /// Its priority among all rules of the family; the lowest is evaluated first.
    pub priority: u32,
    /// The packet's source; no host bits.
    pub from: Option<IpNet>,
    /// The packet's destination; no host bits.
    pub to: Option<IpNet>,
    /// The device on which the packet arrived; it need not exist.
    pub iif: Option<LinkName>,
    /// The device to which the sending socket is bound; it need not exist.
    pub oif: Option<LinkName>,
    /// The packet's mark; `None`: any.
    pub mark: Option<Mark>,
    /// The table that is looked up.
    pub table: u32,
    /// Routes with this prefix length or a shorter one are ignored.
    pub suppress_prefix_length: Option<u32>,
    /// Further selectors and attributes, in the syntax of `ip rule`; Adit creates no such rules.
    pub more: Option<String>,
}

impl Rule {
    /// Whether a rule before this one keeps packets with a more specific route from it, as the first of the two rules
    /// of a default route through a WireGuard device does.
    fn follows_a_specific_rule(&self, rules: &BTreeSet<Rule>) -> bool {
        let mut specific = rules
            .iter()
            .filter(|rule| rule.family == self.family && rule.is_specific());
        specific.any(|rule| rule.priority < self.priority)
    }

    /// Whether it applies the routes of the main table except its default routes.
    fn is_specific(&self) -> bool {
        self.table == MAIN_TABLE && self.suppress_prefix_length == Some(0)
    }

    /// A rule for all packets of a family.
    #[must_use]
    pub fn to_table(family: Family, priority: u32, table: u32) -> Rule {
        Rule {
            family,
            not: false,
            priority,
            from: None,
            to: None,
            iif: None,
            oif: None,
            mark: None,
            table,
            suppress_prefix_length: None,
            more: None,
        }
    }
}

/// A condition on the mark of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark {
    value: u32,
    mask: u32,
}

impl Mark {
    /// A condition on the bits of a mask; `None` for the mark 0. A mask of 0 means all bits.
    #[must_use]
    pub fn new(value: u32, mask: u32) -> Option<Mark> {
        let mask = if mask == 0 { u32::MAX } else { mask };
        (value != 0).then_some(Mark { value, mask })
    }

    /// The value of the bits; not 0.
    #[must_use]
    pub fn value(self) -> u32 {
        self.value
    }

    /// The bits that are compared; not 0.
    #[must_use]
    pub fn mask(self) -> u32 {
        self.mask
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.value)?;
        if self.mask != u32::MAX {
            write!(f, "/{:#x}", self.mask)?;
        }
        Ok(())
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.family == Family::Ipv6 {
            f.write_str("-6 ")?;
        }
        write!(f, "priority {}", self.priority)?;
        if self.not {
            f.write_str(" not")?;
        }
        if let Some(from) = self.from {
            write!(f, " from {from}")?;
        }
        if let Some(to) = self.to {
            write!(f, " to {to}")?;
        }
        if let Some(iif) = &self.iif {
            write!(f, " iif {iif}")?;
        }
        if let Some(oif) = &self.oif {
            write!(f, " oif {oif}")?;
        }
        if let Some(mark) = self.mark {
            write!(f, " fwmark {mark}")?;
        }
        match self.table {
            MAIN_TABLE => f.write_str(" table main")?,
            table => write!(f, " table {table}")?,
        }
        if let Some(length) = self.suppress_prefix_length {
            write!(f, " suppress_prefixlength {length}")?;
        }
        if let Some(more) = &self.more {
            write!(f, " {more}")?;
        }
        Ok(())
    }
}

/// A rule and the operation on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleChange(pub Rule, pub Existence);

impl Operation for RuleChange {
    fn object(&self) -> Object {
        Object::Rule(Box::new(self.0.clone()))
    }

    fn verb(&self) -> Verb {
        self.1.verb()
    }

    fn stage(&self) -> Stage {
        match (self.1, &self.0.iif) {
            (Existence::Create, Some(_)) => Stage::DeviceRules,
            (Existence::Create, None) => Stage::Rules,
            (Existence::Delete, Some(_)) => Stage::DeleteDeviceRules,
            (Existence::Delete, None) => Stage::DeleteRules,
        }
    }

    fn needs<'a>(&'a self, around: Around<'a>, needs: &mut Needs<'a>) {
        let Rule { family, table, .. } = self.0;
        let is_specific = self.0.is_specific();
        match (self.1, &self.0.iif) {
            (Existence::Create, None) => {
                // The kernel asks the main table anyway, by a rule of its own.
                if table != MAIN_TABLE {
                    needs.requires(Condition::Table(family, table));
                }
                needs.provides(Condition::RulesCreated);
                if is_specific {
                    needs.provides(Condition::SpecificRules(family));
                } else if self.0.follows_a_specific_rule(&around.desired.rules) {
                    needs.requires(Condition::SpecificRules(family));
                }
            }
            // Packets may still depend on this rule until its successor and all routes exist.
            (Existence::Delete, None) => {
                needs.requires(Condition::RulesCreated);
                needs.requires(Condition::AllOnDesiredPaths);
                needs.provides(Condition::RulesDeleted);
                if is_specific {
                    needs.requires(Condition::SpecificRulesUnused(family));
                } else if self.0.follows_a_specific_rule(&around.before.rules) {
                    needs.provides(Condition::SpecificRulesUnused(family));
                }
            }
            (Existence::Create, Some(_)) => needs.provides(Condition::DeviceRules),
            (Existence::Delete, Some(link)) => {
                needs.requires(Condition::DeviceRules);
                needs.requires(Condition::Detached(link));
            }
        }
    }
}

impl Whole for Rule {
    fn all(state: &KernelState) -> &BTreeSet<Rule> {
        &state.rules
    }

    fn all_mut(state: &mut KernelState) -> &mut BTreeSet<Rule> {
        &mut state.rules
    }

    fn change(self, existence: Existence) -> Action {
        RuleChange(self, existence).into()
    }

    fn of(action: &Action) -> Option<(&Rule, Existence)> {
        match action {
            Action::Netlink(NetlinkChange::Rule(change)) => Some((&change.0, change.1)),
            _ => None,
        }
    }

    fn can_be_created(&self) -> bool {
        self.more.is_none()
    }
}

impl fmt::Display for RuleChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} rule {}", self.1, self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mark_zero_is_unconditional_and_a_zero_mask_is_all_ones() {
        assert_eq!(Mark::new(0, 0), None);
        assert_eq!(Mark::new(0, 0xff), None);
        assert_eq!(Mark::new(7, 0), Mark::new(7, u32::MAX));
        assert_eq!(
            Mark::new(7, 0xf).map(|mark| mark.to_string()),
            Some("0x7/0xf".to_owned())
        );
    }
}
