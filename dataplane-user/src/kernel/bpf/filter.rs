//! Finds filters on a clsact qdisc, which aya only does for deletion.

use std::io;

use netlink_packet_core::{DecodeError, Parseable as _};
use netlink_packet_route::tc::{TcAttribute, TcFilterBpfOption, TcHandle, TcHeader, TcMessage, TcOption};

use crate::kernel::netlink::dump::list_blocking;
use crate::kernel::netlink::message::Request;
use crate::model::Hook;

/// A BPF filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Filter {
    /// The id of its program.
    pub(super) program: u32,
    /// The tag of its program, a hash of the instructions.
    pub(super) tag: u64,
}

/// The BPF filter with this priority and handle on one hook of a device's clsact qdisc; `None` without such a
/// filter or qdisc. Looks in the network namespace of the calling thread.
pub(super) fn find(ifindex: u32, hook: Hook, priority: u16, handle: TcHandle) -> io::Result<Option<Filter>> {
    let found = list_blocking(&request(ifindex, hook), |body| parse(body, priority, handle));
    let found = found.map_err(|failure| failure.into_change_error().source)?;
    Ok(found.into_iter().next())
}

fn request(ifindex: u32, hook: Hook) -> Request {
    let mut message = TcMessage::with_index(ifindex.cast_signed());
    message.header.parent = TcHandle {
        minor: match hook {
            Hook::Ingress => TcHandle::MIN_INGRESS,
            Hook::Egress => TcHandle::MIN_EGRESS,
        },
        ..TcHandle::CLSACT
    };
    Request::new(libc::RTM_GETTFILTER, 0, &message)
}

/// Parses the filter in a message; `None` if it has another priority or handle or another classifier, or if
/// it only announces a priority. Filters with other priorities are not decoded.
fn parse(body: &[u8], priority: u16, handle: TcHandle) -> Result<Option<Filter>, DecodeError> {
    let header = TcHeader::parse(body)?;
    // The upper half of `tcm_info` (`TC_H_MAJ`) is the priority, the lower half the protocol.
    if header.info >> 16 != u32::from(priority) || header.handle != handle {
        return Ok(None);
    }
    let (mut tag, mut program) = (None, None);
    for attribute in TcMessage::parse(body)?.attributes {
        let TcAttribute::Options(options) = attribute else {
            continue;
        };
        for option in options {
            match option {
                TcOption::Bpf(TcFilterBpfOption::ProgTag(bytes)) => tag = Some(u64::from_be_bytes(bytes)),
                TcOption::Bpf(TcFilterBpfOption::ProgId(id)) => program = Some(id),
                _ => {}
            }
        }
    }
    Ok(program.zip(tag).map(|(program, tag)| Filter { program, tag }))
}

#[cfg(test)]
mod tests {
    use netlink_packet_core::Emitable as _;
    use netlink_packet_route::tc::TcFilterBpf;

    use super::*;
    use crate::fuzz::{Verdict, feed};

    const HANDLE: TcHandle = TcHandle { major: 0, minor: 173 };

    /// A filter without a name.
    fn filter() -> Vec<u8> {
        let mut message = TcMessage::with_index(7);
        message.header.handle = HANDLE;
        message.header.info = 173 << 16;
        let options = [
            TcFilterBpfOption::ProgTag([0, 0, 0, 0, 0, 0, 1, 2]),
            TcFilterBpfOption::ProgId(9),
        ];
        message.attributes = vec![
            TcAttribute::Kind(TcFilterBpf::KIND.to_owned()),
            TcAttribute::Options(options.map(TcOption::Bpf).to_vec()),
        ];
        let mut body = vec![0; message.buffer_len()];
        message.emit(&mut body);
        body
    }

    #[test]
    fn a_filter_without_a_name_is_read_like_any_other() {
        let expected = Filter {
            program: 9,
            tag: 0x102,
        };
        assert_eq!(parse(&filter(), 173, HANDLE).unwrap(), Some(expected));
        assert_eq!(parse(&filter(), 172, HANDLE).unwrap(), None);
        assert_eq!(parse(&filter(), 173, TcHandle::UNSPEC).unwrap(), None);
    }

    #[test]
    fn fuzz_a_filter_is_refused_or_read() {
        feed(&[filter()], &[], |bytes| {
            Ok(Verdict::of(parse(bytes, 173, HANDLE).ok().flatten().as_ref()))
        });
    }
}
