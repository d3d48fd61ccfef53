//! Two sessions and a link between them that delays, reorders and loses packets, in virtual time.

use std::collections::BTreeMap;
use std::ops::Range;

use super::super::fuzz::Random;
use super::super::{Change, Snapshot};
use super::*;

/// One end of a link.
pub(super) struct Side {
    /// `None` while the process does not run.
    pub(super) session: Option<Session>,
    pub(super) changes: Vec<(Time, Change)>,
    pub(super) ignored: Vec<Ignored>,
    /// The last packet that was accepted, and its time.
    pub(super) accepted: Option<(Time, Control)>,
    /// When each packet arrived or got lost.
    pub(super) sent: Vec<Time>,
}

/// Two sides, 0 and 1.
pub(super) struct Link {
    pub(super) now: Time,
    pub(super) sides: [Side; 2],
    /// Of 100 packets.
    pub(super) loss: u32,
    /// In microseconds.
    pub(super) delay: Range<u32>,
    /// By time of arrival, then in the order of sending: the receiver and the bytes.
    packets: BTreeMap<(Time, u64), (usize, Datagram)>,
    number: u64,
    random: Random,
}

impl Link {
    /// Two new sessions and a link without loss.
    pub(super) fn new(parameters: [Parameters; 2], keyring: Option<&Arc<Keyring>>, seed: u64) -> Link {
        let mut random = Random::new(seed);
        let mut number = 0;
        let sides = parameters.map(|parameters| {
            number += 1;
            let local = NonZeroU32::new(number).unwrap();
            let session = Session::new(parameters, local, keyring.cloned(), START, random.number());
            Side {
                session: Some(session),
                changes: Vec::new(),
                ignored: Vec::new(),
                accepted: None,
                sent: Vec::new(),
            }
        });
        Link {
            now: START,
            sides,
            loss: 0,
            delay: 1_000..3_000,
            packets: BTreeMap::new(),
            number: 0,
            random,
        }
    }

    /// Two sessions that are up, with their poll sequences behind them and no events recorded.
    pub(super) fn up(parameters: [Parameters; 2], keyring: Option<&Arc<Keyring>>, seed: u64) -> Link {
        let mut link = Link::new(parameters, keyring, seed);
        let longest = parameters.map(|parameters| parameters.min_tx().max(parameters.min_rx()));
        link.run(
            Duration::from_secs(10) + 5 * Duration::from_micros(longest.into_iter().max().unwrap().into()),
        );
        assert_eq!(link.states(), [State::Up; 2]);
        for side in &mut link.sides {
            side.changes.clear();
            side.ignored.clear();
            side.sent.clear();
        }
        link
    }

    pub(super) fn states(&self) -> [State; 2] {
        [0, 1].map(|side| self.session(side).state())
    }

    pub(super) fn session(&self, side: usize) -> &Session {
        self.sides[side].session.as_ref().expect("it runs")
    }

    pub(super) fn session_mut(&mut self, side: usize) -> &mut Session {
        self.sides[side].session.as_mut().expect("it runs")
    }

    /// Ends the process of a side.
    pub(super) fn kill(&mut self, side: usize) -> Snapshot {
        self.sides[side].session.take().expect("it runs").snapshot()
    }

    /// Does something with a session.
    pub(super) fn act(&mut self, side: usize, act: impl FnOnce(&mut Session, Time, u32) -> Effects) {
        let (now, random) = (self.now, self.random.number());
        let effects = act(self.session_mut(side), now, random);
        self.apply(side, effects);
    }

    /// Passes time.
    pub(super) fn run(&mut self, duration: Duration) {
        let end = self.now + duration;
        loop {
            let arrival = self.packets.first_key_value().map(|((time, _), _)| *time);
            let deadlines = [0, 1].map(|side| {
                let session = self.sides[side].session.as_ref()?;
                Some((session.next_deadline()?, side))
            });
            let deadline = deadlines.into_iter().flatten().min();
            // A packet that arrives at the deadline is in time.
            if let Some(arrival) = arrival.filter(|arrival| *arrival <= end)
                && deadline.is_none_or(|(deadline, _)| arrival <= deadline.max(self.now))
            {
                self.now = arrival;
                self.deliver();
            } else if let Some((deadline, side)) = deadline.filter(|(deadline, _)| *deadline <= end) {
                self.now = self.now.max(deadline);
                self.act(side, Session::timeout);
            } else {
                break;
            }
        }
        self.now = end;
    }

    fn deliver(&mut self) {
        let (_, (to, datagram)) = self.packets.pop_first().expect("one is to arrive");
        let (now, random) = (self.now, self.random.number());
        let side = &mut self.sides[to];
        let Some(session) = &mut side.session else {
            return;
        };
        let packet = Packet::parse(datagram.as_ref()).expect("sessions send valid packets");
        match session.received(&packet, now, random) {
            Ok(effects) => {
                side.accepted = Some((now, packet.control));
                self.apply(to, effects);
            }
            Err(reason) => side.ignored.push(reason),
        }
    }

    fn apply(&mut self, side: usize, effects: Effects) {
        let now = self.now;
        self.sides[side]
            .changes
            .extend(effects.change.map(|change| (now, change)));
        let Some(datagram) = effects.packet else {
            return;
        };
        self.sides[side].sent.push(now);
        if self.random.below(100) >= self.loss {
            let span = self.delay.end - self.delay.start;
            let delay = self.delay.start + self.random.below(span);
            self.number += 1;
            let arrival = now + Duration::from_micros(delay.into());
            self.packets.insert((arrival, self.number), (1 - side, datagram));
        }
    }
}
