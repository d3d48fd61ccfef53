//! Per-device settings below /proc/sys/net; never those of `all` and `default`.

use std::fmt;

/// A setting of one device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sysctl {
    /// `net.ipv4.conf.DEV.rp_filter`: 0 off, 1 strict, 2 loose.
    RpFilter,
}

impl Sysctl {
    /// All that we care for.
    pub const ALL: [Sysctl; 1] = [Sysctl::RpFilter];

    /// The path below /proc/sys for a device.
    #[must_use]
    pub fn path(self, link: &str) -> String {
        match self {
            Sysctl::RpFilter => format!("net/ipv4/conf/{link}/rp_filter"),
        }
    }
}

impl fmt::Display for Sysctl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Sysctl::RpFilter => "rp_filter",
        })
    }
}
