//! Transmission: intervals, jitter, detection time and the content of packets (RFC 5880, sections 6.8.4 and 6.8.7).

use std::time::Duration;

use super::super::{Control, Datagram, PollBits, Time};
use super::Session;

/// The last packet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sent {
    /// When the first packet is due.
    first: Time,
    /// When the last packet was sent that was not an answer to a poll.
    last: Option<Time>,
    /// By how much the interval from the last packet to the next is reduced, as a fraction of the possible
    /// reduction in 1/65536.
    jitter: u16,
    /// Whether the packet at `last` told the remote system to go down if a single packet is lost.
    is_strict: bool,
    /// The last packet, without its poll and final bits.
    pub(super) content: Option<Control>,
}

impl Sent {
    /// Nothing was sent yet.
    pub(super) fn nothing(first: Time) -> Sent {
        Sent {
            first,
            last: None,
            jitter: 0,
            is_strict: false,
            content: None,
        }
    }
}

impl Session {
    /// The interval of periodic packets, without jitter.
    #[must_use]
    pub fn transmit_interval(&self) -> Duration {
        Duration::from_micros(self.timers.used().min_tx.max(self.remote.timers.min_rx).into())
    }

    /// The time without packets after which the session goes down (section 6.8.4); zero before the first
    /// packet.
    #[must_use]
    pub fn detection_time(&self) -> Duration {
        let interval = self.timers.used().min_rx.max(self.remote.timers.min_tx);
        Duration::from_micros(interval.into()) * self.remote.timers.multiplier.into()
    }

    /// The time without packets after which the session of the remote system goes down.
    #[must_use]
    pub fn remote_detection_time(&self) -> Duration {
        self.transmit_interval() * self.parameters.multiplier().get().into()
    }

    /// When the next periodic packet is due. `None`: the remote system wants none.
    pub(super) fn next_transmission(&self) -> Option<Time> {
        let silenced = self.remote_demand_is_active() && !self.timers.is_polling();
        if silenced || self.remote.timers.min_rx == 0 {
            return None;
        }
        let Some(last) = self.sent.last else {
            return Some(self.sent.first);
        };
        let interval = self.transmit_interval();
        let (least, span) = if self.sent.is_strict || self.is_strict() {
            (10, 15)
        } else {
            (0, 25)
        };
        // In units of 1/(100 · 65536).
        let reduction = (least << 16) + span * u32::from(self.sent.jitter);
        Some(last + (interval - interval * (reduction >> 8) / (100 << 8)))
    }

    /// When the session goes down. `None` if a detection time has passed already, or if no packet was
    /// received yet.
    pub(super) fn detection_deadline(&self) -> Option<Time> {
        let heard = self.heard.filter(|_| self.remote.discriminator != 0)?;
        Some(heard + self.detection_time())
    }

    /// Whether the remote system goes down if a single packet is lost.
    fn is_strict(&self) -> bool {
        self.parameters.multiplier().get() == 1
    }

    pub(super) fn poll_bits(&self) -> PollBits {
        if self.timers.is_polling() {
            PollBits::Poll
        } else {
            PollBits::Neither
        }
    }

    /// The content of the next packet (section 6.8.7), without poll and final bits.
    pub(super) fn content(&self) -> Control {
        let timers = self.timers.advertised();
        Control {
            diagnostic: self.diagnostic,
            state: self.state,
            poll: PollBits::Neither,
            control_plane_independent: false,
            demand: false,
            detect_multiplier: self.parameters.multiplier(),
            my_discriminator: self.local,
            your_discriminator: self.remote.discriminator,
            desired_min_tx: timers.min_tx,
            required_min_rx: timers.min_rx,
            required_min_echo_rx: 0,
        }
    }

    pub(super) fn transmit(&mut self, poll: PollBits, now: Time, random: u32) -> Datagram {
        let content = self.content();
        let new_content = self.sent.content.replace(content) != Some(content);
        // Answers to polls are independent of the periodic packets.
        if poll != PollBits::Final {
            self.sent.last = Some(now);
            self.sent.is_strict = self.is_strict();
            let [high, low, ..] = random.to_be_bytes();
            self.sent.jitter = u16::from_be_bytes([high, low]);
        }
        let control = Control { poll, ..content };
        match &mut self.authentication {
            Some(authentication) => authentication.sign(&control, new_content),
            None => Datagram::plain(&control),
        }
    }
}
