//! Reading a whole table: all of it, or an error.

use std::io;

use netlink_packet_core::{
    DecodeError, NLM_F_DUMP, NLM_F_DUMP_INTR, NLMSG_DONE, NLMSG_ERROR, NLMSG_NOOP, NLMSG_OVERRUN,
};

use super::message::{Failure, Request, messages};
use super::socket::Socket;

/// How often a table that changes while it is read is read anew.
const ATTEMPTS: usize = 8;

impl Socket {
    /// Reads a table; `read` turns a message's body into an object, or nothing.
    ///
    /// # Errors
    /// When the kernel breaks off, when its answer can't be read, or when the table changed during every attempt
    /// (`EAGAIN`).
    pub(super) async fn dump<T>(
        &mut self,
        request: &Request,
        mut read: impl FnMut(&[u8]) -> Result<Option<T>, DecodeError>,
    ) -> Result<Vec<T>, Failure> {
        for _ in 0..ATTEMPTS {
            match self.dump_once(request, &mut read).await {
                Ok(Some(objects)) => return Ok(objects),
                Ok(None) => tracing::debug!("netlink dump interrupted by a change"),
                // A datagram larger than the buffer, which has grown now.
                Err(Failure::Lost(error)) if error.raw_os_error() == Some(libc::EMSGSIZE) => {}
                Err(failure) => return Err(failure),
            }
        }
        Err(Failure::Refused {
            errno: libc::EAGAIN,
            text: Some(format!("changes interrupted {ATTEMPTS} attempts to read it")),
        })
    }

    /// One attempt; `None` where the table changed meanwhile.
    async fn dump_once<T>(
        &mut self,
        request: &Request,
        read: &mut impl FnMut(&[u8]) -> Result<Option<T>, DecodeError>,
    ) -> Result<Option<Vec<T>>, Failure> {
        let sequence = self.reserve(1);
        let mut datagram = Vec::with_capacity(request.length());
        request.write(&mut datagram, NLM_F_DUMP, sequence);
        self.begin(&datagram).await?;

        let mut objects = Vec::new();
        let mut interrupted = false;
        loop {
            let datagram = self.receive().await?;
            for message in messages(datagram).map_err(|error| Failure::malformed(&error))? {
                if message.sequence != sequence {
                    continue;
                }
                interrupted |= message.flags & NLM_F_DUMP_INTR != 0;
                match message.kind {
                    NLMSG_NOOP => {}
                    NLMSG_OVERRUN => return Err(io::Error::from_raw_os_error(libc::ENOBUFS).into()),
                    NLMSG_DONE | NLMSG_ERROR => {
                        let verdict = message.verdict();
                        self.settle();
                        verdict?;
                        return Ok((!interrupted).then_some(objects));
                    }
                    _ => objects.extend(read(message.body).map_err(|error| Failure::malformed(&error))?),
                }
            }
        }
    }
}
