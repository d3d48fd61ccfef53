//! The interface of a file: changes of the file are applied to the interface, with the routes of its allowed
//! IPs.

mod changed_peers;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::Path;

use ipnet::IpNet;

use self::changed_peers::ChangedPeers;
use super::routes::{self, AllowedIpChange, RouteChanges};
use super::{LivePeers, SyncError};
use crate::diff;
use crate::kernel::KernelError;
use crate::kernel::netlink::Netlink;
use crate::kernel::wireguard::{self, WireGuard};
use crate::limits;
use crate::model::change::{NetlinkChange, RouteChange, RouteOperation};
use crate::model::wireguard::{self as model, Device, DeviceChange};
use crate::model::{Owner, Route, RouteKey, RouteKind};
use crate::net::key::{PrivateKey, PublicKey};
use crate::net::name::InvalidName;
use crate::net::{Family, LinkName};
use crate::resource::wireguard::{Peer, on_device};
use crate::source::names::of_peers;
use crate::wg_quick::Config;

/// An existing interface, or a fake interface of a test.
#[expect(async_fn_in_trait, reason = "one thread drives it, futures need not be Send")]
pub trait Live {
    /// The peers of the interface.
    ///
    /// # Errors
    /// If the interface does not exist, if an agent manages it, or if it can't be read.
    async fn peers(&mut self) -> Result<LivePeers, SyncError>;

    /// Applies the difference between two versions of the file: the changed peers and their routes. Must be
    /// called after [`Live::peers`].
    ///
    /// # Errors
    /// If a change fails. Then the interface is restored, or the error says that it could not be.
    async fn sync(&mut self, before: &Config, now: &Config) -> Result<(), SyncError>;

    /// Undoes the last [`Live::sync`], which was called with the same arguments.
    ///
    /// # Errors
    /// If it can't be undone.
    async fn restore(&mut self, before: &Config, now: &Config) -> Result<(), SyncError>;

    /// Updates the interface to match the file, and returns a description of each change. Must be called
    /// after [`Live::peers`].
    ///
    /// # Errors
    /// As [`Live::sync`].
    async fn align(&mut self, file: &Config) -> Result<Vec<String>, SyncError>;
}

/// A WireGuard interface in the network namespace of the calling thread. Only changes of the file are applied
/// to it. A comparison with the whole file, as in `adit wg up`, would also undo changes that a user made by
/// `wg` or `ip`.
pub struct LiveDevice {
    link: LinkName,
    netlink: Netlink,
    wireguard: WireGuard,
    /// The device as it was read last.
    was: Device,
    /// The changes of its routes since then.
    routes: RouteChanges,
}

impl LiveDevice {
    /// The name of the interface of a file: `wg0` for `/etc/wireguard/wg0.conf`.
    ///
    /// # Errors
    /// If it is not a valid name of an interface.
    pub fn name_of(path: &Path) -> Result<LinkName, InvalidName> {
        let stem = path.file_stem().unwrap_or_default();
        LinkName::new(&stem.to_string_lossy())
    }

    /// Opens the sockets; needs a tokio runtime.
    ///
    /// # Errors
    /// If they can't be opened. A missing interface is reported later.
    pub fn open(link: LinkName) -> Result<LiveDevice, KernelError> {
        Ok(LiveDevice {
            link,
            netlink: Netlink::open()?.by_hand(),
            wireguard: WireGuard::open(wireguard::no_private_keys())?,
            was: Device::default(),
            routes: RouteChanges::default(),
        })
    }

    /// Applies changed peers, and verifies that the kernel accepted them.
    async fn set(&mut self, touched: &ChangedPeers<'_>) -> Result<(), SyncError> {
        let names = names(&touched.now).await?;
        let now = on_device(touched.now.iter().copied(), &names);
        // The comparison is with the interface and not with the former file, because an earlier run may have
        // been interrupted or have changed only the file.
        let mut before = self.was.peers.clone();
        before.retain(|key, _| touched.has(key));
        for (key, peer) in &mut before {
            let said = touched.before.iter().find(|peer| peer.public_key == *key);
            peer.configured = match said {
                Some(said) => said.resolve(&names),
                // The file has no new endpoint: the endpoint to which the peer has roamed stays.
                None => now.get(key).and_then(|peer| peer.endpoint.clone()),
            };
        }
        let device = |peers| Device {
            peers,
            ..Device::default()
        };
        let (before, now) = (device(before), device(now));
        self.change(&diff::wireguard::device(&before, &now), &now).await
    }

    /// Applies changes of the device, and verifies that it has the peers of `wanted`. It may have other
    /// peers.
    async fn change(&mut self, changes: &[DeviceChange], wanted: &Device) -> Result<(), SyncError> {
        self.wireguard
            .set_device(&self.link, &changes.iter().collect::<Vec<_>>())
            .await?;
        let device = self.wireguard.get_device(&self.link).await?.device;
        let has = |key: &PublicKey, wanted: &model::Peer| {
            device.peers.get(key).map(|peer| &peer.allowed_ips) == Some(&wanted.allowed_ips)
        };
        match wanted.peers.iter().find(|(key, wanted)| !has(key, wanted)) {
            None => Ok(()),
            Some((peer, _)) => Err(SyncError::NotApplied {
                interface: self.link.clone(),
                peer: *peer,
            }),
        }
    }

    /// Adds and deletes the routes of allowed IPs. A device that is down has no routes.
    async fn route(
        &mut self,
        file: &Config,
        new: &BTreeSet<IpNet>,
        gone: &BTreeSet<IpNet>,
    ) -> Result<(), SyncError> {
        let is_up = self.netlink.link(&self.link).await?.is_some_and(|link| link.up);
        if !is_up {
            return Ok(());
        }
        let existing = self.netlink.routes_by(&self.link).await?;
        let kept = allowed_ips(&file.peers);
        let change = AllowedIpChange {
            kept: &kept,
            new,
            gone,
        };
        let changes = routes::changes(file.interface.table, change, &existing);
        for key in changes.add {
            self.add_route(&key).await?;
            self.routes.add.push(key);
        }
        for key in changes.delete {
            self.netlink.delete_route_by(&self.link, &key).await?;
            self.routes.delete.push(key);
        }
        Ok(())
    }

    async fn add_route(&mut self, key: &RouteKey) -> Result<(), KernelError> {
        let change = create_route(&self.link, key);
        self.netlink.make(&[change]).await
    }

    /// Restores the touched peers, the peers that lost a prefix to them, and the device itself.
    async fn undo(&mut self, is_touched: impl Fn(&PublicKey) -> bool) -> Result<(), KernelError> {
        let mut now = self.wireguard.get_device(&self.link).await?.device;
        let mut was = self.was.clone();
        for (key, peer) in &mut now.peers {
            // Other peers may have roamed meanwhile and keep their endpoints.
            if !is_touched(key) {
                peer.configured = was.peers.get(key).and_then(|was| was.endpoint.clone());
            }
        }
        // If the device had no private key, the new key stays.
        was.public_key = was.public_key.or(now.public_key);
        let changes = diff::wireguard::device(&now, &was);
        self.wireguard
            .set_device(&self.link, &changes.iter().collect::<Vec<_>>())
            .await?;
        let routes = std::mem::take(&mut self.routes);
        for key in &routes.delete {
            self.add_route(key).await?;
        }
        for key in &routes.add {
            self.netlink.delete_route_by(&self.link, key).await?;
        }
        Ok(())
    }

    /// Undoes the changes, and returns the error, with the second error if undoing fails.
    async fn undone(&mut self, error: SyncError, is_touched: impl Fn(&PublicKey) -> bool) -> SyncError {
        match self.undo(is_touched).await {
            Ok(()) => error,
            Err(restoring) => SyncError::NotRestored {
                error: Box::new(error),
                restoring,
            },
        }
    }

    /// Applies the whole file, and returns a description of each change.
    async fn set_all(&mut self, file: &Config) -> Result<Vec<String>, SyncError> {
        let peers = file.peers.iter().collect::<Vec<_>>();
        let names = names(&peers).await?;
        let interface = &file.interface;
        let wanted = Device {
            public_key: interface.private_key.as_ref().map(PrivateKey::public_key),
            // Without a value in the file, the port that the kernel chose stays, and so does the mark of a
            // default route.
            listen_port: interface.listen_port.unwrap_or(0),
            fwmark: match interface.fwmark {
                0 => self.was.fwmark,
                mark => mark,
            },
            peers: on_device(&file.peers, &names),
        };
        let mut was = self.was.clone();
        for peer in was.peers.values_mut() {
            peer.configured = peer.endpoint.clone();
        }
        let changes = diff::wireguard::device(&was, &wanted);
        if wanted.public_key != was.public_key {
            // The former key is needed too, because the change may have to be undone.
            let former = self.wireguard.list_device(&self.link, true).await?.private_key;
            let keys = former.into_iter().chain(interface.private_key.clone());
            self.wireguard = WireGuard::open(wireguard::private_keys(keys))?;
        }
        self.change(&changes, &wanted).await?;
        let new = allowed_ips(&file.peers);
        let had = was.peers.values().flat_map(|peer| &peer.allowed_ips);
        let gone = had.filter(|prefix| !new.contains(*prefix)).copied().collect();
        self.route(file, &new, &gone).await?;
        let device = changes.iter().map(ToString::to_string);
        let added = self.routes.add.iter().map(|key| format!("add route {key}"));
        let deleted = self.routes.delete.iter().map(|key| format!("delete route {key}"));
        Ok(device.chain(added).chain(deleted).collect())
    }
}

impl Live for LiveDevice {
    async fn peers(&mut self) -> Result<LivePeers, SyncError> {
        let link = self.netlink.link(&self.link).await?;
        if link.is_some_and(|link| link.owner == Owner::Adit) {
            return Err(SyncError::Kept {
                interface: self.link.clone(),
            });
        }
        let read = self.wireguard.get_device(&self.link).await;
        let reading = read.map_err(|source| match source.errno() {
            Some(libc::ENODEV | libc::EOPNOTSUPP) => SyncError::NotUp {
                interface: self.link.clone(),
                source,
            },
            _ => SyncError::Kernel(source),
        })?;
        self.was = reading.device;
        let peers = self.was.peers.iter();
        Ok(peers
            .map(|(key, peer)| (*key, peer.allowed_ips.clone()))
            .collect())
    }

    async fn sync(&mut self, before: &Config, now: &Config) -> Result<(), SyncError> {
        let touched = ChangedPeers::between(before, now);
        self.routes = RouteChanges::default();
        let new = prefixes(&touched.now);
        let gone = prefixes(&touched.before);
        let mut done = self.set(&touched).await;
        if done.is_ok() {
            done = self.route(now, &new, &gone).await;
        }
        match done {
            Ok(()) => Ok(()),
            Err(error) => Err(self.undone(error, |key| touched.has(key)).await),
        }
    }

    async fn restore(&mut self, before: &Config, now: &Config) -> Result<(), SyncError> {
        let touched = ChangedPeers::between(before, now);
        Ok(self.undo(|key| touched.has(key)).await?)
    }

    async fn align(&mut self, file: &Config) -> Result<Vec<String>, SyncError> {
        self.routes = RouteChanges::default();
        match self.set_all(file).await {
            Ok(changes) => Ok(changes),
            Err(error) => Err(self.undone(error, |_| true).await),
        }
    }
}

fn create_route(link: &LinkName, key: &RouteKey) -> NetlinkChange {
    let route = Route {
        owner: Owner::Other,
        kind: RouteKind::on_link(link, Family::of_prefix(key.prefix)),
    };
    NetlinkChange::Route(RouteChange(*key, RouteOperation::Create(route)))
}

/// The addresses of the names in endpoints.
async fn names(peers: &[&Peer]) -> Result<BTreeMap<String, Vec<IpAddr>>, SyncError> {
    let found = of_peers(peers.iter().copied(), limits::HUB_NAMES_TIMEOUT).await;
    found.map_err(|(name, _)| SyncError::Name(name))
}

fn allowed_ips(peers: &[Peer]) -> BTreeSet<IpNet> {
    prefixes(&peers.iter().collect::<Vec<_>>())
}

fn prefixes(peers: &[&Peer]) -> BTreeSet<IpNet> {
    peers.iter().flat_map(|peer| &peer.allowed_ips).copied().collect()
}
