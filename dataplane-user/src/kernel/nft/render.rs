//! Renders the table as scripts for `nft -f`, each one transaction.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use crate::model::Firewall;
use crate::model::firewall::{Action, Match, Rule, Side, Transport, quoted};
use crate::model::rule::Mark;
use crate::net::{Family, LinkName};

/// The name of the table, in the family `inet`.
pub(super) const TABLE: &str = "adit";
/// The comment that marks the table as managed by Adit.
pub(super) const MARK: &str = "adit";

/// Creates the table; fails if a table of the name exists.
pub(super) fn create(table: &Firewall) -> String {
    // In a block of `create`, nft ignores everything except the comment.
    format!(
        "create table inet {TABLE} {{\n\tcomment \"{MARK}\"\n}}\n{}",
        block(table)
    )
}

/// Replaces the table; also succeeds if it was deleted meanwhile.
pub(super) fn replace(table: &Firewall) -> String {
    format!("table inet {TABLE}\ndelete table inet {TABLE}\n{}", block(table))
}

/// Deletes the table; also succeeds if it was deleted meanwhile.
pub(super) fn delete() -> String {
    format!("table inet {TABLE}\ndelete table inet {TABLE}\n")
}

fn block(table: &Firewall) -> String {
    let mut text = format!("table inet {TABLE} {{\n\tcomment \"{MARK}\"\n");
    for (chain, rules) in &table.chains {
        let place = chain.place();
        let _infallible = writeln!(
            text,
            "\tchain {} {{\n\t\ttype {} hook {} priority {}; policy accept;",
            place.name, place.kind, place.hook, place.priority
        );
        for rule in rules {
            let _infallible = writeln!(text, "\t\t{}", statement(rule));
        }
        text.push_str("\t}\n");
    }
    text.push_str("}\n");
    text
}

fn statement(rule: &Rule) -> String {
    let expressions = rule.matches.iter().map(expression);
    expressions
        .chain([action(&rule.action)])
        .collect::<Vec<_>>()
        .join(" ")
}

fn expression(one: &Match) -> String {
    match one {
        Match::In(links) => format!("iifname {}", names(links)),
        Match::NotIn(links) => format!("iifname != {}", names(links)),
        Match::Out(links) => format!("oifname {}", names(links)),
        Match::SourceRoutedBy(links) => format!("fib saddr oifname {}", names(links)),
        Match::NoRouteBack => "fib saddr . iif oif missing".to_owned(),
        Match::Family(family) => format!("meta nfproto {}", family_name(*family)),
        Match::Address {
            side,
            within,
            prefixes,
        } => {
            let header = prefixes
                .first()
                .map_or("ip", |prefix| match Family::of_prefix(*prefix) {
                    Family::Ipv4 => "ip",
                    Family::Ipv6 => "ip6",
                });
            let field = match side {
                Side::Source => "saddr",
                Side::Destination => "daddr",
            };
            let not = if *within { "" } else { "!= " };
            format!(
                "{header} {field} {not}{}",
                set(prefixes.iter().map(ToString::to_string))
            )
        }
        Match::Port(transport, side, ports) => {
            let field = match side {
                Side::Source => "sport",
                Side::Destination => "dport",
            };
            let ports = set(ports.iter().map(ToString::to_string));
            format!("{} {field} {ports}", transport_name(*transport))
        }
        Match::NotUnicast => "fib daddr type { local, broadcast, multicast }".to_owned(),
        Match::New => "ct state new".to_owned(),
        Match::Reply => "ct direction reply".to_owned(),
        Match::ConnectionMark(mark) => format!("ct mark & {:#x} == {:#x}", mark.mask(), mark.value()),
        Match::Syn => "tcp flags & (syn | rst) == syn".to_owned(),
        Match::Strange(text) => text.clone(),
    }
}

fn action(action: &Action) -> String {
    let text = match action {
        Action::Accept => "accept",
        Action::Drop => "counter drop",
        Action::Return => "return",
        Action::Masquerade => "masquerade",
        Action::ClampMss => "tcp option maxseg size set rt mtu",
        Action::Notrack => "notrack",
        Action::MarkConnection(mark) => return set_mark("ct", *mark),
        Action::MarkPacket(mark) => return set_mark("meta", *mark),
        Action::Strange(text) => text,
    };
    text.to_owned()
}

/// Sets the bits of a mask and keeps the others.
fn set_mark(of: &str, mark: Mark) -> String {
    format!(
        "{of} mark set {of} mark & {:#x} | {:#x}",
        !mark.mask(),
        mark.value()
    )
}

/// The names of devices. Names that the syntax of nft can't express never get here (`Firewall::inexpressible_links`).
fn names(links: &BTreeSet<LinkName>) -> String {
    set(links.iter().filter_map(quoted))
}

fn set(items: impl Iterator<Item = String>) -> String {
    format!("{{ {} }}", items.collect::<Vec<_>>().join(", "))
}

/// The name of a family in `meta nfproto`.
pub(super) fn family_name(family: Family) -> &'static str {
    match family {
        Family::Ipv4 => "ipv4",
        Family::Ipv6 => "ipv6",
    }
}

pub(super) fn transport_name(transport: Transport) -> &'static str {
    match transport {
        Transport::Tcp => "tcp",
        Transport::Udp => "udp",
    }
}
