//! Known sources: who may send to this node through a tunnel. Received packets are counted by source.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

use super::change::{Existence, Operation, Verb, Whole};
use super::order::{Around, Condition, Needs, Stage};
use super::{Action, BpfChange, KernelState, Object, TunnelKind};

/// A known source: an outer source address in one network, through one tunnel device. Several networks
/// without VNI, and several next hops, may share it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Source {
    /// The peer's underlay address.
    pub address: IpAddr,
    /// The kind of tunnel of its packets, always one with a tunnel key: packets of the others arrive on no
    /// device of Adit, or WireGuard itself identifies their source.
    pub tunnel: TunnelKind,
    /// VNI; 0 for encapsulations without.
    pub vni: u32,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} by {}", self.address, self.tunnel)?;
        if self.tunnel.carries_ethernet() {
            write!(f, " vni {}", self.vni)?;
        }
        Ok(())
    }
}

/// A known source and the operation on it. Its counters start at zero; an existing source is never written
/// again, so that it keeps its counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SourceChange(pub Source, pub Existence);

impl Operation for SourceChange {
    fn object(&self) -> Object {
        Object::Source(self.0)
    }

    fn verb(&self) -> Verb {
        self.1.verb()
    }

    fn stage(&self) -> Stage {
        match self.1 {
            Existence::Create => Stage::Sources,
            Existence::Delete => Stage::FreeSources,
        }
    }

    /// A source that no manifest names any more is removed without waiting for other changes.
    fn needs<'a>(&'a self, around: Around<'a>, needs: &mut Needs<'a>) {
        let address = self.0.address;
        if self.1 == Existence::Delete && around.named.addresses.contains(&address) {
            needs.requires(Condition::SourceUnused(address));
        }
    }
}

impl Whole for Source {
    fn all(state: &KernelState) -> &BTreeSet<Source> {
        &state.sources
    }

    fn all_mut(state: &mut KernelState) -> &mut BTreeSet<Source> {
        &mut state.sources
    }

    fn change(self, existence: Existence) -> Action {
        SourceChange(self, existence).into()
    }

    fn of(action: &Action) -> Option<(&Source, Existence)> {
        match action {
            Action::Bpf(BpfChange::Source(change)) => Some((&change.0, change.1)),
            _ => None,
        }
    }

    fn can_be_created(&self) -> bool {
        self.tunnel.takes_tunnel_key()
    }
}

impl fmt::Display for SourceChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.1.fmt_put(&self.object(), f)
    }
}
