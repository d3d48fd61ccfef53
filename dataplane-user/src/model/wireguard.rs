//! WireGuard devices: desired and observed state, and the changes between the two.

mod change;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use ipnet::IpNet;

use crate::net::PeerEndpoint;
use crate::net::key::{PresharedKey, PublicKey};

pub use change::WireGuardChange;
pub(crate) use change::free_port;

/// A device, desired or observed. Its private key is never read: the public key identifies it, and the kernel
/// adapter fetches the private key when it sets it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Device {
    /// The public key; `None`: it has no private key yet.
    pub public_key: Option<PublicKey>,
    /// UDP port; 0: chosen by the kernel, or not chosen yet.
    pub listen_port: u16,
    /// The mark of the packets that it sends; 0: none.
    pub fwmark: u32,
    /// Its peers. If two peers have the same allowed IP, the last one gets it.
    pub peers: BTreeMap<PublicKey, Peer>,
}

/// A peer of a device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peer {
    /// The address from which it sent last, or the configured one; `None`: the peer must connect first.
    pub endpoint: Option<PeerEndpoint>,
    /// The endpoint that was configured last. If `endpoint` differs from it, the peer has roamed. No kernel
    /// object of WireGuard stores it; the carry map does.
    pub configured: Option<PeerEndpoint>,
    /// The prefixes from which it may send, and that are sent to it.
    pub allowed_ips: BTreeSet<IpNet>,
    /// Seconds between keepalives; 0: none.
    pub keepalive: u16,
    /// The preshared key.
    pub preshared_key: Preshared,
}

/// The preshared key of a peer, desired or observed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Preshared {
    /// It has none.
    #[default]
    None,
    /// It has this one.
    Key(PresharedKey),
    /// The key exists but can't be read now; only in the desired state. An existing peer keeps its key, and a
    /// new peer is not created: without the key no packet would pass.
    Unreadable,
}

impl Preshared {
    /// The key, if it is known.
    #[must_use]
    pub fn key(&self) -> Option<&PresharedKey> {
        match self {
            Preshared::Key(key) => Some(key),
            Preshared::None | Preshared::Unreadable => None,
        }
    }
}

impl From<Option<PresharedKey>> for Preshared {
    fn from(key: Option<PresharedKey>) -> Preshared {
        key.map_or(Preshared::None, Preshared::Key)
    }
}

/// A change of a device. No `Display` and no `Debug` shows a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeviceChange {
    /// Sets the private key that belongs to this public key.
    SetPrivateKey(PublicKey),
    /// Binds the device to another UDP port.
    SetListenPort(u16),
    /// Gives up the current UDP port, which is this one, for another device: until it gets its own port, the
    /// kernel chooses one.
    YieldListenPort(u16),
    /// Sets the mark of its packets; 0: none.
    SetFwmark(u32),
    /// Adds a peer with all its allowed IPs, which other peers lose.
    AddPeer(PublicKey, Peer),
    /// Changes an existing peer.
    UpdatePeer(PublicKey, PeerUpdate),
    /// Removes allowed IPs from a peer that no other peer gets.
    RemoveAllowedIps(PublicKey, BTreeSet<IpNet>),
    /// Removes a peer.
    RemovePeer(PublicKey),
}

/// The changes of a peer; `None` and the empty set change nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerUpdate {
    /// The new endpoint.
    pub endpoint: Option<PeerEndpoint>,
    /// The new interval of keepalives in seconds; 0: off.
    pub keepalive: Option<u16>,
    /// The new preshared key; `Some(None)`: remove it.
    pub preshared_key: Option<Option<PresharedKey>>,
    /// Allowed IPs that it gets, which other peers lose.
    pub add: BTreeSet<IpNet>,
}

impl Device {
    /// The device after a change; `None` if the change is impossible, because its peer does not exist or
    /// exists already.
    #[must_use]
    pub fn changed(mut self, change: &DeviceChange) -> Option<Device> {
        match change {
            DeviceChange::SetPrivateKey(key) => self.public_key = Some(*key),
            DeviceChange::SetListenPort(port) => self.listen_port = *port,
            DeviceChange::YieldListenPort(_) => self.listen_port = 0,
            DeviceChange::SetFwmark(mark) => self.fwmark = *mark,
            DeviceChange::AddPeer(key, peer) => {
                self.take_prefixes(&peer.allowed_ips);
                self.peers.insert(*key, peer.clone());
            }
            DeviceChange::UpdatePeer(key, update) => {
                self.peers.get(key)?;
                self.take_prefixes(&update.add);
                let peer = self.peers.get_mut(key)?;
                if update.endpoint.is_some() {
                    peer.endpoint.clone_from(&update.endpoint);
                    peer.configured.clone_from(&update.endpoint);
                }
                peer.keepalive = update.keepalive.unwrap_or(peer.keepalive);
                if let Some(preshared_key) = &update.preshared_key {
                    peer.preshared_key = preshared_key.clone().into();
                }
                peer.allowed_ips.extend(&update.add);
            }
            DeviceChange::RemoveAllowedIps(key, prefixes) => {
                let peer = self.peers.get_mut(key)?;
                peer.allowed_ips.retain(|prefix| !prefixes.contains(prefix));
            }
            DeviceChange::RemovePeer(key) => drop(self.peers.remove(key)),
        }
        Some(self)
    }

    fn take_prefixes(&mut self, prefixes: &BTreeSet<IpNet>) {
        for peer in self.peers.values_mut() {
            peer.allowed_ips.retain(|prefix| !prefixes.contains(prefix));
        }
    }
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
            DeviceChange::SetPrivateKey(key) => write!(f, "private key of public key {key}"),
            DeviceChange::SetListenPort(port) => write!(f, "listen-port {port}"),
            DeviceChange::YieldListenPort(port) => {
                write!(f, "listen-port 0 temporarily, because another device gets {port}")
            }
            DeviceChange::SetFwmark(mark) => write!(f, "fwmark {mark:#x}"),
            DeviceChange::AddPeer(key, peer) => {
                write!(f, "peer {key}")?;
                if let Some(endpoint) = &peer.endpoint {
                    write!(f, " endpoint {endpoint}")?;
                }
                if peer.keepalive > 0 {
                    write!(f, " persistent-keepalive {}", peer.keepalive)?;
                }
                if peer.preshared_key != Preshared::None {
                    f.write_str(" preshared-key (hidden)")?;
                }
                write!(f, " allowed-ips {}", Prefixes(&peer.allowed_ips, ""))
            }
            DeviceChange::UpdatePeer(key, update) => write!(f, "peer {key}{update}"),
            DeviceChange::RemoveAllowedIps(key, prefixes) => {
                write!(f, "peer {key} allowed-ips {}", Prefixes(prefixes, "-"))
            }
            DeviceChange::RemovePeer(key) => write!(f, "peer {key} remove"),
        }
    }
}

impl fmt::Display for PeerUpdate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(endpoint) = &self.endpoint {
            write!(f, " endpoint {endpoint}")?;
        }
        match self.keepalive {
            Some(0) => f.write_str(" persistent-keepalive off")?,
            Some(seconds) => write!(f, " persistent-keepalive {seconds}")?,
            None => {}
        }
        match &self.preshared_key {
            Some(Some(_)) => f.write_str(" preshared-key (hidden)")?,
            Some(None) => f.write_str(" preshared-key off")?,
            None => {}
        }
        if !self.add.is_empty() {
            write!(f, " allowed-ips {}", Prefixes(&self.add, "+"))?;
        }
        Ok(())
    }
}

/// A list of prefixes as `wg` prints it, each with a sign; after the fourth one only the number of the
/// others.
struct Prefixes<'a>(&'a BTreeSet<IpNet>, &'static str);

impl fmt::Display for Prefixes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 4;
        let Prefixes(prefixes, sign) = self;
        if prefixes.is_empty() {
            return f.write_str("(none)");
        }
        for (index, prefix) in prefixes.iter().take(SHOWN).enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma}{sign}{prefix}")?;
        }
        match prefixes.len().saturating_sub(SHOWN) {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}
