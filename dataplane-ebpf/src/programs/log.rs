//! The log messages of the programs when logging is on. They are separate functions, to keep them out of the
//! packet path.

use aya_log_ebpf::{debug, trace};
use dataplane_ebpf::packet::{Family, Headers, parse_ethernet};
use dataplane_ebpf::verdict::Verdict;

use super::skb::Skb;

/// Logs the next hop of a forwarded packet.
#[inline(never)]
pub(super) fn forwarded(skb: &Skb, slot: u32) {
    let Ok(headers) = parse_ethernet(skb) else {
        return;
    };
    match headers.family {
        Family::Ipv4 => {
            let (source, destination) = (headers.source.bytes_v4(), headers.destination.bytes_v4());
            trace!(skb, "forward {:i} > {:i}: next hop {}", source, destination, slot);
        }
        Family::Ipv6 => {
            let (source, destination) = (headers.source.bytes(), headers.destination.bytes());
            trace!(skb, "forward {:i} > {:i}: next hop {}", source, destination, slot);
        }
    }
}

/// Logs the index of the verdict under which a packet was dropped.
#[inline(never)]
pub(super) fn dropped(skb: &Skb, verdict: Verdict) {
    let verdict = verdict.index();
    match parse_ethernet(skb) {
        Ok(headers) => dropped_ip(skb, &headers, verdict),
        Err(_) => debug!(skb, "drop: verdict {}", verdict),
    }
}

#[inline(always)]
fn dropped_ip(skb: &Skb, headers: &Headers, verdict: u32) {
    match headers.family {
        Family::Ipv4 => {
            let (source, destination) = (headers.source.bytes_v4(), headers.destination.bytes_v4());
            debug!(skb, "drop {:i} > {:i}: verdict {}", source, destination, verdict);
        }
        Family::Ipv6 => {
            let (source, destination) = (headers.source.bytes(), headers.destination.bytes());
            debug!(skb, "drop {:i} > {:i}: verdict {}", source, destination, verdict);
        }
    }
}
