//! Filters on a clsact qdisc, read by a dump of our own: aya only finds them to delete them.

use std::io;

use netlink_packet_core::NlasIterator;
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};

use crate::limits;
use crate::model::Hook;

// linux/rtnetlink.h, linux/netlink.h
const RTM_NEWTFILTER: u16 = 44;
const RTM_GETTFILTER: u16 = 46;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_DUMP: u16 = 0x300;
const NLM_F_DUMP_INTR: u16 = 0x10;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
/// `struct nlmsghdr` and `struct tcmsg`.
const HEADER: usize = 16;
const TC_HEADER: usize = 20;
// linux/rtnetlink.h, linux/pkt_cls.h
const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;
const TCA_BPF_TAG: u16 = 10;
const TCA_BPF_ID: u16 = 11;

/// A BPF filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Filter {
    pub(super) priority: u16,
    pub(super) handle: u32,
    /// Its program's id.
    pub(super) program: u32,
    /// The hash of its program's instructions.
    pub(super) tag: u64,
}

/// The BPF filters on one side of a device's clsact qdisc; none without such a qdisc. Looks at the namespace of the
/// calling thread.
pub(super) fn list(ifindex: u32, hook: Hook) -> io::Result<Vec<Filter>> {
    for _ in 0..limits::DUMP_ATTEMPTS {
        if let Some(filters) = dump(ifindex, hook)? {
            return Ok(filters);
        }
    }
    Err(io::Error::from_raw_os_error(libc::EAGAIN))
}

/// The parent that a hook's filters hang on: `TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_INGRESS or TC_H_MIN_EGRESS)`.
fn parent(hook: Hook) -> u32 {
    match hook {
        Hook::Ingress => 0xffff_fff2,
        Hook::Egress => 0xffff_fff3,
    }
}

/// One dump; `None` where it was interrupted.
fn dump(ifindex: u32, hook: Hook) -> io::Result<Option<Vec<Filter>>> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    socket.send(&request(ifindex, hook), 0)?;
    let (mut filters, mut interrupted) = (Vec::new(), false);
    loop {
        let (datagram, _) = socket.recv_from_full()?;
        let mut rest = datagram.as_slice();
        while let Some((kind, flags, body, next)) = split(rest) {
            rest = next;
            interrupted |= flags & NLM_F_DUMP_INTR != 0;
            match kind {
                RTM_NEWTFILTER => filters.extend(parse(body)),
                NLMSG_DONE | NLMSG_ERROR => {
                    let code = body.first_chunk().map_or(0, |code| i32::from_ne_bytes(*code));
                    if code < 0 {
                        return Err(io::Error::from_raw_os_error(-code));
                    }
                    return Ok((!interrupted).then_some(filters));
                }
                _ => {}
            }
        }
    }
}

fn request(ifindex: u32, hook: Hook) -> Vec<u8> {
    let length = u32::try_from(HEADER + TC_HEADER).expect("36");
    let mut message = Vec::with_capacity(HEADER + TC_HEADER);
    message.extend(length.to_ne_bytes());
    message.extend(RTM_GETTFILTER.to_ne_bytes());
    message.extend((NLM_F_REQUEST | NLM_F_DUMP).to_ne_bytes());
    // Sequence number and port.
    message.extend([0; 8]);
    // Family and padding, device, handle, parent, priority and protocol.
    for word in [0, ifindex, 0, parent(hook), 0] {
        message.extend(word.to_ne_bytes());
    }
    message
}

/// Takes the first message off a datagram: type, flags, body and what follows.
fn split(datagram: &[u8]) -> Option<(u16, u16, &[u8], &[u8])> {
    let length = u32::from_ne_bytes(*datagram.first_chunk()?) as usize;
    let kind = u16::from_ne_bytes(*datagram.get(4..)?.first_chunk()?);
    let flags = u16::from_ne_bytes(*datagram.get(6..)?.first_chunk()?);
    let body = datagram.get(HEADER..length)?;
    let next = datagram.get(length.next_multiple_of(4)..).unwrap_or_default();
    Some((kind, flags, body, next))
}

/// A message's filter; `None` where it is another classifier's, or only says that a priority exists.
fn parse(body: &[u8]) -> Option<Filter> {
    let word = |at: usize| Some(u32::from_ne_bytes(*body.get(at..)?.first_chunk()?));
    let (handle, info) = (word(8)?, word(16)?);
    let (mut kind, mut tag, mut program) = (None, None, None);
    for attribute in NlasIterator::new(body.get(TC_HEADER..)?).flatten() {
        match attribute.kind() {
            TCA_KIND => kind = Some(text(attribute.value())),
            TCA_OPTIONS => {
                for option in NlasIterator::new(attribute.value()).flatten() {
                    match option.kind() {
                        TCA_BPF_TAG => {
                            tag = option.value().first_chunk().map(|tag| u64::from_be_bytes(*tag));
                        }
                        TCA_BPF_ID => {
                            program = option.value().first_chunk().map(|id| u32::from_ne_bytes(*id));
                        }
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    if kind.as_deref() != Some("bpf") {
        return None;
    }
    Some(Filter {
        priority: u16::try_from(info >> 16).expect("sixteen bits"),
        handle,
        program: program?,
        tag: tag?,
    })
}

fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fuzz::{Verdict, feed};

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let length = u16::try_from(4 + value.len()).unwrap();
        let mut bytes = [&length.to_ne_bytes()[..], &kind.to_ne_bytes(), value].concat();
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    /// A filter without a name.
    fn filter() -> Vec<u8> {
        let mut body = Vec::new();
        for word in [0, 7, 173, parent(Hook::Egress), 173 << 16] {
            body.extend(u32::to_ne_bytes(word));
        }
        let options = [
            attribute(TCA_BPF_TAG, &[0, 0, 0, 0, 0, 0, 1, 2]),
            attribute(TCA_BPF_ID, &9u32.to_ne_bytes()),
        ];
        body.extend(attribute(TCA_KIND, b"bpf\0"));
        body.extend(attribute(TCA_OPTIONS, &options.concat()));
        body
    }

    #[test]
    fn a_filter_without_a_name_is_read_like_any_other() {
        let expected = Filter {
            priority: 173,
            handle: 173,
            program: 9,
            tag: 0x102,
        };
        assert_eq!(parse(&filter()), Some(expected));
    }

    #[test]
    fn fuzz_a_filter_is_refused_or_read() {
        feed(&[filter()], &[], |bytes| Ok(Verdict::of(parse(bytes).as_ref())));
    }

    #[test]
    fn fuzz_datagrams_are_split_and_end() {
        let datagram = [&36u32.to_ne_bytes()[..], &[44, 0, 2, 0], &[0; 28]].concat();
        feed(&[datagram.repeat(3)], &[], |bytes| {
            let (mut rest, mut messages) = (bytes, 0);
            while let Some((.., next)) = split(rest) {
                (rest, messages) = (next, messages + 1);
            }
            proptest::prop_assert!(messages <= bytes.len());
            Ok(if messages > 1 {
                Verdict::Accepted
            } else {
                Verdict::Refused
            })
        });
    }
}
