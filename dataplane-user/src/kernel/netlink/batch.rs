//! Many requests in few sends, and one answer for each.

use netlink_packet_core::{NLM_F_ACK, NLMSG_ERROR, NLMSG_OVERRUN};
use std::io;

use super::message::{Failure, Request, messages};
use super::socket::Socket;

/// More acks at once could overrun the receive buffer.
const MOST_REQUESTS: usize = 128;
/// The kernel refuses datagrams beyond its send buffer (208 KiB by default).
const MOST_BYTES: usize = 32 << 10;

/// The bodies of the messages that a request was answered with, or why not.
pub(super) type Answer = Result<Vec<Vec<u8>>, Failure>;

impl Socket {
    /// Sends requests in order and awaits each one's ack. Where the way to the kernel fails, the requests that were not
    /// acked, sent or not, get that failure.
    pub(super) async fn exchange(&mut self, requests: &[Request]) -> Vec<Answer> {
        let mut answers = Vec::with_capacity(requests.len());
        let mut rest = requests;
        while !rest.is_empty() {
            let (batch, later) = rest.split_at(batch_length(rest));
            let mut acked: Vec<Option<Answer>> = batch.iter().map(|_| None).collect();
            let outcome = self.exchange_batch(batch, &mut acked).await;
            let Err(failure) = outcome else {
                answers.extend(acked.into_iter().flatten());
                rest = later;
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
        let mut datagram = Vec::with_capacity(batch.iter().map(Request::length).sum());
        let mut sequence = first;
        for request in batch {
            request.write(&mut datagram, NLM_F_ACK, sequence);
            sequence = sequence.wrapping_add(1);
        }
        self.begin(&datagram).await?;

        let mut replies: Vec<Vec<Vec<u8>>> = vec![Vec::new(); batch.len()];
        let mut missing = batch.len();
        while missing > 0 {
            let datagram = self.receive().await?;
            for message in messages(datagram).map_err(|error| Failure::malformed(&error))? {
                if message.kind == NLMSG_OVERRUN {
                    return Err(io::Error::from_raw_os_error(libc::ENOBUFS).into());
                }
                let place = usize::try_from(message.sequence.wrapping_sub(first)).unwrap_or(usize::MAX);
                let Some(slot @ None) = acked.get_mut(place) else {
                    tracing::debug!(sequence = message.sequence, "netlink answer to nobody");
                    continue;
                };
                if message.kind != NLMSG_ERROR {
                    replies[place].push(message.body.to_vec());
                    continue;
                }
                *slot = Some(message.verdict().map(|()| std::mem::take(&mut replies[place])));
                missing -= 1;
            }
        }
        self.settle();
        Ok(())
    }
}

/// How many of these requests go into the next datagram; at least one.
fn batch_length(requests: &[Request]) -> usize {
    let mut bytes = 0;
    let fitting = requests.iter().take(MOST_REQUESTS).take_while(|request| {
        bytes += request.length();
        bytes <= MOST_BYTES
    });
    fitting.count().max(1)
}
