//! Changes of kernel state, as data: an object and an operation on it.
//!
//! Each kind of object has its own type of changes, in its own file, and each kernel adapter gets only the
//! changes of its kinds. [`Change`] wraps them and names the network namespace.

mod object;
mod set;

use std::collections::BTreeSet;
use std::fmt;

pub use self::object::Located;
pub(crate) use self::object::{changes, objects};
pub use self::set::{ChangeSet, Conflict, Dependencies, Waiting};
use super::KernelState;
use super::order::{Around, Needs, Stage};
use super::wireguard::DeviceChange;
pub use super::{
    AddressChange, AddressOperation, BpfChange, ClassChange, DeleteLinkReason, DeleteVersion, FloodChange,
    GroupChange, LinkChange, LinkOperation, LinkPatch, NeighbourChange, NetlinkChange, NextHopChange,
    NextHopObjectChange, NextHopObjectOperation, NextHopOperation, NftChange, Object, ObjectKind,
    PrefixChange, ProgramChange, ProgramOperation, RestorePins, RouteChange, RouteOperation, RuleChange,
    SourceChange, SysctlChange, WireGuardChange,
};
use crate::net::Namespace;

/// One change. A creation fails if an object exists already; a replacement or deletion is only planned for
/// objects that were observed with the mark of Adit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The network namespace; `None`: the agent's own.
    pub namespace: Option<Namespace>,
    /// The object and the operation on it.
    pub action: Action,
}

/// A change, by the adapter that executes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// By rtnetlink.
    Netlink(NetlinkChange),
    /// By a file in /proc/sys.
    Sysctl(SysctlChange),
    /// By WireGuard's generic netlink.
    WireGuard(WireGuardChange),
    /// By the program `nft`.
    Nft(NftChange),
    /// By BPF's system call, and by netlink where programs are attached as filters.
    Bpf(BpfChange),
}

/// What every change can tell. Plans, logs and errors print its `Display`, which uses the syntax of `ip`,
/// `wg` and `nft` where they have one.
pub(crate) trait Operation: fmt::Display {
    /// The changed object. For a device that is deleted under another name, the device of that name.
    fn object(&self) -> Object;

    /// Whether the object is created, changed or deleted.
    fn verb(&self) -> Verb;

    /// The stage at which it is executed, unless it depends on other changes.
    fn stage(&self) -> Stage;

    /// Its rank within its stage: all results of one rank are known before the next rank starts.
    fn rank(&self) -> u8 {
        0
    }

    /// The conditions that it requires and provides.
    fn needs<'a>(&'a self, around: Around<'a>, needs: &mut Needs<'a>);
}

/// A kind of object whose value is its identity: an object with another value is another object, so objects
/// are only created and deleted, never changed.
pub(crate) trait Whole: Ord + Clone {
    /// All objects of this kind in a state.
    fn all(state: &KernelState) -> &BTreeSet<Self>;

    /// The same, mutable.
    fn all_mut(state: &mut KernelState) -> &mut BTreeSet<Self>;

    /// The change that creates or deletes it.
    fn change(self, existence: Existence) -> Action;

    /// The object that a change creates or deletes, if it is of this kind.
    fn of(action: &Action) -> Option<(&Self, Existence)>;

    /// Whether Adit can create it: some objects are only ever observed.
    fn can_be_created(&self) -> bool {
        true
    }
}

/// The operation on an object whose value is its identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existence {
    /// It is created.
    Create,
    /// It is deleted.
    Delete,
}

impl Existence {
    pub(super) fn verb(self) -> Verb {
        match self {
            Existence::Create => Verb::Add,
            Existence::Delete => Verb::Delete,
        }
    }

    /// Writes the operation on an entry of a BPF map as text.
    pub(super) fn fmt_put(self, object: &Object, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Existence::Create => write!(f, "put {object}"),
            Existence::Delete => write!(f, "delete {object}"),
        }
    }
}

impl fmt::Display for Existence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.verb().word())
    }
}

/// The operation on an object that is written whether or not it exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write<T> {
    /// It gets this value, whether it exists or not.
    Put(T),
    /// It is deleted.
    Delete,
}

impl<T> Write<T> {
    pub(super) fn verb(&self) -> Verb {
        match self {
            Write::Put(_) => Verb::Set,
            Write::Delete => Verb::Delete,
        }
    }
}

/// Whether an object is created, changed or deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// It is created.
    Add,
    /// It is changed, or written whether or not it exists.
    Set,
    /// It is deleted.
    Delete,
}

impl Verb {
    /// The word: `add`, `set` or `delete`.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Verb::Add => "add",
            Verb::Set => "set",
            Verb::Delete => "delete",
        }
    }
}

impl Change {
    /// Whether it takes a permission away: a WireGuard peer, prefixes of a peer, or a known source.
    #[must_use]
    pub fn is_revocation(&self) -> bool {
        match &self.action {
            Action::WireGuard(WireGuardChange { change, .. }) => matches!(
                change,
                DeviceChange::RemovePeer(_) | DeviceChange::RemoveAllowedIps(..)
            ),
            Action::Bpf(BpfChange::Source(SourceChange(_, operation))) => *operation == Existence::Delete,
            _ => false,
        }
    }

    /// In a namespace; `None`: the agent's own.
    #[must_use]
    pub fn new(namespace: Option<Namespace>, action: impl Into<Action>) -> Change {
        Change {
            namespace,
            action: action.into(),
        }
    }

    /// The stage at which it is executed, unless it depends on other changes.
    #[must_use]
    pub fn stage(&self) -> Stage {
        self.action.operation().stage()
    }

    /// Its stage, and its rank within the stage: all results of one rank are known before the next rank
    /// starts.
    #[must_use]
    pub fn rank(&self) -> (Stage, u8) {
        (self.stage(), self.action.operation().rank())
    }

    /// The changed object and its namespace.
    #[must_use]
    pub fn located(&self) -> Located {
        Located {
            namespace: self.namespace.clone(),
            object: self.action.object(),
        }
    }
}

impl<A: Into<Action>> From<A> for Change {
    /// In the agent's own namespace.
    fn from(action: A) -> Change {
        Change::new(None, action)
    }
}

impl Action {
    pub(crate) fn operation(&self) -> &dyn Operation {
        match self {
            Action::Netlink(change) => change.operation(),
            Action::Sysctl(change) => change,
            Action::WireGuard(change) => change,
            Action::Nft(change) => change,
            Action::Bpf(change) => change.operation(),
        }
    }

    /// The changed object. For a device that is deleted under another name, the device of that name.
    #[must_use]
    pub fn object(&self) -> Object {
        self.operation().object()
    }

    /// Whether the object is created, changed or deleted.
    #[must_use]
    pub fn verb(&self) -> Verb {
        self.operation().verb()
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(namespace) = &self.namespace {
            write!(f, "{namespace}: ")?;
        }
        self.action.fmt(f)
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.operation().fmt(f)
    }
}

impl From<SysctlChange> for Action {
    fn from(change: SysctlChange) -> Action {
        Action::Sysctl(change)
    }
}

impl From<WireGuardChange> for Action {
    fn from(change: WireGuardChange) -> Action {
        Action::WireGuard(change)
    }
}

impl From<NftChange> for Action {
    fn from(change: NftChange) -> Action {
        Action::Nft(change)
    }
}
