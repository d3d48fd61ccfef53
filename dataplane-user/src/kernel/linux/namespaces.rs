//! Observation and changes in other network namespaces: devices, routes and rules of Adit.

use std::io;

use super::run::Run;
use super::{LinuxKernel, veth};
use crate::kernel::KernelError;
use crate::kernel::netlink::Netlink;
use crate::kernel::netns::Open;
use crate::kernel::wireguard::{self, PrivateKeys};
use crate::limits;
use crate::model::change::{LinkChange, LinkOperation, NetlinkChange};
use crate::model::{KernelState, Link, LinkKind};
use crate::net::{LinkName, Namespace};

impl LinuxKernel {
    /// Observes the other namespaces and finds which veth ends belong together. The state does not contain a
    /// namespace that can't be read.
    pub(super) async fn observe_namespaces(&mut self, state: &mut KernelState) -> Result<(), KernelError> {
        let private_keys = self.wireguard.private_keys();
        let mut failed = Vec::new();
        for (namespace, open) in self.namespaces.open() {
            let read = observe_one(open, private_keys);
            match tokio::time::timeout(limits::NAMESPACE_TIMEOUT, read).await {
                Ok(Ok(there)) => drop(state.namespaces.insert(namespace.clone(), there)),
                Ok(Err(error)) => failed.push((namespace.clone(), error.to_string())),
                Err(_) => failed.push((
                    namespace.clone(),
                    format!(
                        "reading the namespace took longer than {} s",
                        limits::NAMESPACE_TIMEOUT.as_secs()
                    ),
                )),
            }
        }
        for (namespace, why) in failed {
            self.namespaces.failed(&namespace, why);
        }
        for (namespace, why) in veth::join(&mut self.netlink, &mut self.namespaces, state).await? {
            state.namespaces.remove(&namespace);
            self.namespaces.failed(&namespace, why);
        }
        let mut configured = None;
        for (namespace, there) in &mut state.namespaces {
            self.namespaces.was_read(namespace);
            for (name, device) in &mut there.wireguard {
                if configured.is_none() {
                    configured = Some(wireguard::Configured::read(self.endpoint_store.as_ref())?);
                }
                if let Some(configured) = &mut configured {
                    configured.tell(Some(namespace), name, device);
                }
            }
        }
        state.unreadable.clone_from(self.namespaces.unreadable());
        state.uncertain.clone_from(self.namespaces.uncertain());
        Ok(())
    }

    /// Executes changes in one other namespace that all belong to one adapter.
    pub(super) async fn execute_in(
        &mut self,
        namespace: &Namespace,
        run: Run<'_>,
    ) -> Vec<Result<(), KernelError>> {
        let Some(open) = self.namespaces.get(namespace) else {
            return run.all_fail(io::ErrorKind::NotFound);
        };
        match run {
            Run::Netlink(changes) => elsewhere(&mut self.netlink, open, &changes).await,
            Run::WireGuard(changes) => match open.wireguard(self.wireguard.private_keys()) {
                Ok(adapter) => {
                    let endpoint_store = self.endpoint_store.as_mut();
                    wireguard::execute(adapter, endpoint_store, Some(namespace), &changes).await
                }
                Err(error) => changes.iter().map(|_| Err(error.again())).collect(),
            },
            // The plan never contains such changes in another namespace.
            Run::Sysctl(_) | Run::Nft(_) | Run::Bpf(_) => run.all_fail(io::ErrorKind::Unsupported),
        }
    }
}

/// Observes one other namespace.
async fn observe_one(open: &mut Open, private_keys: &PrivateKeys) -> Result<KernelState, KernelError> {
    let mut there = KernelState::default();
    open.netlink.observe(&mut there).await?;
    for name in wireguard::devices(&there) {
        let adapter = open.wireguard(private_keys)?;
        if let Some(device) = wireguard::get(adapter, &name).await? {
            there.wireguard.insert(name, device);
        }
    }
    Ok(there)
}

/// Executes netlink changes in another namespace. WireGuard devices are created from the agent's namespace,
/// which their outer packets then use.
async fn elsewhere(
    here: &mut Netlink,
    open: &mut Open,
    changes: &[&NetlinkChange],
) -> Vec<Result<(), KernelError>> {
    let mut results = Vec::with_capacity(changes.len());
    let from_here = |change: &NetlinkChange| match change {
        NetlinkChange::Link(LinkChange(name, LinkOperation::Create(link)))
            if link.kind == LinkKind::WireGuard =>
        {
            Some((name.clone(), link.clone()))
        }
        _ => None,
    };
    for run in changes.chunk_by(|a, b| from_here(a).is_none() && from_here(b).is_none()) {
        match from_here(run[0]) {
            None => results.extend(open.netlink.execute(run).await),
            Some((name, link)) => {
                let made = here.create_elsewhere(&name, &link, open.descriptor()).await;
                let is_taken = made
                    .as_ref()
                    .is_err_and(|error| error.errno() == Some(libc::EEXIST));
                results.push(match is_taken {
                    true => by_another_name(here, open, &name, &link).await,
                    false => made,
                });
            }
        }
    }
    results
}

/// Creates a WireGuard device in another namespace although the agent's namespace has a device of that name,
/// which the kernel would refuse (`rtnl_newlink` looks names up in the namespace of the socket): creates it
/// under another name and renames it there.
async fn by_another_name(
    here: &mut Netlink,
    open: &mut Open,
    name: &LinkName,
    link: &Link,
) -> Result<(), KernelError> {
    let other = LinkName::new(&format!("adit-{:x}", std::process::id())).expect("13 bytes at most");
    here.create_elsewhere(&other, link, open.descriptor()).await?;
    open.netlink.rename(&other, name).await
}
