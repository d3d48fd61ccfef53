//! A non-blocking netlink socket that is replaced whenever an answer may be outstanding.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::time::Duration;

use netlink_sys::{Socket as RawSocket, SocketAddr};
use nix::errno::Errno;
use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::time::TimeVal;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use zeroize::Zeroize as _;

use crate::limits;
use crate::model::Undecoded;

/// Limits of what is received, for namespaces whose root user decides how much there is.
#[derive(Clone, Copy, Debug)]
pub(in crate::kernel) struct Bounds {
    /// The total number of bytes that are received from now on.
    pub(in crate::kernel) bytes: usize,
    /// The number of objects of one table that are kept.
    pub(in crate::kernel) objects: usize,
}

/// Statistics of a socket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Datagrams sent.
    pub sends: u64,
    /// Datagrams received.
    pub receives: u64,
    /// Requests in sent datagrams.
    pub requests: u64,
    /// Bytes of sent datagrams.
    pub sent_bytes: u64,
    /// Dumps that were repeated because the table changed meanwhile.
    pub interrupted: u64,
    /// How often the socket was replaced.
    pub reopened: u64,
}

/// The socket. Between conversations it is settled: no answer is outstanding. After a conversation that ended
/// early, also because its future was dropped, it is not settled, and the next conversation replaces the
/// socket.
pub(in crate::kernel) struct Socket {
    inner: AsyncFd<RawSocket>,
    protocol: isize,
    /// The inode of the network namespace.
    namespace: u64,
    buffer: Vec<u8>,
    next_sequence: u32,
    settled: bool,
    patience: Duration,
    /// The rest of the limits; `None` if there are none.
    bounds: Option<Bounds>,
    /// Messages that could not be decoded, by the kind of object.
    pub(super) undecoded: BTreeMap<&'static str, Undecoded>,
    stats: Stats,
}

impl Socket {
    /// Opens a socket of a protocol such as `NETLINK_ROUTE` in the namespace of the calling thread.
    pub(in crate::kernel) fn open(protocol: isize) -> io::Result<Socket> {
        Socket::of_raw(connect(protocol)?, protocol, namespace()?)
    }

    /// Uses a connected socket of the namespace with this inode.
    pub(in crate::kernel) fn of_raw(inner: RawSocket, protocol: isize, namespace: u64) -> io::Result<Socket> {
        Ok(Socket {
            inner: register(inner)?,
            protocol,
            namespace,
            buffer: Vec::with_capacity(limits::NETLINK_DATAGRAM),
            next_sequence: 1,
            settled: true,
            patience: limits::NETLINK_TIMEOUT,
            bounds: None,
            undecoded: BTreeMap::new(),
            stats: Stats::default(),
        })
    }

    /// Limits what is received from now on.
    pub(in crate::kernel) fn bound(&mut self, bounds: Bounds) {
        self.bounds = Some(bounds);
    }

    /// Fails if a table has more objects than the limit.
    pub(in crate::kernel) fn check_objects(&self, kept: usize) -> io::Result<()> {
        match self.bounds {
            Some(bounds) if kept > bounds.objects => {
                let text = format!("more than {} relevant objects in this namespace", bounds.objects);
                Err(io::Error::new(io::ErrorKind::FileTooLarge, text))
            }
            _ => Ok(()),
        }
    }

    pub(in crate::kernel) fn stats(&self) -> Stats {
        self.stats
    }

    /// Reserves sequence numbers for a number of requests, and returns the first one.
    pub(in crate::kernel) fn reserve(&mut self, requests: usize) -> u32 {
        let first = self.next_sequence;
        let count = u32::try_from(requests).expect("a batch is small");
        self.next_sequence = first.wrapping_add(count);
        self.stats.requests += u64::from(count);
        first
    }

    /// Sends a datagram and starts a conversation.
    pub(in crate::kernel) async fn begin(&mut self, datagram: &[u8]) -> io::Result<()> {
        if !self.settled {
            self.reopen()?;
        }
        self.settled = false;
        self.stats.sends += 1;
        self.stats.sent_bytes += u64::try_from(datagram.len()).expect("a datagram is small");
        let sent = self
            .inner
            .async_io(Interest::WRITABLE, |socket| socket.send(datagram, 0))
            .await?;
        if sent != datagram.len() {
            return Err(io::ErrorKind::WriteZero.into());
        }
        Ok(())
    }

    /// Takes the messages that could not be decoded since the last call, by the kind of object.
    pub(in crate::kernel) fn take_undecoded(&mut self) -> BTreeMap<&'static str, Undecoded> {
        std::mem::take(&mut self.undecoded)
    }

    /// Counts a dump that a change interrupted.
    pub(in crate::kernel) fn note_interrupted(&mut self) {
        self.stats.interrupted += 1;
    }

    /// Ends a conversation whose answers have all arrived.
    pub(in crate::kernel) fn settle(&mut self) {
        self.settled = true;
    }

    /// Receives the next datagram from the kernel. Errors: `ETIMEDOUT` if none arrives, `ENOBUFS` if some
    /// were lost, `EMSGSIZE` if one did not fit; then the buffer is enlarged for the next one.
    pub(in crate::kernel) async fn receive(&mut self) -> io::Result<&[u8]> {
        let deadline = tokio::time::Instant::now() + self.patience;
        loop {
            self.buffer.clear();
            let buffer = &mut self.buffer;
            let read = self.inner.async_io(Interest::READABLE, |socket| {
                // With MSG_TRUNC the result is the length of the datagram, even if it did not fit.
                socket.recv_from(buffer, libc::MSG_TRUNC)
            });
            let (length, sender) = tokio::time::timeout_at(deadline, read)
                .await
                .map_err(|_| io::Error::from_raw_os_error(libc::ETIMEDOUT))??;
            self.stats.receives += 1;
            if let Some(bounds) = &mut self.bounds {
                bounds.bytes = bounds.bytes.checked_sub(length).ok_or_else(|| {
                    let text = "more data in this namespace than Adit reads of another namespace";
                    io::Error::new(io::ErrorKind::FileTooLarge, text)
                })?;
            }
            if sender.port_number() != 0 {
                // The sender is not the kernel; any process can send to this port.
                continue;
            }
            if length > self.buffer.len() {
                self.buffer.reserve(length);
                return Err(io::Error::from_raw_os_error(libc::EMSGSIZE));
            }
            return Ok(&self.buffer);
        }
    }

    /// Wipes the received data, which may contain secrets.
    pub(in crate::kernel) fn wipe(&mut self) {
        self.buffer.zeroize();
    }

    /// Reduces the send buffer.
    #[cfg(test)]
    pub(in crate::kernel) fn shrink(&self, bytes: usize) {
        setsockopt(&self.inner.get_ref().as_fd(), sockopt::SndBuf, &bytes).expect("any size will do");
    }

    fn reopen(&mut self) -> io::Result<()> {
        if namespace()? != self.namespace {
            let text = "the netlink socket failed, and this thread is in another network namespace";
            return Err(io::Error::other(text));
        }
        self.inner = register(connect(self.protocol)?)?;
        self.stats.reopened += 1;
        Ok(())
    }
}

/// Like [`connect`], but reads block, and fail with `EAGAIN` if the kernel does not answer.
pub(super) fn connect_blocking(protocol: isize) -> io::Result<RawSocket> {
    let socket = connect(protocol)?;
    socket.set_non_blocking(false)?;
    let patience = TimeVal::new(limits::NETLINK_TIMEOUT.as_secs().cast_signed(), 0);
    setsockopt(&socket.as_fd(), sockopt::ReceiveTimeout, &patience)?;
    Ok(socket)
}

/// Opens a socket to the kernel in the namespace of the calling thread.
pub(in crate::kernel) fn connect(protocol: isize) -> io::Result<RawSocket> {
    let mut socket = RawSocket::new(protocol)?;
    socket.set_non_blocking(true)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    // Refusals contain the text of the kernel, but not the whole request.
    socket.set_ext_ack(true)?;
    socket.set_cap_ack(true)?;
    // Dumps are filtered as requested, and a malformed request is refused instead of misunderstood.
    socket.set_netlink_get_strict_chk(true)?;
    enlarge(&socket)?;
    Ok(socket)
}

/// Enlarges the receive buffer of a socket for data that arrives while nobody reads.
pub(super) fn enlarge(socket: &RawSocket) -> io::Result<()> {
    let forced = setsockopt(
        &socket.as_fd(),
        sockopt::RcvBufForce,
        &limits::NETLINK_RECEIVE_BUFFER,
    );
    if forced == Err(Errno::EPERM) {
        // Without NET_ADMIN reading is still possible, with a buffer up to the limit of the host.
        return Ok(setsockopt(
            &socket.as_fd(),
            sockopt::RcvBuf,
            &limits::NETLINK_RECEIVE_BUFFER,
        )?);
    }
    Ok(forced?)
}

#[expect(unsafe_code, reason = "tokio leaves the descriptor's ownership to the caller")]
pub(super) fn register(socket: RawSocket) -> io::Result<AsyncFd<RawSocket>> {
    // SAFETY: the socket owns its open descriptor, and nothing replaces or closes it while `AsyncFd` holds
    // it.
    Ok(unsafe { AsyncFd::register(socket) }?)
}

fn namespace() -> io::Result<u64> {
    Ok(fs::metadata("/proc/thread-self/ns/net")?.ino())
}

#[cfg(test)]
mod tests {
    use netlink_sys::protocols::NETLINK_ROUTE;

    use super::super::link;
    use super::*;

    #[tokio::test]
    async fn a_lost_answer_times_out_and_the_socket_is_replaced() {
        let mut socket = Socket::open(NETLINK_ROUTE).unwrap();
        socket.patience = Duration::from_millis(50);
        // Too short for a message: the kernel drops it silently.
        socket.begin(&[0; 8]).await.unwrap();
        let silence = socket.receive().await.unwrap_err();
        assert_eq!(silence.raw_os_error(), Some(libc::ETIMEDOUT));

        socket.patience = limits::NETLINK_TIMEOUT;
        let answers = socket
            .exchange(&[link::find(&crate::net::LinkName::constant("lo"))])
            .await;
        assert_eq!(answers[0].as_ref().unwrap().len(), 1, "{answers:?}");
        assert_eq!(socket.stats().reopened, 1);
    }

    #[tokio::test]
    async fn a_dropped_conversation_leaves_nothing_to_the_next() {
        let mut socket = Socket::open(NETLINK_ROUTE).unwrap();
        let request = link::dump();
        drop(tokio::time::timeout(Duration::ZERO, socket.dump(&request, |_| Ok(Some(())))).await);
        let mut datagram = Vec::new();
        request.write(&mut datagram, netlink_packet_core::NLM_F_DUMP, 1_000_000);
        socket.begin(&datagram).await.unwrap();
        // Its answer is in the socket now; the next conversation must not receive it.
        let links = socket.dump(&request, link::read).await.unwrap();
        assert!(links.iter().any(|link| link.name.as_str() == "lo"));
        assert!(socket.stats().reopened >= 1);
    }

    #[tokio::test]
    async fn a_datagram_that_does_not_fit_is_noticed_and_fits_the_next_time() {
        let mut socket = Socket::open(NETLINK_ROUTE).unwrap();
        socket.buffer = Vec::with_capacity(64);
        let request = link::dump();
        let mut datagram = Vec::new();
        request.write(&mut datagram, netlink_packet_core::NLM_F_DUMP, 1);
        socket.begin(&datagram).await.unwrap();
        let cut = socket.receive().await.unwrap_err();
        assert_eq!(cut.raw_os_error(), Some(libc::EMSGSIZE));

        socket.buffer = Vec::with_capacity(64);
        let links = socket.dump(&request, link::read).await.unwrap();
        assert!(links.iter().any(|link| link.name.as_str() == "lo"));
    }

    #[tokio::test]
    async fn more_than_its_bounds_is_an_error() {
        let request = link::dump();
        let all = Bounds {
            bytes: 1 << 20,
            objects: 1000,
        };
        for (bounds, fits) in [
            (all, true),
            (Bounds { bytes: 100, ..all }, false),
            (Bounds { objects: 0, ..all }, false),
        ] {
            let mut socket = Socket::open(NETLINK_ROUTE).unwrap();
            socket.bound(bounds);
            let links = socket.dump(&request, link::read).await;
            assert_eq!(links.is_ok(), fits, "{bounds:?}: {links:?}");
        }
    }
}
