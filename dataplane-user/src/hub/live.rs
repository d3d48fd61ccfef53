//! The interface that a file is of: what changed in the file is changed there, while it is up.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use tokio::net::lookup_host;
use tokio::time::timeout;

use super::SyncError;
use crate::diff;
use crate::kernel::KernelError;
use crate::kernel::wireguard::{self, WireGuard};
use crate::model::wireguard::{Device, Peer};
use crate::net::key::PublicKey;
use crate::net::name::InvalidName;
use crate::net::{LinkName, PeerEndpoint};
use crate::resource::node::{Endpoint, Host};
use crate::wg_quick::{self, Config};

/// How long a name is looked up.
const PATIENCE: Duration = Duration::from_secs(5);

/// An interface that is up, or a test's.
#[expect(async_fn_in_trait, reason = "one thread drives it, futures need not be Send")]
pub trait Live {
    /// Which peers it has.
    ///
    /// # Errors
    /// When it is not up, or can't be read.
    async fn peers(&mut self) -> Result<BTreeSet<PublicKey>, SyncError>;

    /// Makes those peers what the file says of which it said something else before. After [`Live::peers`].
    ///
    /// # Errors
    /// When it does not take that: then it is as it was, or the error says that it is not.
    async fn sync(&mut self, before: &Config, now: &Config) -> Result<(), SyncError>;
}

/// A WireGuard interface of the calling thread's network namespace.
pub struct LiveDevice {
    link: LinkName,
    wireguard: WireGuard,
    /// As it was read last.
    was: Device,
}

/// The peers of which a file says something else than before.
struct Touched<'a> {
    before: Vec<&'a wg_quick::Peer>,
    now: Vec<&'a wg_quick::Peer>,
}

impl LiveDevice {
    /// The name of the interface that a file is of: `wg0` of `/etc/wireguard/wg0.conf`.
    ///
    /// # Errors
    /// When that is no name of an interface.
    pub fn name_of(path: &Path) -> Result<LinkName, InvalidName> {
        let stem = path.file_stem().unwrap_or_default();
        LinkName::new(&stem.to_string_lossy())
    }

    /// Opens a socket; needs a tokio runtime.
    ///
    /// # Errors
    /// When it can't be opened. That there is no interface shows later.
    pub fn open(link: LinkName) -> Result<LiveDevice, KernelError> {
        Ok(LiveDevice {
            link,
            wireguard: WireGuard::open(wireguard::no_private_keys())?,
            was: Device::default(),
        })
    }

    /// Makes the changes, and looks whether the kernel took them.
    async fn set(&mut self, touched: &Touched<'_>) -> Result<(), SyncError> {
        let addresses = touched.addresses().await?;
        let device = |peers: &[&wg_quick::Peer]| {
            let peer = |peer: &&wg_quick::Peer| (peer.public_key, peer.to_model(endpoint(peer, &addresses)));
            let peers = peers.iter().map(peer).collect::<BTreeMap<PublicKey, Peer>>();
            Device {
                peers,
                ..Device::default()
            }
        };
        let (before, now) = (device(&touched.before), device(&touched.now));
        let changes = diff::wireguard::device(&before, &now);
        self.wireguard
            .set_device(&self.link, &changes.iter().collect::<Vec<_>>())
            .await?;
        let device = self.wireguard.get_device(&self.link).await?.device;
        let has = |key: &PublicKey, wanted: &Peer| {
            device.peers.get(key).map(|peer| &peer.allowed_ips) == Some(&wanted.allowed_ips)
        };
        match now.peers.iter().find(|(key, wanted)| !has(key, wanted)) {
            None => Ok(()),
            Some((peer, _)) => Err(SyncError::NotTaken {
                interface: self.link.clone(),
                peer: *peer,
            }),
        }
    }

    /// Brings back what was, of these peers and of those that they took a prefix from.
    async fn bring_back(&mut self, touched: &Touched<'_>) -> Result<(), KernelError> {
        let mut now = self.wireguard.get_device(&self.link).await?.device;
        let mut was = self.was.clone();
        for (key, peer) in &mut now.peers {
            // Others may have roamed meanwhile, and stay where they are.
            if !touched.has(key) {
                peer.configured = was.peers.get(key).and_then(|was| was.endpoint.clone());
            }
        }
        (was.public_key, was.listen_port, was.fwmark) = (now.public_key, now.listen_port, now.fwmark);
        let changes = diff::wireguard::device(&now, &was);
        self.wireguard
            .set_device(&self.link, &changes.iter().collect::<Vec<_>>())
            .await
    }
}

impl Live for LiveDevice {
    async fn peers(&mut self) -> Result<BTreeSet<PublicKey>, SyncError> {
        let read = self.wireguard.get_device(&self.link).await;
        let reading = read.map_err(|source| match source.errno() {
            Some(libc::ENODEV | libc::EOPNOTSUPP) => SyncError::NotUp {
                interface: self.link.clone(),
                source,
            },
            _ => SyncError::Kernel(source),
        })?;
        self.was = reading.device;
        Ok(self.was.peers.keys().copied().collect())
    }

    async fn sync(&mut self, before: &Config, now: &Config) -> Result<(), SyncError> {
        let touched = Touched::between(before, now);
        let Err(error) = self.set(&touched).await else {
            return Ok(());
        };
        match self.bring_back(&touched).await {
            Ok(()) => Err(error),
            Err(restoring) => Err(SyncError::NotRestored {
                error: Box::new(error),
                restoring,
            }),
        }
    }
}

impl<'a> Touched<'a> {
    fn between(before: &'a Config, now: &'a Config) -> Touched<'a> {
        let by_key = |config: &'a Config| -> BTreeMap<PublicKey, &'a wg_quick::Peer> {
            config.peers.iter().map(|peer| (peer.public_key, peer)).collect()
        };
        let (before, now) = (by_key(before), by_key(now));
        let differing = |these: &BTreeMap<_, &'a wg_quick::Peer>, those: &BTreeMap<_, _>| {
            let differing = these.iter().filter(|(key, peer)| those.get(*key) != Some(*peer));
            differing.map(|(_, peer)| *peer).collect::<Vec<_>>()
        };
        Touched {
            before: differing(&before, &now),
            now: differing(&now, &before),
        }
    }

    fn has(&self, key: &PublicKey) -> bool {
        self.before
            .iter()
            .chain(&self.now)
            .any(|peer| peer.public_key == *key)
    }

    /// Where the names are by which the endpoints are known.
    async fn addresses(&self) -> Result<BTreeMap<(String, u16), SocketAddr>, SyncError> {
        let mut addresses = BTreeMap::new();
        for Endpoint { host, port } in self.now.iter().filter_map(|peer| peer.endpoint.as_ref()) {
            let Host::Name(name) = host else { continue };
            let found = timeout(PATIENCE, lookup_host((name.as_str(), *port))).await;
            let found = found.ok().and_then(Result::ok).and_then(|mut found| found.next());
            let address = found.ok_or_else(|| SyncError::Name(name.clone()))?;
            addresses.insert((name.clone(), *port), address);
        }
        Ok(addresses)
    }
}

fn endpoint(peer: &wg_quick::Peer, addresses: &BTreeMap<(String, u16), SocketAddr>) -> Option<PeerEndpoint> {
    let endpoint = peer.endpoint.as_ref()?;
    let known = |name: &str| addresses.get(&(name.to_owned(), endpoint.port));
    endpoint.resolve(|name| known(name).map(SocketAddr::ip))
}
