//! The socket of the agent, `adit.sock` in the run directory: requests and answers, a line of JSON each, in
//! order.
//!
//! The serving task waits only for connections and may be aborted at any time: a client that gets an
//! incomplete answer reports that.

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;

use crate::files;
use crate::limits;
use crate::serve::{View, Withdrawal, connections};
use crate::status::Status;

/// The file name of the socket in the run directory.
pub const SOCKET: &str = "adit.sock";
const LOCK: &str = "lock";

/// A request to the agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// Return the status.
    Status,
    /// Return the status after the reconciliation with this number has ended.
    Reconciled(u64),
    /// Withdraw the peer of this name: send nothing to it.
    Withdraw(String),
    /// Restore the peer of this name.
    Restore(String),
}

/// Why a request failed, or the run directory can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// No agent listens on the socket.
    #[error("no agent answers on socket {}: {source}", .path.display())]
    NotRunning {
        /// The socket.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// An agent or command of another network namespace uses the run directory.
    #[error(
        "run directory {} is in use by {}, an agent or command of another network namespace; each network namespace \
         needs directories of its own (--run-dir, --state-dir, --bpffs)",
        .path.display(),
        .holder
    )]
    Locked {
        /// The directory.
        path: PathBuf,
        /// The process that uses it.
        holder: String,
    },
    /// The answer is invalid.
    #[error("the answer of the agent on socket {} can't be read: {source}", .path.display())]
    BadAnswer {
        /// The socket.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file or directory could not be created.
    #[error("{}: {source}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Opens the lock file, and creates it if there is none. Only a regular file is accepted.
fn lock_file(path: &Path) -> io::Result<File> {
    // Other users must not be able to lock it.
    let mut options = File::options();
    match options.append(true).create_new(true).mode(0o600).open(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        created => return created,
    }
    if path.symlink_metadata()?.is_symlink() {
        let text = "it is a symbolic link, not a regular file";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    files::open(path)
}

/// The run directory, locked by one agent or command at a time. Unlocked when dropped, and by the kernel when
/// the process dies.
#[derive(Debug)]
pub struct RunDirectory {
    path: PathBuf,
    _lock: File,
}

impl RunDirectory {
    /// Creates the directory if there is none, and locks it.
    ///
    /// # Errors
    /// When another process has locked it, or it can't be created.
    pub fn acquire(path: &Path) -> Result<RunDirectory, ControlError> {
        let at = |path: &Path| {
            let path = path.to_owned();
            move |source| ControlError::File { path, source }
        };
        fs::create_dir_all(path).map_err(at(path))?;
        let lock_path = path.join(LOCK);
        let lock = lock_file(&lock_path).map_err(at(&lock_path))?;
        match lock.try_lock() {
            Ok(()) => Ok(RunDirectory {
                path: path.to_owned(),
                _lock: lock,
            }),
            Err(TryLockError::WouldBlock) => Err(ControlError::Locked {
                path: path.to_owned(),
                holder: files::locked_by(&lock),
            }),
            Err(TryLockError::Error(source)) => Err(at(&lock_path)(source)),
        }
    }

    /// Binds the socket, mode 0660, and replaces one that a dead agent left.
    ///
    /// # Errors
    /// When it can't be bound.
    pub fn listen(&self) -> Result<std::os::unix::net::UnixListener, ControlError> {
        let path = self.path.join(SOCKET);
        let at = |source| ControlError::File {
            path: path.clone(),
            source,
        };
        match fs::remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => return Err(at(source)),
            _ => {}
        }
        let listener = std::os::unix::net::UnixListener::bind(&path).map_err(at)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o660)).map_err(at)?;
        Ok(listener)
    }

    /// Removes the directory and the files of an agent in it.
    ///
    /// # Errors
    /// When it can't be removed. A directory with other files is not removed; that is no error.
    pub fn remove(self) -> io::Result<()> {
        for file in [SOCKET, LOCK] {
            match fs::remove_file(self.path.join(file)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        match fs::remove_dir(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(()),
            other => other,
        }
    }
}

/// Answers requests until aborted.
pub(crate) async fn serve(listener: UnixListener, view: View) {
    let accept = async || listener.accept().await.map(|(stream, _)| stream);
    let in_flight = Arc::new(Semaphore::new(limits::SOCKET_ANSWERS));
    connections::serve("the socket", accept, |stream| {
        let (view, in_flight) = (view.clone(), Arc::clone(&in_flight));
        async move {
            if let Err(error) = converse(stream, &view, &in_flight).await {
                tracing::debug!("a client of the socket disconnected: {error}");
            }
        }
    })
    .await;
}

/// Answers one request after the other, until the client disconnects or is silent for too long.
async fn converse(stream: UnixStream, view: &View, in_flight: &Semaphore) -> io::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::new(reader);
    loop {
        let mut line = String::new();
        let mut limited = (&mut reader).take(limits::REQUEST_BYTES);
        let read = tokio::time::timeout(limits::RECONCILIATION_TIMEOUT, limited.read_line(&mut line)).await;
        if read?? == 0 {
            return Ok(());
        }
        let mut answer =
            tokio::time::timeout(limits::RECONCILIATION_TIMEOUT, answer(&line, view, in_flight)).await??;
        answer.push(b'\n');
        writer.write_all(&answer).await?;
        if !line.ends_with('\n') {
            return Ok(());
        }
    }
}

async fn answer(request: &str, view: &View, in_flight: &Semaphore) -> io::Result<Vec<u8>> {
    let answer = match serde_json::from_str(request) {
        Ok(Request::Status) => {
            let _permit = in_flight.acquire().await;
            serde_json::to_vec(&view.status().await)
        }
        Ok(Request::Reconciled(number)) => serde_json::to_vec(&view.status_after(number).await),
        Ok(Request::Withdraw(peer)) => serde_json::to_vec(&view.set_withdrawn(&peer, true).await),
        Ok(Request::Restore(peer)) => serde_json::to_vec(&view.set_withdrawn(&peer, false).await),
        Err(error) => serde_json::to_vec(&format!("not a valid request: {error}")),
    };
    answer.map_err(io::Error::other)
}

/// Asks a running agent for its status.
///
/// # Errors
/// When no agent answers, or the answer is not a status.
pub async fn status(run_directory: &Path) -> Result<Status, ControlError> {
    request(run_directory, Request::Status, limits::ANSWER_TIMEOUT).await
}

/// Asks a running agent to withdraw or restore a peer, and waits until it has done so.
///
/// # Errors
/// When no agent answers, or the answer is not a [`Withdrawal`].
pub async fn set_withdrawn(
    run_directory: &Path,
    peer: &str,
    withdraw: bool,
) -> Result<Withdrawal, ControlError> {
    let peer = peer.to_owned();
    let change = if withdraw {
        Request::Withdraw(peer)
    } else {
        Request::Restore(peer)
    };
    request(run_directory, change, limits::RECONCILIATION_TIMEOUT).await
}

async fn request<T: DeserializeOwned>(
    run_directory: &Path,
    request: Request,
    patience: Duration,
) -> Result<T, ControlError> {
    let path = run_directory.join(SOCKET);
    let stream = UnixStream::connect(&path)
        .await
        .map_err(|source| ControlError::NotRunning {
            path: path.clone(),
            source,
        })?;
    let answer = tokio::time::timeout(patience, ask(stream, request)).await;
    let answer = answer.unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut)));
    answer
        .and_then(|answer| serde_json::from_slice(&answer).map_err(io::Error::other))
        .map_err(|source| ControlError::BadAnswer { path, source })
}

async fn ask(mut stream: UnixStream, request: Request) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(&request).map_err(io::Error::other)?;
    line.push(b'\n');
    stream.write_all(&line).await?;
    stream.shutdown().await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_directory_has_one_owner_and_its_lock_is_a_regular_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        let first = RunDirectory::acquire(path).unwrap();
        let refused = RunDirectory::acquire(path).unwrap_err();
        let ControlError::Locked { holder, .. } = refused else {
            panic!("{refused}");
        };
        assert_eq!(holder, format!("process {}", std::process::id()));
        drop(first);
        RunDirectory::acquire(path).unwrap();

        let lock = path.join(LOCK);
        let refused = |what: &str| {
            let error = RunDirectory::acquire(path).unwrap_err();
            assert!(matches!(error, ControlError::File { .. }), "{error}");
            assert!(error.to_string().contains(what), "{error}");
            fs::remove_file(&lock).unwrap();
        };
        fs::remove_file(&lock).unwrap();
        nix::unistd::mkfifo(&lock, nix::sys::stat::Mode::S_IRWXU).unwrap();
        refused("a FIFO");
        std::os::unix::fs::symlink("/dev/null", &lock).unwrap();
        refused("a symbolic link");
    }
}
