//! Compares measurements and captures with the expected links, and describes the differences in sentences.
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use adit_tests::overlay::family_name;
use dataplane_user::net::Family;
use dataplane_user::status::RefusedStatus;

use super::capture::{Addresses, Outer, Summary, protocol_name};
use super::links::Links;
use super::options::Encapsulation;
use super::shared::Flows;
use super::topology::Topology;
use super::traffic::{Kind, Measured, Pair};

/// Protocols that every network uses by itself: echo, neighbour discovery, multicast membership.
const CHATTER: [u8; 4] = [0, 1, 2, 58];

/// The results of the lab with one set of manifests.
pub(crate) struct Round<'a> {
    pub(crate) topology: &'a Topology,
    pub(crate) links: Links,
    pub(crate) vni: u32,
    pub(crate) rows: Vec<Row<'a>>,
    /// Flows to the shared prefix.
    pub(crate) flows: Vec<Flows>,
    pub(crate) refused: Vec<RefusedStatus>,
    /// Differences between the status of the agents and the expected links.
    pub(crate) contradictions: Vec<String>,
    pub(crate) captured: Summary,
}

/// A pair, in one direction and family, with the result of each kind of traffic.
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

    fn inner(&self) -> Addresses {
        let Pair { from, to, family, .. } = self.pair;
        (from.end.address(family), to.end.address(family))
    }
}

/// A kind of packets that crossed the underlay, whatever their addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Crossed {
    /// `None` if it differs from the encapsulation of the link between these addresses.
    pub(crate) encapsulation: Option<Encapsulation>,
    pub(crate) family: Family,
    pub(crate) protocol: u8,
    pub(crate) port: Option<u16>,
    pub(crate) vni: Option<u32>,
}

impl Round<'_> {
    /// The encapsulation of the link between two underlay addresses, if the headers match it.
    fn expected(&self, addresses: Addresses, outer: &Outer) -> Option<Encapsulation> {
        let link = self.links.between(addresses.0, addresses.1)?;
        let is_right =
            outer.encapsulation() == Some(link.encapsulation) && outer.vni.is_none_or(|vni| vni == self.vni);
        is_right.then_some(link.encapsulation)
    }

    /// Whether the link between the nodes with these overlay addresses has no encapsulation.
    fn is_plain(&self, addresses: Addresses) -> bool {
        let owner = |address: IpAddr| self.topology.owner(address);
        let ends = owner(addresses.0).zip(owner(addresses.1));
        let link = ends.and_then(|(from, to)| self.links.get(from, to));
        link.is_some_and(|link| {
            link.encapsulation == Encapsulation::Plain && link.carries(Family::of(addresses.0))
        })
    }

    /// The packets that crossed the underlay, without [`CHATTER`].
    pub(crate) fn crossed(&self) -> BTreeMap<Crossed, u64> {
        let mut found = BTreeMap::new();
        for ((addresses, outer), count) in &self.captured.outer {
            let encapsulation = self.expected(*addresses, outer);
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
        for ((addresses, protocol), count) in &self.captured.bare {
            let crossed = Crossed {
                encapsulation: self.is_plain(*addresses).then_some(Encapsulation::Plain),
                family: Family::of(addresses.0),
                protocol: *protocol,
                port: None,
                vni: None,
            };
            *found.entry(crossed).or_default() += count;
        }
        found
    }

    /// The lost packets, one line for each pair and kind of traffic.
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
                "{from} → {to}, {}, {kind}: received {received} of {sent}: {why}",
                family_name(pair.family)
            )
        });
        let flows = self.flows.iter().filter(|flows| !flows.is_good());
        lost.chain(flows.map(|flows| {
            let (from, family) = (&flows.from, family_name(flows.family));
            let (sent, received) = (flows.sent, flows.received());
            let silent = flows.answered.iter().filter(|(_, count)| **count == 0);
            let silent: Vec<String> = silent
                .map(|(advertiser, _)| format!("{} answered none", self.topology.nodes[*advertiser].name))
                .collect();
            let why = flows.error.clone().into_iter().chain(silent);
            let why = why.collect::<Vec<_>>().join(", ");
            format!("{from} → shared prefix, {family}: {received} of {sent} flows were answered: {why}")
        }))
        .collect()
    }

    /// Differences between the expected links and both the status of the agents and the capture.
    pub(crate) fn leaks(&self) -> Vec<String> {
        let mut found = self.contradictions.clone();
        for ((addresses, protocol), count) in &self.captured.bare {
            if !self.is_plain(*addresses) {
                let (source, destination, protocol) = (addresses.0, addresses.1, protocol_name(*protocol));
                found.push(format!(
                    "{count} overlay packets crossed the underlay without encapsulation: {source} → {destination}, {protocol}"
                ));
            }
        }
        for ((addresses, outer), count) in &self.captured.outer {
            if self.expected(*addresses, outer).is_none() && !CHATTER.contains(&outer.protocol) {
                let name = match self.links.between(addresses.0, addresses.1) {
                    Some(link) => format!("not {}", link.encapsulation.name()),
                    None => "not between two nodes".to_owned(),
                };
                let (source, destination, count) = (addresses.0, addresses.1, count.packets);
                found.push(format!(
                    "{count} packets on the underlay are {name}: {source} → {destination}, {}",
                    describe(outer)
                ));
            }
        }
        if self.captured.fragments > 0 {
            let count = self.captured.fragments;
            found.push(format!(
                "{count} outer packets were fragments: the MTU of the overlay is too large"
            ));
        }
        found.extend(self.absent());
        found.extend(self.unseen());
        found
    }

    /// Expected encapsulations of which the capture has no packet, each with the family of the underlay.
    fn absent(&self) -> Vec<String> {
        let wanted: BTreeSet<(Encapsulation, Family)> = self
            .rows
            .iter()
            .map(|row| (row.pair.link.encapsulation, row.pair.link.underlay()))
            .filter(|(encapsulation, _)| *encapsulation != Encapsulation::Plain)
            .collect();
        let crossed = self.captured.outer.keys();
        let seen: BTreeSet<(Encapsulation, Family)> = crossed
            .filter_map(|(addresses, outer)| Some((self.expected(*addresses, outer)?, outer.family)))
            .collect();
        wanted
            .difference(&seen)
            .map(|(encapsulation, family)| {
                let (name, family) = (encapsulation.name(), family_name(*family));
                format!("no {name} packet over {family} crossed the underlay")
            })
            .collect()
    }

    /// Pairs that received packets which the capture did not see between the underlay addresses of both ends.
    fn unseen(&self) -> Vec<String> {
        let is_unseen = |row: &&Row<'_>| {
            let (link, inner) = (row.pair.link, row.inner());
            row.has_arrived()
                && match link.encapsulation {
                    // The content of WireGuard packets cannot be seen: see `too_few`.
                    Encapsulation::Wireguard => false,
                    Encapsulation::Plain => !self
                        .captured
                        .bare
                        .keys()
                        .any(|(addresses, _)| *addresses == inner),
                    _ => !self.captured.inside.contains(&((link.local, link.remote), inner)),
                }
        };
        let unseen = self.rows.iter().filter(is_unseen).map(|row| {
            let Pair { from, to, family, .. } = row.pair;
            let family = family_name(family);
            let (from, to, name) = (&from.name, &to.name, row.pair.link.encapsulation.name());
            format!("{from} → {to}, {family}: packets arrived, but none was captured in {name}")
        });
        unseen.chain(self.too_few()).collect()
    }

    /// WireGuard links whose captured packets have fewer bytes than arrived.
    fn too_few(&self) -> Vec<String> {
        let mut arrived: BTreeMap<Addresses, u64> = BTreeMap::new();
        for row in &self.rows {
            let link = row.pair.link;
            if link.encapsulation == Encapsulation::Wireguard {
                *arrived.entry((link.local, link.remote)).or_default() += row.payload();
            }
        }
        let crossed = |addresses: Addresses| -> u64 {
            let all = self.captured.outer.iter();
            all.filter(|((other, outer), _)| *other == addresses && outer.wireguard)
                .map(|(_, count)| count.bytes)
                .sum()
        };
        // If the capture missed packets, nothing can be concluded.
        let looked = self.captured.missed == 0;
        let few = arrived
            .into_iter()
            .filter(|(addresses, bytes)| looked && crossed(*addresses) < *bytes);
        few.map(|(addresses, bytes)| {
            let (seen, (source, destination)) = (crossed(addresses), addresses);
            format!(
                "{source} → {destination}: {bytes} bytes arrived, but only {seen} were captured in wireguard"
            )
        })
        .collect()
    }
}

/// Describes an outer header in a sentence.
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
