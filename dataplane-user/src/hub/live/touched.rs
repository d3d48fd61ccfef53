//! The peers of which a file says something else than before, and where their endpoints are.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use crate::hub::SyncError;
use crate::net::key::PublicKey;
use crate::resource::wireguard::Peer;
use crate::source::names::look_up;
use crate::wg_quick::Config;

/// How long names are looked up.
const PATIENCE: Duration = Duration::from_secs(5);

/// The peers of which a file says something else than before.
pub(super) struct Touched<'a> {
    pub(super) before: Vec<&'a Peer>,
    pub(super) now: Vec<&'a Peer>,
}

impl<'a> Touched<'a> {
    pub(super) fn between(before: &'a Config, now: &'a Config) -> Touched<'a> {
        let by_key = |config: &'a Config| -> BTreeMap<PublicKey, &'a Peer> {
            config.peers.iter().map(|peer| (peer.public_key, peer)).collect()
        };
        let (before, now) = (by_key(before), by_key(now));
        let differing = |these: &BTreeMap<_, &'a Peer>, those: &BTreeMap<_, _>| {
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
}

/// Where the names are by which the endpoints are known. A link-local address comes with its device.
pub(super) async fn names(peers: &[&Peer]) -> Result<BTreeMap<String, Vec<IpAddr>>, SyncError> {
    let endpoints = peers.iter().filter_map(|peer| peer.endpoint.as_ref());
    let wanted = endpoints.filter_map(|endpoint| endpoint.host.name()).cloned();
    let answers = look_up(wanted.collect::<BTreeSet<_>>(), PATIENCE).await;
    let found = answers.into_iter().map(|(name, found)| match found {
        Ok(addresses) => Ok((name, addresses)),
        Err(_) => Err(SyncError::Name(name)),
    });
    found.collect()
}
