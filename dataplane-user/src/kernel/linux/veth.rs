//! Which veth ends belong together: an end knows its other one by an index and the number of a namespace.

use std::collections::BTreeMap;

use crate::kernel::KernelError;
use crate::kernel::netlink::{Netlink, VethEnd};
use crate::kernel::netns::Namespaces;
use crate::model::{KernelState, LinkKind, VethPeer};
use crate::net::Namespace;

/// A place: `None` is the agent's own namespace.
type Place = Option<Namespace>;

/// Says of each end of ours which its other one is. An end whose other one is nowhere that we look stays a mere `veth`. The
/// other namespaces that can't be asked, and why.
pub(super) async fn join(
    here: &mut Netlink,
    namespaces: &mut Namespaces,
    state: &mut KernelState,
) -> Result<Vec<(Namespace, String)>, KernelError> {
    let mut failed = Vec::new();
    let mut ends: BTreeMap<Place, Vec<VethEnd>> = BTreeMap::from([(None, here.veths().to_vec())]);
    for (namespace, open) in namespaces.open() {
        ends.insert(Some(namespace.clone()), open.netlink.veths().to_vec());
    }
    let mut peers = Vec::new();
    for (place, own) in &ends {
        let numbers = match own.iter().any(|end| end.namespace.is_some()) {
            true => numbers(place, here, namespaces).await,
            false => Ok(BTreeMap::new()),
        };
        let numbers = match (numbers, place) {
            (Ok(numbers), _) => numbers,
            (Err(error), None) => return Err(error),
            (Err(error), Some(namespace)) => {
                failed.push((namespace.clone(), error.to_string()));
                continue;
            }
        };
        for end in own {
            let there = match end.namespace {
                None => Some(place),
                Some(number) => numbers.get(&number),
            };
            let Some(there) = there else { continue };
            let mut candidates = ends.get(there).into_iter().flatten();
            let other = candidates.find(|other| (other.index, other.peer) == (end.peer, end.index));
            if let Some(other) = other {
                let peer = VethPeer {
                    namespace: there.clone(),
                    name: other.name.clone(),
                };
                peers.push((place.clone(), end.name.clone(), peer));
            }
        }
    }
    for (place, name, peer) in peers {
        let link = state
            .at_mut(place.as_ref())
            .and_then(|state| state.links.get_mut(&name));
        if let Some(link) = link {
            link.kind = LinkKind::Veth(peer);
        }
    }
    Ok(failed)
}

/// The places that a place knows by numbers.
async fn numbers(
    place: &Place,
    here: &mut Netlink,
    namespaces: &mut Namespaces,
) -> Result<BTreeMap<i32, Place>, KernelError> {
    let files = namespaces.files()?;
    let (places, files): (Vec<_>, Vec<_>) = files.into_iter().unzip();
    let borrowed = files.iter().map(std::os::fd::AsFd::as_fd).collect::<Vec<_>>();
    let netlink = match place {
        None => here,
        Some(namespace) => match namespaces.get(namespace).map(|open| &mut open.netlink) {
            Some(netlink) => netlink,
            None => return Ok(BTreeMap::new()),
        },
    };
    let numbers = netlink.numbers(&borrowed).await?;
    let known = numbers.into_iter().zip(places);
    Ok(known
        .filter_map(|(number, place)| Some((number?, place)))
        .collect())
}
