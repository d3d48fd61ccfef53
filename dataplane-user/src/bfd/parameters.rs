//! What an operator configures of a session.

use std::num::NonZeroU8;
use std::time::Duration;

/// Intervals and detect multiplier of the local system, within their bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parameters {
    min_tx: u32,
    min_rx: u32,
    multiplier: NonZeroU8,
}

/// A parameter that is out of bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidParameters {
    /// The interval at which to send.
    #[error(
        "the transmit interval is {0:?}; expected {min:?} to {max:?}",
        min = Parameters::MIN_INTERVAL,
        max = Parameters::MAX_INTERVAL
    )]
    TransmitInterval(Duration),
    /// The interval at which to receive.
    #[error(
        "the receive interval is {0:?}; expected {min:?} to {max:?}",
        min = Parameters::MIN_INTERVAL,
        max = Parameters::MAX_INTERVAL
    )]
    ReceiveInterval(Duration),
    /// The detect multiplier.
    #[error("the detect multiplier is {0}; expected 1 to 255")]
    Multiplier(u32),
}

impl Parameters {
    /// The smallest interval.
    pub const MIN_INTERVAL: Duration = Duration::from_millis(50);
    /// The largest interval.
    pub const MAX_INTERVAL: Duration = Duration::from_secs(60);

    /// The smallest interval at which to send, the smallest at which to receive, and the number of packets
    /// that the remote system may miss. Intervals are rounded down to microseconds.
    ///
    /// # Errors
    /// If one of them is out of bounds.
    pub fn new(
        transmit: Duration,
        receive: Duration,
        multiplier: u32,
    ) -> Result<Parameters, InvalidParameters> {
        let min_tx = interval(transmit).ok_or(InvalidParameters::TransmitInterval(transmit))?;
        let min_rx = interval(receive).ok_or(InvalidParameters::ReceiveInterval(receive))?;
        let invalid = InvalidParameters::Multiplier(multiplier);
        let multiplier = u8::try_from(multiplier).ok().and_then(NonZeroU8::new);
        Ok(Parameters {
            min_tx,
            min_rx,
            multiplier: multiplier.ok_or(invalid)?,
        })
    }

    /// The smallest interval at which to send, in microseconds.
    #[must_use]
    pub fn min_tx(self) -> u32 {
        self.min_tx
    }

    /// The smallest interval at which to receive, in microseconds.
    #[must_use]
    pub fn min_rx(self) -> u32 {
        self.min_rx
    }

    /// The detect multiplier.
    #[must_use]
    pub fn multiplier(self) -> NonZeroU8 {
        self.multiplier
    }
}

fn interval(interval: Duration) -> Option<u32> {
    let allowed = Parameters::MIN_INTERVAL..=Parameters::MAX_INTERVAL;
    if !allowed.contains(&interval) {
        return None;
    }
    interval.as_micros().try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_part_of_the_range_and_of_the_error() {
        let (least, most) = (Parameters::MIN_INTERVAL, Parameters::MAX_INTERVAL);
        let accepted = Parameters::new(least, most, 255).unwrap();
        assert_eq!(
            (accepted.min_tx(), accepted.min_rx(), accepted.multiplier().get()),
            (50_000, 60_000_000, 255)
        );
        assert!(Parameters::new(most, least, 1).is_ok());
        let nano = Duration::from_nanos(1);
        for wrong in [least - nano, most + nano, Duration::ZERO, Duration::MAX] {
            assert_eq!(
                Parameters::new(wrong, most, 3),
                Err(InvalidParameters::TransmitInterval(wrong))
            );
            let error = Parameters::new(least, wrong, 3).unwrap_err();
            assert_eq!(error, InvalidParameters::ReceiveInterval(wrong));
            assert!(
                error.to_string().contains("50ms") && error.to_string().contains("60s"),
                "{error}"
            );
        }
        for wrong in [0, 256, u32::MAX] {
            let error = Parameters::new(least, least, wrong).unwrap_err();
            assert_eq!(error, InvalidParameters::Multiplier(wrong));
        }
    }
}
