//! The flow hash: what it depends on, and how evenly it spreads the flows of real networks.

mod common;

use common::headers;
use dataplane_ebpf::flow::hash;
use dataplane_ebpf::packet::{Address, Family, Headers, Ports};

const FAMILIES: [Family; 2] = [Family::Ipv4, Family::Ipv6];

fn with_ports(headers: Headers, source: u16, destination: u16) -> Headers {
    Headers {
        ports: Some(Ports { source, destination }),
        ..headers
    }
}

#[test]
fn depends_on_the_flow_and_on_nothing_else() {
    for family in FAMILIES {
        let base = headers(family);
        let same = Headers {
            tos: 0,
            hop_limit: 1,
            length: 9,
            ..base
        };
        assert_eq!(hash(&base), hash(&same));
        let mut word = base.destination;
        word.0[0] ^= 1;
        let others = [
            with_ports(base, 4661, 22136),
            with_ports(base, 22136, 4660),
            Headers { protocol: 6, ..base },
            Headers { ports: None, ..base },
            Headers {
                destination: word,
                ..base
            },
            Headers { source: word, ..base },
            Headers {
                source: base.destination,
                destination: base.source,
                ..base
            },
        ];
        for other in others {
            assert_ne!(hash(&base), hash(&other), "{other:?}");
        }
    }
}

#[test]
fn every_word_of_an_ipv6_address_counts() {
    let base = headers(Family::Ipv6);
    for word in 0..4 {
        let (mut source, mut destination) = (base, base);
        source.source.0[word] ^= 1 << 16;
        destination.destination.0[word] ^= 1 << 16;
        assert_ne!(hash(&base), hash(&source));
        assert_ne!(hash(&base), hash(&destination));
    }
}

/// Series of packets that a single multiplication would spread badly: one field counts up, all others stay
/// the same.
fn series(family: Family, kind: usize, number: u16) -> Headers {
    let base = headers(family);
    let [high, low] = number.to_be_bytes();
    let address = |last: [u8; 2]| match family {
        Family::Ipv4 => Address::v4([10, 2, last[0], last[1]]),
        Family::Ipv6 => Address::v6([0xfd, 0, 0, 2, 0, 0, last[0], last[1], 0, 0, 0, 0, 0, 0, 0, 1]),
    };
    match kind {
        0 => with_ports(base, number, 443),
        1 => with_ports(base, 40000, number),
        2 => Headers {
            destination: address([high, low]),
            ..base
        },
        3 => Headers {
            source: address([high, low]),
            ports: None,
            ..base
        },
        // Swapped bytes, so that a high bit counts up.
        4 => Headers {
            destination: address([low, high]),
            ..base
        },
        _ => with_ports(base, number.rotate_left(8), 443),
    }
}

#[test]
fn spreads_evenly() {
    const BUCKETS: usize = 64;
    for family in FAMILIES {
        for kind in 0..6 {
            for shift in [0, 13, 26] {
                let mut counts = [0_u32; BUCKETS];
                for number in 0..32768 {
                    counts[(hash(&series(family, kind, number)) >> shift) as usize % BUCKETS] += 1;
                }
                // 512 each, with a standard deviation of 22.4 if it were random.
                let (least, most) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
                assert!(
                    *least > 410 && *most < 614,
                    "{family:?} {kind} >> {shift}: {least} to {most}"
                );
            }
        }
    }
}
