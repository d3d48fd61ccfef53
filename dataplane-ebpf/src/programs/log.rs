//! What the programs say when logging is on. Functions of their own, so that the packet path carries none of it.

use aya_log_ebpf::{debug, trace};
use dataplane_ebpf::packet::{Family, Headers, parse_ethernet};
use dataplane_ebpf::verdict::Verdict;

use super::skb::Skb;

/// Says which next hop took a packet.
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

/// Says why a packet was dropped, by the verdict's number.
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
