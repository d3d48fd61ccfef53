//! The peers of which a file says something else than before, and where their endpoints are.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use tokio::net::lookup_host;
use tokio::time::timeout;

use crate::hub::SyncError;
use crate::limits;
use crate::net::PeerEndpoint;
use crate::net::key::PublicKey;
use crate::resource::node::{Endpoint, Host};
use crate::wg_quick::{self, Config};

/// The peers of which a file says something else than before.
pub(super) struct Touched<'a> {
    pub(super) before: Vec<&'a wg_quick::Peer>,
    pub(super) now: Vec<&'a wg_quick::Peer>,
}

impl<'a> Touched<'a> {
    pub(super) fn between(before: &'a Config, now: &'a Config) -> Touched<'a> {
        let by_key = |config: &'a Config| -> BTreeMap<PublicKey, &'a wg_quick::Peer> {
            config.peers.iter().map(|peer| (peer.public_key, peer)).collect()
        };
        let (before, now) = (by_key(before), by_key(now));
        let differing = |these: &BTreeMap<_, &'a wg_quick::Peer>, those: &BTreeMap<_, _>| {
            let differing = these.iter().filter(|(key, peer)| those.get(*key) != Some(*peer));
            differing.map(|(_, peer)| *peer).collect::<Vec<_>>()
        };
        Touched {
            before: differing(&before, &now),
            now: differing(&now, &before),
        }
    }

    pub(super) fn has(&self, key: &PublicKey) -> bool {
        self.before
            .iter()
            .chain(&self.now)
            .any(|peer| peer.public_key == *key)
    }

    pub(super) async fn addresses(&self) -> Result<BTreeMap<(String, u16), SocketAddr>, SyncError> {
        endpoints(&self.now).await
    }
}

/// Where the names are by which the endpoints are known. A link-local address comes with its device.
pub(super) async fn endpoints(
    peers: &[&wg_quick::Peer],
) -> Result<BTreeMap<(String, u16), SocketAddr>, SyncError> {
    let mut addresses = BTreeMap::new();
    for Endpoint { host, port } in peers.iter().filter_map(|peer| peer.endpoint.as_ref()) {
        let Host::Name(name) = host else { continue };
        let found = timeout(limits::HUB_NAMES_PATIENCE, lookup_host((name.as_str(), *port))).await;
        let found = found.ok().and_then(Result::ok).and_then(|mut found| found.next());
        let address = found.ok_or_else(|| SyncError::Name(name.clone()))?;
        addresses.insert((name.clone(), *port), address);
    }
    Ok(addresses)
}

pub(super) fn endpoint(
    peer: &wg_quick::Peer,
    addresses: &BTreeMap<(String, u16), SocketAddr>,
) -> Option<PeerEndpoint> {
    let endpoint = peer.endpoint.as_ref()?;
    let known = |name: &str| addresses.get(&(name.to_owned(), endpoint.port));
    endpoint.resolve(|name| known(name).map(SocketAddr::ip))
}
