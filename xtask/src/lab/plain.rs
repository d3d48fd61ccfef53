//! Routes on the router for links without encapsulation: there the underlay has to know the overlay's addresses.
use std::fmt::Write as _;

use anyhow::Result;

use super::encapsulation::Encapsulation;
use super::family::Family;
use super::links::Links;
use super::netns::NetNs;
use super::topology::Topology;

/// While it lives, the router knows where the nodes' own addresses and prefixes are. After it, a packet that goes bare is
/// lost as well as seen.
pub(super) struct Routes<'a> {
    router: &'a NetNs,
    routes: Vec<Route>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Route {
    prefix: String,
    /// `ip route`'s words for where it leads.
    way: String,
}

impl<'a> Routes<'a> {
    /// Puts those that the links need; usually none.
    pub(super) fn put(router: &'a NetNs, topology: &Topology, links: &Links) -> Result<Self> {
        let routes = needed(topology, links);
        let mut lines = String::new();
        for Route { prefix, way } in &routes {
            let _ = writeln!(lines, "route add {prefix} {way}");
        }
        if !routes.is_empty() {
            router.ip(&lines)?;
        }
        Ok(Self { router, routes })
    }

    /// Takes them away again.
    pub(super) fn remove(self) -> Result<()> {
        let mut lines = String::new();
        for Route { prefix, way } in &self.routes {
            let _ = writeln!(lines, "route delete {prefix} {way}");
        }
        if self.routes.is_empty() {
            return Ok(());
        }
        self.router.ip(&lines)
    }
}

fn needed(topology: &Topology, links: &Links) -> Vec<Route> {
    let mut routes = Vec::new();
    for (place, node) in topology.nodes.iter().enumerate() {
        let is_plain = links
            .iter()
            .any(|((from, _), link)| from == place && link.encapsulation == Encapsulation::Plain);
        if !is_plain {
            continue;
        }
        for family in Family::BOTH {
            // IPv4 can go to an IPv6 neighbour (RFC 5549's case), IPv6 not to an IPv4 one.
            let Some(by) = [family, Family::Ipv6]
                .into_iter()
                .find(|by| topology.underlay.has(*by))
            else {
                continue;
            };
            let inet6 = if by == family { "" } else { "inet6 " };
            let way = format!("via {inet6}{} dev to-{}", node.underlay(by), node.name);
            for prefix in [node.overlay(family).to_string(), node.pods(family)] {
                routes.push(Route {
                    prefix,
                    way: way.clone(),
                });
            }
        }
    }
    routes
}

#[cfg(test)]
mod tests {
    use super::super::topology::Underlay;
    use super::super::wishes;
    use super::*;

    fn ways(underlay: Underlay, encapsulation: Encapsulation) -> Vec<String> {
        let topology = Topology::new(2, underlay);
        let wishes = wishes::uniform(&[encapsulation], 2).remove(0);
        let routes = needed(&topology, &Links::expected(&topology, &wishes));
        let line = |route: Route| format!("{} {}", route.prefix, route.way);
        routes.into_iter().map(line).collect()
    }

    #[test]
    fn only_links_without_encapsulation_need_routes() {
        assert_eq!(ways(Underlay::Dual, Encapsulation::Geneve), [""; 0]);
        assert_eq!(ways(Underlay::Dual, Encapsulation::Plain).len(), 8);
        let ipv4 = ways(Underlay::Ipv4, Encapsulation::Plain);
        assert_eq!(ipv4.len(), 4);
        assert_eq!(ipv4[0], "10.88.0.1 via 198.18.1.2 dev to-a");
    }

    #[test]
    fn ipv4_goes_to_neighbours_with_ipv6_addresses() {
        let all = ways(Underlay::Ipv6, Encapsulation::Plain);
        assert_eq!(all.len(), 8);
        assert_eq!(all[1], "10.88.1.0/24 via inet6 2001:db8:0:1::2 dev to-a");
        assert_eq!(all[3], "fd88:0:0:1::/64 via 2001:db8:0:1::2 dev to-a");
    }
}
