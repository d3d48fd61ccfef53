//! Reads whole tables: completely, or with an error.

use std::io;

use netlink_packet_core::{
    DecodeError, NLM_F_DUMP, NLM_F_DUMP_INTR, NLMSG_DONE, NLMSG_ERROR, NLMSG_NOOP, NLMSG_OVERRUN,
};
use netlink_sys::protocols::NETLINK_ROUTE;

use super::message::{Failure, Request, messages};
use super::socket::{self, Socket};
use crate::kernel::KernelError;
use crate::limits;
use crate::model::Undecoded;

/// The maximum length of a kept decoder error, in characters.
const MOST_WORDS: usize = 200;

/// A table that was read completely.
struct Whole<T> {
    objects: Vec<T>,
    /// The messages that can't be decoded.
    undecoded: Option<Undecoded>,
}

impl Socket {
    /// Reads a table of objects; `read` decodes the body of a message to an object or to `None`. Messages
    /// that can't be decoded are skipped, and recorded for [`Socket::take_undecoded`].
    ///
    /// # Errors
    /// When the kernel fails, when its answer is not netlink, or when the table changed during every attempt
    /// (`EAGAIN`).
    pub(in crate::kernel) async fn list<T>(
        &mut self,
        kind: &'static str,
        request: &Request,
        read: impl FnMut(&[u8]) -> Result<Option<T>, DecodeError>,
    ) -> Result<Vec<T>, KernelError> {
        let whole = self.read_whole(request, read).await;
        let whole = whole.map_err(|failure| failure.into_error(format!("list the {kind}")))?;
        if let Some(undecoded) = whole.undecoded {
            let Undecoded { count, first } = &undecoded;
            tracing::warn!(
                count,
                "skipping {kind} that can't be decoded; the first one: {first}"
            );
            let known = self.undecoded.entry(kind);
            known
                .and_modify(|known| known.count += undecoded.count)
                .or_insert(undecoded);
        }
        Ok(whole.objects)
    }

    /// Reads one object that consists of many messages, completely, as [`Socket::list`] does.
    ///
    /// # Errors
    /// As for [`Socket::list`], and when a message can't be decoded.
    pub(in crate::kernel) async fn dump<T>(
        &mut self,
        request: &Request,
        read: impl FnMut(&[u8]) -> Result<Option<T>, DecodeError>,
    ) -> Result<Vec<T>, Failure> {
        let whole = self.read_whole(request, read).await?;
        match whole.undecoded {
            None => Ok(whole.objects),
            Some(undecoded) => Err(Failure::malformed(&undecoded.first.into())),
        }
    }

    async fn read_whole<T>(
        &mut self,
        request: &Request,
        mut read: impl FnMut(&[u8]) -> Result<Option<T>, DecodeError>,
    ) -> Result<Whole<T>, Failure> {
        for _ in 0..limits::DUMP_ATTEMPTS {
            match self.read_once(request, &mut read).await {
                Ok(Some(whole)) => return Ok(whole),
                Ok(None) => self.note_interrupted(),
                // The datagram was larger than the buffer, which is larger now.
                Err(Failure::Lost(error)) if error.raw_os_error() == Some(libc::EMSGSIZE) => {}
                Err(failure) => return Err(failure),
            }
        }
        Err(interrupted())
    }

    /// Makes one attempt; `None` if the table changed meanwhile.
    async fn read_once<T>(
        &mut self,
        request: &Request,
        mut read: impl FnMut(&[u8]) -> Result<Option<T>, DecodeError>,
    ) -> Result<Option<Whole<T>>, Failure> {
        let sequence = self.reserve(1);
        let mut datagram = Vec::with_capacity(request.length());
        request.write(&mut datagram, NLM_F_DUMP, sequence);
        self.begin(&datagram).await?;

        let mut table = Table::new(sequence);
        while table.verdict.is_none() {
            table.take(self.receive().await?, &mut read)?;
            self.check_objects(table.whole.objects.len())?;
        }
        self.settle();
        table.finish()
    }
}

/// Reads a table of objects in the namespace of the calling thread and blocks, for callers without a runtime.
/// Messages that can't be decoded are skipped.
///
/// # Errors
/// As [`Socket::list`].
pub(in crate::kernel) fn list_blocking<T>(
    request: &Request,
    mut read: impl FnMut(&[u8]) -> Result<Option<T>, DecodeError>,
) -> Result<Vec<T>, Failure> {
    let socket = socket::connect_blocking(NETLINK_ROUTE)?;
    for sequence in (1..).take(limits::DUMP_ATTEMPTS) {
        let mut datagram = Vec::with_capacity(request.length());
        request.write(&mut datagram, NLM_F_DUMP, sequence);
        socket.send(&datagram, 0)?;
        let mut table = Table::new(sequence);
        while table.verdict.is_none() {
            match socket.recv_from_full() {
                Ok((datagram, _)) => table.take(&datagram, &mut read)?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        if let Some(whole) = table.finish()? {
            return Ok(whole.objects);
        }
    }
    Err(interrupted())
}

fn interrupted() -> Failure {
    Failure::Refused {
        errno: libc::EAGAIN,
        text: Some(format!(
            "interrupted by changes in each of {} attempts",
            limits::DUMP_ATTEMPTS
        )),
    }
}

/// A table whose datagrams are being received.
struct Table<T> {
    sequence: u32,
    whole: Whole<T>,
    interrupted: bool,
    /// The result in the last message.
    verdict: Option<Result<(), Failure>>,
}

impl<T> Table<T> {
    fn new(sequence: u32) -> Table<T> {
        Table {
            sequence,
            whole: Whole {
                objects: Vec::new(),
                undecoded: None,
            },
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
            match read(message.body) {
                Ok(object) => self.whole.objects.extend(object),
                Err(error) => {
                    let first = || Undecoded {
                        count: 0,
                        // The error may quote a whole attribute.
                        first: error.to_string().chars().take(MOST_WORDS).collect(),
                    };
                    self.whole.undecoded.get_or_insert_with(first).count += 1;
                }
            }
        }
        Ok(())
    }

    fn finish(self) -> Result<Option<Whole<T>>, Failure> {
        self.verdict.unwrap_or(Ok(()))?;
        Ok((!self.interrupted).then_some(self.whole))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use netlink_packet_core::NLM_F_MULTIPART;
    use netlink_packet_route::AddressFamily;
    use netlink_packet_route::route::RouteMessage;

    use super::*;

    const SEQUENCE: u32 = 7;

    /// An encoded message with a body of four bytes.
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
            table.take(datagram, number)?;
        }
        assert!(table.verdict.is_some(), "the end was seen");
        Ok(table.finish()?.map(|whole| whole.objects))
    }

    /// Decodes the number in the body of a message; negative ones are errors.
    fn number(body: &[u8]) -> Result<Option<i32>, DecodeError> {
        let number = body.first_chunk().map(|number| i32::from_ne_bytes(*number));
        match number {
            Some(negative @ ..0) => Err(format!("{negative} is negative").into()),
            number => Ok(number),
        }
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

    #[test]
    fn an_undecodable_message_is_reported_and_costs_nothing_else() {
        let object = |number| message(libc::RTM_NEWROUTE, 0, SEQUENCE, number);
        let mut table = Table::new(SEQUENCE);
        let first = [object(1), object(-7), object(2), object(-8)].concat();
        table.take(&first, number).unwrap();
        let last = [object(3), message(NLMSG_DONE, 0, SEQUENCE, 0)].concat();
        table.take(&last, number).unwrap();
        let whole = table.finish().unwrap().unwrap();
        assert_eq!(whole.objects, [1, 2, 3]);
        let Undecoded { count, first } = whole.undecoded.unwrap();
        assert_eq!((count, first.as_str()), (2, "-7 is negative"));
    }

    #[tokio::test]
    async fn a_list_continues_without_undecodable_messages_and_a_single_object_does_not() {
        let mut socket = Socket::open(NETLINK_ROUTE).unwrap();
        let request = super::super::link::dump();
        let all = socket.list("links", &request, |_| Ok(Some(()))).await.unwrap();
        assert_eq!(socket.take_undecoded(), BTreeMap::new());
        let odd = || {
            let mut seen = 0;
            move |_: &[u8]| {
                seen += 1;
                if seen == 1 {
                    Err("odd".into())
                } else {
                    Ok(Some(()))
                }
            }
        };
        let some = socket.list("links", &request, odd()).await.unwrap();
        assert_eq!(some.len() + 1, all.len());
        // The other family, or another device, has its own dump.
        socket.list("links", &request, odd()).await.unwrap();
        assert_eq!(socket.take_undecoded()["links"].count, 2);
        assert!(socket.dump(&request, odd()).await.is_err());
        let some = list_blocking(&request, odd()).unwrap();
        assert_eq!(some.len() + 1, all.len());
    }

    #[tokio::test]
    async fn a_refused_dump_is_an_error_with_the_text_of_the_kernel() {
        let mut socket = Socket::open(NETLINK_ROUTE).unwrap();
        let mut message = RouteMessage::default();
        message.header.address_family = AddressFamily::Inet;
        message.header.table = 99;
        let request = Request::new(libc::RTM_GETROUTE, 0, &message);
        let failure = socket.dump(&request, |_| Ok(Some(()))).await.unwrap_err();
        assert_eq!(failure.errno(), Some(libc::ENOENT));
        let error = failure.into_error("list table 99");
        assert!(error.to_string().contains("FIB table does not exist"), "{error}");
        // The socket still works.
        assert!(
            socket
                .dump(&super::super::link::dump(), |_| Ok(Some(())))
                .await
                .is_ok()
        );
        assert_eq!(socket.stats().reopened, 0);
    }
}
