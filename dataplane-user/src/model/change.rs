//! Changes of kernel state, as data: an object, and what happens to it.
//!
//! Each kind of object has a type of changes of its own, in its file, and each adapter of the kernel is given those of its kinds alone.
//! [`Change`] is the envelope around them, and says in which network namespace.

mod object;
mod set;

use std::collections::BTreeSet;
use std::fmt;

pub use self::object::Located;
pub(crate) use self::object::{changes, objects};
pub use self::set::{ChangeSet, Conflict, Dependencies, Waiting};
use super::KernelState;
use super::order::{Around, Needs, Stage};
pub use super::{
    AddressChange, AddressOperation, BpfChange, ClassChange, DeleteLinkReason, DeleteVersion, FloodChange,
    GroupChange, LinkChange, LinkOperation, LinkPatch, NeighbourChange, NetlinkChange, NextHopChange,
    NextHopObjectChange, NextHopObjectOperation, NextHopOperation, NftChange, Object, ObjectKind,
    PrefixChange, ProgramChange, ProgramOperation, RouteChange, RouteOperation, RuleChange, SourceChange,
    SysctlChange, WireGuardChange,
};
use crate::net::Namespace;

/// One change. What creates fails when something exists there already; what replaces or deletes is only ever said of
/// objects that were observed as ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The network namespace; `None`: the agent's own.
    pub namespace: Option<Namespace>,
    /// The object and what happens to it.
    pub action: Action,
}

/// A change, by the adapter that makes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// By rtnetlink.
    Netlink(NetlinkChange),
    /// By a file in /proc/sys.
    Sysctl(SysctlChange),
    /// By WireGuard's generic netlink.
    WireGuard(WireGuardChange),
    /// By the program nft.
    Nft(NftChange),
    /// By BPF's system call, and by netlink where programs are attached as filters.
    Bpf(BpfChange),
}

/// What a change of any kind of object is asked. Its `Display` is what plans, logs and errors call it, in the words of `ip`, `wg` and `nft`
/// where they have some.
pub(crate) trait Operation: fmt::Display {
    /// What is changed. Of a device that is deleted under another name, that one.
    fn object(&self) -> Object;

    /// Whether the object comes, changes or goes.
    fn verb(&self) -> Verb;

    /// When it is made where it depends on no other change.
    fn stage(&self) -> Stage;

    /// Its place in its stage: what fails in one is known before the next.
    fn rank(&self) -> u8 {
        0
    }

    /// What it requires and provides.
    fn needs<'a>(&'a self, around: Around<'a>, needs: &mut Needs<'a>);
}

/// A kind of object that is all that it says: what says something else is another object, so none is ever changed.
pub(crate) trait Whole: Ord + Clone {
    /// Those of a state.
    fn all(state: &KernelState) -> &BTreeSet<Self>;

    /// The same, to be changed.
    fn all_mut(state: &mut KernelState) -> &mut BTreeSet<Self>;

    /// The change that creates or deletes it.
    fn change(self, existence: Existence) -> Action;

    /// What a change creates or deletes, if it is of this kind.
    fn of(action: &Action) -> Option<(&Self, Existence)>;

    /// Whether it can be created: some are only ever found.
    fn can_be_created(&self) -> bool {
        true
    }
}

/// What happens to an object that is all that it says: with another value it is another object.
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

    /// What happens to an entry of a map.
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

/// What happens to an object that is written whatever it was before.
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

/// Whether something comes, changes or goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// It comes.
    Add,
    /// It changes, or comes and nobody tells.
    Set,
    /// It goes.
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
    /// In a namespace; `None`: the agent's own.
    #[must_use]
    pub fn new(namespace: Option<Namespace>, action: impl Into<Action>) -> Change {
        Change {
            namespace,
            action: action.into(),
        }
    }

    /// When it is made where it depends on no other change.
    #[must_use]
    pub fn stage(&self) -> Stage {
        self.action.operation().stage()
    }

    /// Its stage, and its place in that: what fails in one rank is known before the next.
    #[must_use]
    pub fn rank(&self) -> (Stage, u8) {
        (self.stage(), self.action.operation().rank())
    }

    /// What is changed, and where.
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

    /// What is changed. Of a device that is deleted under another name, that one.
    #[must_use]
    pub fn object(&self) -> Object {
        self.operation().object()
    }

    /// Whether the object comes, changes or goes.
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
