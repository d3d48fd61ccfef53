//! `NetlinkRule`.

use super::{NAMESPACE, NODE, TABLE, link, namespace, nodes, prefix, table};
use crate::model::Rule;
use crate::model::rule::Mark;
use crate::net::Family;
use crate::resource::netlink::{Namespaced, NetlinkRule};
use crate::source::manifest::reader::{Read, Value};
use crate::source::manifest::schema::{Accepts, Field, Literal};

/// The fields of a `NetlinkRule`.
pub(in crate::source::manifest) const FIELDS: [Field; 12] = [
    NODE,
    NAMESPACE,
    Field::optional(
        "family",
        Accepts::Words(&["ipv4", "ipv6", "both"]),
        "that of `from` or `to`, else `both`",
        "Family of the packets.",
    ),
    Field::or(
        "not",
        Accepts::Boolean,
        Literal::Boolean(false),
        "Negate the rule.",
    ),
    Field::required(
        "priority",
        Accepts::Integer(1, 32_765),
        "a number of 1 … 32765; the lowest is evaluated first",
        "Priority; the rule with the lowest number is evaluated first.",
    ),
    Field::optional(
        "from",
        Accepts::Text("10.0.0.0/8"),
        "any",
        "Source prefix of the packets.",
    ),
    Field::optional(
        "to",
        Accepts::Text("10.0.0.0/8"),
        "any",
        "Destination prefix of the packets.",
    ),
    Field::optional(
        "iif",
        Accepts::Text("eth0"),
        "any",
        "Device on which the packets arrived.",
    ),
    Field::optional(
        "oif",
        Accepts::Text("eth0"),
        "any",
        "Device to which the sending socket is bound.",
    ),
    Field::optional(
        "fwmark",
        Accepts::Either(&[Accepts::Integer(0, 0xffff_ffff), Accepts::Text("0x1/0xff")]),
        "any",
        "Mark of the packets, optionally with a mask; mark 0 matches every packet, mask 0 compares all bits.",
    ),
    Field::required(
        "table",
        TABLE,
        "the routing table to look up",
        "Routing table to look up: a number, or a name in `rt_tables` of iproute2.",
    ),
    Field::optional(
        "suppressPrefixlength",
        Accepts::Integer(0, 128),
        "none",
        "Ignore routes with this or a shorter prefix length.",
    ),
];

/// Reads the `spec`.
pub(in crate::source::manifest) fn read(spec: &Value<'_>) -> Read<Namespaced<NetlinkRule>> {
    let fields = spec.map(&FIELDS)?;
    let nodes = nodes(&fields);
    let namespace = namespace(&fields);
    let family = fields.optional("family", |value| {
        value.word(&[
            ("ipv4", Some(Family::Ipv4)),
            ("ipv6", Some(Family::Ipv6)),
            ("both", None),
        ])
    });
    let not = fields.boolean("not");
    let priority = fields.required("priority", |value| fields.in_range("priority", value));
    let from = fields.optional("from", |value| value.parse(prefix));
    let to = fields.optional("to", |value| value.parse(prefix));
    let iif = fields.optional("iif", link);
    let oif = fields.optional("oif", link);
    let mark = fields.optional("fwmark", mark);
    let table = fields.required("table", table);
    let suppress = fields.optional_integer("suppressPrefixlength");

    let (from, to) = (from?, to?);
    let named = from.iter().chain(&to).map(|prefix| Family::of_prefix(*prefix));
    let mut families = named.collect::<Vec<_>>();
    families.dedup();
    let families = match (family?.flatten(), families.as_slice()) {
        (_, [_, _, ..]) => {
            return Err(
                spec.reject("`from` and `to` are of different families; give two prefixes of one family")
            );
        }
        (Some(said), [found]) if said != *found => {
            return Err(spec.reject(format!(
                "`family` is {said}, but `from` or `to` is {found}; remove `family` or change it"
            )));
        }
        (Some(one), _) => vec![one],
        (None, [found]) => vec![*found],
        (None, []) => Family::BOTH.to_vec(),
    };
    let rule = Rule {
        not: not?,
        from,
        to,
        iif: iif?,
        oif: oif?,
        mark: mark?.flatten(),
        suppress_prefix_length: suppress?,
        ..Rule::to_table(Family::Ipv4, priority?, table?)
    };
    let rules = families.into_iter().map(|family| Rule {
        family,
        ..rule.clone()
    });
    Ok(Namespaced {
        nodes: nodes?,
        namespace: namespace?,
        object: NetlinkRule {
            rules: rules.collect(),
        },
    })
}

/// A number, or `mark/mask` as text, decimal or hexadecimal.
fn mark(value: &Value<'_>) -> Read<Option<Mark>> {
    if value.is_integer() {
        return Ok(Mark::new(value.integer(0..=u32::MAX)?, 0));
    }
    value.parse(|text| {
        let error = || format!("`{text}` is not a mark; expected for example `0x10` or `0x10/0xf0`");
        let number = |text: &str| {
            let parsed = match text.strip_prefix("0x") {
                Some(digits) => u32::from_str_radix(digits, 16),
                None => text.parse(),
            };
            parsed.map_err(|_| error())
        };
        let (mark, mask) = text.split_once('/').unwrap_or((text, "0"));
        Ok(Mark::new(number(mark)?, number(mask)?))
    })
}
