//! The framing of netlink: encodes requests, splits datagrams into messages, and decodes acks.

use std::fmt;
use std::io;

use netlink_packet_core::{
    DecodeError, Emitable, NLM_F_ACK_TLVS, NLM_F_CAPPED, NLMSG_DONE, NLMSG_ERROR, NetlinkBuffer, NlasIterator,
};
use zeroize::Zeroizing;

use super::uapi::{NLMSG_HEADER, NLMSGERR_ATTR_MSG};
use crate::kernel::KernelError;

/// The alignment of attributes, and of all messages of a datagram except the last one.
const ALIGN: usize = netlink_packet_core::NLA_ALIGNTO;

/// A request without its sequence number. Its body may hold secrets: it is wiped when dropped and never
/// shown.
pub(in crate::kernel) struct Request {
    /// Message type, such as `RTM_NEWLINK`.
    kind: u16,
    /// The flags; `NLM_F_REQUEST` is added.
    flags: u16,
    /// The part after the header.
    body: Zeroizing<Vec<u8>>,
}

impl Request {
    /// A request with this message.
    pub(in crate::kernel) fn new(kind: u16, flags: u16, message: &impl Emitable) -> Request {
        let mut body = vec![0; message.buffer_len()];
        message.emit(&mut body);
        Request::of_bytes(kind, flags, Zeroizing::new(body))
    }

    /// A request with this body.
    pub(in crate::kernel) fn of_bytes(kind: u16, flags: u16, body: Zeroizing<Vec<u8>>) -> Request {
        Request { kind, flags, body }
    }

    /// The encoded length in bytes, with padding.
    pub(in crate::kernel) fn length(&self) -> usize {
        NLMSG_HEADER + self.body.len().next_multiple_of(ALIGN)
    }

    /// Appends it to a datagram.
    pub(in crate::kernel) fn write(&self, datagram: &mut Vec<u8>, extra_flags: u16, sequence: u32) {
        let length = u32::try_from(NLMSG_HEADER + self.body.len()).expect("a request is far below 4 GiB");
        let flags = self.flags | extra_flags | netlink_packet_core::NLM_F_REQUEST;
        datagram.extend(length.to_ne_bytes());
        datagram.extend(self.kind.to_ne_bytes());
        datagram.extend(flags.to_ne_bytes());
        datagram.extend(sequence.to_ne_bytes());
        datagram.extend(0u32.to_ne_bytes());
        datagram.extend_from_slice(&self.body);
        datagram.resize(datagram.len().next_multiple_of(ALIGN), 0);
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Request { kind, flags, body } = self;
        write!(f, "Request(type {kind}, flags {flags:#x}, {} bytes)", body.len())
    }
}

/// One message of a datagram.
#[derive(Debug)]
pub(in crate::kernel) struct Message<'a> {
    pub(in crate::kernel) kind: u16,
    pub(in crate::kernel) flags: u16,
    pub(in crate::kernel) sequence: u32,
    pub(in crate::kernel) body: &'a [u8],
}

/// Splits a datagram into messages.
///
/// # Errors
/// When the length in a header is invalid.
pub(in crate::kernel) fn messages(datagram: &[u8]) -> Result<Vec<Message<'_>>, DecodeError> {
    let mut messages = Vec::new();
    let mut rest = datagram;
    while !rest.is_empty() {
        let buffer = NetlinkBuffer::new_checked(&rest)?;
        let length = usize::try_from(buffer.length()).expect("checked against the datagram");
        messages.push(Message {
            kind: buffer.message_type(),
            flags: buffer.flags(),
            sequence: buffer.sequence_number(),
            body: &rest[NLMSG_HEADER..length],
        });
        rest = rest.get(length.next_multiple_of(ALIGN)..).unwrap_or_default();
    }
    Ok(messages)
}

impl Message<'_> {
    /// The result in an `NLMSG_ERROR` or `NLMSG_DONE`.
    ///
    /// # Errors
    /// The refusal of the kernel, or a malformed message.
    pub(in crate::kernel) fn verdict(&self) -> Result<(), Failure> {
        let Some((code, rest)) = self.body.split_first_chunk::<4>() else {
            return Err(Failure::malformed(
                &"an acknowledgement without error code".into(),
            ));
        };
        let code = i32::from_ne_bytes(*code);
        if code == 0 || (self.kind == NLMSG_DONE && code > 0) {
            return Ok(());
        }
        Err(Failure::Refused {
            errno: code.saturating_neg(),
            text: self.kernel_text(rest),
        })
    }

    /// The text of the extended ack; `rest` is the part after the error code.
    fn kernel_text(&self, rest: &[u8]) -> Option<String> {
        if self.flags & NLM_F_ACK_TLVS == 0 {
            return None;
        }
        let skipped = match self.kind {
            NLMSG_ERROR if self.flags & NLM_F_CAPPED != 0 => NLMSG_HEADER,
            // The kernel returns a refused request as a whole.
            NLMSG_ERROR => {
                let length = u32::from_ne_bytes(*rest.first_chunk()?);
                usize::try_from(length).ok()?.next_multiple_of(ALIGN)
            }
            _ => 0,
        };
        let text = NlasIterator::new(rest.get(skipped..)?)
            .filter_map(Result::ok)
            .find(|attribute| attribute.kind() == NLMSGERR_ATTR_MSG)
            .map(|attribute| String::from_utf8_lossy(attribute.value()).into_owned())?;
        Some(text.trim_end_matches('\0').to_owned())
    }
}

/// Why a request did not succeed.
#[derive(Debug)]
pub(in crate::kernel) enum Failure {
    /// The kernel refused it.
    Refused {
        /// The errno, positive.
        errno: i32,
        /// The text of the extended ack.
        text: Option<String>,
    },
    /// The outcome is unknown: the connection to the kernel failed, or no answer arrived.
    Lost(io::Error),
}

impl Failure {
    /// The failure for an answer that is not netlink.
    pub(in crate::kernel) fn malformed(error: &DecodeError) -> Failure {
        Failure::Lost(io::Error::new(io::ErrorKind::InvalidData, error.to_string()))
    }

    /// A copy of the failure.
    pub(in crate::kernel) fn again(&self) -> Failure {
        match self {
            Failure::Refused { errno, text } => Failure::Refused {
                errno: *errno,
                text: text.clone(),
            },
            Failure::Lost(error) => Failure::Lost(match error.raw_os_error() {
                Some(errno) => io::Error::from_raw_os_error(errno),
                None => io::Error::new(error.kind(), error.to_string()),
            }),
        }
    }

    /// The errno, if there is one.
    pub(in crate::kernel) fn errno(&self) -> Option<i32> {
        match self {
            Failure::Refused { errno, .. } => Some(*errno),
            Failure::Lost(error) => error.raw_os_error(),
        }
    }

    /// Converts it to an error for callers; `context` is the operation.
    pub(in crate::kernel) fn into_error(self, context: impl Into<String>) -> KernelError {
        KernelError {
            context: Some(context.into()),
            ..self.into_change_error()
        }
    }

    /// Converts it to the error of a change, which the caller names.
    pub(in crate::kernel) fn into_change_error(self) -> KernelError {
        match self {
            Failure::Refused { errno, text } => KernelError {
                context: None,
                source: io::Error::from_raw_os_error(errno),
                kernel_text: text,
            },
            Failure::Lost(source) => KernelError::of_change(source),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        Failure::Lost(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An ack for a request of `length` bytes, with or without `NETLINK_CAP_ACK`.
    fn ack(flags: u16, errno: i32, length: u32, text: &str) -> (u16, Vec<u8>) {
        let mut body = (-errno).to_ne_bytes().to_vec();
        body.extend(length.to_ne_bytes());
        body.resize(4 + NLMSG_HEADER, 0);
        if flags & NLM_F_CAPPED == 0 {
            let length = usize::try_from(length).unwrap();
            body.resize(4 + length.next_multiple_of(ALIGN), 0);
        }
        let length = u16::try_from(4 + text.len() + 1).unwrap();
        body.extend(length.to_ne_bytes());
        body.extend(NLMSGERR_ATTR_MSG.to_ne_bytes());
        body.extend(text.as_bytes());
        body.push(0);
        (flags | NLM_F_ACK_TLVS, body)
    }

    #[test]
    fn the_text_of_the_kernel_is_found_behind_capped_and_whole_requests() {
        for flags in [0, NLM_F_CAPPED] {
            let (flags, body) = ack(flags, libc::EINVAL, 49, "Nexthop has invalid gateway");
            let message = Message {
                kind: NLMSG_ERROR,
                flags,
                sequence: 1,
                body: &body,
            };
            let error = message.verdict().unwrap_err().into_error("add route 10.0.0.0/8");
            assert_eq!(error.errno(), Some(libc::EINVAL));
            assert_eq!(error.kernel_text.as_deref(), Some("Nexthop has invalid gateway"));
        }
    }

    #[test]
    fn headers_that_do_not_fit_are_errors() {
        let mut datagram = Vec::new();
        super::super::link::delete(1).write(&mut datagram, 0, 1);
        assert_eq!(messages(&datagram).unwrap().len(), 1);
        assert!(messages(&datagram[..datagram.len() - 4]).is_err());
        assert!(messages(&[datagram, vec![0; 8]].concat()).is_err());
        assert!(messages(&[0; 16]).is_err(), "a length of zero would never end");
    }
}
