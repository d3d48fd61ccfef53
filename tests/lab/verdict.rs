//! Judges what was measured and captured: what is wrong with it, in sentences.
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use adit_tests::overlay::family_name;
use dataplane_user::net::Family;
use dataplane_user::status::RefusedStatus;

use super::capture::{Outer, Summary, Way, protocol_name};
use super::links::Links;
use super::options::Encapsulation;
use super::shared::Flows;
use super::topology::Topology;
use super::traffic::{Kind, Measured, Pair};

/// What a network says by itself: echo, neighbour discovery, multicast membership.
const CHATTER: [u8; 4] = [0, 1, 2, 58];

/// The lab with one set of manifests.
pub(crate) struct Round<'a> {
    pub(crate) topology: &'a Topology,
    pub(crate) links: Links,
    pub(crate) vni: u32,
    pub(crate) rows: Vec<Row<'a>>,
    /// To the prefix that several carry.
    pub(crate) flows: Vec<Flows>,
    pub(crate) refused: Vec<RefusedStatus>,
    /// What the agents' states say against them.
    pub(crate) contradictions: Vec<String>,
    pub(crate) captured: Summary,
}

/// One way through the overlay, and what came of each kind of traffic on it.
pub(crate) struct Row<'a> {
    pub(crate) pair: Pair<'a>,
    pub(crate) cells: Vec<(Kind, Measured)>,
}

impl Row<'_> {
    pub(crate) fn is_complete(&self) -> bool {
        !self.cells.is_empty() && self.cells.iter().all(|(_, measured)| measured.is_complete())
    }

    fn has_arrived(&self) -> bool {
        self.payload() > 0
    }

    /// Bytes of payload that arrived.
    fn payload(&self) -> u64 {
        let arrived = self
            .cells
            .iter()
            .map(|(_, measured)| measured.received * measured.unit);
        arrived.sum()
    }

    fn inner(&self) -> Way {
        let Pair { from, to, family, .. } = self.pair;
        (from.end.address(family), to.end.address(family))
    }
}

/// Packets that crossed the underlay, summed up over where from and where to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Crossed {
    /// `None` where it's not what the link between these addresses has.
    pub(crate) encapsulation: Option<Encapsulation>,
    pub(crate) family: Family,
    pub(crate) protocol: u8,
    pub(crate) port: Option<u16>,
    pub(crate) vni: Option<u32>,
}

impl Round<'_> {
    /// What the link between two underlay addresses has, if that is what the headers say.
    fn expected(&self, way: Way, outer: &Outer) -> Option<Encapsulation> {
        let link = self.links.between(way.0, way.1)?;
        let is_right =
            outer.encapsulation() == Some(link.encapsulation) && outer.vni.is_none_or(|vni| vni == self.vni);
        is_right.then_some(link.encapsulation)
    }

    /// Is there no encapsulation between the nodes that have these overlay addresses?
    fn is_plain(&self, way: Way) -> bool {
        let owner = |address: IpAddr| self.topology.owner(address);
        let ends = owner(way.0).zip(owner(way.1));
        let link = ends.and_then(|(from, to)| self.links.get(from, to));
        link.is_some_and(|link| link.encapsulation == Encapsulation::Plain && link.carries(Family::of(way.0)))
    }

    /// What crossed the underlay, a network's chatter left out.
    pub(crate) fn crossed(&self) -> BTreeMap<Crossed, u64> {
        let mut found = BTreeMap::new();
        for ((way, outer), count) in &self.captured.outer {
            let encapsulation = self.expected(*way, outer);
            if encapsulation.is_none() && CHATTER.contains(&outer.protocol) {
                continue;
            }
            let crossed = Crossed {
                encapsulation,
                family: outer.family,
                protocol: outer.protocol,
                port: outer.port,
                vni: outer.vni,
            };
            *found.entry(crossed).or_default() += count.packets;
        }
        for ((way, protocol), count) in &self.captured.bare {
            let crossed = Crossed {
                encapsulation: self.is_plain(*way).then_some(Encapsulation::Plain),
                family: Family::of(way.0),
                protocol: *protocol,
                port: None,
                vni: None,
            };
            *found.entry(crossed).or_default() += count;
        }
        found
    }

    /// What was lost, one line a cell.
    pub(crate) fn losses(&self) -> Vec<String> {
        let cells = self
            .rows
            .iter()
            .flat_map(|row| row.cells.iter().map(|cell| (row.pair, cell)));
        let lost = cells.filter(|(_, (_, measured))| !measured.is_complete());
        let lost = lost.map(|(pair, (kind, measured))| {
            let Measured {
                sent,
                received,
                error,
                ..
            } = measured;
            let (from, to, kind) = (&pair.from.name, &pair.to.name, kind.name());
            let why = error.as_deref().unwrap_or_default();
            format!(
                "{from} → {to}, {}, {kind}: {received} of {sent}: {why}",
                family_name(pair.family)
            )
        });
        let flows = self.flows.iter().filter(|flows| !flows.is_good());
        lost.chain(flows.map(|flows| {
            let (from, family) = (&flows.from, family_name(flows.family));
            let (sent, received) = (flows.sent, flows.received());
            let silent = flows.answered.iter().filter(|(_, count)| **count == 0);
            let silent: Vec<String> = silent
                .map(|(carrier, _)| format!("none by {}", self.topology.nodes[*carrier].name))
                .collect();
            let why = flows.error.clone().into_iter().chain(silent);
            let why = why.collect::<Vec<_>>().join(", ");
            format!("{from} → shared prefix, {family}: {received} of {sent} flows were answered: {why}")
        }))
        .collect()
    }

    /// What the agents' states and the capture say against it.
    pub(crate) fn leaks(&self) -> Vec<String> {
        let mut found = self.contradictions.clone();
        for ((way, protocol), count) in &self.captured.bare {
            if !self.is_plain(*way) {
                let (source, destination, protocol) = (way.0, way.1, protocol_name(*protocol));
                found.push(format!(
                    "{count} overlay packets went bare: {source} → {destination}, {protocol}"
                ));
            }
        }
        for ((way, outer), count) in &self.captured.outer {
            if self.expected(*way, outer).is_none() && !CHATTER.contains(&outer.protocol) {
                let name = match self.links.between(way.0, way.1) {
                    Some(link) => format!("not {}'s", link.encapsulation.name()),
                    None => "between no two nodes".to_owned(),
                };
                let (source, destination, count) = (way.0, way.1, count.packets);
                found.push(format!(
                    "{count} packets on the underlay are {name}: {source} → {destination}, {}",
                    describe(outer)
                ));
            }
        }
        if self.captured.fragments > 0 {
            let count = self.captured.fragments;
            found.push(format!(
                "{count} outer packets were fragments: the overlay's MTU is too large"
            ));
        }
        found.extend(self.absent());
        found.extend(self.unseen());
        found
    }

    /// Encapsulations of which nothing was seen, by the family that they should be over.
    fn absent(&self) -> Vec<String> {
        let wanted: BTreeSet<(Encapsulation, Family)> = self
            .rows
            .iter()
            .map(|row| (row.pair.link.encapsulation, row.pair.link.underlay()))
            .filter(|(encapsulation, _)| *encapsulation != Encapsulation::Plain)
            .collect();
        let crossed = self.captured.outer.keys();
        let seen: BTreeSet<(Encapsulation, Family)> = crossed
            .filter_map(|(way, outer)| Some((self.expected(*way, outer)?, outer.family)))
            .collect();
        wanted
            .difference(&seen)
            .map(|(encapsulation, family)| {
                let (name, family) = (encapsulation.name(), family_name(*family));
                format!("no {name} packet was seen on the underlay, over {family}")
            })
            .collect()
    }

    /// Ways on which something arrived without having been seen between the underlay addresses of both ends.
    fn unseen(&self) -> Vec<String> {
        let is_unseen = |row: &&Row<'_>| {
            let (link, inner) = (row.pair.link, row.inner());
            row.has_arrived()
                && match link.encapsulation {
                    // What it carries can't be told: see below.
                    Encapsulation::Wireguard => false,
                    Encapsulation::Plain => !self.captured.bare.keys().any(|(way, _)| *way == inner),
                    _ => !self.captured.inside.contains(&((link.local, link.remote), inner)),
                }
        };
        let unseen = self.rows.iter().filter(is_unseen).map(|row| {
            let Pair { from, to, family, .. } = row.pair;
            let family = family_name(family);
            let (from, to, name) = (&from.name, &to.name, row.pair.link.encapsulation.name());
            format!("{from} → {to}, {family}: packets arrived that were not seen in {name}")
        });
        unseen.chain(self.too_few()).collect()
    }

    /// WireGuard links that crossed the underlay with fewer bytes than arrived by them.
    fn too_few(&self) -> Vec<String> {
        let mut arrived: BTreeMap<Way, u64> = BTreeMap::new();
        for row in &self.rows {
            let link = row.pair.link;
            if link.encapsulation == Encapsulation::Wireguard {
                *arrived.entry((link.local, link.remote)).or_default() += row.payload();
            }
        }
        let crossed = |way: Way| -> u64 {
            let all = self.captured.outer.iter();
            all.filter(|((other, outer), _)| *other == way && outer.wireguard)
                .map(|(_, count)| count.bytes)
                .sum()
        };
        // What was not looked at can't be missed.
        let looked = self.captured.missed == 0;
        let few = arrived
            .into_iter()
            .filter(|(way, bytes)| looked && crossed(*way) < *bytes);
        few.map(|(way, bytes)| {
            let (seen, (source, destination)) = (crossed(way), way);
            format!("{source} → {destination}: {bytes} bytes arrived, {seen} were seen in wireguard")
        })
        .collect()
    }
}

/// For sentences.
fn describe(outer: &Outer) -> String {
    let number =
        |name: &str, value: Option<u32>| value.map_or_else(String::new, |value| format!(", {name} {value}"));
    let (port, vni) = (
        number("port", outer.port.map(u32::from)),
        number("VNI", outer.vni),
    );
    format!(
        "{} over {}{port}{vni}",
        protocol_name(outer.protocol),
        family_name(outer.family)
    )
}

#[cfg(test)]
mod tests;
