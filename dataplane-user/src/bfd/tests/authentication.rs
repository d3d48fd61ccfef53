//! Authentication against packets written by hand.

use sha1::{Digest as _, Sha1};

use super::*;

const METHODS: [Method; 2] = [Method::KeyedSha1, Method::MeticulousKeyedSha1];
const OLD: IdAndSecret = (1, b"old");
const NEW: IdAndSecret = (200, b"a key of twenty byte");

/// A packet in state Down with detect multiplier 3 as another implementation would write it.
fn by_hand(kind: u8, (id, secret): IdAndSecret, sequence: u32) -> Vec<u8> {
    let mut packet = vec![0x20, 0x44, 3, 52, 0, 0, 0, 2, 0, 0, 0, 1];
    for interval in [1_000_000u32, 300_000, 0] {
        packet.extend(interval.to_be_bytes());
    }
    packet.extend([kind, 28, id, 0]);
    packet.extend(sequence.to_be_bytes());
    let mut key = secret.to_vec();
    key.resize(20, 0);
    let digest = Sha1::digest([&packet[..], &key].concat());
    packet.extend(digest);
    packet
}

fn authenticated(keyring: Arc<Keyring>, first: u32) -> Session {
    let local = 1.try_into().unwrap();
    Session::new(parameters(300, 3), local, Some(keyring), START, first)
}

fn give(session: &mut Session, bytes: &[u8], now: Time) -> Result<(), Ignored> {
    session.received(&Packet::parse(bytes)?, now, 0).map(|_| ())
}

#[test]
fn packets_are_as_another_implementation_writes_them() {
    for method in METHODS {
        for key in [OLD, NEW] {
            let mut session = authenticated(keyring(method, &[key]), u32::MAX);
            let packet = session.timeout(START, 0).packet.unwrap();
            let sequence = if method == Method::KeyedSha1 { 0 } else { u32::MAX };
            let mut expected = by_hand(method as u8, key, sequence);
            // It knows no remote system yet, and has another discriminator.
            expected[4..12].copy_from_slice(&[0, 0, 0, 1, 0, 0, 0, 0]);
            expected.truncate(32);
            let mut padded = key.1.to_vec();
            padded.resize(20, 0);
            let digest = Sha1::digest([&expected[..], &padded].concat());
            expected.extend(digest);
            assert_eq!(packet.as_ref(), expected, "{method:?}");
        }
    }
}

#[test]
fn what_differs_is_ignored_with_its_reason() {
    for method in METHODS {
        let kind = method as u8;
        let mut session = authenticated(keyring(method, &[OLD, NEW]), 0);
        let valid = by_hand(kind, OLD, 5);
        for at in 0..valid.len() {
            let mut changed = valid.clone();
            changed[at] ^= 0x10;
            assert!(give(&mut session, &changed, START).is_err(), "byte {at}");
        }
        let mut plain = valid[..24].to_vec();
        (plain[1], plain[3]) = (0x40, 24);
        let wrong_key = by_hand(kind, (1, b"olE"), 5);
        let mut short = by_hand(kind, OLD, 5);
        (short[3], short[25]) = (51, 27);
        for (bytes, reason) in [
            (by_hand(9 - kind, OLD, 5), Ignored::AuthenticationType),
            (by_hand(1, OLD, 5), Ignored::AuthenticationType),
            (by_hand(kind, (3, b"old"), 5), Ignored::AuthenticationKey),
            (wrong_key, Ignored::AuthenticationDigest),
            (plain, Ignored::AuthenticationMissing),
            (short, Ignored::AuthenticationLength),
        ] {
            assert_eq!(give(&mut session, &bytes, START), Err(reason));
        }
        assert_eq!(session.snapshot().sequences.unwrap().received, None);
        assert_eq!(give(&mut session, &valid, START), Ok(()));
        let mut open = super::session(parameters(300, 3));
        let reason = Ignored::AuthenticationUnexpected;
        assert_eq!(give(&mut open, &valid, START), Err(reason));
    }
}

#[test]
fn sequence_numbers_within_the_window_are_accepted() {
    for method in METHODS {
        let first = u32::from(method == Method::MeticulousKeyedSha1);
        for last in [0, 77, u32::MAX - 4, u32::MAX] {
            for (ahead, accepted) in [
                (0, first == 0),
                (1, true),
                (9, true),
                (10, false),
                (u32::MAX, false),
                (1 << 31, false),
            ] {
                let mut session = authenticated(keyring(method, &[OLD]), 0);
                give(&mut session, &by_hand(method as u8, OLD, last), START).unwrap();
                let next = by_hand(method as u8, OLD, last.wrapping_add(ahead));
                let result = give(&mut session, &next, START);
                let expected = if accepted {
                    Ok(())
                } else {
                    Err(Ignored::AuthenticationSequence)
                };
                assert_eq!(result, expected, "{method:?}: {ahead} after {last}");
            }
        }
    }
}

#[test]
fn after_twice_the_detection_time_a_new_sequence_is_accepted() {
    for method in METHODS {
        let mut session = authenticated(keyring(method, &[OLD]), 0);
        give(&mut session, &by_hand(method as u8, OLD, 1000), START).unwrap();
        let detection_time = session.detection_time();
        assert_eq!(detection_time, milliseconds(3000));
        let restarted = by_hand(method as u8, OLD, 3);
        let early = START + (2 * detection_time - Duration::from_micros(1));
        let _effects = session.timeout(early, 0);
        let reason = Ignored::AuthenticationSequence;
        assert_eq!(give(&mut session, &restarted, early), Err(reason));
        let late = START + 2 * detection_time;
        assert_eq!(give(&mut session, &restarted, late), Ok(()));
        let replayed = by_hand(method as u8, OLD, 1000);
        assert_eq!(give(&mut session, &replayed, late), Err(reason));
    }
}

#[test]
fn sent_numbers_advance_with_each_packet_or_with_new_content() {
    let sequence = |packet: Option<Datagram>| packet.unwrap().as_ref()[31];
    for (method, expected) in METHODS.into_iter().zip([[11, 11, 11, 12], [10, 11, 12, 13]]) {
        let mut session = authenticated(keyring(method, &[OLD]), 10);
        let mut sent = Vec::new();
        for seconds in 0..3 {
            let now = START + Duration::from_secs(seconds);
            sent.push(sequence(session.timeout(now, 0).packet));
        }
        let now = START + Duration::from_secs(3);
        let packet = by_hand(method as u8, OLD, 0);
        let effects = session.received(&Packet::parse(&packet).unwrap(), now, 0);
        sent.push(sequence(effects.unwrap().packet));
        assert_eq!(sent, expected, "{method:?}");
    }
}

#[test]
fn keys_are_checked_and_not_shown() {
    use super::super::InvalidKeys;
    assert_eq!(Key::new(1, b"").unwrap_err(), InvalidKeys::Length(0));
    assert_eq!(Key::new(1, &[1; 21]).unwrap_err(), InvalidKeys::Length(21));
    let none = Keyring::new(Method::KeyedSha1, Vec::new());
    assert_eq!(none.unwrap_err(), InvalidKeys::Empty);
    let twice = [b"a", b"b"].map(|secret| Key::new(4, secret).unwrap());
    let twice = Keyring::new(Method::KeyedSha1, twice.into());
    assert_eq!(twice.unwrap_err(), InvalidKeys::Duplicate(4));
    let session = authenticated(keyring(Method::KeyedSha1, &[(200, &[123; 20])]), 0);
    let shown = format!("{session:?}");
    assert!(shown.contains("200") && !shown.contains("123"), "{shown}");
}
