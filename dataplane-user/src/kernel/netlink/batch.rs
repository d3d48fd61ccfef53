//! Sends many requests in few datagrams with few acks, and returns one answer for each.
//!
//! The kernel processes the requests of a datagram in order, and answers a refused one even if it asked for
//! no ack. So only the last request asks for one, and its ack means that all requests before it that were not
//! refused are done.

use std::io;

use netlink_packet_core::{NLM_F_ACK, NLMSG_ERROR, NLMSG_OVERRUN};
use zeroize::Zeroizing;

use super::message::{Failure, Request, messages};
use super::socket::Socket;
use crate::limits;

/// The bodies of the messages that answer a request, or the failure.
pub(in crate::kernel) type Answer = Result<Vec<Vec<u8>>, Failure>;

impl Socket {
    /// Sends requests in order and awaits their answers. If the connection to the kernel fails, the requests
    /// without a known outcome, sent or not, get that failure.
    pub(in crate::kernel) async fn exchange(&mut self, requests: &[Request]) -> Vec<Answer> {
        let mut answers = Vec::with_capacity(requests.len());
        let mut rest = requests;
        while !rest.is_empty() {
            let (batch, later) = rest.split_at(batch_length(rest));
            let mut acked: Vec<Option<Answer>> = batch.iter().map(|_| None).collect();
            let outcome = self.exchange_batch(batch, &mut acked).await;
            let Err(failure) = outcome else {
                answers.extend(acked.into_iter().flatten());
                rest = later;
                if !rest.is_empty() {
                    let_others_listen().await;
                }
                continue;
            };
            let lost = acked
                .into_iter()
                .map(|answer| answer.unwrap_or_else(|| Err(failure.again())));
            answers.extend(lost);
            answers.resize_with(requests.len(), || Err(failure.again()));
            break;
        }
        answers
    }

    async fn exchange_batch(
        &mut self,
        batch: &[Request],
        acked: &mut [Option<Answer>],
    ) -> Result<(), Failure> {
        let first = self.reserve(batch.len());
        let length = batch.iter().map(Request::length).sum();
        let mut datagram = Zeroizing::new(Vec::with_capacity(length));
        let mut sequence = first;
        for (position, request) in batch.iter().enumerate() {
            let flags = if position + 1 == batch.len() { NLM_F_ACK } else { 0 };
            request.write(&mut datagram, flags, sequence);
            sequence = sequence.wrapping_add(1);
        }
        self.begin(&datagram).await?;

        let mut replies: Vec<Vec<Vec<u8>>> = vec![Vec::new(); batch.len()];
        while acked.last().is_some_and(Option::is_none) {
            let datagram = self.receive().await?;
            for message in messages(datagram).map_err(|error| Failure::malformed(&error))? {
                if message.kind == NLMSG_OVERRUN {
                    return Err(io::Error::from_raw_os_error(libc::ENOBUFS).into());
                }
                let position = usize::try_from(message.sequence.wrapping_sub(first)).unwrap_or(usize::MAX);
                let Some(slot @ None) = acked.get_mut(position) else {
                    tracing::debug!(
                        sequence = message.sequence,
                        "ignoring a netlink answer that belongs to no request"
                    );
                    continue;
                };
                if message.kind != NLMSG_ERROR {
                    replies[position].push(message.body.to_vec());
                    continue;
                }
                *slot = Some(message.verdict().map(|()| std::mem::take(&mut replies[position])));
            }
        }
        for (slot, replies) in acked.iter_mut().zip(replies) {
            slot.get_or_insert(Ok(replies));
        }
        self.settle();
        Ok(())
    }
}

/// Lets the listener on this thread read the events of a batch before the next one is sent, so that its
/// buffer never has to hold more than one batch. In the first turn the runtime polls the sockets, in the
/// second one they are read.
pub(super) async fn let_others_listen() {
    for _ in 0..2 {
        tokio::task::yield_now().await;
    }
}

/// The number of these requests that fit into the next datagram; at least one.
fn batch_length(requests: &[Request]) -> usize {
    let mut bytes = 0;
    let fitting = requests
        .iter()
        .take(limits::BATCH_REQUESTS)
        .take_while(|request| {
            bytes += request.length();
            bytes <= limits::BATCH_BYTES
        });
    fitting.count().max(1)
}

#[cfg(test)]
mod tests {
    use netlink_packet_route::link::{LinkAttribute, LinkMessage};
    use netlink_sys::protocols::NETLINK_ROUTE;

    use super::super::link;
    use super::*;
    use crate::net::LinkName;

    #[test]
    fn batches_are_bounded_by_number_and_by_bytes() {
        let small: Vec<_> = (0..300).map(|_| link::delete(1)).collect();
        assert_eq!(batch_length(&small), limits::BATCH_REQUESTS);
        assert_eq!(batch_length(&small[..5]), 5);
        let large: Vec<_> = (0..300).map(|_| of_bytes(1000)).collect();
        assert_eq!(batch_length(&large), limits::BATCH_BYTES / large[0].length());
        assert_eq!(
            batch_length(&[of_bytes(limits::BATCH_BYTES + 4)]),
            1,
            "one must go, whatever its size"
        );
    }

    #[tokio::test]
    async fn requests_acknowledged_before_the_connection_failed_keep_their_result() {
        let mut socket = Socket::open(NETLINK_ROUTE).unwrap();
        let lo = || link::find(&LinkName::constant("lo"));
        let gone = link::find(&LinkName::constant("adit-gone"));
        // The second datagram is larger than any send buffer.
        let mut requests: Vec<_> = (0..limits::BATCH_REQUESTS - 1).map(|_| lo()).collect();
        requests.extend([gone, of_bytes(60_000), of_bytes(60_000), lo()]);
        socket.shrink(20_000);
        let answers = socket.exchange(&requests).await;
        assert_eq!(answers.len(), requests.len());
        assert!(answers[..127].iter().all(Result::is_ok));
        assert!(matches!(
            answers[127],
            Err(Failure::Refused {
                errno: libc::ENODEV,
                ..
            })
        ));
        assert!(
            answers[128..]
                .iter()
                .all(|answer| matches!(answer, Err(Failure::Lost(_))))
        );
        assert!(socket.exchange(&[lo()]).await[0].is_ok());
    }

    fn of_bytes(length: usize) -> Request {
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::Address(vec![0; length]));
        Request::new(libc::RTM_GETLINK, 0, &message)
    }
}
