//! A node's key changes without a loss: while it does, a pair has a second link with the next keys, on a device and a port of its
//! own, and packets move from one to the other once a handshake was seen there.
//!
//! What a manifest's `nextPublicKey` begins ends when it is the `publicKey`: then the first device gets that key, packets move
//! back, and the second one goes when it was quiet for a while. Each end moves by itself: both receive on both.

use std::net::SocketAddr;

use super::{Pair, WireGuardLink};
use crate::limits;
use crate::model::devices::{ROTATION, next_wireguard_device};
use crate::model::facts::Session;
use crate::model::facts::{NodeFacts, OwnKey};
use crate::net::PublicKey;
use crate::resource::{Node, Problem, Reason};

/// Adds to a pair's link the second one that it needs now, and says which of them packets take.
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
    // Whoever is awaited is called.
    let awaited = if stage.begins { &mut second } else { &mut first };
    awaited.keepalive = Some(awaited.keepalive.map_or(limits::ROTATION_KEEPALIVE, |seconds| {
        seconds.min(limits::ROTATION_KEEPALIVE)
    }));
    let moved = is_up(awaited);
    let (mut taken, other) = if moved == stage.begins {
        (second, first)
    } else {
        (first, second)
    };
    taken.awaits = !moved;
    taken.beside = Some(Box::new(other));
    taken
}

/// What of a rotation a pair is in.
struct Stage {
    /// Whether packets shall move to the second link, or back to the first one.
    begins: bool,
    /// The keys of both ends of the second link: this node's, and the peer's.
    keys: (PublicKey, PublicKey),
}

fn stage(link: &WireGuardLink, pair: &Pair<'_>, facts: &NodeFacts) -> Option<Stage> {
    let next = |node: &Node| node.wireguard.as_ref().and_then(|own| own.next_public_key);
    match (next(pair.node), next(pair.peer)) {
        (None, None) => {
            let stands = (next_wireguard_device(link.unit), link.public_key);
            facts.wireguard.lingering.contains(&stands).then_some(Stage {
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

/// Whether a key is this one, as far as that can be told: a device that has it stays while its file can't be read.
fn may_be(key: &OwnKey, declared: PublicKey) -> bool {
    match key {
        OwnKey::Known(known) => *known == declared,
        OwnKey::Missing => false,
        OwnKey::Unusable(_) => true,
    }
}

/// This node's next key is not the one that its manifest tells the others.
pub(in crate::plan) fn own_problem(node: &Node, facts: &NodeFacts) -> Option<Problem> {
    let next = node.wireguard.as_ref()?.next_public_key?;
    let message = match &facts.wireguard.next_key {
        OwnKey::Known(known) if *known == next => return None,
        OwnKey::Known(known) => format!("this node's next key is {known}, its manifest says {next}"),
        OwnKey::Missing => "this node has no next WireGuard key".to_owned(),
        // `keys` tells of it.
        OwnKey::Unusable(_) => return None,
    };
    Some(Problem::error(
        Reason::KeyMismatch,
        format!("TunnelNode/{}", node.name),
        format!("{message}: the present key stays"),
        format!(
            "put what `adit wg rotate` prints on this node into the spec of TunnelNode/{}",
            node.name
        ),
    ))
}

/// What is still awaited on the way to a peer.
pub(in crate::plan) fn problem(link: &WireGuardLink, peer: &Node) -> Option<Problem> {
    let beside = link.beside.as_ref().filter(|_| link.awaits)?;
    Some(Problem::warning(
        Reason::KeyRotation,
        format!("TunnelNode/{}", peer.name),
        format!(
            "no handshake with {} on {} yet: packets go by {} as before",
            beside.public_key,
            beside.device(),
            link.device()
        ),
        "all nodes must have the same manifests; a firewall between them must let the port of that device through".to_owned(),
    ))
}
