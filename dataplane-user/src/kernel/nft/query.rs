//! Queries to nf_tables over netlink: the generation of the ruleset, whether Adit manages the table, and the
//! drop counters of its rules (linux/netfilter/nf_tables.h).

use std::io;

use netlink_packet_core::{DecodeError, NlaBuffer, NlasIterator, parse_string};
use zeroize::Zeroizing;

use crate::kernel::netlink::message::{Failure, Request};
use crate::kernel::netlink::socket::Socket;
use crate::kernel::netlink::uapi;
use crate::model::firewall::DropReason;

use super::drops::{Count, RuleCount};
use super::render::{MARK, TABLE};

/// `NFTNL_UDATA_TABLE_COMMENT` (libnftnl/udata.h): a byte for the type, one for the length, and the text with
/// a final zero.
const COMMENT: u8 = 0;

/// Whether the table exists and is managed by Adit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Table {
    Absent,
    /// Managed by Adit, with its handle, which is unique in the lifetime of the namespace.
    Managed(u64),
    Foreign,
}

/// The generation of the ruleset, which each transaction increments.
pub(super) async fn generation(socket: &mut Socket) -> Result<u32, Failure> {
    let request = request(uapi::NFT_MSG_GETGEN, uapi::NFPROTO_UNSPEC, &[]);
    let body = ask(socket, request).await?;
    let id = attribute(&body, uapi::NFTA_GEN_ID).map_err(|error| Failure::malformed(&error))?;
    let id = id.as_deref().and_then(|id| id.first_chunk::<4>());
    let id = id.ok_or_else(|| Failure::malformed(&"a generation without number".into()))?;
    Ok(u32::from_be_bytes(*id))
}

/// Whether a table of the name exists, and whether Adit manages it.
pub(super) async fn table(socket: &mut Socket) -> Result<Table, Failure> {
    let name = [TABLE.as_bytes(), &[0]].concat();
    let request = request(
        uapi::NFT_MSG_GETTABLE,
        uapi::NFPROTO_INET,
        &[(uapi::NFTA_TABLE_NAME, &name)],
    );
    let body = match ask(socket, request).await {
        Ok(body) => body,
        Err(failure) if failure.errno() == Some(libc::ENOENT) => return Ok(Table::Absent),
        Err(failure) => return Err(failure),
    };
    let data = attribute(&body, uapi::NFTA_TABLE_USERDATA).map_err(|error| Failure::malformed(&error))?;
    let comment = data.as_deref().and_then(comment);
    if comment != Some(MARK.as_bytes()) {
        return Ok(Table::Foreign);
    }
    let handle = attribute(&body, uapi::NFTA_TABLE_HANDLE).map_err(|error| Failure::malformed(&error))?;
    let handle = handle.as_deref().and_then(number);
    let handle = handle.ok_or_else(|| Failure::malformed(&"a table without handle".into()))?;
    Ok(Table::Managed(handle))
}

/// The counts of all rules of the table that drop; empty if the table does not exist.
pub(super) async fn drops(socket: &mut Socket) -> Result<Vec<RuleCount>, Failure> {
    let name = [TABLE.as_bytes(), &[0]].concat();
    let request = request(
        uapi::NFT_MSG_GETRULE,
        uapi::NFPROTO_INET,
        &[(uapi::NFTA_RULE_TABLE, &name)],
    );
    let read = |body: &[u8]| rule_count(body.get(uapi::NFNL_HEADER..).unwrap_or_default());
    match socket.dump(&request, read).await {
        Err(failure) if failure.errno() == Some(libc::ENOENT) => Ok(Vec::new()),
        result => result,
    }
}

/// The count of a rule that counts and drops, if it is in a chain in which Adit has such rules.
pub(super) fn rule_count(rule: &[u8]) -> Result<Option<RuleCount>, DecodeError> {
    let chain = attribute(rule, uapi::NFTA_RULE_CHAIN)?;
    let chain = chain.as_deref().map(parse_string).transpose()?;
    let handle = attribute(rule, uapi::NFTA_RULE_HANDLE)?;
    let expressions = attribute(rule, uapi::NFTA_RULE_EXPRESSIONS)?.unwrap_or_default();
    let Some(reason) = chain.as_deref().and_then(DropReason::of_chain) else {
        return Ok(None);
    };
    let (mut count, mut drops) = (None, false);
    for expression in NlasIterator::new(expressions.as_slice()) {
        let expression = expression?;
        let name = attribute(expression.value(), uapi::NFTA_EXPR_NAME)?.unwrap_or_default();
        let data = attribute(expression.value(), uapi::NFTA_EXPR_DATA)?.unwrap_or_default();
        match name.strip_suffix(&[0]).unwrap_or(&name) {
            b"counter" => {
                let value = |kind| Ok::<_, DecodeError>(attribute(&data, kind)?.as_deref().and_then(number));
                count = value(uapi::NFTA_COUNTER_PACKETS)?
                    .zip(value(uapi::NFTA_COUNTER_BYTES)?)
                    .map(|(packets, bytes)| Count { packets, bytes });
            }
            b"immediate" => drops |= verdict(&data)? == Some(uapi::NF_DROP),
            _ => {}
        }
    }
    let counted = count.filter(|_| drops);
    let rule = handle.as_deref().and_then(number).zip(counted);
    Ok(rule.map(|(handle, count)| RuleCount {
        handle,
        reason,
        count,
    }))
}

/// The verdict of an immediate expression.
fn verdict(expression: &[u8]) -> Result<Option<u32>, DecodeError> {
    let mut data = Some(expression.to_vec());
    for kind in [
        uapi::NFTA_IMMEDIATE_DATA,
        uapi::NFTA_DATA_VERDICT,
        uapi::NFTA_VERDICT_CODE,
    ] {
        data = data.map(|data| attribute(&data, kind)).transpose()?.flatten();
    }
    let code = data.as_deref().and_then(|code| code.first_chunk::<4>());
    Ok(code.map(|code| u32::from_be_bytes(*code)))
}

/// Decodes a number; those of nf_tables are in network byte order.
fn number(value: &[u8]) -> Option<u64> {
    value.first_chunk::<8>().map(|value| u64::from_be_bytes(*value))
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

/// Sends a request and returns the attributes of the answer.
async fn ask(socket: &mut Socket, request: Request) -> Result<Vec<u8>, Failure> {
    let answer = socket
        .exchange(&[request])
        .await
        .pop()
        .expect("one request has one answer");
    let body = answer?.into_iter().next();
    let attributes = body.and_then(|body| Some(body.get(uapi::NFNL_HEADER..)?.to_vec()));
    attributes.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof).into())
}

fn attribute(attributes: &[u8], kind: u16) -> Result<Option<Vec<u8>>, DecodeError> {
    for attribute in NlasIterator::new(attributes) {
        let attribute: NlaBuffer<&[u8]> = attribute?;
        if attribute.kind() == kind {
            return Ok(Some(attribute.value().to_vec()));
        }
    }
    Ok(None)
}

/// The comment in the user data of a table, without its final zero.
pub(super) fn comment(mut data: &[u8]) -> Option<&[u8]> {
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
        // `NFTA_TABLE_PAD`, an attribute of a later kernel, and the user data.
        let body = [
            &[4, 0, 5, 0][..],
            &[8, 0, 99, 0, 1, 1, 1, 1],
            &[8, 0, 6, 0, 1, 2, 3, 4],
        ]
        .concat();
        let data = attribute(&body, uapi::NFTA_TABLE_USERDATA).unwrap();
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
