//! Tests of whole sessions; the functions that they share.

mod adoption;
mod authentication;
mod link;
mod machine;
mod packets;
mod simulation;
mod timing;

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use super::{Control, Datagram, Diagnostic, Packet, Parameters, PollBits, Session, State, Time};
use super::{Effects, Ignored, Key, Keyring, Method};

const START: Time = Time::from_micros(1_000_000);

fn milliseconds(number: u64) -> Duration {
    Duration::from_millis(number)
}

/// The same interval for both directions.
fn parameters(interval: u64, multiplier: u32) -> Parameters {
    let interval = milliseconds(interval);
    Parameters::new(interval, interval, multiplier).unwrap()
}

/// The ID and the secret of a key.
type IdAndSecret = (u8, &'static [u8]);

fn keyring(method: Method, keys: &[IdAndSecret]) -> Arc<Keyring> {
    let keys = keys.iter().map(|(id, secret)| Key::new(*id, secret).unwrap());
    Arc::new(Keyring::new(method, keys.collect()).unwrap())
}

fn session(parameters: Parameters) -> Session {
    Session::new(parameters, NonZeroU32::new(1).unwrap(), None, START, 0)
}

/// A packet of a remote system with discriminator 2 to a session with discriminator 1.
fn control(state: State) -> Control {
    Control {
        diagnostic: Diagnostic::NONE,
        state,
        poll: PollBits::Neither,
        control_plane_independent: false,
        demand: false,
        detect_multiplier: 3.try_into().unwrap(),
        my_discriminator: 2.try_into().unwrap(),
        your_discriminator: 1,
        desired_min_tx: 300_000,
        required_min_rx: 200_000,
        required_min_echo_rx: 0,
    }
}

/// Hands a packet to a session.
fn receive(session: &mut Session, control: &Control, now: Time) -> Result<Effects, Ignored> {
    let bytes = control.encode();
    session.received(&Packet::parse(&bytes)?, now, 0)
}

/// Hands a packet to a session, which must accept it.
fn accept(session: &mut Session, control: &Control, now: Time) {
    let _effects = receive(session, control, now).expect("it is accepted");
}

/// The mandatory section of a packet that was sent.
fn sent(datagram: Option<Datagram>) -> Control {
    let datagram = datagram.expect("a packet is sent");
    Packet::parse(datagram.as_ref()).expect("it is valid").control
}

/// A session that came up at a time, with a remote system that sends the packets of [`control`], after the
/// poll sequence for the transmit interval.
fn up(parameters: Parameters, now: Time) -> Session {
    let mut session = session(parameters);
    let answer = Control {
        poll: PollBits::Final,
        ..control(State::Up)
    };
    for control in [
        control(State::Down),
        control(State::Init),
        answer,
        control(State::Up),
    ] {
        accept(&mut session, &control, now);
    }
    assert_eq!(session.state(), State::Up);
    session
}
