//! What others change of ours is put back by the next pass.

use adit_tests::agent::start_all;
use adit_tests::{Agent, Overlay, Topology, require_module, traffic};
use aya::maps::lpm_trie::Key;
use aya::maps::{LpmTrie, Map, MapData};
use dataplane_ebpf::layout::{ABI_VERSION, names};
use dataplane_user::net::Family;

#[test]
fn drift_is_mended() {
    if !require_module("dummy") || !require_module("geneve") {
        return;
    }
    let topology = Topology::new(2);
    let agents = start_all(&topology, &Overlay::new(&topology, "geneve").manifests(&topology));
    let [a, b] = &topology.hosts[..] else {
        unreachable!("there are two");
    };
    let agent = &agents[0];
    let mended = |what: &str| {
        agent.wait(&format!("mended: {what}"), |_| agent.plan(&[]).code == 0);
        for family in Family::BOTH {
            traffic::udp(a.pod_end(), b.pod_end(), family, 100).unwrap();
        }
    };
    for damage in [
        "route delete 10.0.0.0/8 metric 173",
        "-6 route delete unreachable fd00::/16 metric 1000000",
        "address delete 10.1.0.1/32 dev adit0",
        "address delete fd00:1::1/128 dev adit0",
        "link set adit-geneve down",
    ] {
        a.netns.ip(damage);
        mended(damage);
    }
    a.netns.sysctl("net/ipv4/conf/adit-geneve/rp_filter", "1");
    mended("rp_filter");
    delete_pods_prefix(agent);
    mended("a prefix in the map");
}

/// Deletes 10.2.1.0/24 from the pinned map.
fn delete_pods_prefix(agent: &Agent<'_>) {
    let pin = agent
        .pins()
        .join(format!("v{ABI_VERSION}"))
        .join("maps")
        .join(names::PREFIXES_V4);
    let map = Map::LpmTrie(MapData::from_pin(pin).unwrap());
    let mut prefixes = LpmTrie::<_, [u8; 4], u32>::try_from(map).unwrap();
    prefixes.remove(&Key::new(24, [10, 2, 1, 0])).unwrap();
}
