//! Encodes netlink attributes in buffers that are wiped when dropped.

use netlink_packet_core::{NLA_ALIGNTO, NLA_F_NESTED, NLA_HEADER_SIZE};
use zeroize::Zeroizing;

/// A sequence of attributes.
pub(super) struct Attributes(Zeroizing<Vec<u8>>);

impl Attributes {
    /// An empty sequence. Up to `room` bytes it is never reallocated, so that it leaves no copy in memory.
    pub(super) fn with_room(room: usize) -> Attributes {
        Attributes(Zeroizing::new(Vec::with_capacity(room)))
    }

    /// A generic netlink message: its header, and no attributes yet.
    pub(super) fn message(command: u8, version: u8) -> Attributes {
        // The maximum size of a message of Adit, with the attributes of peers and device.
        let mut attributes = Attributes::with_room(64 << 10);
        attributes.0.extend([command, version, 0, 0]);
        attributes
    }

    pub(super) fn put(&mut self, kind: u16, value: &[u8]) {
        self.start(kind, value.len());
        self.0.extend_from_slice(value);
        let padded = self.0.len().next_multiple_of(NLA_ALIGNTO);
        self.0.resize(padded, 0);
    }

    pub(super) fn put_u16(&mut self, kind: u16, value: u16) {
        self.put(kind, &value.to_ne_bytes());
    }

    pub(super) fn put_u32(&mut self, kind: u16, value: u32) {
        self.put(kind, &value.to_ne_bytes());
    }

    /// Appends a text with its final zero.
    pub(super) fn put_text(&mut self, kind: u16, text: &str) {
        self.put(kind, &[text.as_bytes(), &[0]].concat());
    }

    /// Appends an attribute that contains others.
    pub(super) fn nest(&mut self, kind: u16, inner: impl FnOnce(&mut Attributes)) {
        let at = self.0.len();
        self.start(kind | NLA_F_NESTED, 0);
        inner(self);
        let length = attribute_length(self.0.len() - at);
        self.0[at..at + 2].copy_from_slice(&length.to_ne_bytes());
    }

    /// Appends other attributes.
    pub(super) fn append(&mut self, other: &Attributes) {
        self.0.extend_from_slice(&other.0);
    }

    pub(super) fn length(&self) -> usize {
        self.0.len()
    }

    pub(super) fn into_bytes(self) -> Zeroizing<Vec<u8>> {
        self.0
    }

    fn start(&mut self, kind: u16, length: usize) {
        self.0
            .extend(attribute_length(NLA_HEADER_SIZE + length).to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
    }
}

fn attribute_length(length: usize) -> u16 {
    u16::try_from(length).expect("messages are cut far below 64 KiB")
}
