//! A socket that only listens to groups.
//!
//! rtnetlink 0.24's connection for events can't take its place: messages that it can't decode (those of next hops, devices'
//! settings and chains among them) end in its log, it does not tell which namespace an event is from, and what is not read yet
//! is queued without bound instead of told as lost.

use std::io::{self, IoSliceMut};
use std::os::fd::AsRawFd as _;

use netlink_sys::{Socket as RawSocket, SocketAddr};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, NetlinkAddr, recvmsg};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::super::socket::{enlarge, register};
use crate::limits;

/// A socket in some groups, and what it received last.
pub(super) struct Subscription {
    inner: AsyncFd<RawSocket>,
    buffer: Vec<u8>,
    received: Received,
}

/// What was received last.
#[derive(Clone, Copy, Debug, Default)]
struct Received {
    /// Length of the datagram.
    length: usize,
    /// The number of the namespace that it is from; `None`: this one, most likely.
    namespace: Option<i32>,
    /// Whether events were lost instead.
    lost: bool,
}

impl Subscription {
    /// Joins groups of a protocol in the calling thread's namespace; from here on nothing is missed unnoticed.
    pub(super) fn open(protocol: isize, groups: &[u32]) -> io::Result<Subscription> {
        let mut socket = RawSocket::new(protocol)?;
        socket.set_non_blocking(true)?;
        socket.bind(&SocketAddr::new(0, 0))?;
        enlarge(&socket)?;
        for group in groups {
            socket.add_membership(*group)?;
        }
        Ok(Subscription {
            inner: register(socket)?,
            buffer: vec![0; limits::NETLINK_DATAGRAM],
            received: Received::default(),
        })
    }

    /// Listens also to the namespaces that have a number in this one, without keeping them in being.
    ///
    /// # Errors
    /// `EPERM` without `CAP_NET_BROADCAST`; what is heard otherwise goes on.
    pub(super) fn listen_everywhere(&self) -> io::Result<()> {
        self.inner.get_ref().set_listen_all_namespaces(true)
    }

    /// Waits for the next datagram, or for the news that some were lost. May be dropped without losing one.
    pub(super) async fn receive(&mut self) -> io::Result<()> {
        loop {
            let buffer = &mut self.buffer;
            let read = self
                .inner
                .async_io(Interest::READABLE, |socket| receive(socket, buffer));
            match read.await {
                // Not the kernel: any process may send to our port.
                Ok(None) => {}
                Ok(Some(received)) => {
                    self.received = received;
                    return Ok(());
                }
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                    self.received = Received {
                        lost: true,
                        ..Received::default()
                    };
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// What was received; `None`: events were lost.
    pub(super) fn datagram(&self) -> Option<&[u8]> {
        (!self.received.lost).then_some(&self.buffer[..self.received.length])
    }

    /// The number of the namespace that it is from; `None`: this one, or one that has none.
    pub(super) fn namespace(&self) -> Option<i32> {
        self.received.namespace
    }
}

/// One datagram of the kernel's; `None`: another process's.
fn receive(socket: &RawSocket, buffer: &mut [u8]) -> io::Result<Option<Received>> {
    let room = buffer.len();
    let mut parts = [IoSliceMut::new(buffer)];
    let mut control = nix::cmsg_space!(libc::c_int);
    // With MSG_TRUNC the result is the datagram's length, also where it did not fit.
    let message = recvmsg::<NetlinkAddr>(
        socket.as_raw_fd(),
        &mut parts,
        Some(&mut control),
        MsgFlags::MSG_TRUNC,
    )?;
    if message.address.is_none_or(|sender| sender.pid() != 0) {
        return Ok(None);
    }
    let mut namespace = None;
    for said in message.cmsgs()? {
        if let ControlMessageOwned::Unknown(said) = said
            && (said.cmsg_header.cmsg_level, said.cmsg_header.cmsg_type)
                == (libc::SOL_NETLINK, libc::NETLINK_LISTEN_ALL_NSID)
        {
            namespace = said.data_bytes.first_chunk().copied().map(i32::from_ne_bytes);
        }
    }
    Ok(Some(Received {
        length: message.bytes.min(room),
        namespace,
        lost: message.bytes > room,
    }))
}
