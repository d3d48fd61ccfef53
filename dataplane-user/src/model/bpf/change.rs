//! Changes of the contents of the BPF maps.

use std::fmt;
use std::sync::Arc;

use ipnet::IpNet;

use super::{Class, Group, NextHop, PrefixTarget, TunnelKind};
use crate::model::change::{Existence, Operation, Verb, Write};
use crate::model::order::{Around, Condition, Needs, Stage};
use crate::model::{Object, route};
use crate::net::LinkName;

/// A class: written into a free slot, or an existing class pointed to its recreated link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClassChange(pub Class, pub Write<LinkName>);

/// A next hop and the operation on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NextHopChange(pub Arc<NextHop>, pub NextHopOperation);

/// A group, in slots of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupChange(pub Arc<Group>, pub Existence);

/// A prefix and its new desired.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrefixChange(pub IpNet, pub Write<PrefixTarget>);

/// The operation on a next hop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NextHopOperation {
    /// Written into a free slot.
    Put,
    /// Marked as down, or as usable again: one word, in place.
    SetDown(bool),
    /// Freed, with its counters set to zero, after an RCU grace period.
    Delete,
}

impl Operation for ClassChange {
    fn object(&self) -> Object {
        Object::Class(self.0)
    }

    fn verb(&self) -> Verb {
        self.1.verb()
    }

    fn stage(&self) -> Stage {
        match self.1 {
            Write::Put(_) => Stage::Classes,
            Write::Delete => Stage::FreeClasses,
        }
    }

    fn needs<'a>(&'a self, around: Around<'a>, needs: &mut Needs<'a>) {
        let ClassChange(class, write) = self;
        match write {
            Write::Put(link) => {
                needs.requires(Condition::Up(link));
                needs.provides(Condition::Class(class));
                needs.provides(Condition::Maps);
            }
            Write::Delete => needs.requires(Condition::ClassUnused(class)),
        }
        if let Some(Some(link)) = around.observed.classes.get(class) {
            needs.provides(Condition::LinkUnused(link));
        }
    }
}

impl Operation for NextHopChange {
    fn object(&self) -> Object {
        Object::NextHop(Arc::clone(&self.0))
    }

    fn verb(&self) -> Verb {
        match self.1 {
            NextHopOperation::Put => Verb::Add,
            NextHopOperation::SetDown(_) => Verb::Set,
            NextHopOperation::Delete => Verb::Delete,
        }
    }

    fn stage(&self) -> Stage {
        match self.1 {
            NextHopOperation::Put => Stage::NextHops,
            NextHopOperation::SetDown(_) => Stage::NextHopStates,
            NextHopOperation::Delete => Stage::FreeNextHops,
        }
    }

    fn needs<'a>(&'a self, _around: Around<'a>, needs: &mut Needs<'a>) {
        let next_hop = &*self.0;
        match self.1 {
            NextHopOperation::Put => {
                needs.requires(Condition::Class(&next_hop.class));
                needs.provides(Condition::NextHop(next_hop));
                needs.provides(Condition::Maps);
            }
            NextHopOperation::SetDown(_) => {
                needs.requires(Condition::NextHop(next_hop));
                needs.provides(Condition::Maps);
            }
            NextHopOperation::Delete => {
                needs.requires(Condition::NextHopUnused(next_hop));
                needs.provides(Condition::ClassUnused(&next_hop.class));
                needs.provides(Condition::SourceUnused(next_hop.remote));
            }
        }
    }
}

impl Operation for GroupChange {
    fn object(&self) -> Object {
        Object::Group(Arc::clone(&self.0))
    }

    fn verb(&self) -> Verb {
        self.1.verb()
    }

    fn stage(&self) -> Stage {
        match self.1 {
            Existence::Create => Stage::Groups,
            Existence::Delete => Stage::FreeGroups,
        }
    }

    fn needs<'a>(&'a self, _around: Around<'a>, needs: &mut Needs<'a>) {
        let group = &*self.0;
        match self.1 {
            Existence::Create => {
                for (member, _) in &group.members {
                    needs.requires(Condition::NextHop(member));
                }
                needs.provides(Condition::Group(group));
                needs.provides(Condition::Maps);
            }
            Existence::Delete => {
                needs.requires(Condition::GroupUnused(group));
                for (member, _) in &group.members {
                    needs.provides(Condition::NextHopUnused(member));
                }
            }
        }
    }
}

impl Operation for PrefixChange {
    fn object(&self) -> Object {
        Object::Prefix(self.0)
    }

    fn verb(&self) -> Verb {
        self.1.verb()
    }

    fn stage(&self) -> Stage {
        match self.1 {
            Write::Put(_) => Stage::Prefixes,
            Write::Delete => Stage::DeletePrefixes,
        }
    }

    fn needs<'a>(&'a self, around: Around<'a>, needs: &mut Needs<'a>) {
        let PrefixChange(prefix, write) = self;
        match write {
            Write::Put(target) => {
                require_target(prefix, target, around, needs);
                needs.provides(Condition::Maps);
                route::led(*prefix, around, needs);
            }
            Write::Delete => route::require_led(*prefix, around, needs),
        }
        release_prefix(prefix, around, needs);
    }
}

/// What the target of a prefix requires: its group, next hops and classes, and the WireGuard peers for the
/// prefix.
fn require_target<'a>(prefix: &IpNet, target: &'a PrefixTarget, around: Around<'a>, needs: &mut Needs<'a>) {
    if let PrefixTarget::Group(group) = target {
        needs.requires(Condition::Group(group));
    }
    for next_hop in target.next_hops() {
        needs.requires(Condition::NextHop(next_hop));
        needs.requires(Condition::Class(&next_hop.class));
        let link = around
            .desired
            .classes
            .get(&next_hop.class)
            .and_then(Option::as_ref);
        if let Some(link) = link.filter(|_| next_hop.class.tunnel == TunnelKind::WireGuard) {
            needs.requires(Condition::Allowed(link, *prefix));
        }
    }
}

fn release_prefix<'a>(prefix: &IpNet, around: Around<'a>, needs: &mut Needs<'a>) {
    let Some(former) = around.observed.prefixes.get(prefix) else {
        return;
    };
    match former {
        PrefixTarget::NextHop(next_hop) => needs.provides(Condition::NextHopUnused(next_hop)),
        PrefixTarget::Group(group) => needs.provides(Condition::GroupUnused(group)),
        PrefixTarget::Local => {}
    }
    for next_hop in former
        .next_hops()
        .filter(|next_hop| next_hop.class.tunnel == TunnelKind::WireGuard)
    {
        if let Some(Some(link)) = around.observed.classes.get(&next_hop.class) {
            needs.provides(Condition::AllowedUnused(link, *prefix));
        }
    }
}

impl fmt::Display for ClassChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.1 {
            Write::Put(link) => write!(f, "put class {} to {link}", self.0),
            Write::Delete => write!(f, "delete class {}", self.0),
        }
    }
}

impl fmt::Display for NextHopChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let next_hop = &self.0;
        match self.1 {
            NextHopOperation::Put => write!(f, "put next hop {next_hop}"),
            NextHopOperation::SetDown(true) => write!(f, "set next hop {next_hop} down"),
            NextHopOperation::SetDown(false) => write!(f, "set next hop {next_hop} usable"),
            NextHopOperation::Delete => write!(f, "delete next hop {next_hop}"),
        }
    }
}

impl fmt::Display for GroupChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.1.fmt_put(&self.object(), f)
    }
}

impl fmt::Display for PrefixChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.1 {
            Write::Put(target) => write!(f, "put prefix {} to {target}", self.0),
            Write::Delete => write!(f, "delete prefix {}", self.0),
        }
    }
}
