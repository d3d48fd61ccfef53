//! Capabilities of the process, checked before anything is tried.

use std::fs;

use anyhow::{Context, anyhow};

use super::exit::{Code, Failure};

/// A capability and its number (linux/capability.h).
#[derive(Clone, Copy, Debug)]
pub(super) struct Capability(&'static str, u8);

/// For devices, addresses, routes, and attaching programs to TC.
pub(super) const NET_ADMIN: Capability = Capability("CAP_NET_ADMIN", 12);
/// For maps and programs.
pub(super) const BPF: Capability = Capability("CAP_BPF", 39);
/// For programs that read packets and use helpers.
pub(super) const PERFMON: Capability = Capability("CAP_PERFMON", 38);

/// Fails if a capability is missing. The error names the missing ones and how to get them.
pub(super) fn require(required: &[Capability]) -> Result<(), Failure> {
    let missing = lacking(required)?;
    if missing.is_empty() {
        return Ok(());
    }
    let all = required
        .iter()
        .map(|capability| capability.0)
        .collect::<Vec<_>>()
        .join(" ");
    Err(Failure::new(
        Code::Privilege,
        anyhow!(
            "missing {}: run as root, or set AmbientCapabilities={all} in the systemd unit",
            missing.join(" and ")
        ),
    ))
}

/// The names of the missing capabilities.
pub(super) fn lacking(required: &[Capability]) -> anyhow::Result<Vec<&'static str>> {
    let status = fs::read_to_string("/proc/self/status").context("reading /proc/self/status")?;
    let effective = effective(&status).context("/proc/self/status has no CapEff")?;
    Ok(missing(effective, required))
}

fn effective(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

fn missing(effective: u64, required: &[Capability]) -> Vec<&'static str> {
    required
        .iter()
        .filter(|capability| effective >> capability.1 & 1 == 0)
        .map(|c| c.0)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_capabilities_are_named() {
        let effective = effective("Name:\tadit\nCapEff:\t0000000000001000\n").unwrap();
        assert_eq!(
            missing(effective, &[NET_ADMIN, BPF, PERFMON]),
            ["CAP_BPF", "CAP_PERFMON"]
        );
        assert_eq!(missing(0x1ff_ffff_ffff, &[NET_ADMIN, BPF, PERFMON]), [""; 0]);
    }
}
