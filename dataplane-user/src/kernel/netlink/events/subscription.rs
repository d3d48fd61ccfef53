//! A netlink socket that only receives events of multicast groups.
//!
//! The event connection of rtnetlink 0.24 can't replace it: it only logs messages that it can't decode (among
//! them those about next hops, settings of devices, and chains), it does not tell from which namespace an
//! event is, and it queues unread events without limit instead of reporting them as lost.

use std::io::{self, IoSliceMut};
use std::os::fd::AsRawFd as _;

use netlink_sys::{Socket as RawSocket, SocketAddr};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, NetlinkAddr, recvmsg};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::super::socket::{enlarge, register};
use crate::limits;

/// A socket in some groups, and its last datagram.
pub(super) struct Subscription {
    inner: AsyncFd<RawSocket>,
    buffer: Vec<u8>,
    received: Received,
}

/// The last datagram.
#[derive(Clone, Copy, Debug, Default)]
struct Received {
    /// The length of the datagram.
    length: usize,
    /// The id of its namespace; `None` if it is probably from this one.
    namespace: Option<i32>,
    /// Whether events were lost instead.
    lost: bool,
}

impl Subscription {
    /// Joins groups of a protocol in the namespace of the calling thread. From then on no event is lost
    /// unnoticed.
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

    /// Also receives events of namespaces that have an id in this one. This does not keep them alive.
    ///
    /// # Errors
    /// `EPERM` without `CAP_NET_BROADCAST`; events of this namespace are received nevertheless.
    pub(super) fn listen_everywhere(&self) -> io::Result<()> {
        self.inner.get_ref().set_listen_all_namespaces(true)
    }

    /// Waits for the next datagram, or for the report that some were lost. Dropping the future loses none.
    pub(super) async fn receive(&mut self) -> io::Result<()> {
        loop {
            let buffer = &mut self.buffer;
            let read = self
                .inner
                .async_io(Interest::READABLE, |socket| receive(socket, buffer));
            match read.await {
                // Ignore it if the sender is not the kernel, because any process can send to this port.
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

    /// The last datagram; `None` if events were lost.
    pub(super) fn datagram(&self) -> Option<&[u8]> {
        (!self.received.lost).then_some(&self.buffer[..self.received.length])
    }

    /// The id of its namespace; `None` for this one, or one without id.
    pub(super) fn namespace(&self) -> Option<i32> {
        self.received.namespace
    }
}

/// Receives one datagram; `None` if it is not from the kernel.
fn receive(socket: &RawSocket, buffer: &mut [u8]) -> io::Result<Option<Received>> {
    let room = buffer.len();
    let mut parts = [IoSliceMut::new(buffer)];
    let mut control = nix::cmsg_space!(libc::c_int);
    // With MSG_TRUNC the result is the length of the datagram, even if it did not fit.
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
