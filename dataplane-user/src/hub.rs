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
#[cfg(test)]
mod tests;

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
use crate::net::key::PublicKey;
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
///
/// # Errors
/// When it can't be locked, read or written.
pub async fn rewrite(path: &Path, bytes: &[u8]) -> Result<(), HubError> {
    let (file, former) = Locked::open(path, REWRITE_PATIENCE).await?;
    file.replace(&former, bytes)
}

/// How long the lock is waited for then.
const REWRITE_PATIENCE: Duration = Duration::from_secs(30);

impl<L: Live> Hub<L> {
    /// Waits for the file's lock, at most so long, and reads it.
    ///
    /// # Errors
    /// When the lock can't be had, when the file can't be read or is wrong, and when `wg-quick` overwrites it.
    pub async fn open(path: &Path, patience: Duration, live: Option<L>) -> Result<Hub<L>, HubError> {
        let (file, bytes) = Locked::open(path, patience).await?;
        let roster = Roster::new(file.path(), bytes)?;
        roster.refuse_save_config()?;
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
    pub async fn add(mut self, id: &DeviceId, key: PublicKey, subnet: IpNet) -> Result<Admission, HubError> {
        let (assigned_ip, change) = self.roster.add(id, key, subnet)?;
        let status = match change {
            Change::None => {
                self.put_back(key).await?;
                Status::AlreadyPresent
            }
            Change::Key(document) => {
                self.change(document).await?;
                Status::Reconfigured
            }
            Change::Peer(document) => {
                self.change(document).await?;
                Status::Added
            }
        };
        Ok(Admission {
            device_id: id.to_string(),
            assigned_ip,
            config_path: self.path,
            status,
        })
    }

    /// Takes a device away, and gives what it was.
    ///
    /// # Errors
    /// When there is none with this id, or when file or interface can't be changed.
    pub async fn remove(mut self, id: &str) -> Result<Member, HubError> {
        let (member, document) = self.roster.remove(id)?;
        self.change(document).await?;
        Ok(member)
    }

    /// Gives a device another id. The interface knows none.
    ///
    /// # Errors
    /// When there is none with this id, when the other one is somebody's, or when the file can't be changed.
    pub fn rename(self, old: &str, new: &DeviceId) -> Result<(), HubError> {
        match self.roster.rename(old, new)? {
            Some(document) => self.file.replace(self.roster.bytes(), document.bytes()),
            None => Ok(()),
        }
    }

    async fn change(&mut self, document: Document) -> Result<(), HubError> {
        let before = self.roster.config();
        // What is not right is not written.
        let now = Config::of(self.file.path(), &document)?;
        let Some(live) = &mut self.live else {
            return self.file.replace(self.roster.bytes(), document.bytes());
        };
        // Where there is no interface nothing needs to be undone.
        live.peers().await?;
        self.file.replace(self.roster.bytes(), document.bytes())?;
        let Err(error) = live.sync(before, &now).await else {
            return Ok(());
        };
        match self.file.restore(self.roster.bytes()) {
            Ok(()) => Err(error.into()),
            Err(restoring) => Err(HubError::NotRestored {
                error,
                restoring: Box::new(restoring),
            }),
        }
    }

    /// Gives the interface a peer that the file has and the interface has not: whoever added it was interrupted, or left
    /// the interface alone. Where none is up, nothing is missing.
    async fn put_back(&mut self, key: PublicKey) -> Result<(), HubError> {
        let Some(live) = &mut self.live else {
            return Ok(());
        };
        let Ok(peers) = live.peers().await else {
            return Ok(());
        };
        if peers.contains(&key) {
            return Ok(());
        }
        let mut without = self.roster.config().clone();
        without.peers.retain(|peer| peer.public_key != key);
        live.sync(&without, self.roster.config()).await?;
        Ok(())
    }
}
