//! The contents of the maps as `adit map` prints them for people.

use dataplane_ebpf::layout::NextHopState;

use crate::cli::output;
use crate::kernel::bpf::{CounterReport, Dump, LookupResult, LookupTarget, NextHopEntry, SourceEntry};
use crate::model::PrefixTarget;

/// `adit map dump`.
pub(super) fn dump(dump: &Dump) -> String {
    let broken = || "none (packets are dropped)".to_owned();
    let rows = dump.prefixes.iter().map(|entry| {
        let target = entry.target.as_ref().map(PrefixTarget::to_string);
        [entry.prefix.to_string(), target.unwrap_or_else(broken)]
    });
    let prefixes = output::table(["PREFIX", "TARGET"], &rows.collect::<Vec<_>>());
    let rows = dump.classes.iter().map(|entry| {
        [
            entry.slot.to_string(),
            entry.class.to_string(),
            entry.ifindex.to_string(),
        ]
    });
    let classes = output::table(["SLOT", "CLASS", "IFINDEX"], &rows.collect::<Vec<_>>());
    let (next_hops, sources) = (next_hops(&dump.next_hops), sources(&dump.sources));
    let mut text = [prefixes, next_hops, classes, sources].join("\n");
    if dump.unreadable_slots > 0 {
        text.push_str(&format!(
            "\n{} slots can't be read; the agent cleans them up\n",
            dump.unreadable_slots
        ));
    }
    text
}

/// `adit map lookup`.
pub(super) fn lookup(result: &LookupResult) -> String {
    let address = result.address;
    let Some(prefix) = result.prefix else {
        return format!("{address}: no prefix contains it; packets are dropped (no_prefix)\n");
    };
    match &result.target {
        LookupTarget::Local => {
            format!(
                "{address}: {prefix} belongs to this node; the program drops its packets (local_prefix)\n"
            )
        }
        LookupTarget::Broken | LookupTarget::NoPrefix => {
            format!("{address}: {prefix} has no valid target; packets are dropped\n")
        }
        target @ (LookupTarget::NextHop(_) | LookupTarget::Group { .. }) => {
            let line = format!("{address}: {prefix}, {}\n", target.name().replace('_', " "));
            line + &next_hops(target.next_hops())
        }
    }
}

/// `adit map stats`; with `all` also verdicts without packets.
pub(super) fn stats(report: &CounterReport, all: bool) -> String {
    let mut parts = Vec::new();
    for (title, verdicts) in [("EGRESS", &report.egress), ("INGRESS", &report.ingress)] {
        let shown = verdicts.iter().filter(|v| all || v.counters.packets > 0);
        let rows = shown.map(|v| {
            [
                v.name.to_owned(),
                v.counters.packets.to_string(),
                v.counters.bytes.to_string(),
                v.explanation.to_owned(),
            ]
        });
        parts.push(output::table(
            [title, "PACKETS", "BYTES", "MEANING"],
            &rows.collect::<Vec<_>>(),
        ));
    }
    parts.extend([next_hops(&report.next_hops), sources(&report.sources)]);
    parts.join("\n")
}

fn next_hops(entries: &[NextHopEntry]) -> String {
    let rows = entries.iter().map(|entry| {
        let next_hop = &entry.next_hop;
        [
            entry.slot.to_string(),
            next_hop.node.to_string(),
            next_hop.class.tunnel.to_string(),
            next_hop.class.vni.to_string(),
            match next_hop.gateway {
                Some(gateway) => format!("{} via {gateway}", next_hop.remote),
                None => next_hop.remote.to_string(),
            },
            match entry.state {
                NextHopState::USABLE => "usable".to_owned(),
                _ => "down".to_owned(),
            },
            entry
                .weight
                .map_or_else(|| "-".to_owned(), |weight| weight.to_string()),
            entry.counters.packets.to_string(),
            entry.counters.bytes.to_string(),
        ]
    });
    let header = [
        "SLOT",
        "NODE",
        "ENCAPSULATION",
        "VNI",
        "REMOTE",
        "STATE",
        "WEIGHT",
        "PACKETS",
        "BYTES",
    ];
    output::table(header, &rows.collect::<Vec<_>>())
}

fn sources(entries: &[SourceEntry]) -> String {
    let rows = entries.iter().map(|entry| {
        [
            entry.source.address.to_string(),
            entry.source.tunnel.to_string(),
            entry.source.vni.to_string(),
            entry.node.clone().unwrap_or_else(|| "-".to_owned()),
            entry.counters.packets.to_string(),
            entry.counters.bytes.to_string(),
        ]
    });
    let header = ["SOURCE", "ENCAPSULATION", "VNI", "NODE", "PACKETS", "BYTES"];
    output::table(header, &rows.collect::<Vec<_>>())
}
