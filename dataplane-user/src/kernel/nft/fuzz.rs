//! Random changes to what nft and nf_tables say of tables.

use serde_json::Value;

use super::{query, read};
use crate::fuzz::{Verdict, feed, same};
use crate::kernel::fuzz::bodies;
use crate::kernel::netlink::uapi;

const TABLE: &[u8] = include_bytes!("../examples/nft.json");
const CHAINS: &[u8] = include_bytes!("../examples/nft-chains.json");
const RULES: &[u8] = include_bytes!("../examples/nft-rules");
const WORDS: &[&[u8]] = &[
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b"null",
    b"true",
    b"-1",
    b"1e400",
    b"18446744073709551616",
    b"\"\"",
    b"\"set\"",
    b"\"prefix\"",
    b"\"range\"",
    b"{\"range\": [\"10.0.0.9\", \"10.0.0.1\"]}",
    b"{\"prefix\": {\"addr\": \"::\", \"len\": 200}}",
    b"\"::ffff\"",
    b"\\ud800",
    b"\xff",
];

#[test]
fn a_table_is_refused_or_read_the_same_however_its_json_is_laid_out() {
    feed(&[TABLE.to_vec()], WORDS, |bytes| {
        let Ok(table) = read::firewall(bytes) else {
            return Ok(Verdict::Refused);
        };
        let value: Value = serde_json::from_slice(bytes).expect("it was read");
        let again = read::firewall(format!("{value:#}").as_bytes());
        same(&Ok(table), &again)
    });
}

#[test]
fn chains_are_refused_or_named() {
    feed(&[CHAINS.to_vec()], WORDS, |bytes| {
        let found = read::dropping_forward_chains(bytes).unwrap_or_default();
        Ok(Verdict::of(found.first()))
    });
}

#[test]
fn a_rule_is_refused_or_counted() {
    feed(&bodies(RULES), &[], |bytes| {
        let counted = query::rule_count(bytes.get(uapi::NFNL_HEADER..).unwrap_or_default());
        Ok(Verdict::of(counted.ok().flatten().as_ref()))
    });
}

#[test]
fn a_comment_is_found_or_not() {
    let data = b"\x07\x02\x01\x02\x00\x05adit\x00".to_vec();
    feed(&[data], &[], |bytes| {
        Ok(Verdict::of(query::comment(bytes).as_ref()))
    });
}
