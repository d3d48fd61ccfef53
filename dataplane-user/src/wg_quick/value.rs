//! Values as `wg` and `wg-quick` read them. Each error says what would be right, and none shows what may be a key.

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

/// Values in a list, and their errors.
type List<T> = Result<Vec<T>, String>;

/// The largest MTU that WireGuard's devices take, in bytes (`wg_setup`, drivers/net/wireguard/device.c).
const LARGEST_MTU: u32 = 2_147_483_552;

pub(super) fn key<K: FromStr<Err = InvalidKey>>(text: &str) -> Result<K, String> {
    text.parse().map_err(|error: InvalidKey| error.to_string())
}

/// All zeros: none, as the kernel takes it.
pub(super) fn private_key(text: &str) -> Result<Option<PrivateKey>, String> {
    let key = key::<PrivateKey>(text)?;
    Ok(Some(key).filter(|key| !key.is_zero()))
}

/// A number, or the name of a UDP service. `wg` cuts numbers beyond 65535, which nobody means.
pub(super) fn port(text: &str) -> Result<u16, String> {
    let error = || {
        format!(
            "{} is no port; expected 0 to 65535, or a UDP service of /etc/services",
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
    decimal(text).ok_or_else(|| {
        format!(
            "{} is no interval; expected `off` or 1 to 65535 seconds",
            quoted(text)
        )
    })
}

/// Any that the kernel takes; nothing: as if there were no `MTU`.
pub(super) fn mtu(text: &str) -> Result<Option<u32>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    let mtu = number(text)?.filter(|mtu| *mtu <= LARGEST_MTU);
    mtu.map(Some).ok_or_else(|| {
        format!(
            "{} is no MTU; expected 0 to {LARGEST_MTU} bytes, such as 1420",
            quoted(text)
        )
    })
}

/// `off`, `auto`, a number, or a name of iproute2's list; nothing: `auto`. As `ip` has it, 0 is the main table.
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
            "{} is no table; expected `off`, `auto`, a table's number, or its name in /etc/iproute2/rt_tables",
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

/// Between commas or white space; those of interfaces keep their host bits.
pub(super) fn addresses(text: &str) -> List<IpNet> {
    words(text)
        .map(|word| with_mask(word).map_or_else(|| one_prefix(word), Ok))
        .collect()
}

/// Between commas; without host bits.
pub(super) fn allowed_ips(text: &str) -> List<IpNet> {
    text.split(',')
        .map(|item| one_prefix(item).map(|prefix| prefix.trunc()))
        .collect()
}

/// Servers and search domains, told apart as `wg-quick` does it.
pub(super) fn dns(text: &str) -> Result<(Vec<String>, Vec<String>), String> {
    let (mut servers, mut search) = (Vec::new(), Vec::new());
    for word in words(text) {
        let digits = word.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        if !digits && !word.contains(':') {
            search.push(word.to_owned());
            continue;
        }
        if word.parse::<IpAddr>().is_err() && parse_scoped(word).is_none() {
            return Err(format!("{} is no IP address, and no domain", quoted(word)));
        }
        servers.push(word.to_owned());
    }
    Ok((servers, search))
}

/// An address or a name, with a port. IPv6 addresses may do without brackets, and names may have some, as the last colon is
/// what counts.
pub(super) fn endpoint(text: &str) -> Result<Endpoint, String> {
    let error = || {
        format!(
            "{} is no endpoint; expected such as `192.0.2.1:51820`, `[2001:db8::1]:51820`, `[fe80::1%eth0]:51820` or \
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
            "{} is no address; expected such as `10.0.0.1`, `10.0.0.0/24` or `fd00::/64`, without leading zeros",
            quoted(text)
        )
    })
}

/// As `ip` has it, `10.0.0.1/255.255.255.0`.
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

/// A number as `ip` reads it; `None`: it is none. A leading zero, by which it means octal, is an error.
fn number(text: &str) -> Result<Option<u32>, String> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    if digits && text.len() > 1 && text.starts_with('0') {
        return Err(format!(
            "{} begins with a zero, which makes it octal: write it without",
            quoted(text)
        ));
    }
    Ok(decimal(text).or_else(|| hexadecimal(text)))
}

/// Digits and nothing else: no sign, no white space.
fn decimal<T: FromStr>(text: &str) -> Option<T> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

fn hexadecimal(text: &str) -> Option<u32> {
    let digits = text.strip_prefix("0x")?;
    let fits = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    fits.then(|| u32::from_str_radix(digits, 16).ok()).flatten()
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
