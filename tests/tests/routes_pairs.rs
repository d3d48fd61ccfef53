//! Each encapsulation over both families, between two nodes without BPF programs, and from a node with them to one without.

use adit_tests::pair::pair;
use dataplane_user::net::Family;
use dataplane_user::resource::Dataplane;

const BY_ROUTES: [Dataplane; 2] = [Dataplane::Routes; 2];
const MIXED: [Dataplane; 2] = [Dataplane::Ebpf, Dataplane::Routes];

#[test]
fn geneve_over_ipv4() {
    pair("geneve", Family::Ipv4, BY_ROUTES);
}

#[test]
fn geneve_over_ipv6() {
    pair("geneve", Family::Ipv6, BY_ROUTES);
}

#[test]
fn vxlan_over_ipv4() {
    pair("vxlan", Family::Ipv4, BY_ROUTES);
}

#[test]
fn vxlan_over_ipv6() {
    pair("vxlan", Family::Ipv6, BY_ROUTES);
}

#[test]
fn ipip_over_ipv4() {
    pair("ipip", Family::Ipv4, BY_ROUTES);
}

#[test]
fn ipip_over_ipv6() {
    pair("ipip", Family::Ipv6, BY_ROUTES);
}

#[test]
fn wireguard_over_ipv4() {
    pair("wireguard", Family::Ipv4, BY_ROUTES);
}

#[test]
fn wireguard_over_ipv6() {
    pair("wireguard", Family::Ipv6, BY_ROUTES);
}

#[test]
fn none_over_ipv4() {
    pair("none", Family::Ipv4, BY_ROUTES);
}

#[test]
fn none_over_ipv6() {
    pair("none", Family::Ipv6, BY_ROUTES);
}

#[test]
fn from_ebpf_to_routes_by_geneve_over_ipv4() {
    pair("geneve", Family::Ipv4, MIXED);
}

#[test]
fn from_ebpf_to_routes_by_geneve_over_ipv6() {
    pair("geneve", Family::Ipv6, MIXED);
}

#[test]
fn from_ebpf_to_routes_by_vxlan_over_ipv4() {
    pair("vxlan", Family::Ipv4, MIXED);
}

#[test]
fn from_ebpf_to_routes_by_vxlan_over_ipv6() {
    pair("vxlan", Family::Ipv6, MIXED);
}

#[test]
fn from_ebpf_to_routes_by_ipip_over_ipv4() {
    pair("ipip", Family::Ipv4, MIXED);
}

#[test]
fn from_ebpf_to_routes_by_ipip_over_ipv6() {
    pair("ipip", Family::Ipv6, MIXED);
}

#[test]
fn from_ebpf_to_routes_by_wireguard_over_ipv4() {
    pair("wireguard", Family::Ipv4, MIXED);
}

#[test]
fn from_ebpf_to_routes_by_wireguard_over_ipv6() {
    pair("wireguard", Family::Ipv6, MIXED);
}

#[test]
fn from_ebpf_to_routes_by_none_over_ipv4() {
    pair("none", Family::Ipv4, MIXED);
}

#[test]
fn from_ebpf_to_routes_by_none_over_ipv6() {
    pair("none", Family::Ipv6, MIXED);
}
