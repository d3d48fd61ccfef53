//! Values for maps, functions that write and read them, and functions that damage them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aya::maps::{Array, MapData};
use dataplane_ebpf::layout::ABI_VERSION;
use dataplane_user::kernel::bpf::{Bpf, BpfOptions};
use dataplane_user::model::change::{
    BpfChange, ClassChange, Existence, GroupChange, NextHopChange, NextHopOperation, PrefixChange,
    SourceChange, Write,
};
use dataplane_user::model::{
    Class, Group, KernelState, NextHop, NodeLabel, PrefixTarget, Source, TunnelKind, UnderlayDevice,
};
use dataplane_user::net::{LinkName, MacAddr};
use ipnet::IpNet;

/// Simulated devices.
pub(crate) fn links() -> BTreeMap<LinkName, u32> {
    [
        ("adit-geneve", 1000),
        ("adit-vxlan", 1001),
        ("adit-ipip", 1002),
        ("adit-ip6tnl", 1003),
        ("eth0", 1004),
    ]
    .map(|(name, index)| (LinkName::constant(name), index))
    .into()
}

/// Opens the adapter with the defaults.
pub(crate) fn open(bpffs: &Path) -> Bpf {
    Bpf::open(&BpfOptions::new(bpffs)).unwrap()
}

/// The content of the maps.
pub(crate) fn observe(bpf: &mut Bpf) -> KernelState {
    let mut state = KernelState::default();
    bpf.observe(&links(), &mut state).unwrap();
    state
}

/// Executes changes and asserts that all succeed.
pub(crate) fn execute(bpf: &mut Bpf, changes: &[BpfChange]) {
    for (change, result) in changes.iter().zip(bpf.execute(&links(), changes)) {
        result.unwrap_or_else(|error| panic!("{change}: {error}"));
    }
}

/// The changes of maps in a diff, writes first.
pub(crate) fn difference(from: &KernelState, to: &KernelState) -> Vec<BpfChange> {
    let mut changes: Vec<BpfChange> = Vec::new();
    for (class, link) in &to.classes {
        if from.classes.get(class) != Some(link) {
            changes.push(ClassChange(*class, Write::Put(link.clone().unwrap())).into());
        }
    }
    changes.extend(
        to.next_hops
            .difference(&from.next_hops)
            .cloned()
            .map(|object| BpfChange::NextHop(NextHopChange(object, NextHopOperation::Put))),
    );
    changes.extend(
        to.groups
            .difference(&from.groups)
            .cloned()
            .map(|object| BpfChange::Group(GroupChange(object, Existence::Create))),
    );
    for (prefix, target) in &to.prefixes {
        if from.prefixes.get(prefix) != Some(target) {
            changes.push(PrefixChange(*prefix, Write::Put(target.clone())).into());
        }
    }
    let gone = from
        .prefixes
        .keys()
        .filter(|prefix| !to.prefixes.contains_key(prefix));
    changes.extend(
        gone.copied()
            .map(|object| BpfChange::Prefix(PrefixChange(object, Write::Delete))),
    );
    changes.extend(
        from.groups
            .difference(&to.groups)
            .cloned()
            .map(|object| BpfChange::Group(GroupChange(object, Existence::Delete))),
    );
    changes.extend(
        from.next_hops
            .difference(&to.next_hops)
            .cloned()
            .map(|object| BpfChange::NextHop(NextHopChange(object, NextHopOperation::Delete))),
    );
    let gone = from
        .classes
        .keys()
        .filter(|class| !to.classes.contains_key(class));
    changes.extend(
        gone.copied()
            .map(|object| BpfChange::Class(ClassChange(object, Write::Delete))),
    );
    changes.extend(
        to.sources
            .difference(&from.sources)
            .copied()
            .map(|object| BpfChange::Source(SourceChange(object, Existence::Create))),
    );
    changes.extend(
        from.sources
            .difference(&to.sources)
            .copied()
            .map(|object| BpfChange::Source(SourceChange(object, Existence::Delete))),
    );
    changes
}

/// A class on a link of [`links`], by VNI; every fifth has no encapsulation but a device.
pub(crate) fn class(vni: u32) -> Class {
    if vni % 5 == 4 {
        let device = LinkName::new(&format!("eth{vni}")).unwrap();
        return Class::bare(UnderlayDevice::of(&device));
    }
    let carriers = [
        TunnelKind::Ipip,
        TunnelKind::Vxlan,
        TunnelKind::Geneve,
        TunnelKind::Ip6tnl,
    ];
    Class {
        tunnel: carriers[vni as usize % carriers.len()],
        unit: 0,
        vni,
        source_mac: Some(MacAddr([2, 0, 0, 0, 0, 1])),
        ttl: 64,
        dscp: vni.is_multiple_of(3).then_some(46),
        dont_fragment: vni.is_multiple_of(5),
        zero_checksum: vni.is_multiple_of(7),
        underlay: None,
    }
}

/// The link of [`class`].
pub(crate) fn link_of(class: &Class) -> LinkName {
    match class.tunnel {
        TunnelKind::None => LinkName::constant("eth0"),
        tunnel => LinkName::new(&format!("adit-{tunnel}")).unwrap(),
    }
}

/// The next hop with this number, over IPv6 if it is odd; without encapsulation by one of three gateways.
pub(crate) fn next_hop(number: u8, class: Class) -> Arc<NextHop> {
    let gateways = ["192.0.2.253", "2001:db8::fd", "fe80::fd"];
    let (remote, local) = if number.is_multiple_of(2) {
        (format!("192.0.2.{number}"), "192.0.2.254".to_owned())
    } else {
        (format!("2001:db8::{number}"), "2001:db8::ffff".to_owned())
    };
    Arc::new(NextHop {
        node: NodeLabel::from_text(&format!("node-{number}")),
        remote: remote.parse().unwrap(),
        local: local.parse().unwrap(),
        destination_mac: Some(MacAddr([2, 0, 0, 0, 1, number])),
        gateway: (class.tunnel == TunnelKind::None)
            .then(|| gateways[usize::from(number % 3)].parse().unwrap()),
        class,
    })
}

/// The source with this number: of any encapsulation with sources, over any family that it supports.
pub(crate) fn source(number: u8) -> Source {
    let v4 = IpAddr::from([192, 0, 2, number]);
    let v6 = IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, u16::from(number)]);
    let (address, tunnel) = match number % 6 {
        0 => (v4, TunnelKind::Geneve),
        1 => (v6, TunnelKind::Geneve),
        2 => (v4, TunnelKind::Vxlan),
        3 => (v6, TunnelKind::Vxlan),
        4 => (v4, TunnelKind::Ipip),
        _ => (v6, TunnelKind::Ip6tnl),
    };
    let vni = if tunnel.carries_ethernet() {
        u32::from(number % 4)
    } else {
        0
    };
    Source { address, tunnel, vni }
}

/// A state with one class, two next hops, a group of both, and one prefix per family.
pub(crate) fn small_state() -> KernelState {
    let hops = [1, 2].map(|number| next_hop(number, class(6)));
    let group = Arc::new(Group {
        members: vec![(Arc::clone(&hops[1]), 3), (Arc::clone(&hops[0]), 1)],
    });
    KernelState {
        classes: BTreeMap::from([(class(6), Some(link_of(&class(6))))]),
        next_hops: BTreeSet::from(hops.clone()),
        groups: BTreeSet::from([Arc::clone(&group)]),
        prefixes: BTreeMap::from([
            (prefix("10.1.0.0/16"), PrefixTarget::NextHop(Arc::clone(&hops[0]))),
            (prefix("10.2.0.0/16"), PrefixTarget::Local),
            (prefix("fd00:1::/64"), PrefixTarget::Group(group)),
        ]),
        ..KernelState::default()
    }
}

pub(crate) fn prefix(text: &str) -> IpNet {
    text.parse().unwrap()
}

/// Where the maps are pinned.
pub(crate) fn maps(bpffs: &Path) -> PathBuf {
    bpffs.join(format!("v{ABI_VERSION}/maps"))
}

/// Writes bytes into a pinned array without the adapter.
pub(crate) fn scribble<const N: usize>(bpffs: &Path, map: &str, slot: u32, value: [u8; N]) {
    let data = MapData::from_pin(maps(bpffs).join(map)).unwrap();
    let mut array = Array::<_, [u8; N]>::try_from(aya::maps::Map::Array(data)).unwrap();
    array.set(slot, value, 0).unwrap();
}
