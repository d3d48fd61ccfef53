//! Finds which veth ends belong together. The kernel describes the other end by an index and the id of a
//! namespace.

use std::collections::BTreeMap;

use crate::kernel::KernelError;
use crate::kernel::netlink::{Netlink, VethEnd};
use crate::kernel::netns::Namespaces;
use crate::model::{KernelState, LinkKind, VethPeer};
use crate::net::Namespace;

/// A namespace; `None` is the agent's own.
type OwnOrOther = Option<Namespace>;

/// Sets the other end of each managed veth end. An end whose other end is in an unknown namespace stays a
/// plain `veth`. Returns the other namespaces that can't be asked, each with the reason.
pub(super) async fn join(
    here: &mut Netlink,
    namespaces: &mut Namespaces,
    state: &mut KernelState,
) -> Result<Vec<(Namespace, String)>, KernelError> {
    let mut failed = Vec::new();
    let mut ends: BTreeMap<OwnOrOther, Vec<VethEnd>> = BTreeMap::from([(None, here.veths().to_vec())]);
    for (namespace, open) in namespaces.open() {
        ends.insert(Some(namespace.clone()), open.netlink.veths().to_vec());
    }
    let mut peers = Vec::new();
    for (namespace, own) in &ends {
        let ids = match own.iter().any(|end| end.namespace.is_some()) {
            true => ids(namespace, here, namespaces).await,
            false => Ok(BTreeMap::new()),
        };
        let ids = match (ids, namespace) {
            (Ok(ids), _) => ids,
            (Err(error), None) => return Err(error),
            (Err(error), Some(namespace)) => {
                failed.push((namespace.clone(), error.to_string()));
                continue;
            }
        };
        for end in own {
            let other_namespace = match end.namespace {
                None => Some(namespace),
                Some(id) => ids.get(&id),
            };
            let Some(other_namespace) = other_namespace else {
                continue;
            };
            let mut candidates = ends.get(other_namespace).into_iter().flatten();
            let other = candidates.find(|other| (other.index, other.peer) == (end.peer, end.index));
            if let Some(other) = other {
                let peer = VethPeer {
                    namespace: other_namespace.clone(),
                    name: other.name.clone(),
                };
                peers.push((namespace.clone(), end.name.clone(), peer));
            }
        }
    }
    for (namespace, name, peer) in peers {
        let link = state
            .at_mut(namespace.as_ref())
            .and_then(|state| state.links.get_mut(&name));
        if let Some(link) = link {
            link.kind = LinkKind::Veth(peer);
        }
    }
    Ok(failed)
}

/// The namespaces for which a namespace has an id.
async fn ids(
    namespace: &OwnOrOther,
    here: &mut Netlink,
    namespaces: &mut Namespaces,
) -> Result<BTreeMap<i32, OwnOrOther>, KernelError> {
    let files = namespaces.files()?;
    let (order, files): (Vec<_>, Vec<_>) = files.into_iter().unzip();
    let borrowed = files.iter().map(std::os::fd::AsFd::as_fd).collect::<Vec<_>>();
    let netlink = match namespace {
        None => here,
        Some(namespace) => match namespaces.get(namespace).map(|open| &mut open.netlink) {
            Some(netlink) => netlink,
            None => return Ok(BTreeMap::new()),
        },
    };
    let ids = netlink.numbers(&borrowed).await?;
    let known = ids.into_iter().zip(order);
    Ok(known
        .filter_map(|(id, namespace)| Some((id?, namespace)))
        .collect())
}
