//! Echo requests; the kernel of the receiver answers.
use std::time::{Duration, Instant};

use adit_tests::icmp::{PAYLOAD, answers, raw, request};
use adit_tests::socket::receive;
use anyhow::Result;

use super::{Measured, Pair, ROUNDS, Waits};

/// `index` distinguishes the packets of this measurement from those of others.
pub(super) fn measure(pair: &Pair<'_>, wait: Duration, index: usize, measured: &mut Measured) -> Result<()> {
    measured.unit = u64::try_from(PAYLOAD)?;
    let id = u16::try_from(index & 0x7fff)? + 1;
    let client = pair.at_sender(|| raw(pair.family))?;
    // A raw socket ignores the port.
    client.connect((pair.destination(), 0))?;

    let mut waits = Waits::new(wait);
    for sequence in 0..ROUNDS {
        let request = request(pair.family, id, sequence);
        let start = Instant::now();
        measured.sent += 1;
        if let Err(error) = client.send(&request) {
            measured.note(&error);
            waits.lost = true;
            continue;
        }
        let answer = |packet: &[u8], _| answers(packet, pair.family, &request).then_some(());
        match receive(&client, waits.next(), answer) {
            Ok(Some(())) => {
                measured.received += 1;
                measured.took(start.elapsed());
            }
            Ok(None) => waits.lost = true,
            Err(error) => {
                measured.note(&error);
                waits.lost = true;
            }
        }
    }
    Ok(())
}
