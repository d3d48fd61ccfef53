//! Ages, amounts, addresses and prefixes, exactly as `wg` (wireguard-tools 1.0) and its C library write them.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::cli::output::Paint;
use crate::resource::node::{Endpoint, Host};

pub(super) const NONE: &str = "(none)";
pub(super) const OFF: &str = "off";

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;
/// `wg` ignores leap years.
const YEAR: u64 = 365 * DAY;

/// The age of an event; both times in seconds since 1970.
pub(super) fn ago(now: u64, then: u64, paint: Paint) -> String {
    let Some(age) = now.checked_sub(then) else {
        let warning = "System clock wound backward; connection problems may ensue.";
        return format!("({})", paint.bad(warning));
    };
    if age == 0 {
        return "Now".to_owned();
    }
    format!("{} ago", duration(age))
}

/// An interval in seconds, which is never 0.
pub(super) fn every(seconds: u16) -> String {
    format!("every {}", duration(seconds.into()))
}

fn duration(seconds: u64) -> String {
    let parts = [
        (seconds / YEAR, "year"),
        (seconds % YEAR / DAY, "day"),
        (seconds % DAY / HOUR, "hour"),
        (seconds % HOUR / MINUTE, "minute"),
        (seconds % MINUTE, "second"),
    ];
    let shown = parts.iter().filter(|(number, _)| *number > 0);
    let words = shown.map(|(number, unit)| format!("{number} {unit}{}", if *number == 1 { "" } else { "s" }));
    words.collect::<Vec<_>>().join(", ")
}

/// An amount of bytes.
pub(super) fn bytes(amount: u64) -> String {
    const UNITS: [(u32, &str); 4] = [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")];
    let unit = UNITS.iter().find(|(shift, _)| amount >> shift > 0);
    let Some((shift, unit)) = unit else {
        return format!("{amount} B");
    };
    let size = (1u64 << shift) as f64;
    format!("{:.2} {unit}", amount as f64 / size)
}

/// A mark; 0: none.
pub(super) fn mark(mark: u32) -> String {
    if mark == 0 {
        return OFF.to_owned();
    }
    format!("{mark:#x}")
}

/// Seconds between keepalives; 0: none.
pub(super) fn keepalive(seconds: u16) -> String {
    if seconds == 0 {
        return OFF.to_owned();
    }
    seconds.to_string()
}

/// Prefixes, joined by `between`, or `(none)`.
pub(super) fn prefixes(prefixes: &[IpNet], between: &str) -> String {
    if prefixes.is_empty() {
        return NONE.to_owned();
    }
    prefixes.iter().map(prefix).collect::<Vec<_>>().join(between)
}

pub(super) fn prefix(prefix: &IpNet) -> String {
    format!("{}/{}", address(prefix.addr()), prefix.prefix_len())
}

/// An address and a port. Endpoints from the kernel have no names.
pub(super) fn endpoint(endpoint: &Endpoint) -> String {
    let port = endpoint.port;
    match &endpoint.host {
        Host::Address(IpAddr::V6(v6)) => format!("[{}]:{port}", address((*v6).into())),
        Host::Scoped(v6, device) => format!("[{}%{device}]:{port}", address((*v6).into())),
        Host::Address(IpAddr::V4(_)) | Host::Name(_) => endpoint.to_string(),
    }
}

/// An address as `inet_ntop` writes it: it also writes IPv4-compatible addresses (`::1.2.3.4`) with dots.
fn address(address: IpAddr) -> String {
    let IpAddr::V6(v6) = address else {
        return address.to_string();
    };
    match v6.segments() {
        [0, 0, 0, 0, 0, 0, high, _] if high != 0 => {
            let [.., a, b, c, d] = v6.octets();
            format!("::{a}.{b}.{c}.{d}")
        }
        _ => v6.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::{LinkName, PeerEndpoint};

    // What `wg show` of wireguard-tools 1.0.20210914 printed.
    #[test]
    fn ages_are_written_as_wg_does() {
        for (age, words) in [
            (0, "Now"),
            (1, "1 second ago"),
            (59, "59 seconds ago"),
            (60, "1 minute ago"),
            (65, "1 minute, 5 seconds ago"),
            (3600, "1 hour ago"),
            (3601, "1 hour, 1 second ago"),
            (
                86_400 + 7200 + 180 + 4,
                "1 day, 2 hours, 3 minutes, 4 seconds ago",
            ),
            (31_536_000, "1 year ago"),
            (
                2 * 31_536_000 + 86_399,
                "2 years, 23 hours, 59 minutes, 59 seconds ago",
            ),
        ] {
            assert_eq!(ago(1_700_000_000, 1_700_000_000 - age, Paint::NEVER), words);
        }
        assert_eq!(
            ago(7, 8, Paint::NEVER),
            "(System clock wound backward; connection problems may ensue.)"
        );
    }

    #[test]
    fn intervals_are_written_as_wg_does() {
        for (seconds, words) in [
            (1, "every 1 second"),
            (25, "every 25 seconds"),
            (90, "every 1 minute, 30 seconds"),
            (65_535, "every 18 hours, 12 minutes, 15 seconds"),
        ] {
            assert_eq!(every(seconds), words);
        }
        assert_eq!((keepalive(0), keepalive(25)), ("off".to_owned(), "25".to_owned()));
        assert_eq!((mark(0), mark(0xad17)), ("off".to_owned(), "0xad17".to_owned()));
    }

    #[test]
    fn amounts_are_rounded_as_c_does() {
        for (amount, words) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.00 KiB"),
            // Half-way, to even.
            (1152, "1.12 KiB"),
            (1408, "1.38 KiB"),
            (1240, "1.21 KiB"),
            ((1 << 20) - 1, "1024.00 KiB"),
            (1 << 20, "1.00 MiB"),
            (3_565_158, "3.40 MiB"),
            (5 << 29, "2.50 GiB"),
            (1 << 40, "1.00 TiB"),
            (u64::MAX, "16777216.00 TiB"),
        ] {
            assert_eq!(bytes(amount), words);
        }
    }

    #[test]
    fn addresses_are_as_the_c_library_writes_them() {
        for (text, written) in [
            ("192.0.2.1", "192.0.2.1"),
            ("::1.2.3.4", "::1.2.3.4"),
            ("::1:0", "::0.1.0.0"),
            ("::1", "::1"),
            ("::", "::"),
            ("::ffff:0:1", "::ffff:0.0.0.1"),
            ("1:0:0:2:0:0:0:3", "1:0:0:2::3"),
            ("1:0:0:2:3:0:0:4", "1::2:3:0:0:4"),
            ("1:0:2:3:4:5:6:7", "1:0:2:3:4:5:6:7"),
            ("64:ff9b::1.2.3.4", "64:ff9b::102:304"),
            ("::ffff:0:1.2.3.4", "::ffff:0:102:304"),
        ] {
            assert_eq!(address(text.parse().unwrap()), written);
        }
        let list: Vec<IpNet> = ["10.0.0.0/24", "::/0"].map(|text| text.parse().unwrap()).into();
        assert_eq!(prefixes(&list, ", "), "10.0.0.0/24, ::/0");
        assert_eq!(prefixes(&[], ", "), "(none)");
    }

    #[test]
    fn endpoints_name_the_device_of_link_local_addresses() {
        let at = |address: &str, device: Option<&'static str>| {
            let device = device.map(LinkName::constant);
            endpoint(&Endpoint::from(PeerEndpoint {
                device,
                ..PeerEndpoint::new(address.parse().unwrap(), 51820)
            }))
        };
        assert_eq!(at("192.0.2.1", None), "192.0.2.1:51820");
        assert_eq!(at("2001:db8::1", None), "[2001:db8::1]:51820");
        assert_eq!(at("::192.0.2.1", None), "[::192.0.2.1]:51820");
        assert_eq!(at("fe80::1", Some("eth0")), "[fe80::1%eth0]:51820");
    }
}
