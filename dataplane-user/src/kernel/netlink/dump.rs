//! Reading a whole table: all of it, or an error.

use std::io;

use netlink_packet_core::{
    DecodeError, NLM_F_DUMP, NLM_F_DUMP_INTR, NLMSG_DONE, NLMSG_ERROR, NLMSG_NOOP, NLMSG_OVERRUN,
};

use super::message::{Failure, Request, messages};
use super::socket::Socket;
use crate::limits;

impl Socket {
    /// Reads a table; `read` turns a message's body into an object, or nothing.
    ///
    /// # Errors
    /// When the kernel breaks off, when its answer can't be read, or when the table changed during every attempt
    /// (`EAGAIN`).
    pub(in crate::kernel) async fn dump<T>(
        &mut self,
        request: &Request,
        mut read: impl FnMut(&[u8]) -> Result<Option<T>, DecodeError>,
    ) -> Result<Vec<T>, Failure> {
        for _ in 0..limits::DUMP_ATTEMPTS {
            match self.dump_once(request, &mut read).await {
                Ok(Some(objects)) => return Ok(objects),
                Ok(None) => self.note_interrupted(),
                // A datagram larger than the buffer, which has grown now.
                Err(Failure::Lost(error)) if error.raw_os_error() == Some(libc::EMSGSIZE) => {}
                Err(failure) => return Err(failure),
            }
        }
        Err(Failure::Refused {
            errno: libc::EAGAIN,
            text: Some(format!(
                "changes interrupted {} attempts to read it",
                limits::DUMP_ATTEMPTS
            )),
        })
    }

    /// One attempt; `None` where the table changed meanwhile.
    async fn dump_once<T>(
        &mut self,
        request: &Request,
        mut read: impl FnMut(&[u8]) -> Result<Option<T>, DecodeError>,
    ) -> Result<Option<Vec<T>>, Failure> {
        let sequence = self.reserve(1);
        let mut datagram = Vec::with_capacity(request.length());
        request.write(&mut datagram, NLM_F_DUMP, sequence);
        self.begin(&datagram).await?;

        let mut table = Table::new(sequence);
        while table.verdict.is_none() {
            table.take(self.receive().await?, &mut read)?;
            self.check_objects(table.objects.len())?;
        }
        self.settle();
        table.finish()
    }
}

/// A table while its datagrams come in.
struct Table<T> {
    sequence: u32,
    objects: Vec<T>,
    interrupted: bool,
    /// What the end said.
    verdict: Option<Result<(), Failure>>,
}

impl<T> Table<T> {
    fn new(sequence: u32) -> Table<T> {
        Table {
            sequence,
            objects: Vec::new(),
            interrupted: false,
            verdict: None,
        }
    }

    fn take(
        &mut self,
        datagram: &[u8],
        mut read: impl FnMut(&[u8]) -> Result<Option<T>, DecodeError>,
    ) -> Result<(), Failure> {
        for message in messages(datagram).map_err(|error| Failure::malformed(&error))? {
            if message.kind == NLMSG_OVERRUN {
                return Err(io::Error::from_raw_os_error(libc::ENOBUFS).into());
            }
            if message.sequence != self.sequence || message.kind == NLMSG_NOOP {
                continue;
            }
            self.interrupted |= message.flags & NLM_F_DUMP_INTR != 0;
            if matches!(message.kind, NLMSG_DONE | NLMSG_ERROR) {
                self.verdict = Some(message.verdict());
                continue;
            }
            let object = read(message.body).map_err(|error| Failure::malformed(&error))?;
            self.objects.extend(object);
        }
        Ok(())
    }

    fn finish(self) -> Result<Option<Vec<T>>, Failure> {
        self.verdict.unwrap_or(Ok(()))?;
        Ok((!self.interrupted).then_some(self.objects))
    }
}

#[cfg(test)]
mod tests {
    use netlink_packet_core::NLM_F_MULTIPART;
    use netlink_packet_route::AddressFamily;
    use netlink_packet_route::route::RouteMessage;
    use netlink_sys::protocols::NETLINK_ROUTE;

    use super::*;

    const SEQUENCE: u32 = 7;

    /// A message on the wire, with four bytes for a body.
    fn message(kind: u16, flags: u16, sequence: u32, body: i32) -> Vec<u8> {
        let mut bytes = 20u32.to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend((flags | NLM_F_MULTIPART).to_ne_bytes());
        bytes.extend(sequence.to_ne_bytes());
        bytes.extend(0u32.to_ne_bytes());
        bytes.extend(body.to_ne_bytes());
        bytes
    }

    fn read(datagrams: &[Vec<u8>]) -> Result<Option<Vec<i32>>, Failure> {
        let mut table = Table::new(SEQUENCE);
        for datagram in datagrams {
            let number = |body: &[u8]| Ok(body.first_chunk().map(|number| i32::from_ne_bytes(*number)));
            table.take(datagram, number)?;
        }
        assert!(table.verdict.is_some(), "the end was seen");
        table.finish()
    }

    #[test]
    fn a_table_is_whole_or_an_error() {
        let object = |number| message(libc::RTM_NEWROUTE, 0, SEQUENCE, number);
        let done = |code| message(NLMSG_DONE, 0, SEQUENCE, code);
        let stale = message(libc::RTM_NEWROUTE, 0, SEQUENCE - 1, 9);
        let whole = read(&[
            [object(1), stale, object(2)].concat(),
            [object(3), done(0)].concat(),
        ]);
        assert_eq!(whole.unwrap(), Some(vec![1, 2, 3]));

        let failed = read(&[object(1), done(-libc::ENOMEM)]);
        assert_eq!(failed.unwrap_err().errno(), Some(libc::ENOMEM));

        let torn = message(libc::RTM_NEWROUTE, NLM_F_DUMP_INTR, SEQUENCE, 2);
        assert_eq!(read(&[[object(1), torn].concat(), done(0)]).unwrap(), None);
        let torn = message(NLMSG_DONE, NLM_F_DUMP_INTR, SEQUENCE, 0);
        assert_eq!(read(&[object(1), torn]).unwrap(), None);

        let cut = object(1)[..18].to_vec();
        assert!(matches!(read(&[cut]), Err(Failure::Lost(_))));
    }

    #[tokio::test]
    async fn the_kernel_refusing_a_dump_is_an_error_with_its_words() {
        let mut socket = Socket::open(NETLINK_ROUTE).unwrap();
        let mut message = RouteMessage::default();
        message.header.address_family = AddressFamily::Inet;
        message.header.table = 99;
        let request = Request::new(libc::RTM_GETROUTE, 0, &message);
        let failure = socket.dump(&request, |_| Ok(Some(()))).await.unwrap_err();
        assert_eq!(failure.errno(), Some(libc::ENOENT));
        let error = failure.into_error("list table 99");
        assert!(error.to_string().contains("FIB table does not exist"), "{error}");
        // The socket is as good as before.
        assert!(
            socket
                .dump(&super::super::link::dump(), |_| Ok(Some(())))
                .await
                .is_ok()
        );
        assert_eq!(socket.stats().reopened, 0);
    }
}
