//! Policy rules: messages that make and delete them, and what a message from the kernel says.

use std::io;
use std::net::IpAddr;

use ipnet::IpNet;
use netlink_packet_core::{DecodeError, NLM_F_CREATE, Nla as _, Parseable as _};
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
use crate::model::{PROTOCOL, Rule, RuleChange};
use crate::net::{Family, LinkName};

/// How what a rule says beyond begins, where it does not ask a table.
const ACTION: &str = "action ";
/// What a rule says that suppresses nothing.
const NO_SUPPRESSION: u32 = u32::MAX;

/// Asks for all rules of a family.
pub(super) fn dump(family: Family) -> Request {
    let mut message = RuleMessage::default();
    message.header.family = raw(family);
    Request::new(libc::RTM_GETRULE, 0, &message)
}

/// Makes a rule. Never `NLM_F_EXCL`: the kernel takes a rule that says more for the same one, and making a rule
/// replaces nobody's. `None` for rules that we don't make.
pub(super) fn create(rule: &Rule, marks: Marks) -> Option<Request> {
    let message = write(rule, marks)?;
    Some(Request::new(libc::RTM_NEWRULE, NLM_F_CREATE, &message))
}

/// Deletes the first rule with this mark that says all that this one does; see [`is_taken_for`].
pub(super) fn delete(rule: &Rule, marks: Marks) -> Option<Request> {
    let known = Rule {
        more: None,
        ..rule.clone()
    };
    let mut message = write(&known, marks)?;
    if rule.more.is_some() {
        // Whatever it does.
        message.header.action = RuleAction::Unspec;
    }
    Some(Request::new(libc::RTM_DELRULE, 0, &message))
}

/// Whether the kernel, told to delete `wanted`, would take `found` for it: it compares only what the request says.
pub(super) fn is_taken_for(found: &Rule, wanted: &Rule) -> bool {
    fn fits<T: PartialEq>(found: &Option<T>, wanted: &Option<T>) -> bool {
        wanted.is_none() || found == wanted
    }
    let does_more = |rule: &Rule| rule.more.as_ref().is_some_and(|more| more.starts_with(ACTION));
    if wanted.more.is_none() && does_more(found) {
        return false;
    }
    // It never looks at `not`.
    (found.family, found.priority, found.table) == (wanted.family, wanted.priority, wanted.table)
        && fits(&found.from, &wanted.from)
        && fits(&found.to, &wanted.to)
        && fits(&found.iif, &wanted.iif)
        && fits(&found.oif, &wanted.oif)
        && fits(&found.mark, &wanted.mark)
        && fits(&found.suppress_prefix_length, &wanted.suppress_prefix_length)
}

/// What an `RTM_NEWRULE` says; nothing for rules that are not ours.
pub(super) fn read(body: &[u8], family: Family) -> Result<Option<Rule>, DecodeError> {
    let (rule, protocol) = read_any(body, family)?;
    Ok((protocol == PROTOCOL).then_some(rule))
}

/// What an `RTM_NEWRULE` says, and the protocol of who made it.
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
            // Each is told only where it narrows the rule or does something. What comes after the last one that is known here is
            // passed over, because a later kernel may tell it of every rule.
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

/// `None` where it says more than we write.
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
    // Tables beyond 255 don't fit the header; the attribute holds them all.
    header.table = u8::try_from(rule.table).unwrap_or_default();
    let attributes = &mut message.attributes;
    if marks == Marks::Ours {
        // By hand, rules have none.
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
        let create = create.ok_or_else(|| unsupported("no kind of rule that is made here"))?;
        Ok(vec![(create, Role::Do)])
    }

    fn asks_first(&self) -> bool {
        self.1 == Existence::Delete
    }

    fn ask<'a>(&'a self, netlink: &'a mut Netlink) -> Asked<'a> {
        Box::pin(deletion(&self.0, netlink))
    }
}

/// What deletes exactly this rule. The kernel deletes the first one that says all that the request says: rules of ours
/// that say more and stand before go with it, and are made again.
async fn deletion(rule: &Rule, netlink: &mut Netlink) -> Result<Vec<(Request, Role)>, KernelError> {
    let rules = netlink.read_rules(rule.family).await?;
    let Some(place) = rules.iter().position(|found| found == rule) else {
        return Ok(Vec::new());
    };
    let marks = netlink.marks;
    let before = rules[..place].iter().filter(|found| is_taken_for(found, rule));
    let before = before.collect::<Vec<_>>();
    let deletions = (0..=before.len()).filter_map(|_| Some((delete(rule, marks)?, Role::Delete)));
    let again = before
        .iter()
        .filter_map(|found| Some((create(found, marks)?, Role::Do)));
    Ok(deletions.chain(again).collect())
}

#[cfg(test)]
mod tests {
    use netlink_packet_core::{DefaultNla, Emitable as _};
    use netlink_packet_route::route::RouteProtocol;

    use super::*;

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
        // `FRA_TUN_ID`, with the padding before it.
        let narrower = rule(&[(uapi::FRA_PAD, &[]), (12, &7u64.to_be_bytes())]);
        assert_eq!(narrower.more.as_deref(), Some("attribute 12"));
    }
}
