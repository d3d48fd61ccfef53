//! The lock of `adit wg up` and `adit wg down`: one at a time changes a network namespace, so that no two of
//! them choose the same mark, and none takes the rules of another one for its own.
//!
//! It is an abstract Unix socket (unix(7)), whose name is unique in a network namespace. The kernel frees it
//! when the process ends.

use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::time::Instant;

use anyhow::anyhow;

use crate::cli::exit::{Code, Failure};
use crate::cli::interrupt::Interrupts;
use crate::limits;

/// The name of the socket, after the zero byte.
const NAME: &str = "adit-wg";

/// The lock; unlocked when dropped. Commands of a file must not run meanwhile, because they may need it, too.
pub(super) struct Lock {
    _socket: UnixListener,
}

/// Waits for the lock of the network namespace of the calling thread; a signal ends the waiting.
pub(super) async fn acquire(interrupts: &mut Interrupts) -> Result<Lock, Failure> {
    let address = SocketAddr::from_abstract_name(NAME)?;
    let deadline = Instant::now() + limits::LOCK_TIMEOUT;
    loop {
        match UnixListener::bind_addr(&address) {
            Ok(socket) => return Ok(Lock { _socket: socket }),
            Err(error) if error.kind() != io::ErrorKind::AddrInUse => {
                return Err(anyhow!(error).context("can't lock the network namespace").into());
            }
            Err(_) if Instant::now() >= deadline => {
                let text = format!(
                    "another `adit wg up` or `adit wg down` still runs in this network namespace after {} s: the abstract \
                     Unix socket {NAME} exists",
                    limits::LOCK_TIMEOUT.as_secs()
                );
                return Err(Failure::new(Code::TimedOut, anyhow!(text)));
            }
            Err(_) => tokio::select! {
                interrupt = interrupts.wait() => return Err(interrupt),
                () = tokio::time::sleep(limits::LOCK_PAUSE) => {}
            },
        }
    }
}
