//! Per-device settings below /proc/sys/net; never those of `all` and `default`.

use std::fmt;

use super::Object;
use super::change::{Operation, Verb};
use super::order::{Around, Condition, Needs, Stage};
use crate::net::LinkName;

/// A setting of one device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sysctl {
    /// `net.ipv4.conf.DEV.rp_filter`: 0 off, 1 strict, 2 loose.
    RpFilter,
}

impl Sysctl {
    /// All settings that Adit manages.
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

/// Sets a setting of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SysctlChange {
    /// The device.
    pub link: LinkName,
    /// The setting.
    pub sysctl: Sysctl,
    /// The new value.
    pub value: String,
}

impl Operation for SysctlChange {
    fn object(&self) -> Object {
        Object::Sysctl(self.link.clone(), self.sysctl)
    }

    fn verb(&self) -> Verb {
        Verb::Set
    }

    fn stage(&self) -> Stage {
        Stage::LinkSettings
    }

    fn needs<'a>(&'a self, _around: Around<'a>, needs: &mut Needs<'a>) {
        needs.requires(Condition::Link(&self.link));
    }
}

impl fmt::Display for SysctlChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "set {} of {} to {}", self.sysctl, self.link, self.value)
    }
}
