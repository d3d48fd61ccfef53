//! What two sessions promise each other, on links with loss, delay and reordering.

use proptest::prelude::*;

use super::link::Link;
use super::*;

fn any_parameters() -> impl Strategy<Value = Parameters> {
    (50u64..400, 50u64..400, 1u32..6).prop_map(|(transmit, receive, multiplier)| {
        Parameters::new(milliseconds(transmit), milliseconds(receive), multiplier).unwrap()
    })
}

fn any_keyring() -> impl Strategy<Value = Option<Arc<Keyring>>> {
    let with = |method| Just(Some(keyring(method, &[(1, b"secret")])));
    prop_oneof![
        Just(None),
        with(Method::KeyedSha1),
        with(Method::MeticulousKeyedSha1)
    ]
}

/// The interval from one side to the other, in microseconds.
fn agreed(from: Parameters, to: Parameters) -> Duration {
    Duration::from_micros(from.min_tx().max(to.min_rx()).into())
}

fn assert_agreed(link: &Link, parameters: [Parameters; 2]) -> Result<(), TestCaseError> {
    prop_assert_eq!(link.states(), [State::Up; 2]);
    for side in [0, 1] {
        let (own, other) = (parameters[side], parameters[1 - side]);
        prop_assert_eq!(link.session(side).transmit_interval(), agreed(own, other));
        let detection_time = agreed(other, own) * other.multiplier().get().into();
        prop_assert_eq!(link.session(side).detection_time(), detection_time);
        prop_assert_eq!(link.session(1 - side).remote_detection_time(), detection_time);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn sessions_come_up_in_spite_of_loss_and_agree(
        parameters in [any_parameters(), any_parameters()],
        keyring in any_keyring(),
        seed in any::<u64>(),
        loss in 0u32..60,
    ) {
        let mut link = Link::new(parameters, keyring.as_ref(), seed);
        link.loss = loss;
        // Packets overtake each other.
        link.delay = 1_000..200_000;
        let mut came_up = false;
        for _ in 0..120 {
            link.run(Duration::from_secs(1));
            came_up |= link.states().contains(&State::Up);
        }
        prop_assert!(came_up);
        link.loss = 0;
        link.delay = 1_000..5_000;
        link.run(Duration::from_secs(20));
        assert_agreed(&link, parameters)?;
        let changes = link.sides.each_ref().map(|side| side.changes.len());
        link.run(Duration::from_secs(20));
        prop_assert_eq!(changes, link.sides.each_ref().map(|side| side.changes.len()));
    }

    #[test]
    fn a_failure_is_detected_after_the_detection_time_and_never_earlier(
        parameters in [any_parameters(), any_parameters()],
        keyring in any_keyring(),
        seed in any::<u64>(),
        loss in 0u32..70,
    ) {
        let mut link = Link::up(parameters, keyring.as_ref(), seed);
        link.loss = loss;
        for millisecond in 0..15_000 {
            if millisecond == 9_000 {
                link.loss = 100;
            }
            let before = link.sides.each_ref().map(|side| (side.accepted, side.changes.len()));
            link.run(milliseconds(1));
            for (side, (accepted, count)) in before.into_iter().enumerate() {
                let Some((at, change)) = link.sides[side].changes.get(count) else { continue };
                if change.diagnostic != Diagnostic::DETECTION_TIME_EXPIRED || change.to != State::Down {
                    continue;
                }
                let (heard, control) = accepted.expect("it was up");
                let interval = control.desired_min_tx.max(parameters[side].min_rx());
                let detection_time = Duration::from_micros(interval.into())
                    * control.detect_multiplier.get().into();
                prop_assert_eq!(*at, heard + detection_time);
            }
        }
        prop_assert_eq!(link.states(), [State::Down; 2]);
    }

    #[test]
    fn without_loss_nothing_flaps(
        intervals in [50u64..300, 50u64..300],
        multipliers in [1u32..4, 1u32..4],
        keyring in any_keyring(),
        seed in any::<u64>(),
    ) {
        let parameters = [0, 1].map(|side| parameters(intervals[side], multipliers[side]));
        let mut link = Link::up(parameters, keyring.as_ref(), seed);
        link.run(Duration::from_secs(100));
        for side in &link.sides {
            prop_assert!(side.changes.is_empty(), "{:?}", side.changes);
            for pair in side.sent.windows(2) {
                let longest = milliseconds(*intervals.iter().max().unwrap());
                prop_assert!(pair[1].since(pair[0]) <= longest);
            }
        }
    }

    #[test]
    fn timers_change_without_a_flap(
        first in [any_parameters(), any_parameters()],
        changes in prop::collection::vec((0usize..2, any_parameters(), 0u64..3000), 1..30),
        keyring in any_keyring(),
        seed in any::<u64>(),
    ) {
        let mut link = Link::up(first, keyring.as_ref(), seed);
        let mut current = first;
        for (side, parameters, pause) in changes {
            link.session_mut(side).set_parameters(parameters);
            current[side] = parameters;
            link.run(milliseconds(pause));
        }
        link.run(Duration::from_secs(10));
        for side in &link.sides {
            prop_assert!(side.changes.is_empty(), "{:?}", side.changes);
        }
        assert_agreed(&link, current)?;
    }

    #[test]
    fn keys_are_exchanged_without_a_flap(
        parameters in [any_parameters(), any_parameters()],
        meticulous in any::<bool>(),
        seed in any::<u64>(),
        pauses in prop::collection::vec(0u64..500, 8),
    ) {
        let method = if meticulous { Method::MeticulousKeyedSha1 } else { Method::KeyedSha1 };
        let (old, new): (IdAndSecret, IdAndSecret) = ((1, b"old"), (2, b"new"));
        let mut link = Link::up(parameters, Some(&keyring(method, &[old])), seed);
        let steps: [&[IdAndSecret]; 3] = [&[old, new], &[new, old], &[new]];
        let mut pauses = pauses.into_iter();
        for keys in steps {
            for side in [0, 1] {
                link.session_mut(side).set_keyring(Some(keyring(method, keys)), 0);
                link.run(milliseconds(pauses.next().unwrap()));
            }
            // Packets that are still on the link.
            link.run(milliseconds(3));
        }
        link.run(Duration::from_secs(5));
        for side in &link.sides {
            prop_assert!(side.changes.is_empty(), "{:?}", side.changes);
            let by_key = |reason: &Ignored| {
                matches!(reason, Ignored::AuthenticationKey | Ignored::AuthenticationDigest)
            };
            prop_assert!(!side.ignored.iter().any(by_key), "{:?}", side.ignored);
        }
    }
}

#[test]
fn a_disabled_session_is_administratively_down_for_both_sides() {
    let mut link = Link::up([parameters(100, 3); 2], None, 1);
    let diagnostic = Diagnostic::ADMINISTRATIVELY_DOWN;
    link.act(0, |session, now, random| session.disable(diagnostic, now, random));
    link.run(milliseconds(3));
    assert_eq!(link.states(), [State::AdminDown, State::Down]);
    let change = link.sides[1].changes[0].1;
    assert_eq!((change.from, change.to), (State::Up, State::Down));
    assert_eq!(change.diagnostic, Diagnostic::NEIGHBOR_SIGNALED_DOWN);
    assert_eq!(change.remote, State::AdminDown);
    assert_eq!(link.session(1).remote_diagnostic(), diagnostic);
    link.run(Duration::from_secs(10));
    assert_eq!(link.sides[1].changes.len(), 1, "it stays so");
    link.act(0, Session::enable);
    link.run(milliseconds(20));
    assert_eq!(link.states(), [State::Up; 2]);
    let remote: Vec<State> = link.sides[1]
        .changes
        .iter()
        .map(|(_, change)| change.remote)
        .collect();
    assert!(!remote[1..].contains(&State::AdminDown), "{remote:?}");
}

#[test]
fn a_failed_session_learns_that_the_remote_system_is_disabled() {
    let mut link = Link::up([parameters(100, 3); 2], None, 1);
    link.loss = 100;
    link.run(Duration::from_secs(5));
    assert_eq!(link.states(), [State::Down; 2]);
    link.act(0, |session, now, random| {
        session.disable(Diagnostic::ADMINISTRATIVELY_DOWN, now, random)
    });
    link.loss = 0;
    link.run(Duration::from_secs(2));
    let change = link.sides[1].changes.last().unwrap().1;
    assert_eq!((change.from, change.to), (State::Down, State::Down));
    assert_eq!(change.remote, State::AdminDown);
    link.act(0, Session::enable);
    link.run(Duration::from_secs(2));
    assert_eq!(link.states(), [State::Up; 2]);
}

#[test]
fn sessions_are_up_after_two_round_trips() {
    let mut link = Link::new([parameters(300, 3); 2], None, 1);
    link.run(milliseconds(12));
    assert_eq!(link.states(), [State::Up; 2]);
}
