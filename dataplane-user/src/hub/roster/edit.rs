//! Changes of a file that leave all its other bytes alone.

use std::net::IpAddr;

use super::LABEL;
use crate::hub::DeviceId;
use crate::net::family::host_prefix;
use crate::net::key::PublicKey;
use crate::wg_quick::{Document, Section};

/// With one more peer at its end, below an empty line.
pub(super) fn with_peer(document: &Document, id: &DeviceId, key: PublicKey, address: IpAddr) -> Document {
    let end = document.bytes().len();
    let mut text = String::new();
    if end > 0 && !document.bytes().ends_with(b"\n") {
        text.push('\n');
    }
    // Also below one that is there: what takes the peer away takes one, too.
    if end > 0 {
        text.push('\n');
    }
    text += &format!(
        "# {LABEL}{id}\n[Peer]\nPublicKey = {key}\nAllowedIPs = {}\n",
        host_prefix(address)
    );
    let text = text.replace('\n', document.line_break());
    document.replaced(end..end, text.as_bytes())
}

/// With another key for a peer.
pub(super) fn with_key(document: &Document, peer: &Section, key: PublicKey) -> Document {
    let (_, value) = document.entry(peer, "PublicKey").expect("each peer has a key");
    document.replaced(value, key.to_string().as_bytes())
}

/// Without a peer whose label is on this line: that goes, its entries, the comments below the label, among the entries and
/// right below them, and an empty line.
pub(super) fn without_peer(document: &Document, peer: &Section, label: usize) -> Document {
    let mut start = label;
    let mut end = document.last_entry(peer) + 1;
    let comments = (end..peer.lines.end).take_while(|line| document.comment(*line).is_some());
    let below = end + comments.count();
    // Right above the next section they are that one's.
    if below == document.line_count() || document.is_blank(below) {
        end = below;
    }
    if start > 0 && document.is_blank(start - 1) {
        start -= 1;
    } else if document.is_blank(end) {
        end += 1;
    }
    let range = document.line(start).start..document.line(end).start;
    document.replaced(range, b"")
}
