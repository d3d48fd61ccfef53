//! Policy rules: encodes messages that create and delete them, and decodes messages of the kernel.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;

use ipnet::IpNet;
use netlink_packet_core::{DecodeError, NLM_F_CREATE, Nla as _, NlasIterator, Parseable as _};
use netlink_packet_route::AddressFamily;
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleFlags, RuleMessage};

use super::Netlink;
use super::execute::{Asked, Requests, Role, unsupported};
use super::marks::Marks;
use super::message::Request;
use super::uapi;
use crate::kernel::KernelError;
use crate::model::change::Existence;
use crate::model::rule::Mark;
use crate::model::state::RULES;
use crate::model::{PROTOCOL, Rule, RuleChange, Undecoded};
use crate::net::{Family, LinkName};

/// The prefix of the text for rules that do not look up a table.
const ACTION: &str = "action ";
/// The value of rules that suppress nothing.
const NO_SUPPRESSION: u32 = u32::MAX;

/// Requests all rules of a family.
pub(super) fn dump(family: Family) -> Request {
    let mut message = RuleMessage::default();
    message.header.family = raw(family);
    Request::new(libc::RTM_GETRULE, 0, &message)
}

/// Creates a rule, never with `NLM_F_EXCL`: with that flag the kernel regards a rule with more selectors as
/// the same one, and creating a rule replaces no other one. `None` for rules that Adit does not create.
pub(super) fn create(rule: &Rule, marks: Marks) -> Option<Request> {
    let message = write(rule, marks)?;
    Some(Request::new(libc::RTM_NEWRULE, NLM_F_CREATE, &message))
}

/// Deletes the first rule with this mark that has all selectors of this one; see [`is_deleted_by`].
pub(super) fn delete(rule: &Rule, marks: Marks) -> Option<Request> {
    let known = Rule {
        more: None,
        ..rule.clone()
    };
    let mut message = write(&known, marks)?;
    if rule.more.is_some() {
        // Any action matches.
        message.header.action = RuleAction::Unspec;
    }
    Some(Request::new(libc::RTM_DELRULE, 0, &message))
}

/// Whether the kernel, when asked to delete `wanted`, might delete `found`: it compares only the attributes
/// in the request.
pub(super) fn is_deleted_by(found: &Rule, wanted: &Rule) -> bool {
    fn fits<T: PartialEq>(found: &Option<T>, wanted: &Option<T>) -> bool {
        wanted.is_none() || found == wanted
    }
    let does_more = |rule: &Rule| rule.more.as_ref().is_some_and(|more| more.starts_with(ACTION));
    if wanted.more.is_none() && does_more(found) {
        return false;
    }
    // It never compares `not`.
    (found.family, found.priority, found.table) == (wanted.family, wanted.priority, wanted.table)
        && fits(&found.from, &wanted.from)
        && fits(&found.to, &wanted.to)
        && fits(&found.iif, &wanted.iif)
        && fits(&found.oif, &wanted.oif)
        && fits(&found.mark, &wanted.mark)
        && fits(&found.suppress_prefix_length, &wanted.suppress_prefix_length)
}

/// Decodes an `RTM_NEWRULE`; `None` for rules that Adit does not manage.
pub(super) fn read(body: &[u8], family: Family) -> Result<Option<Rule>, DecodeError> {
    match read_any(body, family) {
        Ok((rule, protocol)) => Ok((protocol == PROTOCOL).then_some(rule)),
        // Requests of Adit name its protocol, so the kernel never takes this rule for one of Adit.
        Err(_) if protocol(body).is_some_and(|protocol| protocol != PROTOCOL) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Bytes of `struct fib_rule_hdr` (linux/fib_rules.h).
const HEADER: usize = 12;

/// The protocol of a rule whose other attributes may be undecodable. Rules without the attribute have none, 0.
fn protocol(body: &[u8]) -> Option<u8> {
    let mut protocol = 0;
    for attribute in NlasIterator::new(body.get(HEADER..)?) {
        let attribute = attribute.ok()?;
        if attribute.kind() == uapi::FRA_PROTOCOL {
            protocol = *attribute.value().first()?;
        }
    }
    Some(protocol)
}

/// Decodes an `RTM_NEWRULE` with its protocol.
pub(super) fn read_any(body: &[u8], family: Family) -> Result<(Rule, u8), DecodeError> {
    let RuleMessage {
        header, attributes, ..
    } = RuleMessage::parse(body)?;
    let mut rule = Rule::to_table(family, 0, header.table.into());
    let mut protocol = 0;
    let (mut mark, mut mask) = (0, 0);
    let mut more = Vec::new();
    if header.action != RuleAction::ToTable {
        more.push(format!("{ACTION}{}", u8::from(header.action)));
    }
    rule.not = header.flags.contains(RuleFlags::Invert);
    if header.tos != 0 {
        more.push(format!("tos {:#04x}", header.tos));
    }
    for attribute in attributes {
        match attribute {
            RuleAttribute::Destination(address) => rule.to = Some(prefix(address, header.dst_len)?),
            RuleAttribute::Source(address) => rule.from = Some(prefix(address, header.src_len)?),
            RuleAttribute::Iifname(name) => rule.iif = LinkName::new(&name).ok(),
            RuleAttribute::Oifname(name) => rule.oif = LinkName::new(&name).ok(),
            RuleAttribute::Priority(priority) => rule.priority = priority,
            RuleAttribute::FwMark(value) => mark = value,
            RuleAttribute::FwMask(value) => mask = value,
            RuleAttribute::Table(table) => rule.table = table,
            RuleAttribute::SuppressPrefixLen(length) => {
                rule.suppress_prefix_length = (length != NO_SUPPRESSION).then_some(length);
            }
            RuleAttribute::Protocol(made_by) => protocol = made_by.into(),
            // The kernel reports these attributes only if they restrict the rule or have an effect.
            // Attributes after the last known one are ignored, because a later kernel may report them for
            // every rule.
            other if other.kind() <= uapi::FRA_DSCP_MASK && other.kind() != uapi::FRA_PAD => {
                more.push(format!("attribute {}", other.kind()));
            }
            _ => {}
        }
    }
    rule.mark = Mark::new(mark, mask);
    if mark == 0 && mask != 0 {
        more.push(format!("fwmark 0/{mask:#x}"));
    }
    rule.more = (!more.is_empty()).then(|| more.join(" "));
    Ok((rule, protocol))
}

/// Encodes a rule; `None` if it has more attributes than Adit writes.
fn write(rule: &Rule, marks: Marks) -> Option<RuleMessage> {
    if rule.more.is_some() {
        return None;
    }
    let mut message = RuleMessage::default();
    let header = &mut message.header;
    header.family = raw(rule.family);
    header.action = RuleAction::ToTable;
    if rule.not {
        header.flags = RuleFlags::Invert;
    }
    header.src_len = rule.from.map_or(0, |prefix| prefix.prefix_len());
    header.dst_len = rule.to.map_or(0, |prefix| prefix.prefix_len());
    // Tables above 255 don't fit into the header; the attribute has all of them.
    header.table = u8::try_from(rule.table).unwrap_or_default();
    let attributes = &mut message.attributes;
    if marks == Marks::Adit {
        // Rules without the mark have no protocol.
        attributes.push(RuleAttribute::Protocol(marks.protocol()));
    }
    attributes.push(RuleAttribute::Priority(rule.priority));
    attributes.push(RuleAttribute::Table(rule.table));
    attributes.extend(rule.from.map(|prefix| RuleAttribute::Source(prefix.addr())));
    attributes.extend(rule.to.map(|prefix| RuleAttribute::Destination(prefix.addr())));
    let text = |name: &LinkName| name.as_str().to_owned();
    attributes.extend(rule.iif.as_ref().map(|name| RuleAttribute::Iifname(text(name))));
    attributes.extend(rule.oif.as_ref().map(|name| RuleAttribute::Oifname(text(name))));
    if let Some(mark) = rule.mark {
        attributes.push(RuleAttribute::FwMark(mark.value()));
        attributes.push(RuleAttribute::FwMask(mark.mask()));
    }
    attributes.extend(rule.suppress_prefix_length.map(RuleAttribute::SuppressPrefixLen));
    Some(message)
}

fn prefix(address: IpAddr, length: u8) -> Result<IpNet, DecodeError> {
    IpNet::new(address, length)
        .map_err(|_| DecodeError::from(format!("rule for {address} with prefix length {length}")))
}

fn raw(family: Family) -> AddressFamily {
    match family {
        Family::Ipv4 => AddressFamily::Inet,
        Family::Ipv6 => AddressFamily::Inet6,
    }
}

impl Requests for RuleChange {
    fn requests(&self, netlink: &mut Netlink) -> io::Result<Vec<(Request, Role)>> {
        let create = create(&self.0, netlink.marks);
        let create = create.ok_or_else(|| unsupported("Adit does not create rules of this kind"))?;
        Ok(vec![(create, Role::Do)])
    }

    fn asks_first(&self) -> bool {
        self.1 == Existence::Delete
    }

    fn ask<'a>(&'a self, netlink: &'a mut Netlink) -> Asked<'a> {
        Box::pin(deletion(&self.0, netlink))
    }
}

/// The requests that delete exactly this rule. The kernel deletes the first rule that has all attributes of
/// the request, so earlier managed rules with more attributes are deleted with it and recreated.
///
/// # Errors
/// When rules can't be read, or when some can't be decoded: the kernel might delete one of those instead.
async fn deletion(rule: &Rule, netlink: &mut Netlink) -> Result<Vec<(Request, Role)>, KernelError> {
    netlink.socket.take_undecoded();
    let rules = netlink.read_rules(rule.family).await?;
    refuse_undecoded(&netlink.socket.take_undecoded())?;
    let Some(position) = rules.iter().position(|found| found == rule) else {
        return Ok(Vec::new());
    };
    let marks = netlink.marks;
    let before = rules[..position]
        .iter()
        .filter(|found| is_deleted_by(found, rule));
    let before = before.collect::<Vec<_>>();
    let deletions = (0..=before.len()).filter_map(|_| Some((delete(rule, marks)?, Role::Delete)));
    let again = before
        .iter()
        .filter_map(|found| Some((create(found, marks)?, Role::Do)));
    Ok(deletions.chain(again).collect())
}

fn refuse_undecoded(undecoded: &BTreeMap<&'static str, Undecoded>) -> Result<(), KernelError> {
    let Some(Undecoded { count, first }) = undecoded.get(RULES) else {
        return Ok(());
    };
    let text = format!(
        "the kernel might delete another rule: {count} rules can't be decoded; the first one: {first}"
    );
    Err(KernelError::of_change(unsupported(&text)))
}

#[cfg(test)]
mod tests {
    use netlink_packet_core::{DefaultNla, Emitable as _};
    use netlink_packet_route::route::RouteProtocol;

    use super::*;

    #[test]
    fn an_undecodable_rule_of_others_is_skipped_and_one_of_adit_is_an_error() {
        let rule = |protocol: u8| {
            let mut message = RuleMessage::default();
            message.header.family = AddressFamily::Inet;
            message.header.action = RuleAction::ToTable;
            // `FRA_IIFNAME`: names are any bytes.
            let name = DefaultNla::new(3, vec![0xff, b'0', 0]);
            message.attributes = vec![
                RuleAttribute::Other(name),
                RuleAttribute::Protocol(RouteProtocol::Other(protocol)),
            ];
            let mut body = vec![0; message.buffer_len()];
            message.emit(&mut body);
            read(&body, Family::Ipv4)
        };
        assert!(rule(PROTOCOL).is_err());
        assert_eq!(rule(PROTOCOL + 1).unwrap(), None);
        assert_eq!(rule(0).unwrap(), None);
    }

    #[test]
    fn padding_and_later_kernels_attributes_are_passed_over_and_selectors_are_not() {
        let rule = |extra: &[(u16, &[u8])]| {
            let mut message = RuleMessage::default();
            message.header.family = AddressFamily::Inet;
            message.header.action = RuleAction::ToTable;
            message.attributes = vec![
                RuleAttribute::Priority(100),
                RuleAttribute::Protocol(RouteProtocol::Other(PROTOCOL)),
            ];
            let extra = extra
                .iter()
                .map(|(kind, value)| DefaultNla::new(*kind, value.to_vec()));
            message.attributes.extend(extra.map(RuleAttribute::Other));
            let mut body = vec![0; message.buffer_len()];
            message.emit(&mut body);
            read(&body, Family::Ipv4).unwrap().unwrap()
        };
        let plain = rule(&[]);
        assert_eq!(plain.more, None);
        assert_eq!(
            rule(&[(uapi::FRA_PAD, &[]), (uapi::FRA_DSCP_MASK + 1, &[1; 4])]),
            plain
        );
        // `FRA_TUN_ID` after padding.
        let narrower = rule(&[(uapi::FRA_PAD, &[]), (12, &7u64.to_be_bytes())]);
        assert_eq!(narrower.more.as_deref(), Some("attribute 12"));
    }
}
