//! Hub clients (`adit peer`): devices that get access by a `[Peer]` section in a file of `wg-quick`, each
//! with its own address.
//!
//! The line above each `[Peer]` is `# DeviceID:<id>`. All other bytes of the file stay. A change is made
//! under the lock of the file, and only the change is applied to the interface. If the interface rejects it,
//! file and interface are restored.

mod error;
mod file;
mod id;
mod live;
mod pool;
mod roster;
mod routes;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;

pub use error::{HubError, SyncError};
pub use id::{DeviceId, InvalidId};
pub use live::{Live, LiveDevice};
pub use roster::Member;

use self::file::Locked;
use self::roster::{Change, Roster};
use crate::limits;
use crate::net::key::PublicKey;
use crate::resource::wireguard::Peer;
use crate::wg_quick::{Config, Document};

/// A locked file, and its interface; `None` if only the file is changed.
#[derive(Debug)]
pub struct Hub<L> {
    /// The path as the caller gave it.
    path: PathBuf,
    file: Locked,
    roster: Roster,
    live: Option<L>,
}

/// The result of [`Hub::add`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admission {
    /// The id of the client.
    pub device_id: String,
    /// The address of the client.
    pub assigned_ip: IpAddr,
    /// The file, as the caller gave it.
    pub config_path: PathBuf,
    /// What changed.
    pub status: Status,
}

/// What [`Hub::add`] changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// The client is new.
    Added,
    /// The client existed with the same key.
    AlreadyPresent,
    /// The client existed with another key. It keeps its address.
    Reconfigured,
}

/// The hub clients in a file, in order, and the warnings about the file, each with file and line. This needs
/// no lock, because the file is always replaced as a whole.
///
/// # Errors
/// If the file can't be read, or is invalid.
pub fn list(path: &Path) -> Result<(Vec<Member>, Vec<String>), HubError> {
    let (real, bytes) = file::read(path)?;
    let roster = Roster::new(&real, bytes)?;
    Ok((roster.members(), roster.config().warnings.clone()))
}

/// Replaces the content of a file of `wg-quick` under its lock, as a whole or not at all. The previous
/// content is kept in a `.bak` file beside it. Returns warnings for the user.
///
/// # Errors
/// If the file can't be locked, read or written.
pub async fn rewrite(path: &Path, bytes: &[u8]) -> Result<Vec<String>, HubError> {
    let (mut file, former) = Locked::open(path, limits::LOCK_TIMEOUT).await?;
    file.replace(&former, bytes)?;
    Ok(file.warnings().to_vec())
}

/// Whether the file or the interface is changed first. If the process is killed in between, the interface has no key that it should not
/// have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum First {
    /// The file first, for a new key: it gets into the interface only after the file contains it.
    File,
    /// The interface first, for a key to remove: it is removed before the file loses it, so a second run can
    /// repeat the removal.
    Interface,
}

impl<L: Live> Hub<L> {
    /// Waits for the lock of the file for at most `patience`, then reads the file.
    ///
    /// # Errors
    /// If the lock is not free in time, or the file can't be read or is invalid.
    pub async fn open(path: &Path, patience: Duration, live: Option<L>) -> Result<Hub<L>, HubError> {
        let (file, bytes) = Locked::open(path, patience).await?;
        let roster = Roster::new(file.path(), bytes)?;
        Ok(Hub {
            path: path.to_owned(),
            file,
            roster,
            live,
        })
    }

    /// Adds a client with the lowest free address of a subnet, which has no host bits.
    ///
    /// # Errors
    /// If another client has the key or id, if no address is free, or if file or interface can't be changed.
    pub async fn add(&mut self, id: &DeviceId, key: PublicKey, subnet: IpNet) -> Result<Admission, HubError> {
        self.roster.refuse_save_config()?;
        let (assigned_ip, change) = self.roster.add(id, key, subnet)?;
        let status = match change {
            Change::None => {
                self.finish_admission(key).await?;
                Status::AlreadyPresent
            }
            Change::Key(document) => {
                self.change(&document, First::Interface).await?;
                Status::Reconfigured
            }
            Change::Peer(document) => {
                self.change(&document, First::File).await?;
                Status::Added
            }
        };
        Ok(Admission {
            device_id: id.to_string(),
            assigned_ip,
            config_path: self.path.clone(),
            status,
        })
    }

    /// Removes a client and returns it. A client that is no longer in the file is removed from the interface,
    /// if the backup of the file contains its key.
    ///
    /// # Errors
    /// If no client has this id, or if file or interface can't be changed.
    pub async fn remove(&mut self, id: &str) -> Result<Member, HubError> {
        self.roster.refuse_save_config()?;
        match self.roster.remove(id) {
            Ok((member, document)) => {
                self.change(&document, First::Interface).await?;
                Ok(member)
            }
            Err(unknown @ HubError::Unknown { .. }) => self.finish_removal(id, unknown).await,
            Err(error) => Err(error),
        }
    }

    /// Changes the id of a client. This does not affect the interface.
    ///
    /// # Errors
    /// If no client has the old id, if another client has the new one, or if the file can't be changed.
    pub fn rename(&mut self, old: &str, new: &DeviceId) -> Result<(), HubError> {
        self.roster.refuse_save_config()?;
        match self.roster.rename(old, new)? {
            Some(document) => self.file.replace(self.roster.bytes(), document.bytes()),
            None => Ok(()),
        }
    }

    /// Updates the interface to match the file, and returns a description of each change.
    ///
    /// # Errors
    /// If the interface does not exist or rejects a change. Then it is restored, or the error says that it
    /// could not be.
    pub async fn sync(&mut self) -> Result<Vec<String>, HubError> {
        let Some(live) = &mut self.live else {
            return Ok(Vec::new());
        };
        live.peers().await?;
        Ok(live.align(self.roster.config()).await?)
    }

    /// Warnings about changes that were made.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        self.file.warnings()
    }

    async fn change(&mut self, document: &Document, first: First) -> Result<(), HubError> {
        let before = self.roster.config();
        // An invalid file is not written.
        let now = Config::of(self.file.path(), document)?;
        let Some(live) = &mut self.live else {
            return self.file.replace(self.roster.bytes(), document.bytes());
        };
        // This fails without an interface, before anything is changed.
        live.peers().await?;
        let staged = self.file.stage(self.roster.bytes(), document.bytes())?;
        if first == First::Interface {
            live.sync(before, &now).await?;
            let Err(error) = self.file.commit(staged) else {
                return Ok(());
            };
            return match live.restore(before, &now).await {
                Ok(()) => Err(error),
                Err(restoring) => Err(HubError::NotUndone {
                    error: Box::new(error),
                    restoring,
                }),
            };
        }
        self.file.commit(staged)?;
        let Err(error) = live.sync(before, &now).await else {
            return Ok(());
        };
        match self.file.restore(self.roster.bytes()) {
            Ok(()) => Err(error.into()),
            Err(restoring) => Err(HubError::NotRestored {
                error,
                backup: self.file.backup(),
                restoring: Box::new(restoring),
            }),
        }
    }

    /// Adds a client of the file to the interface, if an earlier run was interrupted or changed only the
    /// file. The former key of the client is removed: the key that no peer of the file has, with an address
    /// of this client. Does nothing if there is no interface.
    async fn finish_admission(&mut self, key: PublicKey) -> Result<(), HubError> {
        let Some(live) = &mut self.live else {
            return Ok(());
        };
        let has = match live.peers().await {
            Err(SyncError::NotUp { .. }) => return Ok(()),
            has => has?,
        };
        let config = self.roster.config();
        let mut before = config.clone();
        before.peers.retain(|peer| peer.public_key != key);
        let own = config.peers.iter().find(|peer| peer.public_key == key);
        let own = own.map_or(&[][..], |peer| &peer.allowed_ips);
        let former = stale(&has, config).filter(|(_, prefixes)| own.iter().any(|own| prefixes.contains(own)));
        before.peers.extend(former.map(|(key, _)| Peer::new(*key)));
        live.sync(&before, config).await?;
        Ok(())
    }

    /// Removes from the interface the key of a client that is no longer in the file, because it was removed
    /// only there.
    async fn finish_removal(&mut self, id: &str, unknown: HubError) -> Result<Member, HubError> {
        let Some(live) = &mut self.live else {
            return Err(unknown);
        };
        let has = match live.peers().await {
            Err(SyncError::NotUp { .. }) => return Err(unknown),
            has => has?,
        };
        let config = self.roster.config();
        let interface_peers = stale(&has, config).count();
        if interface_peers == 0 {
            return Err(unknown);
        }
        let former = self.file.former();
        let former = former.and_then(|bytes| Roster::new(self.file.path(), bytes).ok());
        let member = former.as_ref().and_then(|former| Some(former.remove(id).ok()?.0));
        let member = member.filter(|member| stale(&has, config).any(|(key, _)| *key == member.public_key));
        let Some((member, former)) = member.zip(former) else {
            let unknown = Box::new(unknown);
            return Err(HubError::UnknownWithStale {
                unknown,
                interface_peers,
            });
        };
        let mut before = config.clone();
        let peers = former.config().peers.iter();
        before
            .peers
            .extend(peers.filter(|peer| peer.public_key == member.public_key).cloned());
        live.sync(&before, config).await?;
        Ok(member)
    }
}

/// The peers of an interface, with their allowed IPs.
pub type LivePeers = BTreeMap<PublicKey, BTreeSet<IpNet>>;

/// The peers of an interface that are not in a file.
fn stale<'a>(
    has: &'a LivePeers,
    config: &Config,
) -> impl Iterator<Item = (&'a PublicKey, &'a BTreeSet<IpNet>)> {
    let known = config
        .peers
        .iter()
        .map(|peer| peer.public_key)
        .collect::<BTreeSet<_>>();
    has.iter().filter(move |(key, _)| !known.contains(*key))
}
