//! Executes changes of WireGuard devices. Those of one device are sent together; if these are refused, they
//! are sent one by one. Configured endpoints are stored.

use super::{EndpointStore, WireGuard};
use crate::kernel::KernelError;
use crate::kernel::wireguard::endpoints::Endpoints;
use crate::model::change::WireGuardChange;
use crate::model::wireguard::{Device, DeviceChange};
use crate::model::{KernelState, LinkKind, Owner};
use crate::net::hash::stable_hash;
use crate::net::{LinkName, Namespace};

/// Executes changes in order and continues after failures; one result per change.
pub(in crate::kernel) async fn execute(
    wireguard: &mut WireGuard,
    mut endpoint_store: Option<&mut EndpointStore>,
    namespace: Option<&Namespace>,
    changes: &[&WireGuardChange],
) -> Vec<Result<(), KernelError>> {
    let mut results = Vec::with_capacity(changes.len());
    for run in changes.chunk_by(|a, b| a.link == b.link) {
        let link = &run[0].link;
        let known_as = stored_name(namespace, link);
        let run: Vec<&DeviceChange> = run.iter().map(|change| &change.change).collect();
        if run.len() > 1 && wireguard.set_device(link, &run).await.is_ok() {
            let remembered = run
                .iter()
                .map(|change| remember(endpoint_store.as_deref_mut(), &known_as, change));
            results.extend(remembered);
            continue;
        }
        for change in run {
            let result = wireguard.set_device(link, &[change]).await;
            results.push(result.and_then(|()| remember(endpoint_store.as_deref_mut(), &known_as, change)));
        }
    }
    results
}

/// The managed WireGuard devices in a state.
pub(in crate::kernel) fn devices(state: &KernelState) -> Vec<LinkName> {
    let links = state.links.iter();
    let managed = links.filter(|(_, link)| link.owner == Owner::Adit && link.kind == LinkKind::WireGuard);
    managed.map(|(name, _)| name.clone()).collect()
}

/// Reads a device; `None` if it was deleted meanwhile.
pub(in crate::kernel) async fn get(
    wireguard: &mut WireGuard,
    link: &LinkName,
) -> Result<Option<Device>, KernelError> {
    match wireguard.get_device(link).await {
        Ok(reading) => Ok(Some(reading.device)),
        Err(error) if error.errno() == Some(libc::ENODEV) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The configured endpoints, which the kernel does not report.
pub(in crate::kernel) struct Configured(Endpoints);

impl Configured {
    pub(in crate::kernel) fn read(endpoint_store: Option<&EndpointStore>) -> Result<Configured, KernelError> {
        let endpoints = endpoint_store.map(EndpointStore::endpoints).transpose()?;
        Ok(Configured(endpoints.unwrap_or_default()))
    }

    /// Sets the configured endpoints of the peers of a device.
    pub(in crate::kernel) fn tell(
        &mut self,
        namespace: Option<&Namespace>,
        link: &LinkName,
        device: &mut Device,
    ) {
        let known_as = stored_name(namespace, link);
        for (key, peer) in &mut device.peers {
            peer.configured = self.0.remove(&(known_as.clone(), *key));
        }
    }

    /// Deletes the endpoints of this namespace that belong to no device: their devices or peers were deleted.
    /// If that fails, they only use space.
    pub(in crate::kernel) fn forget_rest(self, endpoint_store: &mut EndpointStore) {
        let mut here = self
            .0
            .keys()
            .filter(|(device, _)| !device.as_str().starts_with(ELSEWHERE));
        if let Err(error) = here.try_for_each(|(device, peer)| endpoint_store.forget(device, peer)) {
            tracing::debug!("can't forget the endpoints of deleted peers: {error}");
        }
    }
}

/// The first character of the stored names of devices in other namespaces.
const ELSEWHERE: char = '@';

/// The name of a device in the storage. Since names have limited length there, the name of a device in
/// another namespace is a hash of device and namespace.
fn stored_name(namespace: Option<&Namespace>, link: &LinkName) -> LinkName {
    let Some(namespace) = namespace else {
        return link.clone();
    };
    let hash = stable_hash(format!("{namespace} {link}").as_bytes()) >> 8;
    LinkName::new(&format!("{ELSEWHERE}{hash:014x}")).expect("15 bytes")
}

/// Stores configured endpoints, always after the change: an endpoint that is stored but not set would look as
/// if the peer had roamed.
fn remember(
    endpoint_store: Option<&mut EndpointStore>,
    link: &LinkName,
    change: &DeviceChange,
) -> Result<(), KernelError> {
    let Some(endpoint_store) = endpoint_store else {
        return Ok(());
    };
    let (peer, endpoint) = match change {
        DeviceChange::AddPeer(peer, config) if config.endpoint.is_none() => {
            // Delete what is stored of an earlier device of this name.
            return endpoint_store.forget(link, peer);
        }
        DeviceChange::AddPeer(peer, config) => (peer, &config.endpoint),
        DeviceChange::UpdatePeer(peer, update) => (peer, &update.endpoint),
        DeviceChange::RemovePeer(peer) => return endpoint_store.forget(link, peer),
        _ => return Ok(()),
    };
    match endpoint {
        Some(endpoint) => endpoint_store.set_endpoint(link, peer, endpoint),
        None => Ok(()),
    }
}
