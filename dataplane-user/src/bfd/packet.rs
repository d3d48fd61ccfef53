//! The control packet (RFC 5880, sections 4.1 and 4.4), and the checks of a received one that need no session
//! (section 6.8.6).

use std::num::{NonZeroU8, NonZeroU32};

use super::{Diagnostic, Ignored, State};

/// Length of the mandatory section, in bytes.
pub(super) const MANDATORY: usize = 24;
/// Length of a packet with a SHA1 authentication section, in bytes.
pub(super) const WITH_SHA1: usize = MANDATORY + SHA1_SECTION as usize;
/// Length of a SHA1 authentication section, in bytes (section 4.4).
pub(super) const SHA1_SECTION: u8 = 28;

const VERSION: u8 = 1;
const POLL: u8 = 0x20;
const FINAL: u8 = 0x10;
const CONTROL_PLANE_INDEPENDENT: u8 = 0x08;
const AUTHENTICATION: u8 = 0x04;
const DEMAND: u8 = 0x02;
const MULTIPOINT: u8 = 0x01;

/// The poll and final bits, which exclude each other (section 6.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PollBits {
    /// A periodic packet.
    Neither,
    /// A packet that must be answered at once by one with the final bit.
    Poll,
    /// The answer to a poll.
    Final,
}

/// The mandatory section. Intervals are in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Control {
    /// Why the session of the sender last went down.
    pub diagnostic: Diagnostic,
    /// The state of the session of the sender.
    pub state: State,
    /// Poll or final.
    pub poll: PollBits,
    /// Whether BFD of the sender is independent of its control plane (the C bit).
    pub control_plane_independent: bool,
    /// The sender wants no periodic packets while both sides are up.
    pub demand: bool,
    /// The number of packets that may be lost.
    pub detect_multiplier: NonZeroU8,
    /// The discriminator of the sender.
    pub my_discriminator: NonZeroU32,
    /// The discriminator of the receiver as the sender knows it; 0: unknown.
    pub your_discriminator: u32,
    /// The interval at which the sender would like to send.
    pub desired_min_tx: u32,
    /// The interval at which the sender can receive; 0: it wants no periodic packets.
    pub required_min_rx: u32,
    /// The same for echo packets; 0: it returns none.
    pub required_min_echo_rx: u32,
}

/// A received packet that passed all checks that need no session.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    /// The mandatory section.
    pub control: Control,
    /// The authentication section, which is not verified yet.
    pub authentication: Option<Section<'a>>,
}

/// An authentication section together with the packet that it authenticates.
#[derive(Clone, Copy, Debug)]
pub struct Section<'a> {
    /// At least two bytes longer than the mandatory section.
    packet: &'a [u8],
}

impl Section<'_> {
    /// The authentication type.
    #[must_use]
    pub fn kind(&self) -> u8 {
        self.packet[MANDATORY]
    }

    /// The packet, if its section has the length of a SHA1 section.
    pub(super) fn sha1_packet(&self) -> Option<&[u8; WITH_SHA1]> {
        self.packet.try_into().ok()
    }
}

impl Control {
    /// The packet without authentication.
    #[must_use]
    pub fn encode(&self) -> [u8; MANDATORY] {
        let poll = match self.poll {
            PollBits::Neither => 0,
            PollBits::Poll => POLL,
            PollBits::Final => FINAL,
        };
        let flag = |set: bool, bit: u8| if set { bit } else { 0 };
        let mut bytes = [0; MANDATORY];
        bytes[0] = VERSION << 5 | self.diagnostic.code();
        bytes[1] = (self.state as u8) << 6
            | poll
            | flag(self.control_plane_independent, CONTROL_PLANE_INDEPENDENT)
            | flag(self.demand, DEMAND);
        bytes[2] = self.detect_multiplier.get();
        bytes[3] = 24;
        let words = [
            self.my_discriminator.get(),
            self.your_discriminator,
            self.desired_min_tx,
            self.required_min_rx,
            self.required_min_echo_rx,
        ];
        for (bytes, word) in bytes[4..].chunks_exact_mut(4).zip(words) {
            bytes.copy_from_slice(&word.to_be_bytes());
        }
        bytes
    }
}

impl<'a> Packet<'a> {
    /// Parses the payload of a UDP datagram. Bytes behind the packet are ignored.
    ///
    /// # Errors
    /// The first check that fails, in the order of RFC 5880, section 6.8.6.
    pub fn parse(payload: &'a [u8]) -> Result<Packet<'a>, Ignored> {
        let Some(header) = payload.first_chunk::<MANDATORY>() else {
            return Err(Ignored::TooShort);
        };
        let [first, flags, multiplier, length, ..] = *header;
        if first >> 5 != VERSION {
            return Err(Ignored::Version);
        }
        let length = usize::from(length);
        if length < MANDATORY {
            return Err(Ignored::Length);
        }
        let authenticated = flags & AUTHENTICATION != 0;
        if authenticated && length < MANDATORY + 2 {
            return Err(Ignored::AuthenticationLength);
        }
        let packet = payload.get(..length).ok_or(Ignored::Truncated)?;
        let detect_multiplier = NonZeroU8::new(multiplier).ok_or(Ignored::DetectMultiplier)?;
        if flags & MULTIPOINT != 0 {
            return Err(Ignored::Multipoint);
        }
        let my_discriminator = NonZeroU32::new(word(header, 4)).ok_or(Ignored::MyDiscriminator)?;
        let your_discriminator = word(header, 8);
        let state = State::of_high_bits(flags);
        if your_discriminator == 0 && matches!(state, State::Init | State::Up) {
            return Err(Ignored::YourDiscriminator);
        }
        let poll = match (flags & POLL != 0, flags & FINAL != 0) {
            (false, false) => PollBits::Neither,
            (true, false) => PollBits::Poll,
            (false, true) => PollBits::Final,
            (true, true) => return Err(Ignored::PollAndFinal),
        };
        if authenticated && usize::from(packet[MANDATORY + 1]) != length - MANDATORY {
            return Err(Ignored::AuthenticationLength);
        }
        let control = Control {
            diagnostic: Diagnostic::from_low_bits(first),
            state,
            poll,
            control_plane_independent: flags & CONTROL_PLANE_INDEPENDENT != 0,
            demand: flags & DEMAND != 0,
            detect_multiplier,
            my_discriminator,
            your_discriminator,
            desired_min_tx: word(header, 12),
            required_min_rx: word(header, 16),
            required_min_echo_rx: word(header, 20),
        };
        let authentication = authenticated.then_some(Section { packet });
        Ok(Packet {
            control,
            authentication,
        })
    }
}

/// The word in network byte order at an offset.
fn word(header: &[u8; MANDATORY], at: usize) -> u32 {
    u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
}

/// A packet to be sent: the payload of a UDP datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Datagram {
    bytes: [u8; WITH_SHA1],
    length: usize,
}

impl Datagram {
    /// A packet without authentication.
    pub(super) fn plain(control: &Control) -> Datagram {
        let mut bytes = [0; WITH_SHA1];
        bytes[..MANDATORY].copy_from_slice(&control.encode());
        Datagram {
            bytes,
            length: MANDATORY,
        }
    }

    /// A packet with a SHA1 section, which `fill` writes; the first two bytes of the section are its type and
    /// its length.
    pub(super) fn with_sha1(control: &Control, fill: impl FnOnce(&mut [u8; WITH_SHA1])) -> Datagram {
        let mut datagram = Datagram::plain(control);
        datagram.bytes[1] |= AUTHENTICATION;
        datagram.bytes[3] += SHA1_SECTION;
        datagram.length = WITH_SHA1;
        fill(&mut datagram.bytes);
        datagram
    }
}

impl AsRef<[u8]> for Datagram {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}
