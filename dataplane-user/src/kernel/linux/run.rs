//! Splits changes by the adapter that executes them.

use std::io;

use crate::kernel::KernelError;
use crate::model::change::{BpfChange, NetlinkChange, NftChange, SysctlChange, WireGuardChange};
use crate::model::{Action, Change};
use crate::net::Namespace;

/// Consecutive changes that all belong to one namespace and one adapter.
pub(super) enum Run<'c> {
    Netlink(Vec<&'c NetlinkChange>),
    Sysctl(Vec<&'c SysctlChange>),
    WireGuard(Vec<&'c WireGuardChange>),
    Nft(Vec<&'c NftChange>),
    Bpf(Vec<&'c BpfChange>),
}

impl<'c> Run<'c> {
    /// Splits the changes into as few runs as their order allows.
    pub(super) fn split(changes: &'c [Change]) -> Vec<(Option<&'c Namespace>, Run<'c>)> {
        let mut runs: Vec<(Option<&Namespace>, Run<'c>)> = Vec::new();
        for change in changes {
            let namespace = change.namespace.as_ref();
            match (
                runs.last_mut().filter(|(last, _)| *last == namespace),
                &change.action,
            ) {
                (Some((_, Run::Netlink(run))), Action::Netlink(change)) => run.push(change),
                (Some((_, Run::Sysctl(run))), Action::Sysctl(change)) => run.push(change),
                (Some((_, Run::WireGuard(run))), Action::WireGuard(change)) => run.push(change),
                (Some((_, Run::Nft(run))), Action::Nft(change)) => run.push(change),
                (Some((_, Run::Bpf(run))), Action::Bpf(change)) => run.push(change),
                (_, action) => runs.push((namespace, Run::of(action))),
            }
        }
        runs
    }

    fn of(action: &'c Action) -> Run<'c> {
        match action {
            Action::Netlink(change) => Run::Netlink(vec![change]),
            Action::Sysctl(change) => Run::Sysctl(vec![change]),
            Action::WireGuard(change) => Run::WireGuard(vec![change]),
            Action::Nft(change) => Run::Nft(vec![change]),
            Action::Bpf(change) => Run::Bpf(vec![change]),
        }
    }

    pub(super) fn all_fail(&self, kind: io::ErrorKind) -> Vec<Result<(), KernelError>> {
        let number = match self {
            Run::Netlink(changes) => changes.len(),
            Run::Sysctl(changes) => changes.len(),
            Run::WireGuard(changes) => changes.len(),
            Run::Nft(changes) => changes.len(),
            Run::Bpf(changes) => changes.len(),
        };
        let fail = || Err(KernelError::of_change(io::Error::from(kind)));
        std::iter::repeat_with(fail).take(number).collect()
    }
}
