//! Peers, and whose each prefix is in the end.

use std::collections::BTreeMap;
use std::ops::Range;

use ipnet::IpNet;

use super::{PEER_KEYS, each_entry};
use crate::net::key::{PresharedKey, PublicKey};
use crate::resource::wireguard::{Peer, PresharedSource};
use crate::wg_quick::error::Problem;
use crate::wg_quick::{Document, value};

/// A peer as its section has it, with the lines that its errors name.
pub(super) struct Placed {
    peer: Peer,
    key_line: usize,
    /// One for each of its allowed IPs.
    lines: Vec<usize>,
    /// Within, `None`: the section says that there is none.
    preshared_key: Option<Option<PresharedKey>>,
    keepalive: Option<u16>,
}

impl Placed {
    pub(super) fn read(
        document: &Document,
        lines: &Range<usize>,
        warnings: &mut Vec<Problem>,
    ) -> Result<Placed, Problem> {
        let mut public_key = None;
        let mut placed = Placed {
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
                    placed.preshared_key = Some(Some(key).filter(|key| !key.is_zero()));
                }
                "AllowedIPs" => {
                    for prefix in value::allowed_ips(text)? {
                        placed.take_prefix(prefix, entry.line);
                    }
                }
                "Endpoint" => placed.peer.endpoint = Some(value::endpoint(text)?),
                _ => placed.keepalive = Some(value::keepalive(text)?),
            }
            Ok(())
        })?;
        let Some((key_line, public_key)) = public_key else {
            return Err(Problem::new(lines.start + 1, "this [Peer] has no `PublicKey`"));
        };
        placed.key_line = key_line;
        placed.peer.public_key = public_key;
        Ok(placed)
    }

    fn take_prefix(&mut self, prefix: IpNet, line: usize) {
        if !self.peer.allowed_ips.contains(&prefix) {
            self.peer.allowed_ips.push(prefix);
            self.lines.push(line);
        }
    }

    /// What another section of the same key says, and this one does not.
    fn inherit(&mut self, before: &Placed) {
        self.preshared_key = self.preshared_key.take().or_else(|| before.preshared_key.clone());
        self.keepalive = self.keepalive.or(before.keepalive);
        let endpoint = self.peer.endpoint.take();
        self.peer.endpoint = endpoint.or_else(|| before.peer.endpoint.clone());
    }
}

/// The peers as they are once the kernel has taken one after the other, as `wg setconf` tells them: who names a prefix takes
/// it, and a peer that comes again keeps all but its prefixes.
pub(super) fn settled(mut peers: Vec<Placed>, warnings: &mut Vec<Problem>) -> Vec<Peer> {
    let mut owners: BTreeMap<IpNet, usize> = BTreeMap::new();
    let mut keys = BTreeMap::new();
    for index in 0..peers.len() {
        let key = peers[index].peer.public_key;
        if let Some(before) = keys.insert(key, index) {
            owners.retain(|_, owner| *owner != before);
            let (earlier, later) = peers.split_at_mut(index);
            later[0].inherit(&earlier[before]);
            let text = format!(
                "{key} is the `PublicKey` of two peers; line {} has it, too, and the last one's AllowedIPs count",
                earlier[before].key_line
            );
            warnings.push(Problem::new(later[0].key_line, text));
        }
        let placed = &peers[index];
        for (prefix, line) in placed.peer.allowed_ips.iter().zip(&placed.lines) {
            if let Some(before) = owners.insert(*prefix, index) {
                let loser = &peers[before];
                let former = loser.peer.allowed_ips.iter().position(|own| own == prefix);
                let text = format!(
                    "AllowedIPs: {prefix} of peer {key} is that of peer {} on line {}, too: the last one gets it",
                    loser.peer.public_key,
                    former.map_or(loser.key_line, |at| loser.lines[at])
                );
                warnings.push(Problem::new(*line, text));
            }
        }
    }
    let peers = peers.into_iter().enumerate();
    let settle = |(index, placed): (usize, Placed)| {
        let mut peer = placed.peer;
        peer.preshared_key = placed.preshared_key.flatten().map(PresharedSource::Key);
        peer.keepalive = placed.keepalive.unwrap_or(0);
        peer.allowed_ips
            .retain(|prefix| owners.get(prefix) == Some(&index));
        peer
    };
    peers.map(settle).collect()
}
