//! Sends and receives frames on devices of a network namespace, by packet sockets.

use std::os::fd::{AsRawFd as _, OwnedFd};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use nix::ifaddrs::getifaddrs;
use nix::sys::socket::{
    AddressFamily, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrLike as _, bind, recvfrom,
    send, setsockopt, socket, sockopt,
};
use nix::sys::time::TimeVal;

/// The time limit for a frame, also in an emulated machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// A packet socket for whole frames on one device, in the namespace of the thread that created it.
pub struct Wire {
    socket: OwnedFd,
    ifindex: usize,
}

impl Wire {
    /// Opens the device.
    ///
    /// # Errors
    /// The error of the kernel, or that the device does not exist.
    pub fn open(device: &str) -> Result<Wire> {
        let address = link_address(device)?;
        let socket = socket(
            AddressFamily::Packet,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::EthAll,
        )?;
        setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::new(0, 100_000))?;
        Ok(Wire {
            socket,
            ifindex: address.ifindex(),
        })
    }

    /// Sends a frame of 14 bytes or more by the device.
    ///
    /// # Errors
    /// The error of the kernel; ENOBUFS if a program drops the frame.
    pub fn send(device: &str, frame: &[u8]) -> Result<()> {
        let address = link_address(device)?;
        let socket = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, None)?;
        bind(socket.as_raw_fd(), &address)?;
        send(socket.as_raw_fd(), frame, MsgFlags::empty())?;
        Ok(())
    }

    /// The next received frame that `wanted` accepts.
    ///
    /// # Errors
    /// The error of the kernel, or that no such frame arrived.
    pub fn receive(&self, wanted: impl Fn(&[u8]) -> bool) -> Result<Vec<u8>> {
        let deadline = Instant::now() + PATIENCE;
        let mut buffer = vec![0; 65_536];
        while Instant::now() < deadline {
            let (length, from) = match recvfrom::<LinkAddr>(self.socket.as_raw_fd(), &mut buffer) {
                Ok(received) => received,
                Err(nix::errno::Errno::EAGAIN | nix::errno::Errno::EINTR) => continue,
                Err(error) => return Err(error.into()),
            };
            let here = from.is_some_and(|from| from.ifindex() == self.ifindex);
            if here && wanted(&buffer[..length]) {
                return Ok(buffer[..length].to_vec());
            }
        }
        bail!("no such frame arrived within {PATIENCE:?}")
    }
}

fn link_address(device: &str) -> Result<LinkAddr> {
    let is_link =
        |address: &nix::sys::socket::SockaddrStorage| address.family() == Some(AddressFamily::Packet);
    let found = getifaddrs()?
        .find(|entry| entry.interface_name == device && entry.address.as_ref().is_some_and(is_link));
    let address = found
        .and_then(|entry| entry.address)
        .with_context(|| format!("no device {device}"))?;
    Ok(*address.as_link_addr().context("a link address")?)
}
