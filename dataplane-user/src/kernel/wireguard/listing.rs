//! A device as the kernel lists it. Peers and their allowed IPs are in the order of the kernel, which is the
//! order of their creation.

use std::collections::BTreeMap;

use super::{PeerTraffic, Reading};
use crate::model::wireguard::Device;
use crate::net::LinkName;
use crate::net::key::{PrivateKey, PublicKey};
use crate::resource::wireguard::{Peer, on_device};

/// A device with everything that the kernel reports about it. It differs from an `[Interface]` of a file: the
/// public key is always there, while addresses and MTU belong to the link. `Debug` shows no secrets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// Its name, which differs from the requested one if that is an alternative name.
    pub name: Option<LinkName>,
    /// Its private key, if it was requested and there is one. Wiped when dropped.
    pub private_key: Option<PrivateKey>,
    /// The public key; `None` if it has no private key yet.
    pub public_key: Option<PublicKey>,
    /// UDP port; 0 for none yet.
    pub listen_port: u16,
    /// The mark of the packets that it sends; 0 for none.
    pub fwmark: u32,
    /// Its peers. An endpoint is the last source address of the peer, or the configured one.
    pub peers: Vec<Peer>,
    /// Their traffic.
    pub traffic: BTreeMap<PublicKey, PeerTraffic>,
}

impl Listing {
    /// The traffic of a peer.
    #[must_use]
    pub fn traffic(&self, peer: &Peer) -> PeerTraffic {
        self.traffic.get(&peer.public_key).copied().unwrap_or_default()
    }
}

impl From<Listing> for Reading {
    fn from(listing: Listing) -> Reading {
        let mut peers = on_device(&listing.peers, &BTreeMap::new());
        for peer in peers.values_mut() {
            // The kernel does not report it.
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
