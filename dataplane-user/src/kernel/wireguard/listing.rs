//! A device as the kernel lists it: peers, and their allowed IPs, in its order, which is the order in which they came.

use std::collections::BTreeMap;

use super::{PeerTraffic, Reading};
use crate::model::wireguard::Device;
use crate::net::LinkName;
use crate::net::key::{PrivateKey, PublicKey};
use crate::resource::wireguard::{Peer, on_device};

/// A device, with all that the kernel tells of it. It is no `[Interface]` of a file: the kernel always tells the public key, and
/// addresses and MTU are the link's. No `Debug` shows a secret.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// Its name; another one than was asked for, where that is its alternative one.
    pub name: Option<LinkName>,
    /// Its private key, where it was asked for and there is one. Wiped when dropped.
    pub private_key: Option<PrivateKey>,
    /// The public key; `None`: it has no private key yet.
    pub public_key: Option<PublicKey>,
    /// UDP port; 0: none yet.
    pub listen_port: u16,
    /// The mark of the packets that it sends; 0: none.
    pub fwmark: u32,
    /// Its peers. An endpoint is where the peer was heard last, or what was configured.
    pub peers: Vec<Peer>,
    /// What they have done.
    pub traffic: BTreeMap<PublicKey, PeerTraffic>,
}

impl Listing {
    /// What a peer has done.
    #[must_use]
    pub fn traffic(&self, peer: &Peer) -> PeerTraffic {
        self.traffic.get(&peer.public_key).copied().unwrap_or_default()
    }
}

impl From<Listing> for Reading {
    fn from(listing: Listing) -> Reading {
        let mut peers = on_device(&listing.peers, &BTreeMap::new());
        for peer in peers.values_mut() {
            // The kernel does not tell.
            peer.configured = None;
        }
        let device = Device {
            public_key: listing.public_key,
            listen_port: listing.listen_port,
            fwmark: listing.fwmark,
            peers,
        };
        Reading {
            device,
            traffic: listing.traffic,
        }
    }
}
