//! Values as `wg` and `wg-quick` read them. Each error tells the expected form, and none shows a value that
//! may be a key.

use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;

use ipnet::{IpNet, Ipv4Net};

use crate::model::MAIN_TABLE;
use crate::net::endpoint::parse_scoped;
use crate::net::name::is_host_name;
use crate::net::{InvalidKey, PrivateKey, prefix};
use crate::resource::node::{Endpoint, Host};
use crate::resource::wireguard::AllowedIpRoutes;
use crate::source::numbers;

/// The values of a list, or an error.
type List<T> = Result<Vec<T>, String>;

/// The largest MTU of WireGuard devices, in bytes (`wg_setup`, drivers/net/wireguard/device.c).
const LARGEST_MTU: u32 = 2_147_483_552;

pub(super) fn key<K: FromStr<Err = InvalidKey>>(text: &str) -> Result<K, String> {
    text.parse().map_err(|error: InvalidKey| error.to_string())
}

/// A private key. A key of zeros means no key, as in the kernel.
pub(super) fn private_key(text: &str) -> Result<Option<PrivateKey>, String> {
    let key = key::<PrivateKey>(text)?;
    Ok(Some(key).filter(|key| !key.is_zero()))
}

/// A number, or the name of a UDP service. Numbers beyond 65535 are rejected; `wg` truncates them.
pub(super) fn port(text: &str) -> Result<u16, String> {
    let error = || {
        format!(
            "{} is not a port; expected 0 to 65535, or a UDP service of /etc/services",
            quoted(text)
        )
    };
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return text.parse().map_err(|_| error());
    }
    numbers::udp_port(text)?.ok_or_else(error)
}

/// `off`, decimal, or hexadecimal after `0x`.
pub(super) fn fwmark(text: &str) -> Result<u32, String> {
    if text.eq_ignore_ascii_case("off") {
        return Ok(0);
    }
    decimal(text).or_else(|| hexadecimal(text)).ok_or_else(|| {
        format!(
            "{} is not a mark; expected `off` or a number, for example 51820 or 0xca6c",
            quoted(text)
        )
    })
}

/// `off`, or seconds.
pub(super) fn keepalive(text: &str) -> Result<u16, String> {
    if text.eq_ignore_ascii_case("off") {
        return Ok(0);
    }
    decimal(text).ok_or_else(|| {
        format!(
            "{} is not an interval; expected `off` or 1 to 65535 seconds",
            quoted(text)
        )
    })
}

/// An MTU that the kernel accepts. Empty text counts as absent.
pub(super) fn mtu(text: &str) -> Result<Option<u32>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    let mtu = number(text)?.filter(|mtu| *mtu <= LARGEST_MTU);
    mtu.map(Some).ok_or_else(|| {
        format!(
            "{} is not an MTU; expected 0 to {LARGEST_MTU} bytes, for example 1420",
            quoted(text)
        )
    })
}

/// `off`, `auto`, a number, or a name in `rt_tables` of iproute2. Empty text means `auto`. 0 is the main
/// table, as in `ip`.
pub(super) fn table(text: &str) -> Result<AllowedIpRoutes, String> {
    match text {
        "off" => return Ok(AllowedIpRoutes::Off),
        "auto" | "" => return Ok(AllowedIpRoutes::Auto),
        _ => {}
    }
    let table = match numbers::table(text)? {
        Some(table) => Some(table),
        None => number(text)?,
    };
    match table {
        Some(0) => Ok(AllowedIpRoutes::Table(MAIN_TABLE)),
        Some(table) => Ok(AllowedIpRoutes::Table(table)),
        None => Err(format!(
            "{} is not a table; expected `off`, `auto`, a number, or a name in /etc/iproute2/rt_tables",
            quoted(text)
        )),
    }
}

pub(super) fn boolean(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(format!("{} is neither true nor false", quoted(text))),
    }
}

/// Addresses of an interface, separated by commas or white space. They keep their host bits.
pub(super) fn addresses(text: &str) -> List<IpNet> {
    words(text)
        .map(|word| with_mask(word).map_or_else(|| one_prefix(word), Ok))
        .collect()
}

/// Allowed IPs, separated by commas. Host bits are removed.
pub(super) fn allowed_ips(text: &str) -> List<IpNet> {
    text.split(',')
        .map(|item| one_prefix(item).map(|prefix| prefix.trunc()))
        .collect()
}

/// Servers and search domains, distinguished as in `wg-quick`.
pub(super) fn dns(text: &str) -> Result<(Vec<String>, Vec<String>), String> {
    let (mut servers, mut search) = (Vec::new(), Vec::new());
    for word in words(text) {
        let digits = word.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        if !digits && !word.contains(':') {
            search.push(word.to_owned());
            continue;
        }
        if word.parse::<IpAddr>().is_err() && parse_scoped(word).is_none() {
            return Err(format!("{} is neither an IP address nor a domain", quoted(word)));
        }
        servers.push(word.to_owned());
    }
    Ok((servers, search))
}

/// An address or a name, with a port. The last colon separates them, so IPv6 addresses need no brackets, and
/// names may have brackets.
pub(super) fn endpoint(text: &str) -> Result<Endpoint, String> {
    let error = || {
        format!(
            "{} is not an endpoint; expected for example `192.0.2.1:51820`, `[2001:db8::1]:51820`, `[fe80::1%eth0]:51820` or \
             `host.example:51820`",
            quoted(text)
        )
    };
    let parts = match text.strip_prefix('[') {
        Some(rest) => rest.split_once("]:"),
        None => text.rsplit_once(':'),
    };
    let (host, service) = parts.filter(|(_, port)| !port.is_empty()).ok_or_else(error)?;
    let host = if let Ok(address) = host.parse() {
        Host::Address(address)
    } else if let Some((address, device)) = parse_scoped(host) {
        Host::Scoped(address, device)
    } else if is_host_name(host) {
        Host::Name(host.to_owned())
    } else {
        return Err(error());
    };
    match port(service)? {
        0 => Err(error()),
        port => Ok(Endpoint { host, port }),
    }
}

fn one_prefix(text: &str) -> Result<IpNet, String> {
    prefix::parse_or_address(text).ok_or_else(|| {
        format!(
            "{} is not an address; expected for example `10.0.0.1`, `10.0.0.0/24` or `fd00::/64`, without leading zeros",
            quoted(text)
        )
    })
}

/// An address with a netmask, as `ip` accepts it: `10.0.0.1/255.255.255.0`.
fn with_mask(text: &str) -> Option<IpNet> {
    let (address, mask) = text.split_once('/')?;
    let mask = mask.parse::<Ipv4Addr>().ok()?;
    Ipv4Net::with_netmask(address.parse().ok()?, mask)
        .ok()
        .map(IpNet::from)
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split([',', ' ', '\t']).filter(|word| !word.is_empty())
}

/// A number as `ip` reads it; `None`: the text is not a number. A leading zero is an error, because `ip`
/// reads such a number as octal.
fn number(text: &str) -> Result<Option<u32>, String> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    if digits && text.len() > 1 && text.starts_with('0') {
        return Err(format!(
            "{} begins with a zero, which some tools read as octal; write it without the zero",
            quoted(text)
        ));
    }
    Ok(decimal(text).or_else(|| hexadecimal(text)))
}

/// A number of digits only, without sign and white space.
fn decimal<T: FromStr>(text: &str) -> Option<T> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

fn hexadecimal(text: &str) -> Option<u32> {
    let digits = text.strip_prefix("0x")?;
    let fits = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    fits.then(|| u32::from_str_radix(digits, 16).ok()).flatten()
}

/// A value as errors show it. A value that may be a misplaced key is not shown.
fn quoted(text: &str) -> String {
    const SHORTEST: usize = 32;
    let base64 = |c: char| c.is_ascii_alphanumeric() || "+/=".contains(c);
    if text.split(|c| !base64(c)).any(|run| run.len() >= SHORTEST) {
        return "the value (not shown, because it may be a key)".to_owned();
    }
    format!("`{text}`")
}
