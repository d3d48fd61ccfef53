//! Routes on the router for links without encapsulation: there the underlay has to know the overlay's addresses.
use adit_tests::NetNs;

use super::links::Links;
use super::options::Encapsulation;
use super::topology::Topology;

/// While it lives, the router knows where the nodes' own addresses and prefixes are. After it, a packet that goes bare is
/// lost as well as seen.
pub(crate) struct Routes<'a> {
    router: &'a NetNs,
    routes: Vec<String>,
}

impl<'a> Routes<'a> {
    /// Puts those that the links need; usually none.
    pub(crate) fn put(router: &'a NetNs, topology: &Topology, links: &Links) -> Self {
        let routes = Self {
            router,
            routes: needed(topology, links),
        };
        routes.each("add");
        routes
    }

    /// Takes them away again.
    pub(crate) fn remove(self) {
        self.each("delete");
    }

    fn each(&self, what: &str) {
        let lines = self.routes.iter().map(|route| format!("route {what} {route}\n"));
        if !self.routes.is_empty() {
            self.router.ip_batch(&lines.collect::<String>());
        }
    }
}

fn needed(topology: &Topology, links: &Links) -> Vec<String> {
    let is_plain = |place: usize| {
        links
            .iter()
            .any(|((from, _), link)| from == place && link.encapsulation == Encapsulation::Plain)
    };
    let plain = topology
        .nodes
        .iter()
        .enumerate()
        .filter(|(place, _)| is_plain(*place));
    plain
        .flat_map(|(_, node)| node.overlay_routes(topology.underlay.families()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::options::Underlay;
    use super::super::wishes;
    use super::*;

    fn ways(underlay: Underlay, encapsulation: Encapsulation) -> Vec<String> {
        let topology = Topology::new(2, underlay);
        let wishes = wishes::uniform(&[encapsulation], 2).remove(0);
        needed(&topology, &Links::expected(&topology, &wishes))
    }

    #[test]
    fn only_links_without_encapsulation_need_routes() {
        assert_eq!(ways(Underlay::Dual, Encapsulation::Geneve), [""; 0]);
        assert_eq!(ways(Underlay::Dual, Encapsulation::Plain).len(), 4);
        let ipv4 = ways(Underlay::Ipv4, Encapsulation::Plain);
        let expected = ["10.1.0.0/16 via 192.0.2.18", "10.2.0.0/16 via 192.0.2.34"];
        assert_eq!(ipv4, expected);
    }

    #[test]
    fn ipv4_goes_to_neighbours_with_ipv6_addresses() {
        let all = ways(Underlay::Ipv6, Encapsulation::Plain);
        assert_eq!(all.len(), 4);
        assert_eq!(all[0], "10.1.0.0/16 via inet6 2001:db8:0:1::2 dev r1");
        assert_eq!(all[1], "fd00:1::/32 via 2001:db8:0:1::2");
    }
}
