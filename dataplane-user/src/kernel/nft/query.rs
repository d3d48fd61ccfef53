//! What is asked of nf_tables over netlink: the ruleset's generation, and whose a table is (linux/netfilter/nf_tables.h).

use std::io;

use netlink_packet_core::{DecodeError, NlaBuffer, NlasIterator};
use zeroize::Zeroizing;

use crate::kernel::netlink::message::{Failure, Request};
use crate::kernel::netlink::socket::Socket;

use super::render::{MARK, TABLE};

/// `NFNL_SUBSYS_NFTABLES`, in the upper byte of a message's type.
const NFTABLES: u16 = 10 << 8;
const NFT_MSG_GETTABLE: u16 = NFTABLES | 1;
const NFT_MSG_GETGEN: u16 = NFTABLES | 16;
const NFPROTO_UNSPEC: u8 = 0;
const NFPROTO_INET: u8 = 1;
const NFTA_TABLE_NAME: u16 = 1;
const NFTA_TABLE_USERDATA: u16 = 6;
const NFTA_GEN_ID: u16 = 1;
/// `NFTNL_UDATA_TABLE_COMMENT` (libnftnl/udata.h): a byte of type, one of length, and the text with its final zero.
const COMMENT: u8 = 0;
/// `struct nfgenmsg`: family, version, resource.
const HEADER: usize = 4;
/// Attributes' types without their flags (`NLA_TYPE_MASK`).
const TYPE: u16 = 0x3fff;

/// Whose the table is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Table {
    Absent,
    Ours,
    Foreign,
}

/// The generation of the rules, which each transaction raises.
pub(super) async fn generation(socket: &mut Socket) -> Result<u32, Failure> {
    let request = request(NFT_MSG_GETGEN, NFPROTO_UNSPEC, &[]);
    let body = ask(socket, request).await?;
    let id = attribute(&body, NFTA_GEN_ID).map_err(|error| Failure::malformed(&error))?;
    let id = id.as_deref().and_then(|id| id.first_chunk::<4>());
    let id = id.ok_or_else(|| Failure::malformed(&"a generation without number".into()))?;
    Ok(u32::from_be_bytes(*id))
}

/// Whether there is a table in the place of ours, and whose.
pub(super) async fn table(socket: &mut Socket) -> Result<Table, Failure> {
    let name = [TABLE.as_bytes(), &[0]].concat();
    let request = request(NFT_MSG_GETTABLE, NFPROTO_INET, &[(NFTA_TABLE_NAME, &name)]);
    let body = match ask(socket, request).await {
        Ok(body) => body,
        Err(failure) if failure.errno() == Some(libc::ENOENT) => return Ok(Table::Absent),
        Err(failure) => return Err(failure),
    };
    let data = attribute(&body, NFTA_TABLE_USERDATA).map_err(|error| Failure::malformed(&error))?;
    let comment = data.as_deref().and_then(comment);
    Ok(if comment == Some(MARK.as_bytes()) {
        Table::Ours
    } else {
        Table::Foreign
    })
}

fn request(kind: u16, family: u8, attributes: &[(u16, &[u8])]) -> Request {
    let mut body = vec![family, 0, 0, 0];
    for (kind, value) in attributes {
        let length = u16::try_from(4 + value.len()).expect("names are short");
        body.extend(length.to_ne_bytes());
        body.extend(kind.to_ne_bytes());
        body.extend_from_slice(value);
        body.resize(body.len().next_multiple_of(4), 0);
    }
    Request::of_bytes(kind, 0, Zeroizing::new(body))
}

/// The answer's attributes.
async fn ask(socket: &mut Socket, request: Request) -> Result<Vec<u8>, Failure> {
    let answer = socket
        .exchange(&[request])
        .await
        .pop()
        .expect("one request has one answer");
    let body = answer?.into_iter().next();
    let attributes = body.and_then(|body| Some(body.get(HEADER..)?.to_vec()));
    attributes.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof).into())
}

fn attribute(attributes: &[u8], kind: u16) -> Result<Option<Vec<u8>>, DecodeError> {
    for attribute in NlasIterator::new(attributes) {
        let attribute: NlaBuffer<&[u8]> = attribute?;
        if attribute.kind() & TYPE == kind {
            return Ok(Some(attribute.value().to_vec()));
        }
    }
    Ok(None)
}

/// The comment among a table's user data, without its final zero.
fn comment(mut data: &[u8]) -> Option<&[u8]> {
    while let [kind, length, rest @ ..] = data {
        let (value, later) = rest.split_at_checked(usize::from(*length))?;
        if *kind == COMMENT {
            return Some(value.strip_suffix(&[0]).unwrap_or(value));
        }
        data = later;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padding_and_unknown_attributes_are_passed_over() {
        // `NFTA_TABLE_PAD`, one of a later kernel, the user data.
        let body = [
            &[4, 0, 5, 0][..],
            &[8, 0, 99, 0, 1, 1, 1, 1],
            &[8, 0, 6, 0, 1, 2, 3, 4],
        ]
        .concat();
        let data = attribute(&body, NFTA_TABLE_USERDATA).unwrap();
        assert_eq!(data.as_deref(), Some(&[1, 2, 3, 4][..]));
    }

    #[test]
    fn comments_are_found_behind_other_data() {
        assert_eq!(
            comment(&[7, 2, 1, 2, 0, 5, b'a', b'd', b'i', b't', 0]),
            Some(&b"adit"[..])
        );
        assert_eq!(comment(&[7, 2, 1, 2]), None);
        assert_eq!(comment(&[0, 9, b'a']), None, "cut short");
        assert_eq!(comment(&[]), None);
    }
}
