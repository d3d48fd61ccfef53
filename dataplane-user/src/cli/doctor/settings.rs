//! Settings of the host that are not ours to write, and its clock.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::mem::MaybeUninit;
use std::path::Path;

use super::finding::Finding;
use super::name;
use super::overlay::Wanted;
use crate::model::devices::is_ours;
use crate::net::{Family, LinkName};

/// What was read.
#[derive(Clone, Debug, Default)]
pub(super) struct Facts {
    /// `net.ipv4.ip_forward` and `net.ipv6.conf.all.forwarding`; `None`: not there.
    pub(super) forwarding: (Option<bool>, Option<bool>),
    /// `net.ipv4.conf.all.rp_filter`.
    pub(super) rp_filter: Option<u8>,
    /// Devices that are strict, by their own setting or that of `all`; none of Adit's.
    pub(super) strict: BTreeSet<String>,
    /// The same of devices that packets without encapsulation come in by: what counts there, with `all`'s.
    pub(super) bare_rp_filter: BTreeMap<LinkName, u8>,
    /// The same of devices that answers go back by.
    pub(super) return_rp_filter: BTreeMap<LinkName, u8>,
    /// Whether something keeps the clock right; `None`: the kernel does not say.
    pub(super) synchronised: Option<bool>,
}

impl Facts {
    /// `wanted` says the devices that packets without encapsulation come in by, and those that answers go back by.
    pub(super) fn gather(root: &Path, wanted: &Wanted) -> Facts {
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
        let devices =
            devices.filter(|link| !["all", "default", "lo"].contains(&link.as_str()) && !is_ours(link));
        let strict = devices.filter(|link| of_device(link).is_some_and(|(_, value)| value == 1));
        Facts {
            strict: strict.map(|link| link.to_string()).collect(),
            forwarding: (is_on("ipv4/ip_forward"), is_on("ipv6/conf/all/forwarding")),
            rp_filter,
            bare_rp_filter: wanted.bare.iter().filter_map(of_device).collect(),
            return_rp_filter: wanted.return_path.iter().filter_map(of_device).collect(),
            synchronised: synchronised(),
        }
    }
}

pub(super) fn judge(facts: &Facts, wanted: &Wanted) -> Vec<Finding> {
    let mut findings = Vec::new();
    for family in Family::BOTH {
        let (on, setting) = match family {
            Family::Ipv4 => (facts.forwarding.0, "net.ipv4.ip_forward"),
            Family::Ipv6 => (facts.forwarding.1, "net.ipv6.conf.all.forwarding"),
        };
        findings.extend(forwarding(family, on, setting, wanted.carried.contains(&family)));
    }
    findings.extend(facts.rp_filter.map(|all| rp_filter(all, &facts.strict)));
    findings.extend(
        facts
            .bare_rp_filter
            .iter()
            .map(|(link, value)| bare_rp_filter(link, *value)),
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

fn forwarding(family: Family, on: Option<bool>, setting: &str, carries: bool) -> Option<Finding> {
    match (on, carries) {
        (Some(true), _) => Some(Finding::ok("forwarding", format!("{setting} = 1"))),
        (_, false) => None,
        // That there is no such family is another check's.
        (None, true) => Some(Finding::warning(
            "forwarding",
            format!(
                "there is no {setting} to be read, and this node carries {} prefixes",
                name(family)
            ),
            "check that packets are forwarded; the finding `ipv6` tells whether the kernel has IPv6 at all",
        )),
        (Some(false), true) => Some(Finding::error(
            "forwarding",
            format!("{setting} = 0, and this node carries {} prefixes", name(family)),
            format!("sysctl -w {setting}=1, and keep it in /etc/sysctl.d"),
        )),
    }
}

fn rp_filter(all: u8, strict: &BTreeSet<String>) -> Finding {
    let evidence = format!("net.ipv4.conf.all.rp_filter = {all}");
    if all != 1 && strict.is_empty() {
        return Finding::ok("rp_filter", evidence);
    }
    // The larger of `all` and a device's own counts: Adit's have 2.
    let devices = match strict.len() {
        0 => "all devices but Adit's".to_owned(),
        1..=5 => strict.iter().cloned().collect::<Vec<_>>().join(", "),
        many => format!("{many} devices"),
    };
    Finding::warning(
        "rp_filter",
        format!(
            "{evidence}, strict (1) on {devices}: IPv4 is dropped there whose source is routed by another device, as the answers \
             of WireGuard endpoints are below a default route"
        ),
        "sysctl -w net.ipv4.conf.DEVICE.rp_filter=2 where the underlay is asymmetric or a WireGuard device has a default route",
    )
}

/// Strict: a packet must come in by the device that its source is routed to, which is `adit0` for the overlay's. The
/// device is not ours, so it is not for us to set.
fn bare_rp_filter(link: &LinkName, value: u8) -> Finding {
    let evidence = format!("{link}, by which packets without encapsulation come in, has rp_filter {value}");
    if value != 1 {
        return Finding::ok("rp_filter", evidence);
    }
    Finding::error(
        "rp_filter",
        format!("{evidence}: strict, so all IPv4 from the overlay is dropped there"),
        format!("sysctl -w net.ipv4.conf.{link}.rp_filter=2, and keep it in /etc/sysctl.d"),
    )
}

/// The device is not ours here, either.
fn return_rp_filter(link: &LinkName, value: u8) -> Finding {
    let evidence = format!("{link}, which firewall.returnPath names, has rp_filter {value}");
    if value != 1 {
        return Finding::ok("rp_filter", evidence);
    }
    Finding::error(
        "rp_filter",
        format!(
            "{evidence}: strict, so IPv4 from where the main table leads to by another device is dropped there"
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
        "not synchronised: logs of several nodes can't be compared",
        remedy,
    )
}

/// adjtimex(2), which changes nothing when no mode is set.
#[expect(unsafe_code, reason = "no crate of ours wraps adjtimex")]
fn synchronised() -> Option<bool> {
    let mut clock = MaybeUninit::<libc::timex>::zeroed();
    // SAFETY: the pointer is to a whole timex, whose zeros are valid and ask for nothing to be changed.
    let state = unsafe { libc::adjtimex(clock.as_mut_ptr()) };
    (state >= 0).then_some(state != libc::TIME_ERROR)
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::super::finding::tests::level;
    use super::*;

    fn carrying(families: &[Family]) -> Wanted {
        Wanted {
            carried: families.iter().copied().collect(),
            ..Wanted::default()
        }
    }

    #[test]
    fn forwarding_matters_where_prefixes_are_carried() {
        let off = Facts {
            forwarding: (Some(false), Some(false)),
            ..Facts::default()
        };
        assert_eq!(judge(&off, &Wanted::default()), []);
        let findings = judge(&off, &carrying(&[Family::Ipv6]));
        assert_eq!(level(&findings, "forwarding"), Level::Error);
        assert!(
            findings[0].evidence.contains("net.ipv6.conf.all.forwarding"),
            "{findings:?}"
        );
        let unknown = Facts::default();
        let findings = judge(&unknown, &carrying(&[Family::Ipv6]));
        assert_eq!(level(&findings, "forwarding"), Level::Warning);
        let on = Facts {
            forwarding: (Some(true), None),
            ..off
        };
        assert_eq!(
            level(&judge(&on, &carrying(&[Family::Ipv4])), "forwarding"),
            Level::Ok
        );
    }

    #[test]
    fn strict_filtering_of_packets_without_encapsulation_is_an_error() {
        let facts = |value| Facts {
            bare_rp_filter: BTreeMap::from([(LinkName::constant("eth0"), value)]),
            ..Facts::default()
        };
        let bad = judge(&facts(1), &Wanted::default());
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
                level(&judge(&facts(value), &Wanted::default()), "rp_filter"),
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
        let bad = judge(&facts(1, false), &Wanted::default());
        assert_eq!(level(&bad, "rp_filter"), Level::Warning);
        assert_eq!(level(&bad, "clock"), Level::Warning);
        for value in [0, 2] {
            let good = judge(&facts(value, true), &Wanted::default());
            assert_eq!(level(&good, "rp_filter"), Level::Ok);
            assert_eq!(level(&good, "clock"), Level::Ok);
        }
        // One device alone, whatever the setting of all is.
        let one = Facts {
            strict: BTreeSet::from(["eth0".to_owned()]),
            ..facts(0, true)
        };
        let found = judge(&one, &Wanted::default());
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
            Facts::gather(root.path(), &Wanted::default())
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
