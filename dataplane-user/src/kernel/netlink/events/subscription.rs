//! A socket that only listens to groups.

use std::io;
use std::os::fd::AsFd as _;

use netlink_sys::{Socket as RawSocket, SocketAddr};
use nix::errno::Errno;
use nix::sys::socket::{setsockopt, sockopt};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::super::socket::register;

/// Room for a storm while a pass keeps the thread busy.
const RECEIVE_BUFFER: usize = 4 << 20;
/// No event is near as large.
const DATAGRAM: usize = 64 << 10;

/// A socket in some groups, and what it received last.
pub(super) struct Subscription {
    inner: AsyncFd<RawSocket>,
    buffer: Vec<u8>,
    /// Whether the last receipt says that events were lost.
    lost: bool,
}

impl Subscription {
    /// Joins groups of a protocol in the calling thread's namespace; from here on nothing is missed unnoticed.
    pub(super) fn open(protocol: isize, groups: &[u32]) -> io::Result<Subscription> {
        let mut socket = RawSocket::new(protocol)?;
        socket.set_non_blocking(true)?;
        socket.bind(&SocketAddr::new(0, 0))?;
        let forced = setsockopt(&socket.as_fd(), sockopt::RcvBufForce, &RECEIVE_BUFFER);
        if forced == Err(Errno::EPERM) {
            setsockopt(&socket.as_fd(), sockopt::RcvBuf, &RECEIVE_BUFFER)?;
        } else {
            forced?;
        }
        for group in groups {
            socket.add_membership(*group)?;
        }
        Ok(Subscription {
            inner: register(socket)?,
            buffer: Vec::with_capacity(DATAGRAM),
            lost: false,
        })
    }

    /// Waits for the next datagram, or for the news that some were lost. May be dropped without losing one.
    pub(super) async fn receive(&mut self) -> io::Result<()> {
        loop {
            self.buffer.clear();
            let buffer = &mut self.buffer;
            let read = self.inner.async_io(Interest::READABLE, |socket| {
                // With MSG_TRUNC the result is the datagram's length, also where it did not fit.
                socket.recv_from(buffer, libc::MSG_TRUNC)
            });
            match read.await {
                // Not the kernel: any process may send to our port.
                Ok((_, sender)) if sender.port_number() != 0 => {}
                Ok((length, _)) => {
                    self.lost = length > self.buffer.len();
                    return Ok(());
                }
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                    self.lost = true;
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// What was received; `None`: events were lost.
    pub(super) fn datagram(&self) -> Option<&[u8]> {
        (!self.lost).then_some(self.buffer.as_slice())
    }
}
