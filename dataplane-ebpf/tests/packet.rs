//! The header walk on constructed packets, on packets truncated at every length, and on noise.

mod common;

use common::{PORTS, V4_DESTINATION, V4_SOURCE, V6_DESTINATION, V6_SOURCE, frame_v4, frame_v6};
use dataplane_ebpf::packet::{Address, Family, Headers, Ports, parse_ethernet, parse_ip};
use dataplane_ebpf::verdict::Verdict;
use proptest::prelude::*;

const UDP: u8 = 17;
const FOUND: Option<Ports> = Some(Ports {
    source: 0x1234,
    destination: 0x5678,
});

fn parsed(frame: &[u8]) -> Headers {
    parse_ethernet(frame).expect("a good frame")
}

/// An extension header of eight bytes.
fn extension(next_header: u8) -> [u8; 8] {
    [next_header, 0, 1, 4, 0, 0, 0, 0]
}

fn fragment_header(next_header: u8, offset_and_more: u16) -> [u8; 8] {
    let [high, low] = offset_and_more.to_be_bytes();
    [next_header, 0, high, low, 0, 0, 0, 7]
}

#[test]
fn ipv4() {
    let headers = parsed(&frame_v4(&[], 0x4000, UDP, &[&PORTS[..], &[0; 8]].concat()));
    let expected = Headers {
        family: Family::Ipv4,
        source: Address::v4(V4_SOURCE),
        destination: Address::v4(V4_DESTINATION),
        protocol: UDP,
        tos: 0xb9,
        hop_limit: 63,
        ports: FOUND,
        length: 32,
    };
    assert_eq!(headers, expected);
    assert_eq!(headers.destination.bytes_v4(), V4_DESTINATION);
}

#[test]
fn ipv6() {
    let headers = parsed(&frame_v6(6, &PORTS));
    let expected = Headers {
        family: Family::Ipv6,
        source: Address::v6(V6_SOURCE),
        destination: Address::v6(V6_DESTINATION),
        protocol: 6,
        tos: 0xb9,
        hop_limit: 62,
        ports: FOUND,
        length: 44,
    };
    assert_eq!(headers, expected);
    assert_eq!(headers.source.bytes(), V6_SOURCE);
}

#[test]
fn without_ethernet() {
    let frame = frame_v6(UDP, &PORTS);
    assert_eq!(
        parse_ip(&frame[14..], 0, Family::Ipv6),
        parse_ethernet(&frame[..])
    );
}

#[test]
fn ports_by_protocol() {
    for protocol in 0..=255 {
        let expected = if [6, 17, 33, 132, 136].contains(&protocol) {
            FOUND
        } else {
            None
        };
        assert_eq!(
            parsed(&frame_v4(&[], 0, protocol, &PORTS)).ports,
            expected,
            "{protocol}"
        );
    }
}

#[test]
fn ipv4_options() {
    for words in 1..=10 {
        let options = vec![1; words * 4];
        assert_eq!(
            parsed(&frame_v4(&options, 0, UDP, &PORTS)).ports,
            FOUND,
            "{words} words"
        );
    }
}

#[test]
fn ipv4_fragments() {
    for (fragment, ports) in [
        (0x4000, FOUND),
        (0x2000, None),
        (0x2001, None),
        (0x0001, None),
        (0x1fff, None),
    ] {
        let headers = parsed(&frame_v4(&[], fragment, UDP, &PORTS));
        assert_eq!((headers.protocol, headers.ports), (UDP, ports), "{fragment:#x}");
    }
}

#[test]
fn ipv6_extensions() {
    for kind in [0, 43, 60, 135, 139, 140] {
        let headers = parsed(&frame_v6(kind, &[&extension(UDP)[..], &PORTS].concat()));
        assert_eq!((headers.protocol, headers.ports), (UDP, FOUND), "{kind}");
    }
    // Three units more, then an authentication header of 24 bytes: (4 + 2) words.
    let mut long = vec![51, 3];
    long.resize(32, 0);
    let mut authentication = vec![UDP, 4];
    authentication.resize(24, 0);
    let headers = parsed(&frame_v6(60, &[&long, &authentication, &PORTS[..]].concat()));
    assert_eq!((headers.protocol, headers.ports), (UDP, FOUND));
}

#[test]
fn ipv6_extensions_are_bounded() {
    for (count, ports) in [(1, FOUND), (6, FOUND), (7, None), (100, None)] {
        let mut payload = Vec::new();
        for number in 1..=count {
            payload.extend(extension(if number == count { UDP } else { 60 }));
        }
        payload.extend(PORTS);
        assert_eq!(parsed(&frame_v6(60, &payload)).ports, ports, "{count} headers");
    }
}

#[test]
fn ipv6_fragments() {
    // First, middle and last fragment; an atomic fragment is whole; the reserved bits don't count.
    for (field, ports) in [(1, None), (0x0101, None), (0x0100, None), (0, FOUND), (6, FOUND)] {
        let payload = [&fragment_header(UDP, field)[..], &PORTS].concat();
        let headers = parsed(&frame_v6(44, &payload));
        assert_eq!((headers.protocol, headers.ports), (UDP, ports), "{field:#x}");
        let behind_another = parsed(&frame_v6(0, &[&extension(44)[..], &payload].concat()));
        assert_eq!(
            (behind_another.protocol, behind_another.ports),
            (UDP, ports),
            "{field:#x}"
        );
    }
    // The protocol in the fragment header is the same in all fragments; only the first one contains what
    // follows it.
    let first = parsed(&frame_v6(
        44,
        &[&fragment_header(60, 1)[..], &extension(UDP), &PORTS].concat(),
    ));
    assert_eq!((first.protocol, first.ports), (60, None));
}

#[test]
fn refused() {
    let good = frame_v4(&[], 0, UDP, &PORTS);
    for (offset, byte, verdict) in [
        (12, 0x81, Verdict::NotIp),
        (14, 0x65, Verdict::BadHeader),
        (14, 0x44, Verdict::BadHeader),
        (14, 0x40, Verdict::BadHeader),
    ] {
        let mut frame = good.clone();
        frame[offset] = byte;
        assert_eq!(parse_ethernet(&frame[..]), Err(verdict), "{byte:#x}");
    }
    let mut frame = frame_v6(UDP, &PORTS);
    frame[14] = 0x45;
    assert_eq!(parse_ethernet(&frame[..]), Err(Verdict::BadHeader));
}

#[test]
fn cut_off_anywhere() {
    let extensions = [
        &extension(44)[..],
        &fragment_header(60, 0),
        &extension(UDP),
        &PORTS,
    ]
    .concat();
    for (frame, header) in [
        (frame_v4(&[], 0, UDP, &PORTS), 34),
        (frame_v4(&[1; 40], 0, UDP, &PORTS), 34),
        (frame_v6(UDP, &PORTS), 54),
        (frame_v6(0, &extensions), 54),
    ] {
        for length in 0..=frame.len() {
            let result = parse_ethernet(&frame[..length]);
            if length < header {
                assert_eq!(result, Err(Verdict::Truncated), "{length} bytes");
            } else {
                let headers = result.expect("the IP header is there");
                let expected = if length == frame.len() { FOUND } else { None };
                assert_eq!(headers.ports, expected, "{length} bytes");
            }
        }
    }
}

proptest! {
    #[test]
    fn noise_is_harmless(mut bytes in prop::collection::vec(any::<u8>(), 0..200), v6: bool, start in 0_u8..16) {
        let _ = parse_ethernet(&bytes[..]);
        // Noise that passes the checks before the extension headers.
        if let Some(ethertype) = bytes.get_mut(12..15) {
            ethertype.copy_from_slice(if v6 { &[0x86, 0xdd, 0x60] } else { &[0x08, 0x00, 0x40] });
            bytes[14] |= start;
            let _ = parse_ethernet(&bytes[..]);
        }
    }
}
