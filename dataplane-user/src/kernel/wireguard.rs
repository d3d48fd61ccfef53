//! WireGuard devices over generic netlink: reads whole devices, and makes only requested changes.
//!
//! The netlink adapter creates and deletes the links themselves. As in that adapter, no tasks run here, and a
//! call that is dropped before its end does not affect the next one. Nothing here logs or keeps key material;
//! buffers of requests and answers are wiped.

mod attribute;
pub(crate) mod endpoint_device;
mod endpoint_store;
pub mod endpoints;
mod execute;
#[cfg(test)]
mod fuzz;
pub mod generate;
pub mod listing;
mod read;
mod write;

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use netlink_sys::Socket as RawSocket;
use netlink_sys::protocols::NETLINK_GENERIC;

use self::attribute::Attributes;
use self::listing::Listing;
use self::write::Keys;
use super::KernelError;
use super::netlink::message::{Failure, Request};
use super::netlink::socket::{self, Socket};
use super::netlink::{Bounds, Stats, uapi};
use crate::model::wireguard::{Device, DeviceChange};
use crate::net::LinkName;
use crate::net::key::{PrivateKey, PublicKey};

pub(super) use endpoint_store::EndpointStore;
pub(super) use execute::{Configured, devices, execute, get};

/// Returns the private key that belongs to a public key; called when a device gets its key.
pub type PrivateKeys = Arc<dyn Fn(&PublicKey) -> io::Result<PrivateKey> + Send + Sync>;

/// No private keys, for devices that are only read or deleted.
#[must_use]
pub fn no_private_keys() -> PrivateKeys {
    private_keys([])
}

/// Exactly these private keys.
#[must_use]
pub fn private_keys(keys: impl IntoIterator<Item = PrivateKey>) -> PrivateKeys {
    let keys = keys.into_iter().collect::<Vec<_>>();
    Arc::new(move |public| {
        let key = keys.iter().find(|key| key.public_key() == *public);
        key.cloned()
            .ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    })
}

/// A device as read from the kernel. The configured endpoints are not known, because the kernel does not
/// report them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// The part that is compared with the desired state.
    pub device: Device,
    /// The traffic of its peers.
    pub traffic: BTreeMap<PublicKey, PeerTraffic>,
}

/// The traffic of a peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PeerTraffic {
    /// The time of the last handshake, since 1970; `None` if there was none.
    pub last_handshake: Option<Duration>,
    /// Bytes received from it, including WireGuard headers.
    pub received: u64,
    /// Bytes sent to it, including WireGuard headers.
    pub sent: u64,
}

/// The WireGuard devices of a network namespace.
pub struct WireGuard {
    socket: Socket,
    private_keys: PrivateKeys,
    /// The message type of the generic netlink family, which changes each time that the kernel loads the
    /// module.
    family: Option<u16>,
}

impl WireGuard {
    /// Opens a socket in the network namespace of the calling thread; needs a tokio runtime with I/O and
    /// time. All later calls must be polled in that namespace, too.
    ///
    /// # Errors
    /// When the socket can't be opened or configured.
    pub fn open(private_keys: PrivateKeys) -> Result<WireGuard, KernelError> {
        let socket = Socket::open(NETLINK_GENERIC)
            .map_err(|error| KernelError::new("open a generic netlink socket", error))?;
        Ok(WireGuard {
            socket,
            private_keys,
            family: None,
        })
    }

    /// Opens a socket in the namespace of the calling thread, for [`WireGuard::of_socket`] on another thread.
    pub(super) fn connect() -> io::Result<RawSocket> {
        socket::connect(NETLINK_GENERIC)
    }

    /// Uses a socket that was opened in the namespace of this inode.
    pub(super) fn of_socket(
        socket: RawSocket,
        namespace: u64,
        private_keys: PrivateKeys,
    ) -> io::Result<WireGuard> {
        Ok(WireGuard {
            socket: Socket::of_raw(socket, NETLINK_GENERIC, namespace)?,
            private_keys,
            family: None,
        })
    }

    /// Limits what is read from now on, for namespaces whose root user decides how much there is.
    pub(super) fn bound(&mut self, bounds: Bounds) {
        self.socket.bound(bounds);
    }

    /// The source of private keys.
    pub(super) fn private_keys(&self) -> &PrivateKeys {
        &self.private_keys
    }

    /// Reads a whole device.
    ///
    /// # Errors
    /// When the link does not exist (`ENODEV`), when it is not a WireGuard device (`EOPNOTSUPP`), when the
    /// kernel has no WireGuard, or when a part can't be read.
    pub async fn get_device(&mut self, link: &LinkName) -> Result<Reading, KernelError> {
        self.list_device(link, false).await.map(Reading::from)
    }

    /// Reads a whole device, in the order of the kernel; the private key only if `with_private_key` is set.
    ///
    /// # Errors
    /// As [`WireGuard::get_device`].
    pub async fn list_device(
        &mut self,
        link: &LinkName,
        with_private_key: bool,
    ) -> Result<Listing, KernelError> {
        let context = || format!("read WireGuard device {link}");
        let mut family = self.family().await?;
        loop {
            let part = |body: &[u8]| read::part(body, with_private_key).map(Some);
            let parts = self.socket.dump(&write::get(family, link), part).await;
            self.socket.wipe();
            match parts {
                Ok(parts) => return Ok(read::merge(parts)),
                Err(failure) => family = self.family_again(family, failure, context).await?,
            }
        }
    }

    /// Changes a device, in as few messages as possible; without changes, nothing is sent. Continues after
    /// refusals.
    ///
    /// # Errors
    /// The first refusal. If a private key can't be read or the device of an endpoint does not exist, nothing
    /// is changed. After an error, read the device again to see which changes took effect.
    pub async fn set_device(
        &mut self,
        link: &LinkName,
        changes: &[&DeviceChange],
    ) -> Result<(), KernelError> {
        if changes.is_empty() {
            return Ok(());
        }
        let context = || format!("change WireGuard device {link}");
        let keys = self
            .keys(changes)
            .map_err(|error| KernelError::new(context(), error))?;
        let mut family = self.family().await?;
        loop {
            let requests = write::set(family, link, changes, &keys);
            let answers = self.socket.exchange(&requests).await;
            match answers.into_iter().find_map(Result::err) {
                None => return Ok(()),
                Some(failure) => family = self.family_again(family, failure, context).await?,
            }
        }
    }

    fn keys(&self, changes: &[&DeviceChange]) -> io::Result<Keys> {
        let wanted = changes.iter().find_map(|change| match change {
            DeviceChange::SetPrivateKey(key) => Some(key),
            _ => None,
        });
        let endpoints = changes.iter().filter_map(|change| match change {
            DeviceChange::AddPeer(_, peer) => peer.endpoint.as_ref(),
            DeviceChange::UpdatePeer(_, update) => update.endpoint.as_ref(),
            _ => None,
        });
        let devices = endpoints.filter_map(|endpoint| endpoint.device.as_ref());
        let zones = devices.map(|device| Ok((device.clone(), endpoint_device::index(device)?)));
        Ok(Keys {
            private: wanted.map(|key| (self.private_keys)(key)).transpose()?,
            spare: generate::public_key()?,
            zones: zones.collect::<io::Result<_>>()?,
        })
    }

    /// Statistics of the socket.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.socket.stats()
    }

    /// The message type of the family. The request loads the module, if it is installed.
    async fn family(&mut self) -> Result<u16, KernelError> {
        if let Some(family) = self.family {
            return Ok(family);
        }
        let mut body = Attributes::message(uapi::CTRL_CMD_GETFAMILY, uapi::CTRL_VERSION);
        body.put_text(uapi::CTRL_ATTR_FAMILY_NAME, uapi::WG_GENL_NAME);
        let request = Request::of_bytes(uapi::GENL_ID_CTRL, 0, body.into_bytes());
        let context = "find WireGuard in the kernel";
        let answer = self.socket.exchange(&[request]).await.pop();
        let bodies = match answer.expect("one answer per request") {
            Ok(bodies) => bodies,
            Err(failure) if failure.errno() == Some(libc::ENOENT) => {
                let text = "this kernel has no WireGuard; make `modprobe wireguard` work";
                return Err(KernelError::new(
                    context,
                    io::Error::new(io::ErrorKind::Unsupported, text),
                ));
            }
            Err(failure) => return Err(failure.into_error(context)),
        };
        let family = bodies.first().map(|body| read::family(body)).transpose();
        let family = family.map_err(|error| Failure::malformed(&error).into_error(context))?;
        let family = family.flatten().ok_or_else(|| {
            let text = "the answer of the kernel has no family id";
            KernelError::new(context, io::Error::new(io::ErrorKind::InvalidData, text))
        })?;
        self.family = Some(family);
        Ok(family)
    }

    /// Asks for the family again if the kernel doesn't know `former` any more; returns the failure if it has
    /// another cause.
    async fn family_again(
        &mut self,
        former: u16,
        failure: Failure,
        context: impl Fn() -> String,
    ) -> Result<u16, KernelError> {
        if failure.errno() != Some(libc::ENOENT) {
            return Err(failure.into_error(context()));
        }
        self.family = None;
        let family = self.family().await?;
        if family == former {
            return Err(failure.into_error(context()));
        }
        Ok(family)
    }
}
