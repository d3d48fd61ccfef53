//! The edge to the kernel: reads all state that concerns us, executes changes, and gathers facts.

pub mod bpf;
pub mod fake;
#[cfg(test)]
mod fuzz;
mod linux;
pub mod netlink;
mod netns;
pub mod nft;
pub mod revision;
pub mod sysctl;
pub mod udp;
pub mod wireguard;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::net::IpAddr;

use crate::model::facts::Presence;
use crate::model::facts::{Lookup, NodeFacts};
use crate::model::{Change, KernelState};
use crate::net::{LinkName, Namespace};

pub use linux::{ByHand, LinuxKernel, release};

/// Whatever holds kernel state: a real kernel's namespace, or a fake one in property tests.
#[expect(
    async_fn_in_trait,
    reason = "one thread drives the agent, futures need not be Send"
)]
pub trait Kernel {
    /// Reads all state that concerns us. Complete, or an error: never a part.
    ///
    /// # Errors
    /// When any part can't be read.
    async fn observe(&mut self) -> Result<KernelState, KernelError>;

    /// Takes note of a state that is to be reached. The next observation opens what reaching it needs, such as BPF, and sees the foreign routes
    /// that stand in the places of that state's.
    fn prepare(&mut self, _target: &KernelState) {}

    /// Whether the kernel has told of a change since the last observation began. One that happens meanwhile may be seen in
    /// part: a device that is still up, without the routes that went when it was taken down.
    async fn is_outdated(&mut self) -> bool {
        false
    }

    /// Looks for what observing and changing need beside this namespace; says where the wanted namespaces are. What is
    /// found stays at hand until [`Kernel::release_namespaces`].
    ///
    /// # Errors
    /// When it can't be looked for; a namespace that is not there is no error.
    async fn look_for(&mut self, _wanted: &Wanted) -> Result<BTreeMap<Namespace, Presence>, KernelError> {
        Ok(BTreeMap::new())
    }

    /// Waits until packets are through that were on a way which leads elsewhere by now: what they need goes afterwards.
    async fn wait_rcu_grace(&mut self) {}

    /// Lets go of other namespaces: a pass has ended.
    fn release_namespaces(&mut self) {}

    /// Gathers what the plan must know, with the way to each of these underlay addresses.
    ///
    /// # Errors
    /// When it can't be read; an address without route is no error.
    async fn facts(&mut self, peers: &BTreeSet<IpAddr>) -> Result<NodeFacts, KernelError>;

    /// What of ours changed without an event since the last observation, as far as that is cheap to tell.
    ///
    /// # Errors
    /// When it can't be told.
    async fn changed_silently(&mut self) -> Result<Option<String>, KernelError> {
        Ok(None)
    }

    /// Executes changes in order, going on past failures; one result a change.
    async fn execute(&mut self, changes: &[Change]) -> Vec<Result<(), KernelError>>;
}

/// What an observation must see beside all that is ours.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Other namespaces that something of ours shall be in.
    pub namespaces: BTreeSet<Namespace>,
    /// Other namespaces that something of ours may be in.
    pub remembered: BTreeSet<Namespace>,
    /// Whether something is going to be changed: namespaces are given numbers then, by which their events are heard.
    pub changes: bool,
    /// Devices whose ways back the facts shall tell.
    pub return_paths: BTreeSet<LinkName>,
    /// Routes that the facts shall tell.
    pub lookups: BTreeSet<Lookup>,
    /// Whether a key of WireGuard's changes, so that the facts shall tell of handshakes.
    pub rotating: bool,
}

/// Why the kernel did not do what was asked.
#[derive(Debug, thiserror::Error)]
#[error("{}{source}{}", .context.as_ref().map(|context| format!("{context}: ")).unwrap_or_default(), .kernel_text.as_ref().map(|text| format!(" ({text})")).unwrap_or_default())]
pub struct KernelError {
    /// What was tried; nothing where that is the change that was asked for.
    pub context: Option<String>,
    /// The error.
    #[source]
    pub source: io::Error,
    /// The kernel's own words (extended ack, verifier log's tail), where there are some.
    pub kernel_text: Option<String>,
}

impl KernelError {
    /// An error without words from the kernel.
    #[must_use]
    pub fn new(context: impl Into<String>, source: io::Error) -> KernelError {
        KernelError {
            context: Some(context.into()),
            source,
            kernel_text: None,
        }
    }

    /// The error of a change, which whoever asked for it can name.
    #[must_use]
    pub fn of_change(source: io::Error) -> KernelError {
        KernelError {
            context: None,
            source,
            kernel_text: None,
        }
    }

    /// The same error with `what` as the first part of its context.
    #[must_use]
    pub fn about(self, what: &impl fmt::Display) -> KernelError {
        let context = match self.context {
            Some(context) => format!("{what}: {context}"),
            None => what.to_string(),
        };
        KernelError {
            context: Some(context),
            ..self
        }
    }

    /// The same error once more.
    #[must_use]
    pub fn again(&self) -> KernelError {
        KernelError {
            context: self.context.clone(),
            source: copy(&self.source),
            kernel_text: self.kernel_text.clone(),
        }
    }

    /// The errno, where there is one.
    #[must_use]
    pub fn errno(&self) -> Option<i32> {
        self.source.raw_os_error()
    }

    /// Whether trying again may help.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(
            self.errno(),
            Some(libc::EAGAIN | libc::EINTR | libc::EBUSY | libc::ENOBUFS | libc::ENOMEM | libc::ETIMEDOUT)
        ) || self.source.kind() == io::ErrorKind::TimedOut
    }
}

/// `io::Error` can't be cloned; with an errno nothing is lost.
fn copy(error: &io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(errno) => io::Error::from_raw_os_error(errno),
        None => io::Error::new(error.kind(), error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_error_is_about_comes_first() {
        let source = || io::Error::from_raw_os_error(libc::ENODEV);
        let short = "No such device (os error 19)";
        let of_change = KernelError::of_change(source());
        assert_eq!(of_change.to_string(), short);
        assert_eq!(
            of_change.about(&"set link adit0 up").to_string(),
            format!("set link adit0 up: {short}")
        );
        assert_eq!(
            KernelError::new("opening a socket", source())
                .about(&"a")
                .to_string(),
            format!("a: opening a socket: {short}")
        );
    }
}
