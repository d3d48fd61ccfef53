//! The peers that differ between two versions of a file.

use std::collections::BTreeMap;

use crate::net::key::PublicKey;
use crate::resource::wireguard::Peer;
use crate::wg_quick::Config;

/// The peers that differ between two versions of a file.
pub(super) struct ChangedPeers<'a> {
    pub(super) before: Vec<&'a Peer>,
    pub(super) now: Vec<&'a Peer>,
}

impl<'a> ChangedPeers<'a> {
    pub(super) fn between(before: &'a Config, now: &'a Config) -> ChangedPeers<'a> {
        let by_key = |config: &'a Config| -> BTreeMap<PublicKey, &'a Peer> {
            config.peers.iter().map(|peer| (peer.public_key, peer)).collect()
        };
        let (before, now) = (by_key(before), by_key(now));
        let differing = |these: &BTreeMap<_, &'a Peer>, those: &BTreeMap<_, _>| {
            let differing = these.iter().filter(|(key, peer)| those.get(*key) != Some(*peer));
            differing.map(|(_, peer)| *peer).collect::<Vec<_>>()
        };
        ChangedPeers {
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
