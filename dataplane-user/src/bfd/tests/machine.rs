//! The state machine against the pseudo code of RFC 5880, section 6.8.6.

use proptest::prelude::*;

use super::*;

/// The variables of the pseudo code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Variables {
    session_state: u8,
    local_diag: u8,
    remote_state: u8,
}

const ADMIN_DOWN: u8 = 0;
const DOWN: u8 = 1;
const INIT: u8 = 2;
const UP: u8 = 3;

/// The steps from "Set bfd.RemoteSessionState" on, sentence by sentence.
fn pseudo_code(bfd: &mut Variables, received: u8) {
    bfd.remote_state = received;
    if bfd.session_state == ADMIN_DOWN {
        return;
    }
    if received == ADMIN_DOWN {
        if bfd.session_state != DOWN {
            bfd.local_diag = 3;
            bfd.session_state = DOWN;
        }
    } else if bfd.session_state == DOWN {
        if received == DOWN {
            bfd.session_state = INIT;
        } else if received == INIT {
            bfd.session_state = UP;
        }
    } else if bfd.session_state == INIT {
        if received == INIT || received == UP {
            bfd.session_state = UP;
        }
    } else if received == DOWN {
        bfd.local_diag = 3;
        bfd.session_state = DOWN;
    }
}

fn variables(session: &Session) -> Variables {
    Variables {
        session_state: session.state() as u8,
        local_diag: session.diagnostic().code(),
        remote_state: session.remote_state() as u8,
    }
}

/// An event: a packet with a state, or something else.
#[derive(Clone, Copy, Debug)]
enum Event {
    Packet(State, PollBits, bool),
    DetectionTimePasses,
    Disable,
    Enable,
}

fn event() -> impl Strategy<Value = Event> {
    let poll = prop_oneof![
        Just(PollBits::Neither),
        Just(PollBits::Poll),
        Just(PollBits::Final)
    ];
    prop_oneof![
        20 => (0usize..4, poll, any::<bool>())
            .prop_map(|(state, poll, demand)| Event::Packet(State::ALL[state], poll, demand)),
        2 => Just(Event::DetectionTimePasses),
        1 => Just(Event::Disable),
        2 => Just(Event::Enable),
    ]
}

proptest! {
    #[test]
    fn the_session_agrees_with_the_pseudo_code(events in prop::collection::vec(event(), 1..60)) {
        let mut now = START;
        let mut session = session(parameters(300, 3));
        let mut expected = variables(&session);
        for event in events {
            let before = expected;
            now = now + milliseconds(10);
            let effects = match event {
                Event::Packet(state, poll, demand) => {
                    pseudo_code(&mut expected, state as u8);
                    let control = Control { poll, demand, ..control(state) };
                    let result = receive(&mut session, &control, now);
                    prop_assert_eq!(result.is_err(), before.session_state == ADMIN_DOWN);
                    let answer = result.ok().and_then(|effects| effects.packet);
                    if poll == PollBits::Poll && result.is_ok() {
                        prop_assert_eq!(sent(answer).poll, PollBits::Final);
                    } else {
                        prop_assert_eq!(answer.is_some(), before.session_state != expected.session_state);
                    }
                    result.unwrap_or_default()
                }
                Event::DetectionTimePasses => {
                    now = now + Duration::from_secs(10);
                    if matches!(expected.session_state, INIT | UP) {
                        expected.session_state = DOWN;
                        expected.local_diag = 1;
                    }
                    session.timeout(now, 0)
                }
                Event::Disable => {
                    if expected.session_state != ADMIN_DOWN {
                        expected.session_state = ADMIN_DOWN;
                        expected.local_diag = 7;
                    }
                    session.disable(Diagnostic::ADMINISTRATIVELY_DOWN, now, 0)
                }
                Event::Enable => {
                    expected.session_state = expected.session_state.max(DOWN);
                    session.enable(now, 0)
                }
            };
            prop_assert_eq!(variables(&session), expected, "after {:?}", event);
            let accepted = before.session_state != ADMIN_DOWN;
            let became_unknown = (before.remote_state == ADMIN_DOWN) != (expected.remote_state == ADMIN_DOWN);
            let changed = before.session_state != expected.session_state || accepted && became_unknown;
            prop_assert_eq!(effects.change.is_some(), changed);
            if let Some(change) = effects.change {
                let from_and_to = (change.from as u8, change.to as u8);
                prop_assert_eq!(from_and_to, (before.session_state, expected.session_state));
                prop_assert_eq!(change.remote as u8, expected.remote_state);
                prop_assert_eq!(change.diagnostic.code(), expected.local_diag);
            }
            if let Some(packet) = effects.packet {
                let control = sent(Some(packet));
                prop_assert_eq!(control.state as u8, expected.session_state);
                prop_assert_eq!(control.diagnostic.code(), expected.local_diag);
                prop_assert!(control.state == State::Up || control.desired_min_tx >= 1_000_000);
                prop_assert!(!control.demand);
            }
        }
    }
}

/// Brings a session into a state.
fn in_state(state: State) -> Session {
    let mut session = session(parameters(300, 3));
    let received: &[State] = match state {
        State::AdminDown | State::Down => &[],
        State::Init => &[State::Down],
        State::Up => &[State::Down, State::Init],
    };
    for state in received {
        accept(&mut session, &control(*state), START);
    }
    if state == State::AdminDown {
        let _effects = session.disable(Diagnostic::ADMINISTRATIVELY_DOWN, START, 0);
    }
    assert_eq!(session.state(), state);
    session
}

#[test]
fn each_state_and_each_received_state() {
    use State::{AdminDown, Down, Init, Up};
    // Rows: the local state; columns: the received one.
    let table = [
        [AdminDown, AdminDown, AdminDown, AdminDown],
        [Down, Init, Up, Down],
        [Down, Init, Up, Up],
        [Down, Down, Up, Up],
    ];
    for (local, row) in State::ALL.into_iter().zip(table) {
        for (received, expected) in State::ALL.into_iter().zip(row) {
            let mut session = in_state(local);
            let mut reference = variables(&session);
            let _ignored_if_disabled = receive(&mut session, &control(received), START);
            pseudo_code(&mut reference, received as u8);
            assert_eq!(session.state(), expected, "{local:?} receives {received:?}");
            assert_eq!(variables(&session), reference, "{local:?} receives {received:?}");
        }
    }
}
