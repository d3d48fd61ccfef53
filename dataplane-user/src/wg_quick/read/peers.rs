//! Reads peers, and decides to which peer each prefix belongs.

use std::collections::BTreeMap;
use std::ops::Range;

use ipnet::IpNet;

use super::{PEER_KEYS, each_entry};
use crate::net::key::{PresharedKey, PublicKey};
use crate::resource::wireguard::{Peer, PresharedSource};
use crate::wg_quick::error::Problem;
use crate::wg_quick::{Document, value};

/// A peer as written in its section, with the line numbers for errors.
pub(super) struct WrittenPeer {
    peer: Peer,
    key_line: usize,
    /// The line of each of its allowed IPs.
    lines: Vec<usize>,
    /// The inner `None` means that the section sets an empty key.
    preshared_key: Option<Option<PresharedKey>>,
    keepalive: Option<u16>,
}

impl WrittenPeer {
    pub(super) fn read(
        document: &Document,
        lines: &Range<usize>,
        warnings: &mut Vec<Problem>,
    ) -> Result<WrittenPeer, Problem> {
        let mut public_key = None;
        let mut written = WrittenPeer {
            peer: Peer::new(PublicKey::from_bytes([0; 32])),
            key_line: lines.start + 1,
            lines: Vec::new(),
            preshared_key: None,
            keepalive: None,
        };
        each_entry(document, lines, &PEER_KEYS, warnings, |entry| {
            let text = entry.value;
            match entry.key {
                "PublicKey" => public_key = Some((entry.line, value::key(text)?)),
                "PresharedKey" => {
                    let key = value::key::<PresharedKey>(text)?;
                    written.preshared_key = Some(Some(key).filter(|key| !key.is_zero()));
                }
                "AllowedIPs" => {
                    for prefix in value::allowed_ips(text)? {
                        written.add_prefix(prefix, entry.line);
                    }
                }
                "Endpoint" => written.peer.endpoint = Some(value::endpoint(text)?),
                _ => written.keepalive = Some(value::keepalive(text)?),
            }
            Ok(())
        })?;
        let Some((key_line, public_key)) = public_key else {
            return Err(Problem::new(
                lines.start + 1,
                "this [Peer] has no `PublicKey`; add one",
            ));
        };
        written.key_line = key_line;
        written.peer.public_key = public_key;
        Ok(written)
    }

    fn add_prefix(&mut self, prefix: IpNet, line: usize) {
        if !self.peer.allowed_ips.contains(&prefix) {
            self.peer.allowed_ips.push(prefix);
            self.lines.push(line);
        }
    }

    /// Adds the values of an earlier section with the same key that this section does not set.
    fn inherit(&mut self, before: &WrittenPeer) {
        self.preshared_key = self.preshared_key.take().or_else(|| before.preshared_key.clone());
        self.keepalive = self.keepalive.or(before.keepalive);
        let endpoint = self.peer.endpoint.take();
        self.peer.endpoint = endpoint.or_else(|| before.peer.endpoint.clone());
    }
}

/// The resulting peers if the kernel applies the sections in order, as `wg setconf` sends them: a prefix
/// moves to the last peer that names it, and a peer that is repeated keeps everything except its prefixes.
pub(super) fn resolved(mut peers: Vec<WrittenPeer>, warnings: &mut Vec<Problem>) -> Vec<Peer> {
    let mut owners: BTreeMap<IpNet, usize> = BTreeMap::new();
    let mut keys = BTreeMap::new();
    for index in 0..peers.len() {
        let key = peers[index].peer.public_key;
        if let Some(before) = keys.insert(key, index) {
            owners.retain(|_, owner| *owner != before);
            let (earlier, later) = peers.split_at_mut(index);
            later[0].inherit(&earlier[before]);
            let text = format!(
                "{key} is the `PublicKey` of two peers, first on line {}; only the AllowedIPs of the last one count",
                earlier[before].key_line
            );
            warnings.push(Problem::new(later[0].key_line, text));
        }
        let written = &peers[index];
        for (prefix, line) in written.peer.allowed_ips.iter().zip(&written.lines) {
            if let Some(before) = owners.insert(*prefix, index) {
                let loser = &peers[before];
                let former = loser.peer.allowed_ips.iter().position(|own| own == prefix);
                let text = format!(
                    "AllowedIPs: {prefix} of peer {key} is also that of peer {} on line {}; the last peer gets it",
                    loser.peer.public_key,
                    former.map_or(loser.key_line, |at| loser.lines[at])
                );
                warnings.push(Problem::new(*line, text));
            }
        }
    }
    let peers = peers.into_iter().enumerate();
    let resolve = |(index, written): (usize, WrittenPeer)| {
        let mut peer = written.peer;
        peer.preshared_key = written.preshared_key.flatten().map(PresharedSource::Key);
        peer.keepalive = written.keepalive.unwrap_or(0);
        peer.allowed_ips
            .retain(|prefix| owners.get(prefix) == Some(&index));
        peer
    };
    peers.map(resolve).collect()
}
