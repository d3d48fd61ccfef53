//! Key rotation without packet loss: during a rotation, a pair has a second link with the next keys, on a
//! separate device and port, and packets move to it once it has a handshake.
//!
//! A rotation begins when a manifest declares `nextPublicKey`, and ends when that key becomes `publicKey`:
//! then the first device gets that key, packets move back, and the second device is deleted after it was
//! quiet for a while. Each end moves independently: both receive on both devices.

use std::net::SocketAddr;

use super::{Pair, WireGuardLink};
use crate::limits;
use crate::model::devices::{ROTATION, next_wireguard_device};
use crate::model::facts::Session;
use crate::model::facts::{NodeFacts, OwnKey};
use crate::net::PublicKey;
use crate::resource::{Node, Problem, Reason};

/// Adds the second link to the link of a pair if it needs one now, and decides which of them packets use.
pub(super) fn apply(link: WireGuardLink, pair: &Pair<'_>, facts: &NodeFacts) -> WireGuardLink {
    let Some(stage) = stage(&link, pair, facts) else {
        return link;
    };
    let is_up = |link: &WireGuardLink| {
        let session = Session {
            device: link.device(),
            own: link.own_key,
            peer: link.public_key,
        };
        facts.wireguard.sessions.contains(&session)
    };
    let port = |port: u16| port.checked_add(ROTATION.into());
    let endpoint = link
        .endpoint
        .and_then(|at| Some(SocketAddr::new(at.ip(), port(at.port())?)));
    let Some(second_port) = port(link.port) else {
        return link;
    };
    let mut second = WireGuardLink {
        unit: link.unit | ROTATION,
        port: second_port,
        own_key: stage.keys.0,
        public_key: stage.keys.1,
        endpoint,
        ..link.clone()
    };
    let mut first = link;
    // Keepalives start the handshake that is waited for.
    let awaited = if stage.begins { &mut second } else { &mut first };
    awaited.keepalive = Some(awaited.keepalive.map_or(limits::ROTATION_KEEPALIVE, |seconds| {
        seconds.min(limits::ROTATION_KEEPALIVE)
    }));
    let moved = is_up(awaited);
    let (mut used, other) = if moved == stage.begins {
        (second, first)
    } else {
        (first, second)
    };
    used.awaits = !moved;
    used.beside = Some(Box::new(other));
    used
}

/// The stage of a rotation of a pair.
struct Stage {
    /// Whether packets should move to the second link; else back to the first one.
    begins: bool,
    /// The keys of the second link: of this node, and of the peer.
    keys: (PublicKey, PublicKey),
}

fn stage(link: &WireGuardLink, pair: &Pair<'_>, facts: &NodeFacts) -> Option<Stage> {
    let next = |node: &Node| node.wireguard.as_ref().and_then(|own| own.next_public_key);
    match (next(pair.node), next(pair.peer)) {
        (None, None) => {
            let former_peer = (next_wireguard_device(link.unit), link.public_key);
            facts.wireguard.lingering.contains(&former_peer).then_some(Stage {
                begins: false,
                keys: (link.own_key, link.public_key),
            })
        }
        (Some(own), _) if !may_be(&facts.wireguard.next_key, own) => None,
        (own, peer) => Some(Stage {
            begins: true,
            keys: (own.unwrap_or(link.own_key), peer.unwrap_or(link.public_key)),
        }),
    }
}

/// Whether a key may be this one: a device with it stays while the key file can't be read.
fn may_be(key: &OwnKey, declared: PublicKey) -> bool {
    match key {
        OwnKey::Known(known) => *known == declared,
        OwnKey::Missing => false,
        OwnKey::Unusable(_) => true,
    }
}

/// The problem that the next key of this node is not the one that its manifest declares.
pub(in crate::plan) fn own_problem(node: &Node, facts: &NodeFacts) -> Option<Problem> {
    let next = node.wireguard.as_ref()?.next_public_key?;
    let message = match &facts.wireguard.next_key {
        OwnKey::Known(known) if *known == next => return None,
        OwnKey::Known(known) => format!("this node's next key is {known}, but its manifest declares {next}"),
        OwnKey::Missing => "this node has no next WireGuard key".to_owned(),
        // `keys` reports it.
        OwnKey::Unusable(_) => return None,
    };
    Some(Problem::error(
        Reason::KeyMismatch,
        format!("TunnelNode/{}", node.name),
        format!("{message}: the current key stays in use"),
        format!(
            "run `adit wg rotate` on this node, and add its output to the spec of TunnelNode/{}",
            node.name
        ),
    ))
}

/// The problem that the rotation of the link to a peer waits for a handshake.
pub(in crate::plan) fn problem(link: &WireGuardLink, peer: &Node) -> Option<Problem> {
    let beside = link.beside.as_ref().filter(|_| link.awaits)?;
    Some(Problem::warning(
        Reason::KeyRotation,
        format!("TunnelNode/{}", peer.name),
        format!(
            "waiting for a handshake with {} on {}; until then packets use {}",
            beside.public_key,
            beside.device(),
            link.device()
        ),
        "give all nodes the same manifests, and let firewalls between them accept the UDP port of that device".to_owned(),
    ))
}
