//! Hostile packets: random bytes, and valid packets after a few mutations, for sessions in all states. No
//! packet may cause a panic, and none may change a session unless it passes all checks, which are written
//! down here a second time.

mod random;

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use sha1::{Digest as _, Sha1};

pub(crate) use random::Random;

use super::{Diagnostic, Ignored, Key, Keyring, Method, Packet, Parameters, Session, Snapshot, State, Time};

const LOCAL: u32 = 0x0102_0304;
const REMOTE: u32 = 0x0a0b_0c0d;
const KEY_ID: u8 = 7;
const SECRET: &[u8; 20] = b"twenty bytes of key!";

/// How many packets were accepted and ignored.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) accepted: u64,
    pub(crate) ignored: u64,
}

/// A session, and its method of authentication.
struct Subject {
    method: Option<Method>,
    session: Session,
}

/// Valid packets, with and without authentication, as examples to mutate.
pub(crate) fn examples() -> Vec<Vec<u8>> {
    let methods = [None, Some(Method::KeyedSha1), Some(Method::MeticulousKeyedSha1)];
    let examples = methods.map(|method| {
        State::ALL.map(|state| {
            let mut bytes = vec![0x20, (state as u8) << 6, 3, 24];
            for word in [REMOTE, LOCAL, 300_000, 300_000, 0] {
                bytes.extend(word.to_be_bytes());
            }
            sign(&mut bytes, method, 1);
            bytes
        })
    });
    examples.into_iter().flatten().collect()
}

/// Hands bytes to a session in each state and with each authentication. Returns whether one accepted them.
///
/// # Panics
/// If bytes that do not pass all checks are accepted, or change a session.
pub(crate) fn feed(bytes: &[u8]) -> bool {
    let now = Time::from_micros(1);
    let accepted = subjects().into_iter().filter_map(|mut subject| {
        let is_accepted = subject.feed(bytes, now, 1);
        is_accepted.then_some(())
    });
    accepted.count() > 0
}

/// Feeds packets to the same sessions, of which some are valid, as time goes on.
///
/// # Panics
/// As for [`feed`].
pub(crate) fn run(packets: u64, seed: u64) -> Counts {
    let mut random = Random::new(seed);
    let mut subjects = subjects();
    let mut counts = Counts::default();
    let mut now = Time::from_micros(1);
    for number in 0..packets {
        if number % 1_000_000 == 999_999 {
            subjects = self::subjects();
        }
        let index = random.index(&subjects);
        let subject = &mut subjects[index];
        let bytes = packet(&mut random, subject);
        now = now + Duration::from_micros(random.below(100_000).into());
        if subject.feed(&bytes, now, random.number()) {
            counts.accepted += 1;
        } else {
            counts.ignored += 1;
        }
        if random.below(8) == 0 {
            let _effects = subject.session.timeout(now, random.number());
        }
    }
    counts
}

/// Sessions in all states with all kinds of authentication.
fn subjects() -> Vec<Subject> {
    let methods = [None, Some(Method::KeyedSha1), Some(Method::MeticulousKeyedSha1)];
    let subjects = methods.map(|method| State::ALL.map(|state| Subject::new(method, state)));
    subjects.into_iter().flatten().collect()
}

impl Subject {
    fn new(method: Option<Method>, state: State) -> Subject {
        let interval = Duration::from_millis(100);
        let parameters = Parameters::new(interval, interval, 3).expect("they are within bounds");
        let local = NonZeroU32::new(LOCAL).expect("it is not 0");
        let keyring = method.map(|method| {
            let key = Key::new(KEY_ID, SECRET).expect("it has 20 bytes");
            Arc::new(Keyring::new(method, vec![key]).expect("it has a key"))
        });
        let session = Session::new(parameters, local, keyring, Time::from_micros(0), 0);
        let mut subject = Subject { method, session };
        let word = |number: u32| number.to_be_bytes();
        let steps: &[State] = match state {
            State::AdminDown | State::Down => &[],
            State::Init => &[State::Down],
            State::Up => &[State::Down, State::Init],
        };
        for (sequence, sent) in (0..).zip(steps) {
            let mut bytes = vec![0x20, (*sent as u8) << 6, 3, 24];
            for field in [REMOTE, LOCAL, 1_000_000, 300_000, 0] {
                bytes.extend(word(field));
            }
            sign(&mut bytes, method, sequence);
            assert!(subject.feed(&bytes, Time::from_micros(0), 0), "it is valid");
        }
        if state == State::AdminDown {
            let diagnostic = Diagnostic::ADMINISTRATIVELY_DOWN;
            let _effects = subject.session.disable(diagnostic, Time::from_micros(0), 0);
        }
        assert_eq!(subject.session.state(), state);
        subject
    }

    /// All that can be seen of the session.
    fn seen(&self) -> (Snapshot, State, Diagnostic, Option<Time>, Option<Time>, Duration) {
        let session = &self.session;
        (
            session.snapshot(),
            session.remote_state(),
            session.remote_diagnostic(),
            session.heard(),
            session.next_deadline(),
            session.detection_time(),
        )
    }

    /// Hands bytes to the session; returns whether they passed all checks.
    fn feed(&mut self, bytes: &[u8], now: Time, random: u32) -> bool {
        let before = self.seen();
        let local = before.0.state;
        let packet = Packet::parse(bytes);
        let result = packet.and_then(|packet| self.session.received(&packet, now, random));
        let passes = self.passes(bytes);
        match result {
            Ok(_) | Err(Ignored::AdminDown) => {
                assert!(passes, "accepted, but a check fails: {bytes:02x?}");
                assert_eq!(result.is_err(), local == State::AdminDown);
                assert_eq!(self.session.heard(), Some(now));
                true
            }
            Err(reason) => {
                assert_eq!(
                    self.seen(),
                    before,
                    "ignored ({reason:?}) but not without effect: {bytes:02x?}"
                );
                let only_old = reason == Ignored::AuthenticationSequence;
                assert_eq!(passes, only_old, "ignored ({reason:?}) in error: {bytes:02x?}");
                false
            }
        }
    }

    /// Whether the bytes pass all checks but that of the sequence number, in the order of the bytes.
    fn passes(&self, bytes: &[u8]) -> bool {
        if bytes.len() < 24 {
            return false;
        }
        let state = bytes[1] >> 6;
        let authenticated = bytes[1] >> 2 & 1 == 1;
        let length = usize::from(bytes[3]);
        let your_discriminator = &bytes[8..12];
        let mandatory = bytes[0] >> 5 == 1
            && bytes[1] & 0x30 != 0x30
            && bytes[1] & 1 == 0
            && bytes[2] > 0
            && (24..=bytes.len()).contains(&length)
            && bytes[4..8] != [0; 4]
            && (your_discriminator == LOCAL.to_be_bytes() || your_discriminator == [0; 4] && state < 2);
        let section = match self.method {
            None => !authenticated,
            Some(method) => {
                authenticated
                    && length == 52
                    && bytes.len() >= 52
                    && bytes[24..27] == [method as u8, 28, KEY_ID]
                    && bytes[32..52] == Sha1::digest([&bytes[..32], SECRET].concat())[..]
            }
        };
        mandatory && section
    }
}

/// Adds an authentication section.
fn sign(bytes: &mut Vec<u8>, method: Option<Method>, sequence: u32) {
    let Some(method) = method else { return };
    bytes[1] |= 4;
    bytes[3] = 52;
    bytes.extend([method as u8, 28, KEY_ID, 0]);
    bytes.extend(sequence.to_be_bytes());
    let digest = Sha1::digest([&bytes[..], SECRET].concat());
    bytes.extend(digest);
}

/// Random bytes, or a packet for the session that is valid but for up to three mutations.
fn packet(random: &mut Random, subject: &Subject) -> Vec<u8> {
    if random.below(8) == 0 {
        let length = random.below(70);
        return (0..length).map(|_| random.byte()).collect();
    }
    let flags = random.byte() & 0xea;
    let mut bytes = vec![0x20 | random.byte() & 0x1f, flags, random.byte() | 1, 24];
    let your_discriminator = if flags >> 6 < 2 && random.below(2) == 0 {
        0
    } else {
        LOCAL
    };
    let intervals = [0, 1, 50_000, 1_000_000, u32::MAX];
    let mut interval = || {
        let index = random.index(&intervals);
        intervals[index]
    };
    let words = [REMOTE, your_discriminator, interval(), interval(), interval()];
    for word in words {
        bytes.extend(word.to_be_bytes());
    }
    let last = subject
        .session
        .snapshot()
        .sequences
        .and_then(|sequences| sequences.received);
    sign(
        &mut bytes,
        subject.method,
        last.unwrap_or(0).wrapping_add(random.below(5)),
    );
    for _ in 0..random.below(4) {
        match random.below(8) {
            0 => {
                let length = random.below(60) as usize;
                bytes.truncate(length);
            }
            1 => bytes.push(0),
            2 => {
                let (at, byte) = (random.index(&[0; 28]), random.byte());
                if let Some(place) = bytes.get_mut(at) {
                    *place = byte;
                }
            }
            _ => {
                let (at, bit) = (random.index(&[0; 52]), random.below(8));
                if let Some(place) = bytes.get_mut(at) {
                    *place ^= 1 << bit;
                }
            }
        }
    }
    bytes
}

mod tests {
    use super::*;

    #[test]
    fn hostile_packets_change_nothing() {
        let count = std::env::var("ADIT_BFD_PACKETS").map_or(100_000, |text| text.parse().expect("a number"));
        let counts = run(count, 1);
        assert!(
            counts.accepted > count / 20 && counts.ignored > count / 4,
            "{counts:?}"
        );
    }

    #[test]
    fn examples_are_accepted_and_noise_is_not() {
        for example in examples() {
            assert!(feed(&example), "{example:02x?}");
        }
        assert!(!feed(b""));
        assert!(!feed(&[0xff; 64]));
    }
}
