//! Sessions that survive a restart of their process.

use proptest::prelude::*;

use super::super::InvalidSnapshot;
use super::link::Link;
use super::*;

fn any_keyring() -> impl Strategy<Value = Option<Arc<Keyring>>> {
    let with = |method| Just(Some(keyring(method, &[(1, b"secret")])));
    prop_oneof![
        Just(None),
        with(Method::KeyedSha1),
        with(Method::MeticulousKeyedSha1)
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_restart_within_the_detection_time_is_not_noticed(
        intervals in [50u64..300, 50u64..300],
        multiplier in 3u32..10,
        keyring in any_keyring(),
        seed in any::<u64>(),
        age in 0u64..2000,
        other in (50u64..300, 3u32..10),
    ) {
        let old = intervals.map(|interval| parameters(interval, multiplier));
        let mut link = Link::up(old, keyring.as_ref(), seed);
        let interval = link.session(0).transmit_interval();
        // Sometimes the snapshot is older than the end of the process, but not by more packets than the
        // window of the remote system allows.
        let stale = link.session(0).snapshot();
        let age = milliseconds(age).min(interval);
        link.run(age);
        let recent = link.kill(0);
        let mut snapshot = if age < interval { stale } else { recent };
        snapshot.advance(2);
        // The last packet was sent up to an interval ago.
        let outage = link.session(1).detection_time() - interval - milliseconds(4);
        link.run(outage);
        prop_assert_eq!(link.session(1).state(), State::Up);
        let new = parameters(other.0, other.1);
        let session = Session::resume(new, &snapshot, keyring, link.now, 0).unwrap();
        prop_assert_eq!(session.next_deadline(), Some(link.now), "it sends at once");
        link.sides[0].session = Some(session);
        link.run(Duration::from_secs(10));
        prop_assert_eq!(link.states(), [State::Up; 2]);
        for side in &link.sides {
            prop_assert!(side.changes.is_empty(), "{:?}", side.changes);
        }
        let longest = milliseconds(other.0.max(intervals[1]));
        prop_assert_eq!(link.session(0).transmit_interval(), longest);
        prop_assert_eq!(link.session(1).transmit_interval(), longest);
    }
}

#[test]
fn the_first_packet_of_a_resumed_session_polls_with_new_parameters() {
    let mut snapshot = up(parameters(100, 3), START).snapshot();
    for demand in [false, true] {
        snapshot.remote.as_mut().unwrap().demand = demand;
        let mut session = Session::resume(parameters(250, 3), &snapshot, None, START, 0).unwrap();
        assert_eq!(
            session.transmit_interval(),
            milliseconds(200),
            "the interval before"
        );
        assert_eq!(session.next_deadline(), Some(START));
        let packet = sent(session.timeout(START, 0).packet);
        assert_eq!((packet.state, packet.poll), (State::Up, PollBits::Poll));
        assert_eq!(
            (packet.desired_min_tx, packet.required_min_rx),
            (250_000, 250_000)
        );
        assert_eq!(packet.your_discriminator, 2);
    }
}

#[test]
fn an_old_snapshot_still_accepts_the_sequence_of_the_remote_system() {
    for method in [Method::KeyedSha1, Method::MeticulousKeyedSha1] {
        let keyring = keyring(method, &[(1, b"secret")]);
        let mut link = Link::up([parameters(100, 3); 2], Some(&keyring), 1);
        let mut snapshot = link.kill(0);
        let sequences = snapshot.sequences.as_mut().unwrap();
        sequences.received = sequences.received.map(|last| last.wrapping_sub(5000));
        let session = Session::resume(parameters(100, 3), &snapshot, Some(keyring), link.now, 0).unwrap();
        link.sides[0].session = Some(session);
        link.run(Duration::from_secs(10));
        for side in &link.sides {
            assert_eq!(
                (&side.changes[..], &side.ignored[..]),
                (&[][..], &[][..]),
                "{method:?}"
            );
        }
    }
}

#[test]
fn a_resumed_session_goes_down_when_nothing_arrives() {
    let mut link = Link::up([parameters(100, 3); 2], None, 1);
    let snapshot = link.kill(0);
    link.loss = 100;
    link.run(milliseconds(200));
    let resumed = Session::resume(parameters(100, 3), &snapshot, None, link.now, 0).unwrap();
    assert_eq!(resumed.snapshot(), snapshot);
    let expiry = link.now + resumed.detection_time();
    link.sides[0].session = Some(resumed);
    link.run(Duration::from_secs(5));
    let [(at, change)] = link.sides[0].changes[..] else {
        panic!("{:?}", link.sides[0].changes);
    };
    assert_eq!(at, expiry);
    assert_eq!((change.from, change.to), (State::Up, State::Down));
    assert_eq!(change.diagnostic, Diagnostic::DETECTION_TIME_EXPIRED);
}

#[test]
fn a_resumed_session_follows_a_remote_system_that_went_down() {
    let mut link = Link::up([parameters(100, 3); 2], None, 1);
    let snapshot = link.kill(0);
    link.run(milliseconds(800));
    assert_eq!(link.session(1).state(), State::Down);
    let session = Session::resume(parameters(100, 3), &snapshot, None, link.now, 0);
    link.sides[0].session = Some(session.unwrap());
    link.run(Duration::from_secs(3));
    assert_eq!(link.states(), [State::Up; 2]);
    let states: Vec<State> = link.sides[0]
        .changes
        .iter()
        .map(|(_, change)| change.to)
        .collect();
    assert!(
        states.starts_with(&[State::Down]) && states.ends_with(&[State::Up]),
        "{states:?}"
    );
}

#[test]
fn a_replayed_packet_is_ignored_after_a_restart() {
    for method in [Method::KeyedSha1, Method::MeticulousKeyedSha1] {
        let keyring = keyring(method, &[(1, b"secret")]);
        let mut link = Link::up([parameters(100, 3); 2], Some(&keyring), 1);
        let mut snapshot = link.session(0).snapshot();
        let sequences = snapshot.sequences.as_mut().unwrap();
        let last = sequences.received.unwrap();
        // As if the last packet had been one later.
        sequences.received = Some(last.wrapping_add(1));
        let mut session = Session::resume(
            parameters(100, 3),
            &snapshot,
            Some(Arc::clone(&keyring)),
            link.now,
            0,
        )
        .unwrap();
        let random = last.wrapping_sub(u32::from(method == Method::KeyedSha1));
        let remote = NonZeroU32::new(2).unwrap();
        let mut replay = Session::new(parameters(100, 3), remote, Some(keyring), START, random);
        let packet = replay.timeout(START, 0).packet.unwrap();
        let packet = Packet::parse(packet.as_ref()).unwrap();
        let result = session.received(&packet, link.now, 0);
        assert_eq!(result, Err(Ignored::AuthenticationSequence), "{method:?}");
        link.sides[0].session = Some(session);
        link.run(Duration::from_secs(1));
        assert_eq!(link.states(), [State::Up; 2]);
    }
}

#[test]
fn other_states_are_resumed_as_down_or_disabled() {
    for (stored, resumed) in
        State::ALL
            .into_iter()
            .zip([State::AdminDown, State::Down, State::Down, State::Up])
    {
        let mut snapshot = up(parameters(100, 3), START).snapshot();
        snapshot.state = stored;
        let session = Session::resume(parameters(100, 3), &snapshot, None, START, 0).unwrap();
        assert_eq!(session.state(), resumed);
        assert_eq!(session.discriminator().get(), 1);
    }
}

#[test]
fn a_session_that_is_down_is_resumed_with_any_sequence_of_the_remote_system() {
    let keyring = keyring(Method::MeticulousKeyedSha1, &[(1, b"secret")]);
    let mut link = Link::up([parameters(100, 3); 2], Some(&keyring), 1);
    let mut snapshot = link.kill(0);
    let sequences = snapshot.sequences.as_mut().unwrap();
    sequences.received = sequences.received.map(|last| last.wrapping_add(1000));
    snapshot.state = State::Down;
    let transmit = sequences.transmit;
    link.run(Duration::from_secs(2));
    let session = Session::resume(parameters(100, 3), &snapshot, Some(keyring), link.now, 0).unwrap();
    assert_eq!(session.snapshot().sequences.unwrap().transmit, transmit);
    link.sides[0].session = Some(session);
    link.run(Duration::from_secs(3));
    assert_eq!(link.states(), [State::Up; 2]);
}

#[test]
fn a_snapshot_that_lacks_a_value_is_rejected() {
    let valid = up(parameters(100, 3), START).snapshot();
    let resume = |change: fn(&mut super::super::Snapshot)| {
        let mut snapshot = valid;
        change(&mut snapshot);
        Session::resume(parameters(100, 3), &snapshot, None, START, 0).map(|session| session.state())
    };
    assert_eq!(resume(|_| {}), Ok(State::Up));
    let changes: [fn(&mut super::super::Snapshot); 6] = [
        |snapshot| snapshot.local_discriminator = 0,
        |snapshot| snapshot.remote_discriminator = 0,
        |snapshot| snapshot.remote = None,
        |snapshot| snapshot.remote.as_mut().unwrap().multiplier = 0,
        |snapshot| snapshot.min_tx = 0,
        |snapshot| snapshot.min_rx = 0,
    ];
    let errors: std::collections::BTreeSet<String> = changes
        .into_iter()
        .map(|change| {
            let error: InvalidSnapshot = resume(change).unwrap_err();
            error.to_string()
        })
        .collect();
    assert_eq!(errors.len(), 5, "both intervals have one text: {errors:?}");
}
