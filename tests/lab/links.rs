//! The links between nodes: as they must be, compared with what the agents of both ends report.
use std::collections::BTreeMap;
use std::net::IpAddr;

use adit_tests::overlay::family_name;
use dataplane_user::net::Family;
use dataplane_user::status::{RefusedStatus, Status};

use super::options::Encapsulation;
use super::requested::Requested;
use super::topology::{ETHERNET, Topology};

/// A link from one node to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) encapsulation: Encapsulation,
    /// The underlay addresses of both ends.
    pub(crate) local: IpAddr,
    pub(crate) remote: IpAddr,
}

impl Link {
    /// The family of the outer packets.
    pub(crate) fn underlay(self) -> Family {
        Family::of(self.local)
    }

    /// The largest packet in bytes that fits.
    fn mtu(self) -> u32 {
        ETHERNET - self.encapsulation.overhead(self.underlay())
    }

    pub(crate) fn carries(self, inner: Family) -> bool {
        self.encapsulation.carries(inner, self.underlay())
    }
}

/// All links of a round, by the indexes of both ends in the topology.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Links {
    by_nodes: BTreeMap<(usize, usize), Link>,
}

impl Links {
    /// The links that the manifests must lead to.
    pub(crate) fn expected(topology: &Topology, requested: &Requested) -> Self {
        let count = topology.nodes.len();
        let ends = (0..count).flat_map(|from| (0..count).map(move |to| (from, to)));
        let link = |(from, to): (usize, usize)| {
            let family = topology.common_family(from, to)?;
            let [local, remote] = [from, to].map(|end| topology.nodes[end].underlay(family));
            let encapsulation = requested.agreed([from, to]);
            let link = Link {
                encapsulation,
                local,
                remote,
            };
            (from != to).then_some(((from, to), link))
        };
        Self {
            by_nodes: ends.filter_map(link).collect(),
        }
    }

    pub(crate) fn get(&self, from: usize, to: usize) -> Option<Link> {
        self.by_nodes.get(&(from, to)).copied()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = ((usize, usize), Link)> {
        self.by_nodes.iter().map(|(ends, link)| (*ends, *link))
    }

    /// The link between two underlay addresses.
    pub(crate) fn between(&self, source: IpAddr, destination: IpAddr) -> Option<Link> {
        let mut links = self.by_nodes.values();
        links
            .find(|link| (link.local, link.remote) == (source, destination))
            .copied()
    }

    /// The differences between these links and the status of the agents, in sentences. Both ends are checked separately,
    /// so that disagreements are found.
    pub(crate) fn contradictions(
        &self,
        topology: &Topology,
        statuses: &BTreeMap<String, Status>,
    ) -> Vec<String> {
        let mut found = Vec::new();
        for (&(from, to), link) in &self.by_nodes {
            let [from, to] = [from, to].map(|end| topology.nodes[end].name);
            let peers = statuses
                .get(from)
                .map_or(&[][..], |status| status.peers.as_slice());
            let Some(peer) = peers.iter().find(|peer| peer.node.as_str() == to) else {
                found.push(format!("{from} reports no peer {to}"));
                continue;
            };
            if peer.mtu != link.mtu() {
                let (said, mtu) = (peer.mtu, link.mtu());
                found.push(format!("{from} reports MTU {said} for {to} instead of {mtu}"));
            }
            let name = link.encapsulation.name();
            if peer.encapsulation.name() != name {
                let said = peer.encapsulation.name();
                found.push(format!("{from} reports {said} for {to} instead of {name}"));
            }
            let (local, remote) = (link.local, link.remote);
            if (peer.local, peer.remote) != (Some(local), Some(remote)) {
                found.push(format!(
                    "{from} reports the underlay addresses {:?} and {:?} for {to} instead of {local} and {remote}",
                    peer.local, peer.remote
                ));
            }
        }
        found
    }

    /// Refusals of families that the link can transport, in sentences.
    pub(crate) fn unexpected(&self, topology: &Topology, refused: &[RefusedStatus]) -> Vec<String> {
        let position = |name: &str| topology.nodes.iter().position(|node| node.name == name);
        let is_expected = |one: &&RefusedStatus| {
            let link = position(&one.from)
                .zip(position(&one.to))
                .and_then(|(from, to)| self.get(from, to));
            let family = Family::BOTH
                .into_iter()
                .find(|family| family_name(*family) == one.family);
            link.zip(family)
                .is_some_and(|(link, family)| !link.carries(family))
        };
        let unexpected = refused.iter().filter(|one| !is_expected(one));
        unexpected
            .map(|one| {
                let RefusedStatus {
                    from,
                    to,
                    family,
                    reason,
                } = one;
                format!("{from} → {to}, {family}: refused, although the link can transport it: {reason}")
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use dataplane_user::status::PeerStatus;
    use serde_json::json;

    use super::super::options::Underlay;
    use super::super::requested;
    use super::*;

    fn dual(encapsulation: Encapsulation) -> (Topology, Links) {
        let topology = Topology::new(3, Underlay::Dual);
        let requested = requested::uniform(&[encapsulation], 3).remove(0);
        let links = Links::expected(&topology, &requested);
        (topology, links)
    }

    #[test]
    fn links_use_the_family_that_both_ends_have() {
        let (_, links) = dual(Encapsulation::Ipip);
        assert_eq!(links.iter().count(), 6);
        let families = [(0, 1), (0, 2), (2, 1)].map(|(from, to)| links.get(from, to).unwrap().underlay());
        assert_eq!(families, [Family::Ipv4, Family::Ipv6, Family::Ipv6]);
        let link = links.get(0, 1).unwrap();
        assert_eq!(links.between(link.local, link.remote), Some(link));
        assert_eq!(links.between(link.local, link.local), None);
    }

    #[test]
    fn both_ends_are_checked_separately() {
        let (topology, links) = dual(Encapsulation::Geneve);
        let status = |from: usize| {
            let peers = links.iter().filter(|((end, _), _)| *end == from);
            let peer = |((_, to), link): ((usize, usize), Link)| -> PeerStatus {
                let peer = json!({
                    "node": topology.nodes[to].name,
                    "network": "net",
                    "encapsulation": link.encapsulation.name(),
                    "local": link.local,
                    "remote": link.remote,
                    "mtu": link.mtu(),
                });
                serde_json::from_value(peer).unwrap()
            };
            Status {
                peers: peers.map(peer).collect(),
                ..Status::default()
            }
        };
        let names = topology.nodes.iter().map(|node| node.name.to_owned());
        let mut statuses: BTreeMap<String, Status> = names.zip([0, 1, 2].map(status)).collect();
        assert_eq!(links.contradictions(&topology, &statuses), [""; 0]);

        statuses.get_mut("b").unwrap().peers[0].encapsulation = dataplane_user::net::Encapsulation::Vxlan;
        statuses.get_mut("b").unwrap().peers[1].mtu = 1450;
        statuses.get_mut("c").unwrap().peers.clear();
        let expected = [
            "b reports vxlan for a instead of geneve",
            "b reports MTU 1450 for c instead of 1430",
            "c reports no peer a",
            "c reports no peer b",
        ];
        assert_eq!(links.contradictions(&topology, &statuses), expected);
    }

    #[test]
    fn only_families_that_a_link_cannot_transport_may_be_refused() {
        let (topology, links) = dual(Encapsulation::Ipip);
        let refused = |to: &str, family: &str| {
            let one = RefusedStatus {
                from: "a".into(),
                to: to.into(),
                family: family.into(),
                reason: "no".into(),
            };
            links.unexpected(&topology, &[one]).len()
        };
        assert_eq!(
            [refused("b", "ipv6"), refused("b", "ipv4"), refused("c", "ipv6")],
            [0, 1, 1]
        );
    }
}
