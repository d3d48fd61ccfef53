//! Authentication by keyed SHA1 and meticulous keyed SHA1 (RFC 5880, section 6.7.4).

use std::fmt;
use std::sync::Arc;

use sha1::{Digest as _, Sha1};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use super::packet::{SHA1_SECTION, WITH_SHA1};
use super::{Control, Datagram, Ignored, Section};

/// Maximum length of a key, in bytes.
const KEY: usize = 20;
/// Where the section has its fields: type, length, key ID, a reserved byte, then the sequence number.
const SECTION: usize = 24;
const SEQUENCE: usize = 28;
const DIGEST: usize = 32;

/// How sequence numbers are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Type 4: a new number for new content. Packets without new content can be replayed.
    KeyedSha1 = 4,
    /// Type 5: a new number for each packet.
    MeticulousKeyedSha1 = 5,
}

/// A key with its ID. The secret is overwritten when it is dropped, and never shown.
pub struct Key {
    id: u8,
    /// Padded with zeros.
    secret: Zeroizing<[u8; KEY]>,
}

impl Key {
    /// A key of 1 to 20 bytes.
    ///
    /// # Errors
    /// If it is shorter or longer.
    pub fn new(id: u8, secret: &[u8]) -> Result<Key, InvalidKeys> {
        let mut padded = Zeroizing::new([0; KEY]);
        let room = padded.get_mut(..secret.len()).filter(|room| !room.is_empty());
        room.ok_or(InvalidKeys::Length(secret.len()))?
            .copy_from_slice(secret);
        Ok(Key { id, secret: padded })
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

/// Keys of a session, or of many. The first one authenticates packets that are sent; packets with any of them
/// are accepted. So a key is exchanged without interruption in three steps on both systems: add the new key
/// behind the old one, move it to the front, remove the old one.
#[derive(Debug)]
pub struct Keyring {
    method: Method,
    /// At least one.
    keys: Vec<Key>,
}

/// Keys that cannot be used. Without key material.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidKeys {
    /// A key is empty or too long.
    #[error("the key has {0} bytes; expected 1 to 20")]
    Length(usize),
    /// There is no key.
    #[error("there is no key; expected at least one")]
    Empty,
    /// Two keys have this ID.
    #[error("the key ID {0} is used twice")]
    Duplicate(u8),
}

impl Keyring {
    /// Keys with different IDs, at least one.
    ///
    /// # Errors
    /// If there is none, or if an ID is used twice.
    pub fn new(method: Method, keys: Vec<Key>) -> Result<Keyring, InvalidKeys> {
        if keys.is_empty() {
            return Err(InvalidKeys::Empty);
        }
        for (index, key) in keys.iter().enumerate() {
            if keys[..index].iter().any(|other| other.id == key.id) {
                return Err(InvalidKeys::Duplicate(key.id));
            }
        }
        Ok(Keyring { method, keys })
    }
}

/// What is known of the sequence of the remote system.
#[derive(Clone, Copy, Debug)]
enum Received {
    /// Nothing: each number is accepted (bfd.AuthSeqKnown is 0).
    Unknown,
    /// The last number before a restart of this process. The remote system may have sent many packets since.
    BeforeRestart(u32),
    /// The last number (bfd.RcvAuthSeq).
    Last(u32),
}

/// The authentication of one session.
#[derive(Debug)]
pub(super) struct Authentication {
    keyring: Arc<Keyring>,
    received: Received,
    /// bfd.XmitAuthSeq.
    transmit: u32,
}

impl Authentication {
    /// A new session, whose first sequence number must be random.
    pub(super) fn new(keyring: Arc<Keyring>, first: u32) -> Authentication {
        Authentication {
            keyring,
            received: Received::Unknown,
            transmit: first,
        }
    }

    /// A session that continues: the next number to send, and the last number received.
    pub(super) fn resume(keyring: Arc<Keyring>, transmit: u32, received: Option<u32>) -> Authentication {
        Authentication {
            keyring,
            received: received.map_or(Received::Unknown, Received::BeforeRestart),
            transmit,
        }
    }

    /// Other keys. The sequences continue.
    pub(super) fn set_keyring(&mut self, keyring: Arc<Keyring>) {
        self.keyring = keyring;
    }

    pub(super) fn transmit_sequence(&self) -> u32 {
        self.transmit
    }

    pub(super) fn received_sequence(&self) -> Option<u32> {
        match self.received {
            Received::Unknown => None,
            Received::BeforeRestart(last) | Received::Last(last) => Some(last),
        }
    }

    /// A packet with its authentication section. `new_content`: it differs from the packet before.
    pub(super) fn sign(&mut self, control: &Control, new_content: bool) -> Datagram {
        let Keyring { method, keys } = &*self.keyring;
        if *method == Method::KeyedSha1 && new_content {
            self.transmit = self.transmit.wrapping_add(1);
        }
        let sequence = self.transmit;
        if *method == Method::MeticulousKeyedSha1 {
            self.transmit = self.transmit.wrapping_add(1);
        }
        let key = &keys[0];
        Datagram::with_sha1(control, |packet| {
            packet[SECTION..SEQUENCE].copy_from_slice(&[*method as u8, SHA1_SECTION, key.id, 0]);
            packet[SEQUENCE..DIGEST].copy_from_slice(&sequence.to_be_bytes());
            let digest = digest(packet, key);
            packet[DIGEST..].copy_from_slice(&digest);
        })
    }

    /// Verifies a packet. `forget`: the remote system may have begun a new sequence. The digest is checked
    /// before the sequence number, in contrast to the order of the RFC, so that a forged packet never changes
    /// the expected sequence.
    pub(super) fn verify(
        &mut self,
        section: &Section<'_>,
        detect_multiplier: u8,
        forget: bool,
    ) -> Result<(), Ignored> {
        let Keyring { method, keys } = &*self.keyring;
        if section.kind() != *method as u8 {
            return Err(Ignored::AuthenticationType);
        }
        let packet = section.sha1_packet().ok_or(Ignored::AuthenticationLength)?;
        let key = keys.iter().find(|key| key.id == packet[SECTION + 2]);
        let key = key.ok_or(Ignored::AuthenticationKey)?;
        if !bool::from(digest(packet, key).ct_eq(&packet[DIGEST..])) {
            return Err(Ignored::AuthenticationDigest);
        }
        let sequence = packet[SEQUENCE..DIGEST]
            .iter()
            .fold(0, |number, byte| number << 8 | u32::from(*byte));
        let least = match method {
            Method::KeyedSha1 => 0,
            Method::MeticulousKeyedSha1 => 1,
        };
        let (last, most) = match self.received {
            _ if forget => (sequence.wrapping_sub(least), least),
            Received::Unknown => (sequence.wrapping_sub(least), least),
            Received::BeforeRestart(last) => (last, u32::MAX / 2),
            Received::Last(last) => (last, 3 * u32::from(detect_multiplier)),
        };
        if !(least..=most).contains(&sequence.wrapping_sub(last)) {
            return Err(Ignored::AuthenticationSequence);
        }
        self.received = Received::Last(sequence);
        Ok(())
    }
}

/// The digest of a packet with the key in place of the digest.
fn digest(packet: &[u8; WITH_SHA1], key: &Key) -> [u8; KEY] {
    Sha1::new()
        .chain_update(&packet[..DIGEST])
        .chain_update(key.secret.as_slice())
        .finalize()
        .into()
}
