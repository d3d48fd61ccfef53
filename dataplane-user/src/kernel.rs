//! The edge to the kernel: reads all state that concerns Adit, executes changes, and gathers facts.

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
pub mod udp_sockets;
pub mod wireguard;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::model::facts::Presence;
use crate::model::facts::{Gateway, Lookup, NodeFacts};
use crate::model::{Change, KernelState};
use crate::net::{LinkName, Namespace};

pub use linux::{ByHand, LinuxKernel, release};

/// Something that holds kernel state: the namespace of a real kernel, or a fake kernel in property tests.
#[expect(
    async_fn_in_trait,
    reason = "one thread drives the agent, futures need not be Send"
)]
pub trait Kernel {
    /// Reads all state that concerns Adit. The result is complete, or an error.
    ///
    /// # Errors
    /// When any part can't be read.
    async fn observe(&mut self) -> Result<KernelState, KernelError>;

    /// Announces the desired state. The next observation opens what that state needs, such as BPF, and reads
    /// the routes not managed by Adit that occupy the positions of desired ones.
    fn prepare(&mut self, _target: &KernelState) {}

    /// Whether the kernel reported a change since the last observation began. The observation may then be
    /// inconsistent: it may contain a device that is still up, without the routes that were deleted when it
    /// was taken down.
    async fn is_outdated(&mut self) -> bool {
        false
    }

    /// Opens the other namespaces that the next observation and changes need, and returns where the wanted
    /// ones are. They stay open until [`Kernel::release_namespaces`].
    ///
    /// # Errors
    /// When the search fails; a namespace that does not exist is no error.
    async fn open_namespaces(
        &mut self,
        _wanted: &ObservationScope,
    ) -> Result<BTreeMap<Namespace, Presence>, KernelError> {
        Ok(BTreeMap::new())
    }

    /// Waits until no packet uses a path any more that was replaced just now (an RCU grace period), so that
    /// what those packets need can be deleted.
    async fn wait_rcu_grace(&mut self) {}

    /// Closes other namespaces at the end of a reconciliation.
    fn release_namespaces(&mut self) {}

    /// Gathers the facts that the plan needs, including the route to each of these underlay addresses.
    ///
    /// # Errors
    /// When they can't be read; an address without route is no error.
    async fn facts(&mut self, peers: &BTreeSet<IpAddr>) -> Result<NodeFacts, KernelError>;

    /// Describes a change of managed state without an event since the last observation, as far as that is
    /// cheap to find out.
    ///
    /// # Errors
    /// When the kernel can't be asked.
    async fn changed_silently(&mut self) -> Result<Option<String>, KernelError> {
        Ok(None)
    }

    /// Executes changes in order and continues after failures; one result per change.
    async fn execute(&mut self, changes: &[Change]) -> Vec<Result<(), KernelError>>;
}

/// What an observation must read in addition to managed objects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ObservationScope {
    /// Other namespaces that have desired objects.
    pub namespaces: BTreeSet<Namespace>,
    /// Other namespaces that may contain objects of Adit.
    pub remembered: BTreeSet<Namespace>,
    /// Whether changes will follow. Then namespaces get an id in the agent's namespace, so that their events
    /// are received.
    pub changes: bool,
    /// Devices whose return paths are part of the facts.
    pub return_paths: BTreeSet<LinkName>,
    /// Prefixes of overlays: observations have all routes of others to destinations inside.
    pub overlays: BTreeSet<IpNet>,
    /// Routes that are part of the facts.
    pub lookups: BTreeSet<Lookup>,
    /// Gateways whose devices are part of the facts, by namespace (`None`: the agent's own).
    pub gateways: BTreeMap<Option<Namespace>, BTreeSet<Gateway>>,
    /// Whether a WireGuard key is being rotated, so that handshakes are part of the facts.
    pub rotating: bool,
}

/// The error of a request to the kernel.
#[derive(Debug, thiserror::Error)]
#[error("{}{source}{}", .context.as_ref().map(|context| format!("{context}: ")).unwrap_or_default(), .kernel_text.as_ref().map(|text| format!(" ({text})")).unwrap_or_default())]
pub struct KernelError {
    /// The operation that failed; `None` if it is the requested change, which the caller names.
    pub context: Option<String>,
    /// The error.
    #[source]
    pub source: io::Error,
    /// The explanation by the kernel (extended ack, or the end of the verifier log), if there is one.
    pub kernel_text: Option<String>,
}

impl KernelError {
    /// An error without an explanation by the kernel.
    #[must_use]
    pub fn new(context: impl Into<String>, source: io::Error) -> KernelError {
        KernelError {
            context: Some(context.into()),
            source,
            kernel_text: None,
        }
    }

    /// The error of a requested change, which the caller names.
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

    /// A copy of the error.
    #[must_use]
    pub fn again(&self) -> KernelError {
        KernelError {
            context: self.context.clone(),
            source: copy(&self.source),
            kernel_text: self.kernel_text.clone(),
        }
    }

    /// The errno, if there is one.
    #[must_use]
    pub fn errno(&self) -> Option<i32> {
        self.source.raw_os_error()
    }

    /// Whether a retry may succeed.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(
            self.errno(),
            Some(libc::EAGAIN | libc::EINTR | libc::EBUSY | libc::ENOBUFS | libc::ENOMEM | libc::ETIMEDOUT)
        ) || self.source.kind() == io::ErrorKind::TimedOut
    }
}

/// Copies an error. `io::Error` can't be cloned; if it has an errno, nothing is lost.
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
