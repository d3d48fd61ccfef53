//! A non-blocking netlink socket that knows when it can be trusted.

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

/// What may be received at most, where somebody else decides how much there is.
#[derive(Clone, Copy, Debug)]
pub(in crate::kernel) struct Bounds {
    /// Bytes, of all that is received from now on.
    pub(in crate::kernel) bytes: usize,
    /// Objects of one table that are kept.
    pub(in crate::kernel) objects: usize,
}

/// What went over a socket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Datagrams sent.
    pub sends: u64,
    /// Datagrams received.
    pub receives: u64,
    /// Requests in the sent ones.
    pub requests: u64,
    /// Bytes of the sent ones.
    pub sent_bytes: u64,
    /// Dumps that were read anew, as the table changed meanwhile.
    pub interrupted: u64,
    /// Times that the socket was replaced.
    pub reopened: u64,
}

/// The socket. Between conversations it is settled: no answer is outstanding. Where a conversation breaks off, also by
/// its future being dropped, it is not, and the next one replaces the socket.
pub(in crate::kernel) struct Socket {
    inner: AsyncFd<RawSocket>,
    protocol: isize,
    /// The inode of the network namespace.
    namespace: u64,
    buffer: Vec<u8>,
    next_sequence: u32,
    settled: bool,
    patience: Duration,
    /// What is left of the bounds; `None`: there are none.
    bounds: Option<Bounds>,
    /// What could not be decoded, by the kind of object.
    pub(super) undecoded: BTreeMap<&'static str, Undecoded>,
    stats: Stats,
}

impl Socket {
    /// A socket in the calling thread's namespace, of a protocol such as `NETLINK_ROUTE`.
    pub(in crate::kernel) fn open(protocol: isize) -> io::Result<Socket> {
        Socket::of_raw(connect(protocol)?, protocol, namespace()?)
    }

    /// With a connected socket of the namespace of this inode.
    pub(in crate::kernel) fn of_raw(inner: RawSocket, protocol: isize, namespace: u64) -> io::Result<Socket> {
        Ok(Socket {
            inner: register(inner)?,
            protocol,
            namespace,
            buffer: Vec::with_capacity(limits::NETLINK_DATAGRAM),
            next_sequence: 1,
            settled: true,
            patience: limits::NETLINK_PATIENCE,
            bounds: None,
            undecoded: BTreeMap::new(),
            stats: Stats::default(),
        })
    }

    /// Bounds what is received from now on.
    pub(in crate::kernel) fn bound(&mut self, bounds: Bounds) {
        self.bounds = Some(bounds);
    }

    /// An error where a table of so many objects is more than may be received.
    pub(in crate::kernel) fn check_objects(&self, kept: usize) -> io::Result<()> {
        match self.bounds {
            Some(bounds) if kept > bounds.objects => {
                let text = format!("it has more than {} objects that matter", bounds.objects);
                Err(io::Error::new(io::ErrorKind::FileTooLarge, text))
            }
            _ => Ok(()),
        }
    }

    pub(in crate::kernel) fn stats(&self) -> Stats {
        self.stats
    }

    /// Sequence numbers for so many requests: the first one.
    pub(in crate::kernel) fn reserve(&mut self, requests: usize) -> u32 {
        let first = self.next_sequence;
        let count = u32::try_from(requests).expect("a batch is small");
        self.next_sequence = first.wrapping_add(count);
        self.stats.requests += u64::from(count);
        first
    }

    /// Starts a conversation: sends a datagram.
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

    /// What could not be decoded since the last call, by the kind of object.
    pub(in crate::kernel) fn take_undecoded(&mut self) -> BTreeMap<&'static str, Undecoded> {
        std::mem::take(&mut self.undecoded)
    }

    /// Notes a dump that a change interrupted.
    pub(in crate::kernel) fn note_interrupted(&mut self) {
        self.stats.interrupted += 1;
    }

    /// Ends a conversation: all answers came.
    pub(in crate::kernel) fn settle(&mut self) {
        self.settled = true;
    }

    /// The next datagram from the kernel. `ETIMEDOUT` when it is silent, `ENOBUFS` when some were lost, `EMSGSIZE` when
    /// one did not fit; the next one as large will.
    pub(in crate::kernel) async fn receive(&mut self) -> io::Result<&[u8]> {
        let deadline = tokio::time::Instant::now() + self.patience;
        loop {
            self.buffer.clear();
            let buffer = &mut self.buffer;
            let read = self.inner.async_io(Interest::READABLE, |socket| {
                // With MSG_TRUNC the result is the datagram's length, also where it did not fit.
                socket.recv_from(buffer, libc::MSG_TRUNC)
            });
            let (length, sender) = tokio::time::timeout_at(deadline, read)
                .await
                .map_err(|_| io::Error::from_raw_os_error(libc::ETIMEDOUT))??;
            self.stats.receives += 1;
            if let Some(bounds) = &mut self.bounds {
                bounds.bytes = bounds.bytes.checked_sub(length).ok_or_else(|| {
                    let text = "it has more than is read of another namespace at once";
                    io::Error::new(io::ErrorKind::FileTooLarge, text)
                })?;
            }
            if sender.port_number() != 0 {
                // Not the kernel: any process may send to our port.
                continue;
            }
            if length > self.buffer.len() {
                self.buffer.reserve(length);
                return Err(io::Error::from_raw_os_error(libc::EMSGSIZE));
            }
            return Ok(&self.buffer);
        }
    }

    /// Wipes what was received, where it may hold secrets.
    pub(in crate::kernel) fn wipe(&mut self) {
        self.buffer.zeroize();
    }

    /// Makes the send buffer smaller.
    #[cfg(test)]
    pub(in crate::kernel) fn shrink(&self, bytes: usize) {
        setsockopt(&self.inner.get_ref().as_fd(), sockopt::SndBuf, &bytes).expect("any size will do");
    }

    fn reopen(&mut self) -> io::Result<()> {
        if namespace()? != self.namespace {
            let text = "the netlink socket broke and this thread is in another network namespace";
            return Err(io::Error::other(text));
        }
        self.inner = register(connect(self.protocol)?)?;
        self.stats.reopened += 1;
        Ok(())
    }
}

/// As [`connect`], but whoever reads waits, and gets `EAGAIN` when the kernel is silent.
pub(super) fn connect_blocking(protocol: isize) -> io::Result<RawSocket> {
    let socket = connect(protocol)?;
    socket.set_non_blocking(false)?;
    let patience = TimeVal::new(limits::NETLINK_PATIENCE.as_secs().cast_signed(), 0);
    setsockopt(&socket.as_fd(), sockopt::ReceiveTimeout, &patience)?;
    Ok(socket)
}

/// A socket to the kernel in the calling thread's namespace.
pub(in crate::kernel) fn connect(protocol: isize) -> io::Result<RawSocket> {
    let mut socket = RawSocket::new(protocol)?;
    socket.set_non_blocking(true)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    // The kernel's words in refusals, and not the whole request with them.
    socket.set_ext_ack(true)?;
    socket.set_cap_ack(true)?;
    // Dumps are filtered as asked, and a malformed request is refused instead of taken for another.
    socket.set_netlink_get_strict_chk(true)?;
    enlarge(&socket)?;
    Ok(socket)
}

/// Gives a socket room for what comes while nobody reads.
pub(super) fn enlarge(socket: &RawSocket) -> io::Result<()> {
    let forced = setsockopt(
        &socket.as_fd(),
        sockopt::RcvBufForce,
        &limits::NETLINK_RECEIVE_BUFFER,
    );
    if forced == Err(Errno::EPERM) {
        // Without NET_ADMIN all can be read still; the host's limit is what one gets.
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
    // SAFETY: the socket owns its open descriptor, and nothing replaces or closes it while `AsyncFd` holds it.
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
        // Too short for a message: the kernel drops it without a word.
        socket.begin(&[0; 8]).await.unwrap();
        let silence = socket.receive().await.unwrap_err();
        assert_eq!(silence.raw_os_error(), Some(libc::ETIMEDOUT));

        socket.patience = limits::NETLINK_PATIENCE;
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
        // Its answer waits in the socket now; the next one must not see it.
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
