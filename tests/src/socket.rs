//! Socket options beyond the standard library, and receiving until a deadline.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd as _};

use dataplane_user::net::Family;
use nix::errno::Errno;

use crate::interrupt::Deadline;

/// What happens to packets that are larger than the path MTU (ip(7), `IP_MTU_DISCOVER`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fragments {
    /// The sender fragments them, and routers may, too.
    Allowed,
    /// A packet that is too large is an error.
    Forbidden,
}

/// Sets the fragmentation of a socket.
///
/// # Errors
/// The error of the kernel.
pub fn set_fragments(socket: &impl AsFd, family: Family, fragments: Fragments) -> io::Result<()> {
    let (level, name) = match family {
        Family::Ipv4 => (libc::IPPROTO_IP, libc::IP_MTU_DISCOVER),
        Family::Ipv6 => (libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER),
    };
    // The values are the same for both families (linux/in6.h).
    let value = match fragments {
        Fragments::Allowed => libc::IP_PMTUDISC_DONT,
        Fragments::Forbidden => libc::IP_PMTUDISC_DO,
    };
    set_option(socket, level, name, value)
}

/// Sets an integer option.
///
/// # Errors
/// The error of the kernel.
pub fn set_option(socket: &impl AsFd, level: i32, name: i32, value: i32) -> io::Result<()> {
    let length = libc::socklen_t::try_from(size_of::<i32>()).expect("four fits");
    let descriptor = socket.as_fd().as_raw_fd();
    #[expect(unsafe_code, reason = "nothing safe at hand sets these options")]
    // SAFETY: the pointer is to a live value of the given length.
    let result = unsafe { libc::setsockopt(descriptor, level, name, (&raw const value).cast(), length) };
    Errno::result(result)?;
    Ok(())
}

/// Receives until `fits` returns a value for a packet, and returns that value; `None` after the deadline. An ICMP error is
/// returned as an error.
///
/// # Errors
/// The error of the kernel.
pub fn receive<T>(
    socket: &UdpSocket,
    deadline: Deadline,
    mut fits: impl FnMut(&[u8], SocketAddr) -> Option<T>,
) -> io::Result<Option<T>> {
    let mut buffer = vec![0; 65_536];
    while let Some(slice) = deadline.slice() {
        socket.set_read_timeout(Some(slice))?;
        match socket.recv_from(&mut buffer) {
            Ok((length, from)) => {
                if let Some(found) = fits(&buffer[..length], from) {
                    return Ok(Some(found));
                }
            }
            Err(error) if is_pause(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// Whether an error only means the end of a slice or a signal.
#[must_use]
pub fn is_pause(error: &io::Error) -> bool {
    use io::ErrorKind::{Interrupted, TimedOut, WouldBlock};
    matches!(error.kind(), Interrupted | TimedOut | WouldBlock)
}
