//! The maps' content as `adit map` prints it.

use std::collections::BTreeMap;
use std::net::IpAddr;

use dataplane_ebpf::layout::NextHopState;
use serde::Serialize;

use crate::cli::output;
use crate::kernel::bpf::{
    CounterReport, Dump, LookupResult, LookupTarget, NextHopEntry, SourceEntry, VerdictCount,
};
use crate::model::{Class, NextHop, Target};

/// Names of peers by their underlay addresses, as a running agent tells them: next hops in maps have names as well, but
/// what is sent by routes has none there.
pub(super) type Peers = BTreeMap<IpAddr, String>;

/// `adit map dump`.
#[derive(Serialize)]
pub(super) struct DumpView {
    prefixes: Vec<PrefixView>,
    groups: Vec<GroupView>,
    next_hops: Vec<NextHopView>,
    classes: Vec<ClassView>,
    sources: Vec<SourceView>,
    unreadable_slots: usize,
}

/// `adit map lookup`.
#[derive(Serialize)]
pub(super) struct LookupView {
    address: String,
    prefix: Option<String>,
    target: &'static str,
    group: Option<Vec<u32>>,
    next_hops: Vec<NextHopView>,
}

/// `adit map stats`.
#[derive(Serialize)]
pub(super) struct StatsView {
    egress: Vec<VerdictView>,
    ingress: Vec<VerdictView>,
    next_hops: Vec<NextHopView>,
    sources: Vec<SourceView>,
}

#[derive(Serialize)]
struct PrefixView {
    prefix: String,
    target: Option<String>,
}

#[derive(Serialize)]
struct GroupView {
    slots: Vec<u32>,
    members: Vec<String>,
}

#[derive(Serialize)]
struct NextHopView {
    slot: u32,
    node: String,
    encapsulation: String,
    vni: u32,
    remote: String,
    local: String,
    gateway: Option<String>,
    destination_mac: Option<String>,
    state: &'static str,
    weight: Option<u8>,
    packets: u64,
    bytes: u64,
}

#[derive(Serialize)]
struct ClassView {
    slot: u32,
    class: String,
    ifindex: u32,
}

#[derive(Serialize)]
struct SourceView {
    address: String,
    encapsulation: String,
    vni: u32,
    /// The node that packets to there go to; none where no next hop leads to it and no agent runs that could tell.
    node: Option<String>,
    packets: u64,
    bytes: u64,
}

#[derive(Serialize)]
struct VerdictView {
    verdict: &'static str,
    explanation: &'static str,
    packets: u64,
    bytes: u64,
}

impl DumpView {
    pub(super) fn new(dump: &Dump, peers: &Peers) -> DumpView {
        let prefixes = dump.prefixes.iter().map(|entry| PrefixView {
            prefix: entry.prefix.to_string(),
            target: entry.target.as_ref().map(Target::to_string),
        });
        let groups = dump.groups.iter().map(|entry| GroupView {
            slots: entry.slots.clone(),
            members: entry
                .group
                .members
                .iter()
                .map(|(n, weight)| format!("{n} weight {weight}"))
                .collect(),
        });
        let class = |class: &Class| class.to_string();
        let classes = dump.classes.iter().map(|entry| ClassView {
            slot: entry.slot,
            class: class(&entry.class),
            ifindex: entry.ifindex,
        });
        DumpView {
            prefixes: prefixes.collect(),
            groups: groups.collect(),
            next_hops: dump
                .next_hops
                .iter()
                .map(|entry| NextHopView::new(entry, None))
                .collect(),
            classes: classes.collect(),
            sources: SourceView::all(&dump.sources, &dump.next_hops, peers),
            unreadable_slots: dump.unreadable_slots,
        }
    }

    pub(super) fn text(&self) -> String {
        let broken = || "nothing (its packets are dropped)".to_owned();
        let rows = self
            .prefixes
            .iter()
            .map(|p| [p.prefix.clone(), p.target.clone().unwrap_or_else(broken)]);
        let prefixes = output::table(["PREFIX", "TARGET"], &rows.collect::<Vec<_>>());
        let rows = self
            .classes
            .iter()
            .map(|c| [c.slot.to_string(), c.class.clone(), c.ifindex.to_string()]);
        let classes = output::table(["SLOT", "CLASS", "IFINDEX"], &rows.collect::<Vec<_>>());
        let next_hops = next_hops(&self.next_hops);
        let sources = sources(&self.sources);
        let mut text = [prefixes, next_hops, classes, sources].join("\n");
        if self.unreadable_slots > 0 {
            text.push_str(&format!(
                "\n{} slots can't be read; the agent cleans them up\n",
                self.unreadable_slots
            ));
        }
        text
    }
}

impl From<&LookupResult> for LookupView {
    fn from(result: &LookupResult) -> LookupView {
        let view = |target, group, next_hops| LookupView {
            address: result.address.to_string(),
            prefix: result.prefix.map(|prefix| prefix.to_string()),
            target,
            group,
            next_hops,
        };
        match &result.target {
            LookupTarget::NoPrefix => view("none", None, Vec::new()),
            LookupTarget::Broken => view("broken", None, Vec::new()),
            LookupTarget::Local => view("local", None, Vec::new()),
            LookupTarget::NextHop(entry) => view("next_hop", None, vec![NextHopView::new(entry, None)]),
            LookupTarget::Group { slots, members } => {
                let members = members
                    .iter()
                    .map(|(entry, weight)| NextHopView::new(entry, Some(*weight)));
                view("group", Some(slots.clone()), members.collect())
            }
        }
    }
}

impl LookupView {
    pub(super) fn text(&self) -> String {
        let Some(prefix) = &self.prefix else {
            return format!(
                "{}: no prefix covers it; packets are dropped (no_prefix)\n",
                self.address
            );
        };
        match self.target {
            "local" => format!(
                "{}: {prefix} is this node's own; the program drops (local_prefix)\n",
                self.address
            ),
            "broken" => format!(
                "{}: {prefix} points at nothing; packets are dropped\n",
                self.address
            ),
            target => {
                let line = format!("{}: {prefix}, {}\n", self.address, target.replace('_', " "));
                line + &next_hops(&self.next_hops)
            }
        }
    }
}

impl StatsView {
    pub(super) fn new(report: &CounterReport, peers: &Peers) -> StatsView {
        let verdict = |count: &VerdictCount| VerdictView {
            verdict: count.name,
            explanation: count.explanation,
            packets: count.counters.packets,
            bytes: count.counters.bytes,
        };
        StatsView {
            egress: report.egress.iter().map(verdict).collect(),
            ingress: report.ingress.iter().map(verdict).collect(),
            next_hops: report
                .next_hops
                .iter()
                .map(|entry| NextHopView::new(entry, None))
                .collect(),
            sources: SourceView::all(&report.sources, &report.next_hops, peers),
        }
    }

    pub(super) fn text(&self, all: bool) -> String {
        let mut parts = Vec::new();
        for (title, verdicts) in [("EGRESS", &self.egress), ("INGRESS", &self.ingress)] {
            let shown = verdicts.iter().filter(|v| all || v.packets > 0);
            let rows = shown.map(|v| {
                [
                    v.verdict.to_owned(),
                    v.packets.to_string(),
                    v.bytes.to_string(),
                    v.explanation.to_owned(),
                ]
            });
            parts.push(output::table(
                [title, "PACKETS", "BYTES", "MEANING"],
                &rows.collect::<Vec<_>>(),
            ));
        }
        parts.extend([next_hops(&self.next_hops), sources(&self.sources)]);
        parts.join("\n")
    }
}

impl NextHopView {
    fn new(entry: &NextHopEntry, weight: Option<u8>) -> NextHopView {
        let next_hop = &entry.next_hop;
        NextHopView {
            slot: entry.slot,
            node: next_hop.node.to_string(),
            encapsulation: next_hop.class.carrier.to_string(),
            vni: next_hop.class.vni,
            remote: next_hop.remote.to_string(),
            local: next_hop.local.to_string(),
            gateway: next_hop.gateway.map(|gateway| gateway.to_string()),
            destination_mac: next_hop.destination_mac.map(|mac| mac.to_string()),
            state: if entry.state == NextHopState::USABLE {
                "usable"
            } else {
                "down"
            },
            weight,
            packets: entry.counters.packets,
            bytes: entry.counters.bytes,
        }
    }
}

fn next_hops(next_hops: &[NextHopView]) -> String {
    let rows = next_hops.iter().map(|n| {
        [
            n.slot.to_string(),
            n.node.clone(),
            n.encapsulation.clone(),
            n.vni.to_string(),
            match &n.gateway {
                Some(gateway) => format!("{} via {gateway}", n.remote),
                None => n.remote.clone(),
            },
            n.state.to_owned(),
            n.weight
                .map_or_else(|| "-".to_owned(), |weight| weight.to_string()),
            n.packets.to_string(),
            n.bytes.to_string(),
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

impl SourceView {
    fn all(sources: &[SourceEntry], next_hops: &[NextHopEntry], peers: &Peers) -> Vec<SourceView> {
        let named = next_hops.iter().map(|entry| {
            let NextHop {
                node, remote, class, ..
            } = &*entry.next_hop;
            ((*remote, class.carrier, class.vni), node.to_string())
        });
        let named = named.collect::<BTreeMap<_, _>>();
        let view = |SourceEntry { source, counters }: &SourceEntry| SourceView {
            address: source.address.to_string(),
            encapsulation: source.carrier.to_string(),
            vni: source.vni,
            node: named
                .get(&(source.address, source.carrier, source.vni))
                .or_else(|| peers.get(&source.address))
                .cloned(),
            packets: counters.packets,
            bytes: counters.bytes,
        };
        sources.iter().map(view).collect()
    }
}

fn sources(sources: &[SourceView]) -> String {
    let rows = sources.iter().map(|source| {
        [
            source.address.clone(),
            source.encapsulation.clone(),
            source.vni.to_string(),
            source.node.clone().unwrap_or_else(|| "-".to_owned()),
            source.packets.to_string(),
            source.bytes.to_string(),
        ]
    });
    let header = ["SOURCE", "ENCAPSULATION", "VNI", "NODE", "PACKETS", "BYTES"];
    output::table(header, &rows.collect::<Vec<_>>())
}
