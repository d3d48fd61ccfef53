//! Intervals, jitter, detection time, poll sequences and demand mode of one session.

use proptest::prelude::*;

use super::*;

/// Passes time until a packet is sent, and returns it and its time.
fn next_packet(session: &mut Session) -> (Time, Control) {
    let now = session.next_deadline().expect("a packet is due");
    (now, sent(session.timeout(now, 0).packet))
}

proptest! {
    #[test]
    fn jitter_is_within_its_bounds(
        own in 50u64..60_000,
        remote in 0u32..=u32::MAX,
        multiplier in 1u32..=255,
        random in any::<u32>(),
    ) {
        let mut session = up(parameters(own, multiplier), START);
        // The detection time is long, so that the next deadline is that of a packet.
        let control = Control {
            required_min_rx: remote.max(1),
            desired_min_tx: u32::MAX,
            detect_multiplier: 255.try_into().unwrap(),
            ..control(State::Up)
        };
        accept(&mut session, &control, START);
        let now = session.next_deadline().unwrap();
        let _effects = session.timeout(now, random);
        let interval = milliseconds(own).max(Duration::from_micros(remote.into()));
        prop_assert_eq!(session.transmit_interval(), interval);
        let pause = session.next_deadline().unwrap().since(now);
        let most = if multiplier == 1 { interval * 9 / 10 } else { interval };
        let micro = Duration::from_micros(1);
        prop_assert!(pause <= most, "{:?} of {:?}", pause, interval);
        prop_assert!(pause + micro >= interval * 3 / 4, "{:?} of {:?}", pause, interval);
    }
}

#[test]
fn jitter_uses_its_whole_range() {
    let pause = |multiplier, random| {
        let mut session = session(parameters(100, multiplier));
        let _effects = session.timeout(START, random);
        let pause = session.next_deadline().unwrap().since(START);
        u64::try_from(pause.as_millis()).unwrap()
    };
    assert_eq!(
        (pause(3, 0), pause(3, 1 << 31), pause(3, u32::MAX)),
        (1000, 875, 750)
    );
    assert_eq!(
        (pause(1, 0), pause(1, 1 << 31), pause(1, u32::MAX)),
        (900, 825, 750)
    );
}

#[test]
fn a_larger_multiplier_does_not_help_before_the_remote_system_knows_it() {
    for (before, after) in [(1, 2), (2, 1), (1, 1)] {
        let mut session = session(parameters(100, before));
        let _effects = session.timeout(START, 0);
        session.set_parameters(parameters(100, after));
        assert_eq!(session.next_deadline(), Some(START + milliseconds(900)));
    }
}

#[test]
fn the_detection_time_is_that_of_the_remote_multiplier_and_the_slower_interval() {
    for (own, remote, expected) in [(100, 300_000, 900), (400, 300_000, 1200)] {
        let mut session = up(parameters(own, 7), START);
        let control = Control {
            desired_min_tx: remote,
            ..control(State::Up)
        };
        accept(&mut session, &control, START);
        assert_eq!(session.detection_time(), milliseconds(expected));
        let expiry = START + milliseconds(expected);
        assert_eq!(session.timeout(expiry, 0).change.unwrap().to, State::Down);
        assert_eq!(session.diagnostic(), Diagnostic::DETECTION_TIME_EXPIRED);
    }
    let mut session = up(parameters(100, 7), START);
    let early = START + (milliseconds(900) - Duration::from_micros(1));
    assert_eq!(session.timeout(early, 0).change, None);
}

#[test]
fn after_a_detection_time_the_remote_system_is_forgotten() {
    let mut session = up(parameters(100, 3), START);
    let effects = session.timeout(START + milliseconds(900), 0);
    let packet = sent(effects.packet);
    assert_eq!((packet.your_discriminator, packet.state), (0, State::Down));
    assert_eq!(packet.desired_min_tx, 1_000_000);
    // Also without periodic packets: the remote system does not want any.
    let mut session = self::session(parameters(100, 3));
    let silent = Control {
        required_min_rx: 0,
        ..control(State::Down)
    };
    accept(&mut session, &silent, START);
    let expiry = START + session.detection_time();
    assert_eq!(session.next_deadline(), Some(expiry));
    let packet = sent(session.timeout(expiry, 0).packet);
    assert_eq!((packet.your_discriminator, packet.state), (0, State::Down));
    assert!(session.next_deadline() > Some(expiry));
}

#[test]
fn coming_up_begins_a_poll_sequence_that_an_answer_ends() {
    let mut session = session(parameters(100, 3));
    let effects = receive(&mut session, &control(State::Down), START).unwrap();
    let packet = sent(effects.packet);
    assert_eq!((packet.state, packet.desired_min_tx), (State::Init, 1_000_000));
    assert_eq!(packet.poll, PollBits::Neither, "nothing changed");
    let packet = sent(
        receive(&mut session, &control(State::Init), START)
            .unwrap()
            .packet,
    );
    assert_eq!((packet.state, packet.desired_min_tx), (State::Up, 100_000));
    assert_eq!(packet.poll, PollBits::Poll);
    assert_eq!(next_packet(&mut session).1.poll, PollBits::Poll);
    let answer = Control {
        poll: PollBits::Final,
        ..control(State::Up)
    };
    assert_eq!(receive(&mut session, &answer, START).unwrap(), Effects::default());
    assert_eq!(next_packet(&mut session).1.poll, PollBits::Neither);
}

#[test]
fn slower_sending_and_faster_detection_wait_for_the_answer() {
    let mut session = up(parameters(500, 3), START);
    let fast = Control {
        desired_min_tx: 50_000,
        ..control(State::Up)
    };
    accept(&mut session, &fast, START);
    assert_eq!(session.detection_time(), milliseconds(1500));
    let (slow, quick) = (milliseconds(900), milliseconds(100));
    session.set_parameters(Parameters::new(slow, quick, 3).unwrap());
    assert_eq!(session.transmit_interval(), milliseconds(500));
    assert_eq!(session.detection_time(), milliseconds(1500));
    let packet = next_packet(&mut session).1;
    assert_eq!(
        (packet.desired_min_tx, packet.required_min_rx),
        (900_000, 100_000)
    );
    assert_eq!(packet.poll, PollBits::Poll);
    let snapshot = session.snapshot();
    assert_eq!(
        (snapshot.min_tx, snapshot.min_rx),
        (500_000, 500_000),
        "the intervals in use"
    );
    // A change in between waits until this poll sequence is over and a packet without an answer arrived.
    session.set_parameters(parameters(700, 3));
    assert_eq!(next_packet(&mut session).1.desired_min_tx, 900_000);
    let answer = Control {
        poll: PollBits::Final,
        ..fast
    };
    accept(&mut session, &answer, START);
    assert_eq!(session.transmit_interval(), milliseconds(900));
    assert_eq!(session.detection_time(), milliseconds(300));
    accept(&mut session, &answer, START);
    assert_eq!(session.transmit_interval(), milliseconds(900));
    accept(&mut session, &fast, START);
    // Faster sending and slower detection are in effect at once.
    assert_eq!(session.transmit_interval(), milliseconds(700));
    assert_eq!(session.detection_time(), milliseconds(2100));
    let packet = next_packet(&mut session).1;
    assert_eq!((packet.desired_min_tx, packet.poll), (700_000, PollBits::Poll));
}

#[test]
fn a_faster_interval_of_the_remote_system_is_honored_at_once() {
    let mut session = up(parameters(50, 3), START);
    let slow = Control {
        required_min_rx: 10_000_000,
        desired_min_tx: 60_000_000,
        ..control(State::Up)
    };
    accept(&mut session, &slow, START);
    assert_eq!(session.next_deadline(), Some(START + Duration::from_secs(10)));
    let now = START + Duration::from_secs(5);
    accept(&mut session, &control(State::Up), now);
    assert!(session.next_deadline() < Some(now), "it is overdue");
    assert!(session.timeout(now, 0).packet.is_some());
    assert_eq!(session.next_deadline(), Some(now + milliseconds(200)));
}

#[test]
fn in_demand_mode_of_the_remote_system_only_polls_are_sent() {
    let mut session = up(parameters(50, 3), START);
    let _periodic = next_packet(&mut session);
    let demand = Control {
        demand: true,
        ..control(State::Up)
    };
    accept(&mut session, &demand, START);
    let expiry = Some(START + session.detection_time());
    assert_eq!(session.next_deadline(), expiry, "only detection is left");
    let polled = Control {
        poll: PollBits::Poll,
        ..demand
    };
    let answer = receive(&mut session, &polled, START).unwrap().packet;
    assert_eq!(sent(answer).poll, PollBits::Final);
    // Content that no periodic packet carries needs a poll.
    session.set_parameters(parameters(50, 4));
    let (_, packet) = next_packet(&mut session);
    assert_eq!((packet.poll, packet.detect_multiplier.get()), (PollBits::Poll, 4));
    let answer = Control {
        poll: PollBits::Final,
        ..demand
    };
    accept(&mut session, &answer, START);
    assert_eq!(session.next_deadline(), expiry);
    accept(&mut session, &control(State::Up), START);
    assert!(
        session.next_deadline() < expiry,
        "periodic packets are sent again"
    );
}

#[test]
fn answers_to_polls_do_not_delay_periodic_packets() {
    let mut session = up(parameters(50, 3), START);
    let due = session.next_deadline();
    let poll = Control {
        poll: PollBits::Poll,
        ..control(State::Up)
    };
    let effects = receive(&mut session, &poll, START + milliseconds(10)).unwrap();
    assert_eq!(sent(effects.packet).poll, PollBits::Final);
    assert_eq!(session.next_deadline(), due);
}

#[test]
fn a_remote_system_that_wants_no_periodic_packets_gets_only_answers() {
    let mut session = up(parameters(50, 3), START);
    let silent = Control {
        required_min_rx: 0,
        poll: PollBits::Poll,
        desired_min_tx: 10_000_000,
        ..control(State::Up)
    };
    let effects = receive(&mut session, &silent, START).unwrap();
    assert_eq!(sent(effects.packet).poll, PollBits::Final);
    assert_eq!(
        session.next_deadline(),
        Some(START + Duration::from_secs(30)),
        "detection"
    );
}

#[test]
fn parameters_of_a_session_that_is_not_up_are_in_effect_at_once() {
    let mut session = session(parameters(500, 3));
    accept(&mut session, &control(State::Down), START);
    session.set_parameters(parameters(50, 3));
    assert_eq!(session.detection_time(), milliseconds(900));
    let (_, packet) = next_packet(&mut session);
    assert_eq!(
        (packet.desired_min_tx, packet.required_min_rx),
        (1_000_000, 50_000)
    );
    assert_eq!(packet.poll, PollBits::Poll);
    session.set_parameters(parameters(2000, 3));
    assert_eq!(session.transmit_interval(), milliseconds(2000));
    assert_eq!(session.detection_time(), milliseconds(6000));
}
