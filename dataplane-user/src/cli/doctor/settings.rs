//! Settings of the host that Adit does not write, and its clock.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::mem::MaybeUninit;
use std::path::Path;

use super::finding::Finding;
use super::name;
use super::overlay::Requirements;
use crate::model::devices::is_overlay_device;
use crate::net::{Family, LinkName};

/// Values of settings.
#[derive(Clone, Debug, Default)]
pub(super) struct Facts {
    /// `net.ipv4.ip_forward` and `net.ipv6.conf.all.forwarding`; `None`: absent.
    pub(super) forwarding: (Option<bool>, Option<bool>),
    /// `net.ipv4.conf.all.rp_filter`.
    pub(super) rp_filter: Option<u8>,
    /// Devices with a strict filter, by their own setting or that of `all`; without devices of Adit.
    pub(super) strict: BTreeSet<String>,
    /// The effective value, that of the device or of `all`, on devices that receive packets without
    /// encapsulation.
    pub(super) unencapsulated_rp_filter: BTreeMap<LinkName, u8>,
    /// The same on devices of `firewall.returnPath`.
    pub(super) return_rp_filter: BTreeMap<LinkName, u8>,
    /// Whether the clock is synchronised; `None`: unknown.
    pub(super) synchronised: Option<bool>,
}

impl Facts {
    /// `requirements` names the devices that receive packets without encapsulation, and those of
    /// `firewall.returnPath`.
    pub(super) fn gather(root: &Path, requirements: &Requirements) -> Facts {
        let read = |path: &str| {
            let text = fs::read_to_string(root.join("proc/sys/net").join(path)).ok()?;
            text.trim().parse::<u8>().ok()
        };
        let is_on = |path| read(path).map(|value| value != 0);
        let rp_filter = read("ipv4/conf/all/rp_filter");
        let of_device = |link: &LinkName| {
            let own = read(&format!("ipv4/conf/{link}/rp_filter"))?;
            Some((link.clone(), own.max(rp_filter.unwrap_or(0))))
        };
        let conf = fs::read_dir(root.join("proc/sys/net/ipv4/conf"));
        let devices = conf.into_iter().flatten().filter_map(Result::ok);
        let devices = devices.filter_map(|device| LinkName::new(device.file_name().to_str()?).ok());
        let devices = devices
            .filter(|link| !["all", "default", "lo"].contains(&link.as_str()) && !is_overlay_device(link));
        let strict = devices.filter(|link| of_device(link).is_some_and(|(_, value)| value == 1));
        Facts {
            strict: strict.map(|link| link.to_string()).collect(),
            forwarding: (is_on("ipv4/ip_forward"), is_on("ipv6/conf/all/forwarding")),
            rp_filter,
            unencapsulated_rp_filter: requirements.unencapsulated.iter().filter_map(of_device).collect(),
            return_rp_filter: requirements.return_path.iter().filter_map(of_device).collect(),
            synchronised: synchronised(),
        }
    }
}

pub(super) fn judge(facts: &Facts, requirements: &Requirements) -> Vec<Finding> {
    let mut findings = Vec::new();
    for family in Family::BOTH {
        let (on, setting) = match family {
            Family::Ipv4 => (facts.forwarding.0, "net.ipv4.ip_forward"),
            Family::Ipv6 => (facts.forwarding.1, "net.ipv6.conf.all.forwarding"),
        };
        findings.extend(forwarding(
            family,
            on,
            setting,
            requirements.advertised.contains(&family),
        ));
    }
    findings.extend(facts.rp_filter.map(|all| rp_filter(all, &facts.strict)));
    findings.extend(
        facts
            .unencapsulated_rp_filter
            .iter()
            .map(|(link, value)| unencapsulated_rp_filter(link, *value)),
    );
    findings.extend(
        facts
            .return_rp_filter
            .iter()
            .map(|(link, value)| return_rp_filter(link, *value)),
    );
    findings.extend(facts.synchronised.map(clock));
    findings
}

fn forwarding(family: Family, on: Option<bool>, setting: &str, advertises: bool) -> Option<Finding> {
    match (on, advertises) {
        (Some(true), _) => Some(Finding::ok("forwarding", format!("{setting} = 1"))),
        (_, false) => None,
        // Another check reports a missing family.
        (None, true) => Some(Finding::warning(
            "forwarding",
            format!(
                "can't read {setting}, and this node advertises {} prefixes",
                name(family)
            ),
            "check that packets are forwarded; the finding `ipv6` shows whether the kernel has IPv6",
        )),
        (Some(false), true) => Some(Finding::error(
            "forwarding",
            format!(
                "{setting} = 0, but this node advertises {} prefixes",
                name(family)
            ),
            format!("sysctl -w {setting}=1, and keep it in /etc/sysctl.d"),
        )),
    }
}

fn rp_filter(all: u8, strict: &BTreeSet<String>) -> Finding {
    let evidence = format!("net.ipv4.conf.all.rp_filter = {all}");
    if all != 1 && strict.is_empty() {
        return Finding::ok("rp_filter", evidence);
    }
    // The larger of `all` and the device's own value counts. Devices of Adit have 2.
    let devices = match strict.len() {
        0 => "all devices except those of Adit".to_owned(),
        1..=5 => strict.iter().cloned().collect::<Vec<_>>().join(", "),
        many => format!("{many} devices"),
    };
    Finding::warning(
        "rp_filter",
        format!(
            "{evidence}; the filter is strict (1) on {devices} and drops IPv4 whose source is routed through another device, \
             such as answers of WireGuard endpoints if WireGuard has the default route"
        ),
        "if the underlay is asymmetric or a WireGuard device has a default route: sysctl -w net.ipv4.conf.DEVICE.rp_filter=2",
    )
}

/// A strict filter accepts a packet only from the device that routes its source, which is `adit0` for overlay
/// sources. Adit does not manage the underlay device, so it does not change the setting.
fn unencapsulated_rp_filter(link: &LinkName, value: u8) -> Finding {
    let evidence = format!("{link}, which receives packets without encapsulation, has rp_filter {value}");
    if value != 1 {
        return Finding::ok("rp_filter", evidence);
    }
    Finding::error(
        "rp_filter",
        format!("{evidence} (strict) and drops all IPv4 of the overlay"),
        format!("sysctl -w net.ipv4.conf.{link}.rp_filter=2, and keep it in /etc/sysctl.d"),
    )
}

/// Adit does not manage this device, either.
fn return_rp_filter(link: &LinkName, value: u8) -> Finding {
    let evidence = format!("{link}, which firewall.returnPath names, has rp_filter {value}");
    if value != 1 {
        return Finding::ok("rp_filter", evidence);
    }
    Finding::error(
        "rp_filter",
        format!(
            "{evidence} (strict) and drops IPv4 whose source the main table routes through another device"
        ),
        format!("sysctl -w net.ipv4.conf.{link}.rp_filter=2, and keep it in /etc/sysctl.d"),
    )
}

fn clock(synchronised: bool) -> Finding {
    if synchronised {
        return Finding::ok("clock", "synchronised");
    }
    let remedy = "timedatectl set-ntp true, or install chrony";
    Finding::warning(
        "clock",
        "not synchronised: times in the logs of different nodes can't be compared",
        remedy,
    )
}

/// adjtimex(2), which changes nothing when no mode is set.
#[expect(unsafe_code, reason = "no dependency wraps adjtimex")]
fn synchronised() -> Option<bool> {
    let mut clock = MaybeUninit::<libc::timex>::zeroed();
    // SAFETY: the pointer refers to a whole timex; all zeros are a valid value, which requests no change.
    let state = unsafe { libc::adjtimex(clock.as_mut_ptr()) };
    (state >= 0).then_some(state != libc::TIME_ERROR)
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::super::finding::tests::level;
    use super::*;

    fn advertising(families: &[Family]) -> Requirements {
        Requirements {
            advertised: families.iter().copied().collect(),
            ..Requirements::default()
        }
    }

    #[test]
    fn forwarding_matters_where_prefixes_are_advertised() {
        let off = Facts {
            forwarding: (Some(false), Some(false)),
            ..Facts::default()
        };
        assert_eq!(judge(&off, &Requirements::default()), []);
        let findings = judge(&off, &advertising(&[Family::Ipv6]));
        assert_eq!(level(&findings, "forwarding"), Level::Error);
        assert!(
            findings[0].evidence.contains("net.ipv6.conf.all.forwarding"),
            "{findings:?}"
        );
        let unknown = Facts::default();
        let findings = judge(&unknown, &advertising(&[Family::Ipv6]));
        assert_eq!(level(&findings, "forwarding"), Level::Warning);
        let on = Facts {
            forwarding: (Some(true), None),
            ..off
        };
        assert_eq!(
            level(&judge(&on, &advertising(&[Family::Ipv4])), "forwarding"),
            Level::Ok
        );
    }

    #[test]
    fn strict_filtering_of_packets_without_encapsulation_is_an_error() {
        let facts = |value| Facts {
            unencapsulated_rp_filter: BTreeMap::from([(LinkName::constant("eth0"), value)]),
            ..Facts::default()
        };
        let bad = judge(&facts(1), &Requirements::default());
        assert_eq!(level(&bad, "rp_filter"), Level::Error);
        assert!(
            bad[0]
                .remedy
                .as_deref()
                .is_some_and(|remedy| remedy.contains("conf.eth0.rp_filter=2")),
            "{bad:?}"
        );
        for value in [0, 2] {
            assert_eq!(
                level(&judge(&facts(value), &Requirements::default()), "rp_filter"),
                Level::Ok
            );
        }
    }

    #[test]
    fn strict_filtering_and_a_free_running_clock_are_found() {
        let facts = |rp_filter, synchronised| Facts {
            rp_filter: Some(rp_filter),
            synchronised: Some(synchronised),
            ..Facts::default()
        };
        let bad = judge(&facts(1, false), &Requirements::default());
        assert_eq!(level(&bad, "rp_filter"), Level::Warning);
        assert_eq!(level(&bad, "clock"), Level::Warning);
        for value in [0, 2] {
            let good = judge(&facts(value, true), &Requirements::default());
            assert_eq!(level(&good, "rp_filter"), Level::Ok);
            assert_eq!(level(&good, "clock"), Level::Ok);
        }
        // A single strict device is enough, whatever the setting of `all`.
        let one = Facts {
            strict: BTreeSet::from(["eth0".to_owned()]),
            ..facts(0, true)
        };
        let found = judge(&one, &Requirements::default());
        assert_eq!(level(&found, "rp_filter"), Level::Warning);
        assert!(found[0].evidence.contains("strict (1) on eth0"), "{found:?}");
    }

    #[test]
    fn a_device_is_strict_by_its_own_setting_or_that_of_all() {
        let root = tempfile::tempdir().unwrap();
        let set = |device: &str, value: &str| {
            let folder = root.path().join("proc/sys/net/ipv4/conf").join(device);
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("rp_filter"), value).unwrap();
        };
        let strict = || {
            Facts::gather(root.path(), &Requirements::default())
                .strict
                .into_iter()
                .collect::<Vec<_>>()
        };
        for (device, value) in [
            ("all", "0"),
            ("default", "1"),
            ("lo", "1"),
            ("eth0", "1"),
            ("eth1", "2"),
            ("eth2", "0"),
            ("adit0", "1"),
        ] {
            set(device, value);
        }
        assert_eq!(strict(), ["eth0"]);
        set("all", "1");
        assert_eq!(strict(), ["eth0", "eth2"]);
        set("all", "2");
        assert!(strict().is_empty());
    }
}
