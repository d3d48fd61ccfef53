//! Changes of WireGuard devices: those of one device go together, and one by one where together they are refused. What
//! was configured of an endpoint is carried.

use super::WireGuard;
use crate::kernel::KernelError;
use crate::kernel::bpf::carry::Carry;
use crate::model::Change;
use crate::model::wireguard::DeviceChange;
use crate::net::LinkName;

/// Executes changes in order, going on past failures; one result a change.
pub(in crate::kernel) async fn execute(
    wireguard: &mut WireGuard,
    carry: Option<&Carry>,
    changes: &[Change],
) -> Vec<Result<(), KernelError>> {
    let parts = changes.iter().filter_map(|change| match change {
        Change::SetWireGuard(link, change) => Some((link, change)),
        _ => None,
    });
    let parts: Vec<(&LinkName, &DeviceChange)> = parts.collect();
    debug_assert_eq!(parts.len(), changes.len(), "all are changes of WireGuard devices");
    let mut results = Vec::with_capacity(parts.len());
    for run in parts.chunk_by(|a, b| a.0 == b.0) {
        let link = run[0].0;
        let run: Vec<&DeviceChange> = run.iter().map(|(_, change)| *change).collect();
        if run.len() > 1 && wireguard.set_device(link, &run).await.is_ok() {
            results.extend(run.iter().map(|change| remember(carry, link, change)));
            continue;
        }
        for change in run {
            let result = wireguard.set_device(link, &[change]).await;
            results.push(result.and_then(|()| remember(carry, link, change)));
        }
    }
    results
}

/// After the change, never before: an endpoint that is remembered but not set would look as if the peer had roamed.
fn remember(carry: Option<&Carry>, link: &LinkName, change: &DeviceChange) -> Result<(), KernelError> {
    let Some(carry) = carry else {
        return Ok(());
    };
    let (peer, endpoint) = match change {
        DeviceChange::AddPeer(peer, config) if config.endpoint.is_none() => {
            // What an earlier device of this name left.
            return carry.forget(link, &[*peer]);
        }
        DeviceChange::AddPeer(peer, config) => (peer, config.endpoint),
        DeviceChange::UpdatePeer(peer, update) => (peer, update.endpoint),
        DeviceChange::RemovePeer(peer) => return carry.forget(link, &[*peer]),
        _ => return Ok(()),
    };
    match endpoint {
        Some(endpoint) => carry.set_endpoint(link, peer, endpoint),
        None => Ok(()),
    }
}
