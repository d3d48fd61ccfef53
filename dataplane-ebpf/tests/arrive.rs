//! Packets that arrive through a tunnel: each verdict, and the source for which each packet is counted.

use std::cell::RefCell;
use std::collections::BTreeMap;

mod common;

use bytemuck::AnyBitPattern;
use common::{frame_v4, frame_v6};
use dataplane_ebpf::arrive::{Arriving, Outer, Sources, arrive};
use dataplane_ebpf::layout::{Class, Counters, SourceKey};
use dataplane_ebpf::packet::{Address, Family, Packet};
use dataplane_ebpf::verdict::IngressVerdict;

const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
const V4: [u8; 4] = [192, 0, 2, 1];
const V6: [u8; 16] = [0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];

/// A received packet with the metadata of the kernel.
struct Arrived<'a> {
    bytes: &'a [u8],
    protocol: u16,
    outer: Option<(Family, Outer)>,
}

impl Packet for Arrived<'_> {
    fn length(&self) -> u32 {
        self.bytes.length()
    }

    fn fixed<T: AnyBitPattern>(&self, offset: usize) -> Option<T> {
        self.bytes.fixed(offset)
    }

    fn at<T: AnyBitPattern>(&self, offset: usize) -> Option<T> {
        self.bytes.at(offset)
    }
}

impl Arriving for Arrived<'_> {
    fn protocol(&self) -> u16 {
        self.protocol
    }

    fn outer(&self, family: Family) -> Option<Outer> {
        let (known, outer) = self.outer?;
        (known == family).then_some(outer)
    }
}

/// The known sources.
#[derive(Default)]
struct Table(RefCell<BTreeMap<SourceKey, Counters>>);

impl Table {
    fn of(keys: &[SourceKey]) -> Table {
        let entry = |key: &SourceKey| (*key, Counters::default());
        Table(RefCell::new(keys.iter().map(entry).collect()))
    }
}

impl Sources for Table {
    fn count(&self, key: &SourceKey, length: u32) -> bool {
        let mut table = self.0.borrow_mut();
        let Some(counters) = table.get_mut(key) else {
            return false;
        };
        counters.packets += 1;
        counters.bytes += u64::from(length);
        true
    }
}

fn from_v4(vni: u32) -> Option<(Family, Outer)> {
    let source = Address::v4(V4);
    Some((Family::Ipv4, Outer { source, vni }))
}

fn from_v6(vni: u32) -> Option<(Family, Outer)> {
    let source = Address::v6(V6);
    Some((Family::Ipv6, Outer { source, vni }))
}

fn key_v4(encapsulation: u8, vni: u32) -> SourceKey {
    let mut address = [0; 16];
    address[..4].copy_from_slice(&V4);
    SourceKey {
        address,
        vni,
        encapsulation,
        version: 4,
        reserved: [0; 2],
    }
}

fn key_v6(encapsulation: u8, vni: u32) -> SourceKey {
    SourceKey {
        address: V6,
        version: 6,
        ..key_v4(encapsulation, vni)
    }
}

#[test]
fn a_known_source_counts_its_packets() {
    let (v4, v6) = (frame_v4(&[], 0, 17, &[0; 8]), frame_v6(17, &[0; 8]));
    for encapsulation in [Class::GENEVE, Class::VXLAN, Class::IPIP, Class::IP6TNL] {
        let ethernet = [Class::GENEVE, Class::VXLAN].contains(&encapsulation);
        let (vni, start) = if ethernet { (7, 0) } else { (0, 14) };
        let outers = [
            (encapsulation != Class::IP6TNL).then(|| (from_v4(vni), key_v4(encapsulation, vni))),
            (encapsulation != Class::IPIP).then(|| (from_v6(vni), key_v6(encapsulation, vni))),
        ];
        for (outer, key) in outers.into_iter().flatten() {
            let table = Table::of(&[key]);
            for (bytes, protocol, accepted, length) in [
                (&v4, IPV4, IngressVerdict::AcceptedIpv4, 28),
                (&v6, IPV6, IngressVerdict::AcceptedIpv6, 48),
            ] {
                let packet = Arrived {
                    bytes: &bytes[start..],
                    protocol,
                    outer,
                };
                assert_eq!(arrive(&packet, encapsulation, &table), (accepted, length));
            }
            let counted = Counters {
                packets: 2,
                bytes: 28 + 48,
            };
            assert_eq!(table.0.into_inner(), BTreeMap::from([(key, counted)]));
        }
    }
}

#[test]
fn who_is_known_elsewhere_is_not_known_here() {
    let bytes = frame_v4(&[], 0, 17, &[0; 8]);
    let mut longer = key_v4(Class::GENEVE, 7);
    longer.address[15] = 1;
    let table = Table::of(&[
        key_v4(Class::GENEVE, 8),
        key_v4(Class::VXLAN, 7),
        key_v6(Class::GENEVE, 7),
        SourceKey {
            version: 6,
            ..key_v4(Class::GENEVE, 7)
        },
        longer,
    ]);
    let packet = Arrived {
        bytes: &bytes,
        protocol: IPV4,
        outer: from_v4(7),
    };
    let unknown = (IngressVerdict::UnknownSource, 28);
    assert_eq!(arrive(&packet, Class::GENEVE, &table), unknown);
    let counted = table.0.into_inner();
    assert!(
        counted
            .into_values()
            .all(|counters| counters == Counters::default())
    );
}

#[test]
fn only_packets_of_tunnels_are_counted() {
    let bytes = frame_v4(&[], 0, 17, &[0; 8]);
    let table = Table::of(&[key_v4(Class::IPIP, 0), key_v6(Class::IP6TNL, 0)]);
    let whole = u32::try_from(bytes.len()).unwrap();
    for (protocol, outer, encapsulation, expected) in [
        (0x0806, from_v4(0), Class::IPIP, (IngressVerdict::NotIp, whole)),
        (IPV6, from_v4(0), Class::IPIP, (IngressVerdict::BadHeader, whole)),
        (IPV4, None, Class::IPIP, (IngressVerdict::NoTunnelKey, 28)),
        // Devices with only one outer family.
        (IPV4, from_v6(0), Class::IPIP, (IngressVerdict::NoTunnelKey, 28)),
        (IPV4, from_v4(0), Class::IP6TNL, (IngressVerdict::NoTunnelKey, 28)),
    ] {
        let packet = Arrived {
            bytes: &bytes,
            protocol,
            outer,
        };
        assert_eq!(arrive(&packet, encapsulation, &table), expected, "{protocol:#x}");
    }
    let short = Arrived {
        bytes: &bytes[..14],
        protocol: IPV4,
        outer: from_v4(0),
    };
    assert_eq!(arrive(&short, Class::IPIP, &table).0, IngressVerdict::BadHeader);
    let counted = table.0.into_inner();
    assert!(
        counted
            .into_values()
            .all(|counters| counters == Counters::default())
    );
}
