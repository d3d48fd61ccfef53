//! A device as the kernel lists it: peers, and their allowed IPs, in its order, which is the order in which they came.

use std::collections::BTreeMap;

use ipnet::IpNet;

use super::{PeerTraffic, Reading};
use crate::model::wireguard::{Device, Peer};
use crate::net::key::{PresharedKey, PrivateKey, PublicKey};
use crate::net::{LinkName, PeerEndpoint};

/// A device. No `Debug` shows a secret.
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
    /// Its peers.
    pub peers: Vec<ListedPeer>,
}

/// A peer of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedPeer {
    /// Its public key.
    pub public_key: PublicKey,
    /// The preshared key, if there is one. Wiped when dropped.
    pub preshared_key: Option<PresharedKey>,
    /// Where it was heard last, or what was configured; `None`: neither.
    pub endpoint: Option<PeerEndpoint>,
    /// Seconds between keepalives; 0: none.
    pub keepalive: u16,
    /// What it may send from, and what is sent to it.
    pub allowed_ips: Vec<IpNet>,
    /// What it has done.
    pub traffic: PeerTraffic,
}

impl ListedPeer {
    /// A peer of which only the key is known.
    #[must_use]
    pub fn new(public_key: PublicKey) -> ListedPeer {
        ListedPeer {
            public_key,
            preshared_key: None,
            endpoint: None,
            keepalive: 0,
            allowed_ips: Vec::new(),
            traffic: PeerTraffic::default(),
        }
    }
}

impl From<Listing> for Reading {
    fn from(listing: Listing) -> Reading {
        let mut traffic = BTreeMap::new();
        let peers = listing.peers.into_iter().map(|peer| {
            traffic.insert(peer.public_key, peer.traffic);
            let config = Peer {
                endpoint: peer.endpoint,
                configured: None,
                allowed_ips: peer.allowed_ips.into_iter().collect(),
                keepalive: peer.keepalive,
                preshared_key: peer.preshared_key.into(),
            };
            (peer.public_key, config)
        });
        let device = Device {
            public_key: listing.public_key,
            listen_port: listing.listen_port,
            fwmark: listing.fwmark,
            peers: peers.collect(),
        };
        Reading { device, traffic }
    }
}
