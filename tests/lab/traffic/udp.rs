//! Datagrams, which the receiver counts. It answers with the same bytes, only to measure the round-trip time: the pair in
//! the other direction tests the way back.
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use adit_tests::socket::{Fragments, receive, set_fragments};
use adit_tests::splitmix::fill;
use anyhow::Result;
use dataplane_user::net::Family;

use super::{Kind, Measured, Pair, ROUNDS, Waits};

const UDP_HEADER: usize = 8;
/// How many bytes larger than the MTU the packets are that need fragments.
const EXCESS: usize = 1000;

pub(crate) fn measure(pair: &Pair<'_>, kind: Kind, wait: Duration, measured: &mut Measured) -> Result<()> {
    let length = length(kind, pair.mtu, pair.family);
    measured.unit = u64::try_from(length)?;
    let server = pair.at_receiver(|| UdpSocket::bind((pair.destination(), 0)))?;
    // Not bound to an address: the routes select it, and must select the right one.
    let client = pair.at_sender(|| UdpSocket::bind((pair.family.unspecified(), 0)))?;
    for socket in [&client, &server] {
        let fragments = if kind == Kind::UdpMtu {
            Fragments::Forbidden
        } else {
            Fragments::Allowed
        };
        set_fragments(socket, pair.family, fragments)?;
    }
    client.connect(server.local_addr()?)?;

    let (mut there, mut back) = (Waits::new(wait), Waits::new(wait));
    for round in 0..ROUNDS {
        let mut payload = vec![0; length];
        fill(&mut payload, u64::from(round) + 1);
        let start = Instant::now();
        measured.sent += 1;
        if let Err(error) = client.send(&payload) {
            measured.note(&error);
            there.lost = true;
            continue;
        }
        let expected = |data: &[u8], from: SocketAddr| (data == payload).then_some(from);
        let Some(from) = receive(&server, there.next(), expected)? else {
            there.lost = true;
            continue;
        };
        if from.ip() != pair.source() {
            measured.note(&format!(
                "the source address is {} instead of {}",
                from.ip(),
                pair.source()
            ));
            continue;
        }
        measured.received += 1;
        if back.lost {
            continue;
        }
        let answered = server.send_to(&payload, from).is_ok();
        let arrived = answered && matches!(receive(&client, back.next(), expected), Ok(Some(_)));
        if arrived {
            measured.took(start.elapsed());
        }
        back.lost = !arrived;
    }
    Ok(())
}

fn length(kind: Kind, mtu: u32, family: Family) -> usize {
    let mtu = usize::try_from(mtu).expect("Linux has at least 32 bits");
    let header = match family {
        Family::Ipv4 => 20,
        Family::Ipv6 => 40,
    };
    let whole = mtu.saturating_sub(header + UDP_HEADER);
    match kind {
        Kind::UdpMtu => whole,
        Kind::UdpOverMtu => whole + EXCESS,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_packet_has_exactly_the_mtu() {
        assert_eq!(length(Kind::UdpMtu, 1450, Family::Ipv4) + 20 + 8, 1450);
        assert_eq!(length(Kind::UdpMtu, 1430, Family::Ipv6) + 40 + 8, 1430);
        assert!(length(Kind::UdpOverMtu, 1450, Family::Ipv4) + 28 > 1450);
        assert_eq!(length(Kind::UdpByte, 1450, Family::Ipv4), 1);
    }
}
