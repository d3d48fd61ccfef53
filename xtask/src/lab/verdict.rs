//! Judges what was measured and captured: what is wrong with it, in sentences.
use std::collections::BTreeSet;

use super::agent::Refused;
use super::capture::{Outer, Summary, protocol_name};
use super::family::Family;
use super::manifest::Encapsulation;
use super::traffic::{Kind, Measured, Pair};

/// What a network says by itself: echo, neighbour discovery, multicast membership.
const CHATTER: [u8; 4] = [0, 1, 2, 58];

/// The lab with one encapsulation.
pub(super) struct Round<'a> {
    pub(super) encapsulation: Encapsulation,
    pub(super) rows: Vec<Row<'a>>,
    pub(super) refused: BTreeSet<Refused>,
    pub(super) captured: Summary,
}

/// One way through the overlay, and what came of each kind of traffic on it.
pub(super) struct Row<'a> {
    pub(super) pair: Pair<'a>,
    pub(super) cells: Vec<(Kind, Measured)>,
}

impl Row<'_> {
    pub(super) fn is_complete(&self) -> bool {
        !self.cells.is_empty() && self.cells.iter().all(|(_, measured)| measured.is_complete())
    }

    fn has_arrived(&self) -> bool {
        self.cells.iter().any(|(_, measured)| measured.received > 0)
    }
}

impl Round<'_> {
    /// What the outer headers have to be.
    pub(super) fn is_expected(&self, outer: &Outer) -> bool {
        let Some(port) = self.encapsulation.port() else {
            // IPv4 over either family, IPv6 over IPv6 alone.
            return outer.protocol == 4 || outer.protocol == 41 && outer.family == Family::Ipv6;
        };
        (outer.protocol, outer.port, outer.vni) == (17, Some(port), Some(self.encapsulation.vni()))
    }

    /// What was lost, one line a cell.
    pub(super) fn losses(&self) -> Vec<String> {
        let cells = self
            .rows
            .iter()
            .flat_map(|row| row.cells.iter().map(|cell| (row.pair, cell)));
        let lost = cells.filter(|(_, (_, measured))| !measured.is_complete());
        lost.map(|(pair, (kind, measured))| {
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
                pair.family
            )
        })
        .collect()
    }

    /// What the capture says against it.
    pub(super) fn leaks(&self) -> Vec<String> {
        let name = self.encapsulation.name();
        let mut found = Vec::new();
        for ((source, destination, protocol), count) in &self.captured.bare {
            let protocol = protocol_name(*protocol);
            found.push(format!(
                "{count} overlay packets went bare: {source} → {destination}, {protocol}"
            ));
        }
        for (outer, count) in &self.captured.outer {
            if !self.is_expected(outer) && !CHATTER.contains(&outer.protocol) {
                found.push(format!(
                    "{count} packets on the underlay are not {name}'s: {}",
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
        let families: BTreeSet<Family> = self.rows.iter().map(|row| row.pair.underlay).collect();
        for family in families {
            if !self
                .captured
                .outer
                .keys()
                .any(|outer| outer.family == family && self.is_expected(outer))
            {
                found.push(format!(
                    "no {name} packet was seen on the underlay, over {family}"
                ));
            }
        }
        found.extend(self.unseen());
        found
    }

    /// Ways on which something arrived without having been seen in a tunnel.
    fn unseen(&self) -> Vec<String> {
        let unseen = self.rows.iter().filter(|row| {
            let ends = [row.pair.from, row.pair.to].map(|end| end.address(row.pair.family));
            row.has_arrived() && !self.captured.inside.contains(&(ends[0], ends[1]))
        });
        unseen
            .map(|row| {
                let Pair { from, to, family, .. } = row.pair;
                format!(
                    "{} → {}, {family}: packets arrived that were not seen in the tunnel",
                    from.name, to.name
                )
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
        outer.family
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(seen: &[(u16, u32, u64)]) -> Round<'static> {
        let mut captured = Summary::default();
        for (port, vni, count) in seen {
            let outer = Outer {
                family: Family::Ipv4,
                protocol: 17,
                port: Some(*port),
                vni: Some(*vni),
            };
            captured.outer.insert(outer, *count);
        }
        Round {
            encapsulation: Encapsulation::Geneve,
            rows: Vec::new(),
            refused: BTreeSet::new(),
            captured,
        }
    }

    #[test]
    fn the_networks_own_headers_are_no_leak() {
        let mut round = round(&[(6081, Encapsulation::Geneve.vni(), 5)]);
        let chatter = Outer {
            family: Family::Ipv6,
            protocol: 58,
            port: None,
            vni: None,
        };
        round.captured.outer.insert(chatter, 9);
        assert_eq!(round.leaks(), [""; 0]);
    }

    #[test]
    fn another_vni_another_port_and_bare_packets_are() {
        assert_eq!(round(&[(6081, 1, 5)]).leaks().len(), 1);
        assert_eq!(round(&[(4789, Encapsulation::Geneve.vni(), 5)]).leaks().len(), 1);
        let mut bare = round(&[]);
        bare.captured
            .bare
            .insert(([10, 88, 0, 1].into(), [10, 88, 0, 2].into(), 6), 3);
        assert_eq!(
            bare.leaks(),
            ["3 overlay packets went bare: 10.88.0.1 → 10.88.0.2, tcp"]
        );
    }

    #[test]
    fn ipip_is_told_by_its_protocol() {
        let round = Round {
            encapsulation: Encapsulation::Ipip,
            ..round(&[])
        };
        let expected = |family, protocol| {
            round.is_expected(&Outer {
                family,
                protocol,
                port: None,
                vni: None,
            })
        };
        assert!(expected(Family::Ipv4, 4) && expected(Family::Ipv6, 4) && expected(Family::Ipv6, 41));
        assert!(!expected(Family::Ipv4, 41) && !expected(Family::Ipv4, 17));
    }

    #[test]
    fn outer_fragments_tell_of_a_wrong_mtu() {
        let mut round = round(&[]);
        round.captured.fragments = 2;
        assert!(round.leaks()[0].contains("too large"));
    }
}
