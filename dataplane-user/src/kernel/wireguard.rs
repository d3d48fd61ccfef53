//! WireGuard devices over generic netlink: reads one whole, and changes only what it is told to.
//!
//! The links themselves are the netlink adapter's. As there, no tasks run here, and a call that is dropped half-way
//! leaves nothing to the next one. Nothing here logs or keeps key material; what was sent and received is wiped.

mod attribute;
pub mod generate;
mod read;
mod write;

use std::io;

use netlink_sys::protocols::NETLINK_GENERIC;

use self::attribute::Attributes;
use super::KernelError;
use super::netlink::Stats;
use super::netlink::message::{Failure, Request};
use super::netlink::socket::Socket;
use crate::model::wireguard::{Device, DeviceChange};
use crate::net::LinkName;

/// The message type of generic netlink's own family (`GENL_ID_CTRL`, linux/genetlink.h).
const CONTROL: u16 = 16;
const CONTROL_VERSION: u8 = 2;
const CTRL_CMD_GETFAMILY: u8 = 3;
const CTRL_ATTR_FAMILY_NAME: u16 = 2;
/// `WG_GENL_NAME` and `WG_GENL_VERSION` (linux/wireguard.h).
const FAMILY: &str = "wireguard";
const VERSION: u8 = 1;

/// The WireGuard devices of a network namespace.
pub struct WireGuard {
    socket: Socket,
    /// The family's message type; the kernel gives another one each time that its module is loaded.
    family: Option<u16>,
}

impl WireGuard {
    /// Opens a socket in the calling thread's network namespace; needs a tokio runtime with I/O and time. All later
    /// calls must be polled in that namespace too.
    ///
    /// # Errors
    /// When the socket can't be made or set up.
    pub fn open() -> Result<WireGuard, KernelError> {
        let socket = Socket::open(NETLINK_GENERIC)
            .map_err(|error| KernelError::new("open a generic netlink socket", error))?;
        Ok(WireGuard { socket, family: None })
    }

    /// Reads a device whole.
    ///
    /// # Errors
    /// When there is no such link (`ENODEV`), when it is no WireGuard device (`EOPNOTSUPP`), when the kernel has no
    /// WireGuard, or when any part can't be read.
    pub async fn get_device(&mut self, link: &LinkName) -> Result<Device, KernelError> {
        let context = || format!("read WireGuard device {link}");
        let mut family = self.family().await?;
        loop {
            let parts = self.socket.dump(&write::get(family, link), read::part).await;
            self.socket.wipe();
            match parts {
                Ok(parts) => return Ok(read::merge(parts)),
                Err(failure) => family = self.family_again(family, failure, context).await?,
            }
        }
    }

    /// Changes a device, in as few messages as fit; none for no changes. The rest goes on past a refusal.
    ///
    /// # Errors
    /// The first refusal. Reading the device anew says what became of the changes.
    pub async fn set_device(&mut self, link: &LinkName, changes: &[DeviceChange]) -> Result<(), KernelError> {
        if changes.is_empty() {
            return Ok(());
        }
        let context = || format!("change WireGuard device {link}");
        let spare = generate::public_key().map_err(|error| KernelError::new(context(), error))?;
        let mut family = self.family().await?;
        loop {
            let requests = write::set(family, link, changes, &spare);
            let answers = self.socket.exchange(&requests).await;
            match answers.into_iter().find_map(Result::err) {
                None => return Ok(()),
                Some(failure) => family = self.family_again(family, failure, context).await?,
            }
        }
    }

    /// What went over the socket so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.socket.stats()
    }

    /// The family's message type. Asking loads the module, where there is one.
    async fn family(&mut self) -> Result<u16, KernelError> {
        if let Some(family) = self.family {
            return Ok(family);
        }
        let mut body = Attributes::message(CTRL_CMD_GETFAMILY, CONTROL_VERSION);
        body.put_text(CTRL_ATTR_FAMILY_NAME, FAMILY);
        let request = Request::of_bytes(CONTROL, 0, body.into_bytes());
        let context = "look for WireGuard in the kernel";
        let answer = self.socket.exchange(&[request]).await.pop();
        let bodies = match answer.expect("one answer a request") {
            Ok(bodies) => bodies,
            Err(failure) if failure.errno() == Some(libc::ENOENT) => {
                let text = "this kernel has no WireGuard: `modprobe wireguard` must work";
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
            let text = "the kernel's answer has no family";
            KernelError::new(context, io::Error::new(io::ErrorKind::InvalidData, text))
        })?;
        self.family = Some(family);
        Ok(family)
    }

    /// Asks for the family anew where the kernel doesn't know `former` any more; the failure, where that is not why.
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
