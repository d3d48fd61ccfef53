//! The lock of a network namespace: one process at a time may change objects of Adit there, whatever
//! directories it uses.
//!
//! It is an abstract Unix socket (unix(7)), whose name is unique in a network namespace. The kernel frees it
//! when the process ends. Any user of the namespace can take the name, so an error names the holder.

use std::fmt;
use std::fs;
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};

use nix::errno::Errno;
use nix::sys::socket::sockopt::PeerCredentials;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, getsockopt, socket};

use crate::limits;
use crate::serve::connections;

/// The name of the socket, after the zero byte.
const NAME: &str = "adit-writer";

/// Why the lock can't be taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process has it.
    #[error("{0} holds the lock of this network namespace (the abstract Unix socket {NAME})")]
    Held(Holder),
    /// The kernel refuses the socket.
    #[error("can't lock the network namespace (the abstract Unix socket {NAME})")]
    Failed(#[source] io::Error),
}

/// The process that has the lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holder {
    /// A process that this one can see.
    Process {
        /// The process id.
        pid: i32,
        /// The user id.
        uid: u32,
        /// The name, as in /proc/PID/comm.
        name: Option<String>,
    },
    /// A process of another PID namespace, by its user id.
    Elsewhere(u32),
    /// A process that does not answer.
    Silent,
}

impl Holder {
    /// Whether it may be an agent or a command of Adit: other users can take the lock, too.
    #[must_use]
    pub fn may_be_an_agent(&self) -> bool {
        match self {
            Holder::Process { uid, .. } | Holder::Elsewhere(uid) => {
                *uid == 0 || *uid == nix::unistd::geteuid().as_raw()
            }
            Holder::Silent => true,
        }
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Holder::Process { pid, uid, name } => {
                let name = name.as_deref().unwrap_or("?");
                write!(f, "process {pid} ({name}, user id {uid})")
            }
            Holder::Elsewhere(uid) => write!(f, "a process of another PID namespace (user id {uid})"),
            Holder::Silent => f.write_str("an unknown process"),
        }
    }
}

/// The lock. Unlocked when dropped, and by the kernel when the process dies.
#[derive(Debug)]
pub struct NamespaceLock(UnixListener);

impl NamespaceLock {
    /// Locks the network namespace of the calling thread.
    ///
    /// # Errors
    /// When another process has locked it, or the kernel refuses the socket.
    pub fn acquire() -> Result<NamespaceLock, LockError> {
        NamespaceLock::named(NAME)
    }

    fn named(name: &str) -> Result<NamespaceLock, LockError> {
        let address = SocketAddr::from_abstract_name(name).map_err(LockError::Failed)?;
        let mut left = limits::NAMESPACE_LOCK_ATTEMPTS;
        loop {
            match UnixListener::bind_addr(&address) {
                Ok(socket) => return Ok(NamespaceLock(socket)),
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
                Err(error) => return Err(LockError::Failed(error)),
            }
            left -= 1;
            match holder(name) {
                // It ended just now, or does not listen yet.
                Err(Errno::ECONNREFUSED) if left > 0 => std::thread::sleep(limits::LOCK_PAUSE),
                found => return Err(LockError::Held(found.unwrap_or(Holder::Silent))),
            }
        }
    }

    /// The socket, to be served.
    ///
    /// # Errors
    /// When it can't be duplicated.
    pub fn listener(&self) -> io::Result<UnixListener> {
        self.0.try_clone()
    }
}

/// Accepts connections until aborted, so that any number of processes can find out who has the lock.
pub(crate) async fn serve(socket: tokio::net::UnixListener) {
    let accept = async || socket.accept().await.map(drop);
    connections::serve("the lock of the network namespace", accept, |()| async {}).await;
}

/// Asks the kernel which process listens on the socket.
fn holder(name: &str) -> nix::Result<Holder> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let client = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    connect(client.as_raw_fd(), &UnixAddr::new_abstract(name.as_bytes())?)?;
    let found = getsockopt(&client, PeerCredentials)?;
    if found.pid() == 0 {
        return Ok(Holder::Elsewhere(found.uid()));
    }
    let name = fs::read_to_string(format!("/proc/{}/comm", found.pid()));
    Ok(Holder::Process {
        pid: found.pid(),
        uid: found.uid(),
        name: name.ok().map(|name| name.trim_end().escape_debug().to_string()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_has_one_writer_who_is_named() {
        let name = format!("adit-test-{}", std::process::id());
        let first = NamespaceLock::named(&name).unwrap();
        let refused = || NamespaceLock::named(&name).unwrap_err();
        let LockError::Held(Holder::Process {
            pid,
            uid,
            name: Some(_),
        }) = refused()
        else {
            panic!("{:?}", refused());
        };
        assert_eq!(pid, nix::unistd::getpid().as_raw());
        assert_eq!(uid, nix::unistd::getuid().as_raw());
        assert!(refused().to_string().contains(&format!("process {pid} ")));
        drop(first);
        NamespaceLock::named(&name).unwrap();
    }

    #[test]
    fn a_holder_that_does_not_listen_is_unknown() {
        let name = format!("adit-test-silent-{}", std::process::id());
        let address = UnixAddr::new_abstract(name.as_bytes()).unwrap();
        let silent = socket(
            AddressFamily::Unix,
            SockType::Stream,
            SockFlag::SOCK_CLOEXEC,
            None,
        )
        .unwrap();
        nix::sys::socket::bind(silent.as_raw_fd(), &address).unwrap();
        let refused = NamespaceLock::named(&name).unwrap_err();
        assert!(matches!(refused, LockError::Held(Holder::Silent)), "{refused}");
    }
}
