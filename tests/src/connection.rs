//! A connection to the socket of an agent that is kept for several requests.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use dataplane_user::serve::control::{Request, SOCKET};
use dataplane_user::status::Status;

use crate::agent::PATIENCE;

/// A connection to the socket of an agent.
pub(crate) struct Connection(BufReader<UnixStream>);

impl Connection {
    pub(crate) fn open(run_directory: &Path) -> Result<Connection> {
        let stream = UnixStream::connect(run_directory.join(SOCKET)).context("no agent listens")?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Connection(BufReader::new(stream)))
    }

    pub(crate) fn ask(&mut self, request: &Request) -> Result<Status> {
        let mut line = serde_json::to_vec(request)?;
        line.push(b'\n');
        self.0.get_mut().write_all(&line)?;
        let mut answer = String::new();
        ensure!(self.0.read_line(&mut answer)? > 0, "the agent hung up");
        serde_json::from_str(&answer).with_context(|| format!("no status: {answer}"))
    }
}
