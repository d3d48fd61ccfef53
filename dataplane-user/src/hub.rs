//! A hub's peers: devices that are let in by adding a `[Peer]` to a file of `wg-quick`, each with an address of its own.
//!
//! Above each `[Peer]` stands `# DeviceID:<id>`. All other bytes of the file stay. Whoever changes it holds its lock; the
//! interface then gets what changed and nothing else, and where it refuses, file and interface are as they were.

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

/// A file under its lock, and the interface that it is of, unless that is left alone.
#[derive(Debug)]
pub struct Hub<L> {
    /// As the caller named it.
    path: PathBuf,
    file: Locked,
    roster: Roster,
    live: Option<L>,
}

/// What became of a device that asked to be let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admission {
    /// Its id.
    pub device_id: String,
    /// Its address.
    pub assigned_ip: IpAddr,
    /// The file, as the caller named it.
    pub config_path: PathBuf,
    /// What was done.
    pub status: Status,
}

/// What was done for a device that asked to be let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It is new.
    Added,
    /// It was there with this key.
    AlreadyPresent,
    /// It was there with another key, and keeps its address.
    Reconfigured,
}

/// The peers of a file, in its order, and what in it is hardly meant, each with file and line. No lock is needed: the file is
/// only ever replaced as a whole.
///
/// # Errors
/// When it can't be read, or is wrong.
pub fn list(path: &Path) -> Result<(Vec<Member>, Vec<String>), HubError> {
    let (real, bytes) = file::read(path)?;
    let roster = Roster::new(&real, bytes)?;
    Ok((roster.members(), roster.config().warnings.clone()))
}

/// Gives a file of wg-quick other bytes: under its lock, whole or not at all, with the former ones beside it as `.bak`.
/// Tells what the user has to know although it was done.
///
/// # Errors
/// When it can't be locked, read or written.
pub async fn rewrite(path: &Path, bytes: &[u8]) -> Result<Vec<String>, HubError> {
    let (mut file, former) = Locked::open(path, limits::LOCK_PATIENCE).await?;
    file.replace(&former, bytes)?;
    Ok(file.warnings().to_vec())
}

/// What gets a change first. A process that is killed between the two leaves a key in the interface that shall be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum First {
    /// The file: a new key is in the interface only when the file has it.
    File,
    /// The interface: a key that shall go is out of it before the file forgets it, and a second run finds it there.
    Interface,
}

impl<L: Live> Hub<L> {
    /// Waits for the file's lock, at most so long, and reads it.
    ///
    /// # Errors
    /// When the lock can't be had, and when the file can't be read or is wrong.
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

    /// Lets a device in, with the lowest free address of a subnet, which has no host bits.
    ///
    /// # Errors
    /// When key or id are somebody else's, when no address is free, or when file or interface can't be changed.
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

    /// Takes a device away, and gives what it was. Also one that is out of the file already, where the interface still has
    /// its key and the file's backup says which one that is.
    ///
    /// # Errors
    /// When there is none with this id, or when file or interface can't be changed.
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

    /// Gives a device another id. The interface knows none.
    ///
    /// # Errors
    /// When there is none with this id, when the other one is somebody's, or when the file can't be changed.
    pub fn rename(&mut self, old: &str, new: &DeviceId) -> Result<(), HubError> {
        self.roster.refuse_save_config()?;
        match self.roster.rename(old, new)? {
            Some(document) => self.file.replace(self.roster.bytes(), document.bytes()),
            None => Ok(()),
        }
    }

    /// Gives the interface what the file says and the interface doesn't have, and takes away what the file doesn't say.
    /// Tells each change; none where there is none.
    ///
    /// # Errors
    /// When the interface is not up, or does not take it: then it is as it was, or the error says that it is not.
    pub async fn sync(&mut self) -> Result<Vec<String>, HubError> {
        let Some(live) = &mut self.live else {
            return Ok(Vec::new());
        };
        live.peers().await?;
        Ok(live.align(self.roster.config()).await?)
    }

    /// What whoever asked for the changes has to know, although they were made.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        self.file.warnings()
    }

    async fn change(&mut self, document: &Document, first: First) -> Result<(), HubError> {
        let before = self.roster.config();
        // What is not right is not written.
        let now = Config::of(self.file.path(), document)?;
        let Some(live) = &mut self.live else {
            return self.file.replace(self.roster.bytes(), document.bytes());
        };
        // Where there is no interface nothing needs to be undone.
        live.peers().await?;
        let staged = self.file.stage(self.roster.bytes(), document.bytes())?;
        if first == First::Interface {
            live.sync(before, &now).await?;
            let Err(error) = self.file.commit(staged) else {
                return Ok(());
            };
            return match live.bring_back(before, &now).await {
                Ok(()) => Err(error),
                Err(restoring) => Err(HubError::NotBroughtBack {
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

    /// Gives the interface a peer that the file has: whoever added it, or gave it another key, was interrupted, or left the
    /// interface alone. Its former key goes: that is in no peer of the file, and has an address of this one. Where no
    /// interface is up, nothing is missing.
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

    /// Takes from the interface the key of a device that is out of the file already: whoever removed it left the interface
    /// alone.
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

/// An interface's peers, with their allowed IPs.
pub type LivePeers = BTreeMap<PublicKey, BTreeSet<IpNet>>;

/// The peers of an interface that a file doesn't have.
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
