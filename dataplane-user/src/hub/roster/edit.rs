//! Changes of a file that keep all its other bytes.

use std::net::IpAddr;

use super::LABEL;
use crate::hub::DeviceId;
use crate::net::family::host_prefix;
use crate::net::key::PublicKey;
use crate::wg_quick::{Document, Section};

/// The document with one more peer at its end, after an empty line.
pub(super) fn with_peer(document: &Document, id: &DeviceId, key: PublicKey, address: IpAddr) -> Document {
    let end = document.bytes().len();
    let mut text = String::new();
    if end > 0 && !document.bytes().ends_with(b"\n") {
        text.push('\n');
    }
    // Added even after an existing empty line, because the removal of the peer removes one empty line.
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

/// The document with another key for a peer.
pub(super) fn with_key(document: &Document, peer: &Section, key: PublicKey) -> Document {
    let (_, value) = document.entry(peer, "PublicKey").expect("each peer has a key");
    document.replaced(value, key.to_string().as_bytes())
}

/// The document without a peer whose label is on the line `label`. Removed are the label, the entries, the
/// comments after the label, between the entries and directly after them, and one empty line.
pub(super) fn without_peer(document: &Document, peer: &Section, label: usize) -> Document {
    let mut start = label;
    let mut end = document.last_entry(peer) + 1;
    let comments = (end..peer.lines.end).take_while(|line| document.comment(*line).is_some());
    let below = end + comments.count();
    // Comments directly above the next section belong to that section.
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
