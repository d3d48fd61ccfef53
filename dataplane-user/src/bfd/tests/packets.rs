//! Packets against bytes written by hand, and the checks of received ones.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

fn any_control() -> impl Strategy<Value = Control> {
    let poll = prop_oneof![
        Just(PollBits::Neither),
        Just(PollBits::Poll),
        Just(PollBits::Final)
    ];
    let flags = (any::<bool>(), any::<bool>());
    let numbers = (1u8.., 1u32.., any::<u32>());
    (0u8..32, 0usize..4, poll, flags, numbers, any::<[u32; 3]>()).prop_map(
        |(diagnostic, state, poll, flags, (multiplier, my, your), intervals)| {
            let state = State::ALL[state];
            let connected = matches!(state, State::Init | State::Up);
            Control {
                diagnostic: Diagnostic::from_low_bits(diagnostic),
                state,
                poll,
                control_plane_independent: flags.0,
                demand: flags.1,
                detect_multiplier: multiplier.try_into().unwrap(),
                my_discriminator: my.try_into().unwrap(),
                your_discriminator: if connected { your.max(1) } else { your },
                desired_min_tx: intervals[0],
                required_min_rx: intervals[1],
                required_min_echo_rx: intervals[2],
            }
        },
    )
}

proptest! {
    #[test]
    fn an_encoded_packet_is_parsed_as_it_was(control in any_control(), behind in any::<Vec<u8>>()) {
        let bytes = [&control.encode()[..], &behind].concat();
        let packet = Packet::parse(&bytes).unwrap();
        prop_assert_eq!(packet.control, control);
        prop_assert!(packet.authentication.is_none());
    }

    #[test]
    fn parsed_bytes_are_encoded_as_they_were(mut bytes in any::<[u8; 24]>()) {
        // Most random bytes fail the first check.
        bytes[0] = bytes[0] & 0x1f | 0x20;
        bytes[1] &= 0xea;
        bytes[3] = 24;
        if let Ok(packet) = Packet::parse(&bytes) {
            prop_assert_eq!(packet.control.encode(), bytes);
        }
    }
}

#[test]
fn each_field_has_its_place() {
    let control = Control {
        diagnostic: Diagnostic::from_low_bits(21),
        state: State::Init,
        poll: PollBits::Poll,
        control_plane_independent: true,
        demand: true,
        detect_multiplier: 5.try_into().unwrap(),
        my_discriminator: 0x0102_0304.try_into().unwrap(),
        your_discriminator: 0x0506_0708,
        desired_min_tx: 0x1112_1314,
        required_min_rx: 0x2122_2324,
        required_min_echo_rx: 0x3132_3334,
    };
    let bytes = [
        0b0011_0101,
        0b1010_1010,
        5,
        24,
        1,
        2,
        3,
        4,
        5,
        6,
        7,
        8, //
        0x11,
        0x12,
        0x13,
        0x14,
        0x21,
        0x22,
        0x23,
        0x24,
        0x31,
        0x32,
        0x33,
        0x34,
    ];
    assert_eq!(control.encode(), bytes);
    assert_eq!(Packet::parse(&bytes).unwrap().control, control);
    assert_eq!(control.diagnostic.name(), "unassigned");
}

#[test]
fn each_check_has_its_reason() {
    let valid = control(State::Up).encode();
    let with = |at: usize, byte: u8| {
        let mut bytes = [&valid[..], &[4, 28], &[0; 26]].concat();
        bytes[at] = byte;
        bytes
    };
    let authenticated = |length: u8, section: u8| {
        let mut bytes = with(1, valid[1] | 4);
        bytes[3] = length;
        bytes[25] = section;
        bytes
    };
    let mut unconnected = with(11, 0);
    for (bytes, reason) in [
        (valid[..23].to_vec(), Ignored::TooShort),
        (Vec::new(), Ignored::TooShort),
        (with(0, 0x00), Ignored::Version),
        (with(0, 0x40), Ignored::Version),
        (with(3, 23), Ignored::Length),
        (with(3, 53), Ignored::Truncated),
        (with(2, 0), Ignored::DetectMultiplier),
        (with(1, valid[1] | 1), Ignored::Multipoint),
        (with(7, 0), Ignored::MyDiscriminator),
        (unconnected.clone(), Ignored::YourDiscriminator),
        (with(1, valid[1] | 0x30), Ignored::PollAndFinal),
        (authenticated(25, 28), Ignored::AuthenticationLength),
        (authenticated(52, 27), Ignored::AuthenticationLength),
        (authenticated(51, 28), Ignored::AuthenticationLength),
        (authenticated(53, 29), Ignored::Truncated),
    ] {
        assert_eq!(Packet::parse(&bytes).unwrap_err(), reason, "{bytes:02x?}");
    }
    assert!(Packet::parse(&authenticated(52, 28)).is_ok());
    for (state, accepted) in State::ALL.into_iter().zip([true, true, false, false]) {
        unconnected[1] = (state as u8) << 6;
        assert_eq!(Packet::parse(&unconnected).is_ok(), accepted, "{state:?}");
    }
}

#[test]
fn names_of_reasons_are_unique_and_in_snake_case() {
    let names: BTreeSet<&str> = Ignored::ALL.iter().map(|reason| reason.name()).collect();
    assert_eq!(names.len(), Ignored::ALL.len());
    for name in names {
        assert!(
            name.bytes().all(|byte| byte == b'_' || byte.is_ascii_lowercase()),
            "{name}"
        );
    }
}

#[test]
fn packets_for_other_sessions_are_ignored() {
    let mut session = session(parameters(300, 3));
    let other = Control {
        your_discriminator: 9,
        ..control(State::Down)
    };
    assert_eq!(receive(&mut session, &other, START), Err(Ignored::UnknownSession));
    assert_eq!(session.heard(), None);
}
