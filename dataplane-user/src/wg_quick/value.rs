//! Values as `wg` and `wg-quick` read them. Each error says what would be right, and none shows what may be a key.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use ipnet::IpNet;

use crate::net::key::InvalidKey;
use crate::resource::node::{Endpoint, Host};
use crate::resource::wireguard::AllowedIpRoutes;

/// Values in a list, and their errors.
type List<T> = Result<Vec<T>, String>;

pub(super) fn key<K: FromStr<Err = InvalidKey>>(text: &str) -> Result<K, String> {
    text.parse().map_err(|error: InvalidKey| error.to_string())
}

pub(super) fn port(text: &str) -> Result<u16, String> {
    number(text).ok_or_else(|| format!("{} is no port; expected 0 to 65535", quoted(text)))
}

/// `off`, decimal, or hexadecimal after `0x`.
pub(super) fn fwmark(text: &str) -> Result<u32, String> {
    if text.eq_ignore_ascii_case("off") {
        return Ok(0);
    }
    let hex = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"));
    let mark = match hex {
        Some(hex) if hex.bytes().all(|byte| byte.is_ascii_hexdigit()) => u32::from_str_radix(hex, 16).ok(),
        Some(_) => None,
        // wg takes a leading zero for octal.
        None if text.len() > 1 && text.starts_with('0') => None,
        None => number(text),
    };
    mark.ok_or_else(|| {
        format!(
            "{} is no mark; expected `off`, a number such as 51820, or one such as 0xca6c",
            quoted(text)
        )
    })
}

/// `off`, or seconds.
pub(super) fn keepalive(text: &str) -> Result<u16, String> {
    if text.eq_ignore_ascii_case("off") {
        return Ok(0);
    }
    number(text).ok_or_else(|| {
        format!(
            "{} is no interval; expected `off` or 1 to 65535 seconds",
            quoted(text)
        )
    })
}

pub(super) fn mtu(text: &str) -> Result<u32, String> {
    number(text)
        .filter(|mtu| (68..=65535).contains(mtu))
        .ok_or_else(|| format!("{} is no MTU; expected 68 to 65535 bytes", quoted(text)))
}

/// `off`, `auto`, a number, or one of the names that every system has (`/etc/iproute2/rt_tables`).
pub(super) fn table(text: &str) -> Result<AllowedIpRoutes, String> {
    let table = match text.to_ascii_lowercase().as_str() {
        "off" => Some(AllowedIpRoutes::Off),
        "auto" => Some(AllowedIpRoutes::Auto),
        "default" => Some(AllowedIpRoutes::Table(253)),
        "main" => Some(AllowedIpRoutes::Table(254)),
        "local" => Some(AllowedIpRoutes::Table(255)),
        _ => number(text)
            .filter(|table| *table > 0)
            .map(AllowedIpRoutes::Table),
    };
    table.ok_or_else(|| {
        format!(
            "{} is no table; expected `off`, `auto` or a table's number",
            quoted(text)
        )
    })
}

pub(super) fn boolean(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(format!("{} is neither true nor false", quoted(text))),
    }
}

/// Between commas or white space; those of interfaces keep their host bits.
pub(super) fn addresses(text: &str) -> List<IpNet> {
    words(text).map(prefix).collect()
}

/// Between commas; without host bits. None is fine.
pub(super) fn allowed_ips(text: &str) -> List<IpNet> {
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let items = text.split(',').map(str::trim_ascii);
    items
        .map(|item| prefix(item).map(|prefix| prefix.trunc()))
        .collect()
}

/// Servers and search domains, told apart as `wg-quick` does it.
pub(super) fn dns(text: &str) -> Result<(Vec<IpAddr>, Vec<String>), String> {
    let (mut servers, mut search) = (Vec::new(), Vec::new());
    for word in words(text) {
        let digits = word.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        if !digits && !word.contains(':') {
            search.push(word.to_owned());
            continue;
        }
        let server = word
            .parse()
            .map_err(|_| format!("{} is no IP address, and no domain", quoted(word)))?;
        servers.push(server);
    }
    Ok((servers, search))
}

/// An address or a name, with a port; IPv6 addresses in brackets.
pub(super) fn endpoint(text: &str) -> Result<Endpoint, String> {
    let error = || {
        format!(
            "{} is no endpoint; expected such as `192.0.2.1:51820`, `[2001:db8::1]:51820` or `host.example:51820`",
            quoted(text)
        )
    };
    let (host, port) = text.rsplit_once(':').ok_or_else(error)?;
    let port = number(port).filter(|port| *port > 0).ok_or_else(error)?;
    if let Ok(socket) = text.parse::<SocketAddr>() {
        let host = Host::Address(socket.ip());
        return Ok(Endpoint { host, port });
    }
    if let Some(scoped) = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        // The resolver takes an address with a device, as `fe80::1%eth0`.
        let (address, device) = scoped.split_once('%').ok_or_else(error)?;
        let fits = matches!(address.parse(), Ok(IpAddr::V6(_))) && !device.is_empty();
        let host = Host::Name(scoped.to_owned());
        return fits.then_some(Endpoint { host, port }).ok_or_else(error);
    }
    let known = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let last = host.trim_end_matches('.').rsplit('.').next().unwrap_or_default();
    // A last label of digits is a mistyped IPv4 address (RFC 3696, section 2).
    let name = host.bytes().all(known) && !last.is_empty() && !last.bytes().all(|byte| byte.is_ascii_digit());
    let host = Host::Name(host.to_owned());
    name.then_some(Endpoint { host, port }).ok_or_else(error)
}

fn prefix(text: &str) -> Result<IpNet, String> {
    let prefix = match text.contains('/') {
        true => text.parse().ok(),
        false => text.parse::<IpAddr>().ok().map(IpNet::from),
    };
    prefix.ok_or_else(|| {
        format!(
            "{} is no address; expected such as `10.0.0.1`, `10.0.0.0/24` or `fd00::/64`",
            quoted(text)
        )
    })
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split([',', ' ', '\t']).filter(|word| !word.is_empty())
}

/// Digits and nothing else: no sign, no white space.
fn number<T: FromStr>(text: &str) -> Option<T> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

/// A value in an error, unless it may be a key that was put in the wrong place.
fn quoted(text: &str) -> String {
    const SHORTEST: usize = 32;
    let base64 = |c: char| c.is_ascii_alphanumeric() || "+/=".contains(c);
    if text.split(|c| !base64(c)).any(|run| run.len() >= SHORTEST) {
        return "what is there (not shown, it may be a key)".to_owned();
    }
    format!("`{text}`")
}
