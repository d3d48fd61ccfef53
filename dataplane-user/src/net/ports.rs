//! Ranges of UDP source ports.

use std::fmt;
use std::str::FromStr;

/// Source ports of outer headers, as in `ip link … srcport MIN MAX`: from MIN up to, but not including, MAX
/// (`udp_flow_src_port`, net/udp.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PortRange {
    low: u16,
    high: u16,
}

impl PortRange {
    /// A range; `None` if it is empty, or begins with 0, which lets the kernel choose.
    #[must_use]
    pub fn new(low: u16, high: u16) -> Option<PortRange> {
        (0 < low && low < high).then_some(PortRange { low, high })
    }

    /// The first port.
    #[must_use]
    pub fn low(self) -> u16 {
        self.low
    }

    /// The port after the last one.
    #[must_use]
    pub fn high(self) -> u16 {
        self.high
    }
}

impl FromStr for PortRange {
    type Err = String;

    /// `MIN-MAX`.
    fn from_str(text: &str) -> Result<PortRange, String> {
        let ends = text.split_once('-');
        let ends = ends.and_then(|(low, high)| Some((low.trim().parse().ok()?, high.trim().parse().ok()?)));
        ends.and_then(|(low, high)| PortRange::new(low, high))
            .ok_or_else(|| format!("`{text}` is not a port range; expected MIN-MAX, such as 49152-65535"))
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.low, self.high)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_have_a_port_at_least_and_never_zero() {
        let range: PortRange = "49152-65535".parse().unwrap();
        assert_eq!((range.low(), range.high()), (49152, 65535));
        assert_eq!(range.to_string(), "49152-65535");
        for wrong in ["", "1", "1-", "-2", "0-9", "9-9", "9-8", "1-65536", "a-b"] {
            assert!(wrong.parse::<PortRange>().is_err(), "{wrong}");
        }
    }
}
