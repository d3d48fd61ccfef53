//! Routes on the router for links without encapsulation, because there the underlay must route overlay addresses.
use adit_tests::NetNs;

use super::links::Links;
use super::options::Encapsulation;
use super::topology::Topology;

/// The routes of the router to the addresses and prefixes of the nodes. Without them, the router drops packets that are
/// not encapsulated, after the capture has seen them.
pub(crate) struct Routes<'a> {
    router: &'a NetNs,
    routes: Vec<String>,
}

impl<'a> Routes<'a> {
    /// Adds the routes that the links need; usually none.
    pub(crate) fn put(router: &'a NetNs, topology: &Topology, links: &Links) -> Self {
        let routes = Self {
            router,
            routes: needed(topology, links),
        };
        routes.each("add");
        routes
    }

    /// Removes the routes.
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
    let is_plain = |index: usize| {
        links
            .iter()
            .any(|((from, _), link)| from == index && link.encapsulation == Encapsulation::Plain)
    };
    let plain = topology
        .nodes
        .iter()
        .enumerate()
        .filter(|(index, _)| is_plain(*index));
    plain
        .flat_map(|(_, node)| node.overlay_routes(topology.underlay.families()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::options::Underlay;
    use super::super::requested;
    use super::*;

    fn needed_routes(underlay: Underlay, encapsulation: Encapsulation) -> Vec<String> {
        let topology = Topology::new(2, underlay);
        let requested = requested::uniform(&[encapsulation], 2).remove(0);
        needed(&topology, &Links::expected(&topology, &requested))
    }

    #[test]
    fn only_links_without_encapsulation_need_routes() {
        assert_eq!(needed_routes(Underlay::Dual, Encapsulation::Geneve), [""; 0]);
        assert_eq!(needed_routes(Underlay::Dual, Encapsulation::Plain).len(), 4);
        let ipv4 = needed_routes(Underlay::Ipv4, Encapsulation::Plain);
        let expected = ["10.1.0.0/16 via 192.0.2.18", "10.2.0.0/16 via 192.0.2.34"];
        assert_eq!(ipv4, expected);
    }

    #[test]
    fn ipv4_routes_have_ipv6_gateways_on_an_ipv6_underlay() {
        let all = needed_routes(Underlay::Ipv6, Encapsulation::Plain);
        assert_eq!(all.len(), 4);
        assert_eq!(all[0], "10.1.0.0/16 via inet6 2001:db8:0:1::2 dev r1");
        assert_eq!(all[1], "fd00:1::/32 via 2001:db8:0:1::2");
    }
}
