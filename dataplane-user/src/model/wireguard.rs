//! WireGuard devices: what the kernel says of one, what one shall be, and the changes between them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use ipnet::IpNet;

use crate::net::key::{PresharedKey, PrivateKey, PublicKey};

/// A device as the kernel says. Its private key stays in the kernel: the public one tells whether it is the right one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Device {
    /// The public key; `None`: it has no private key yet.
    pub public_key: Option<PublicKey>,
    /// UDP port; 0 while the kernel has not chosen one.
    pub listen_port: u16,
    /// The mark of the packets that it sends; 0: none.
    pub fwmark: u32,
    /// Its peers.
    pub peers: BTreeMap<PublicKey, Peer>,
}

/// A peer as the kernel says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peer {
    /// Where it was heard last, or what was configured; `None`: neither.
    pub endpoint: Option<SocketAddr>,
    /// What it may send from, and what is sent to it.
    pub allowed_ips: BTreeSet<IpNet>,
    /// Seconds between keepalives; 0: none.
    pub keepalive: u16,
    /// The preshared key, if there is one.
    pub preshared_key: Option<PresharedKey>,
    /// When the last handshake was, since 1970; `None`: never.
    pub last_handshake: Option<Duration>,
    /// Bytes received from it.
    pub received: u64,
    /// Bytes sent to it.
    pub sent: u64,
}

/// What a device shall be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceConfig {
    /// The private key.
    pub private_key: PrivateKey,
    /// UDP port; `None`: the kernel's choice.
    pub listen_port: Option<u16>,
    /// The mark of the packets that it sends; 0: none.
    pub fwmark: u32,
    /// Its peers. Two must not have one allowed prefix: the last one would get it.
    pub peers: BTreeMap<PublicKey, PeerConfig>,
}

/// What a peer shall be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerConfig {
    /// Where it is; `None`: it is awaited.
    pub endpoint: Option<SocketAddr>,
    /// What it may send from, and what is sent to it.
    pub allowed_ips: BTreeSet<IpNet>,
    /// Seconds between keepalives; 0: none.
    pub keepalive: u16,
    /// The preshared key, if there is to be one.
    pub preshared_key: Option<PresharedKey>,
}

/// A change of a device. No `Display` and no `Debug` shows a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeviceChange {
    /// Gives it another private key.
    SetPrivateKey(PrivateKey),
    /// Binds it to another UDP port.
    SetListenPort(u16),
    /// Marks its packets; 0: no more.
    SetFwmark(u32),
    /// Adds a peer, with all its prefixes, whoever has them now.
    AddPeer(PublicKey, PeerConfig),
    /// Changes a peer that is there.
    UpdatePeer(PublicKey, PeerUpdate),
    /// Takes a peer away.
    RemovePeer(PublicKey),
}

/// What changes of a peer; `None` and empty sets are left alone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerUpdate {
    /// Another endpoint.
    pub endpoint: Option<SocketAddr>,
    /// Other seconds between keepalives; 0: no more.
    pub keepalive: Option<u16>,
    /// Another preshared key; within, `None`: no more.
    pub preshared_key: Option<Option<PresharedKey>>,
    /// Prefixes that it gets, whoever has them now.
    pub add: BTreeSet<IpNet>,
    /// Prefixes that nobody shall have.
    pub remove: BTreeSet<IpNet>,
}

impl PeerUpdate {
    /// Whether nothing changes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == PeerUpdate::default()
    }
}

impl fmt::Display for DeviceChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DeviceChange::SetPrivateKey(key) => {
                write!(f, "set the private key (public key {})", key.public_key())
            }
            DeviceChange::SetListenPort(port) => write!(f, "set port {port}"),
            DeviceChange::SetFwmark(mark) => write!(f, "set fwmark {mark:#x}"),
            DeviceChange::AddPeer(key, peer) => {
                write!(f, "add peer {key} with {} prefixes", peer.allowed_ips.len())
            }
            DeviceChange::UpdatePeer(key, update) => write!(f, "update peer {key}: {update}"),
            DeviceChange::RemovePeer(key) => write!(f, "remove peer {key}"),
        }
    }
}

impl fmt::Display for PeerUpdate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let endpoint = self.endpoint.map(|endpoint| format!("endpoint {endpoint}"));
        let keepalive = self.keepalive.map(|seconds| format!("keepalive {seconds} s"));
        let preshared = self.preshared_key.as_ref().map(|key| match key {
            Some(_) => "another preshared key".to_owned(),
            None => "no preshared key".to_owned(),
        });
        let add = self.add.iter().map(|prefix| format!("+{prefix}"));
        let remove = self.remove.iter().map(|prefix| format!("-{prefix}"));
        let words: Vec<_> = endpoint
            .into_iter()
            .chain(keepalive)
            .chain(preshared)
            .chain(add)
            .chain(remove)
            .collect();
        f.write_str(&words.join(", "))
    }
}
