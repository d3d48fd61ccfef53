//! Values that manifests write as text: CIDRs, addresses, durations, keys. Each error says what would be right.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use ipnet::IpNet;

use crate::net::PublicKey;
use crate::net::family::host_prefix;
use crate::resource::node::{Endpoint, Host};

/// A prefix without host bits.
pub(super) fn cidr(text: &str) -> Result<IpNet, String> {
    let Ok(net) = text.parse::<IpNet>() else {
        return Err(match text.parse::<IpAddr>() {
            Ok(address) => format!(
                "`{text}` has no prefix length; write `{}` for this address alone",
                host_prefix(address)
            ),
            Err(_) => format!("`{text}` is no CIDR; expected such as `10.0.0.0/8` or `fd00::/48`"),
        });
    };
    if net != net.trunc() {
        return Err(format!("`{text}` has host bits set; write `{}`", net.trunc()));
    }
    Ok(net)
}

/// A prefix that an overlay may have: no multicast, loopback or link-local space.
pub(super) fn overlay_cidr(text: &str) -> Result<IpNet, String> {
    let net = cidr(text)?;
    match special(net.addr()) {
        // `0.0.0.0/0` begins with an unspecified address and is fine.
        Some(kind) if net.prefix_len() >= 8 => {
            Err(format!("`{text}` is {kind} space, which no overlay can have"))
        }
        _ => Ok(net),
    }
}

/// A single address, without prefix length.
pub(super) fn address(text: &str) -> Result<IpAddr, String> {
    let address = text.parse::<IpAddr>().map_err(|_| match text.parse::<IpNet>() {
        Ok(net) => format!("`{text}` has a prefix length; write `{}`", net.addr()),
        Err(_) => format!("`{text}` is no IP address"),
    })?;
    usable(address)
}

/// An IPv4 address that other machines can reach.
pub(super) fn ipv4(text: &str) -> Result<Ipv4Addr, String> {
    match address(text)? {
        IpAddr::V4(address) => Ok(address),
        IpAddr::V6(_) => Err(format!("`{text}` is no IPv4 address; `ipv6` takes it")),
    }
}

/// An IPv6 address that other machines can reach.
pub(super) fn ipv6(text: &str) -> Result<Ipv6Addr, String> {
    match address(text)? {
        IpAddr::V6(address) => Ok(address),
        IpAddr::V4(_) => Err(format!("`{text}` is no IPv6 address; `ipv4` takes it")),
    }
}

fn usable(address: IpAddr) -> Result<IpAddr, String> {
    match special(address) {
        Some(kind) => Err(format!("`{address}` is {kind}; expected a unicast address")),
        None => Ok(address),
    }
}

/// What keeps an address from being a unicast one that is valid beyond its machine and link.
fn special(address: IpAddr) -> Option<&'static str> {
    let mapped = matches!(address, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some());
    let link_local = match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    // 0.0.0.0/8 and 240.0.0.0/4: "this network" and reserved (RFC 6890).
    let reserved = matches!(address, IpAddr::V4(v4) if v4.octets()[0] == 0 || v4.octets()[0] >= 240);
    [
        (address.is_unspecified(), "unspecified"),
        (address.is_loopback(), "loopback"),
        (address.is_multicast(), "multicast"),
        (link_local, "link-local"),
        (mapped, "IPv4-mapped"),
        (reserved, "reserved"),
    ]
    .into_iter()
    .find_map(|(is, kind)| is.then_some(kind))
}

/// `300ms`, `5s`, `2m`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let error = || format!("`{text}` is no duration; expected such as `300ms` or `5s`");
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let number = text[..digits].parse::<u64>().map_err(|_| error())?;
    let milliseconds = match &text[digits..] {
        "ms" => Some(number),
        "s" => number.checked_mul(1000),
        "m" => number.checked_mul(60_000),
        _ => None,
    };
    milliseconds.map(Duration::from_millis).ok_or_else(error)
}

/// A path that means the same wherever the agent was started.
pub(super) fn absolute_path(text: &str) -> Result<String, String> {
    if text.starts_with('/') {
        return Ok(text.to_owned());
    }
    // Not shown: who mistakes the field pastes the key itself.
    Err("expected a file's absolute path, as `/etc/adit/key`".to_owned())
}

/// Base64 of 32 bytes, as `wg pubkey` prints it.
pub(super) fn public_key(text: &str) -> Result<PublicKey, String> {
    // The text is not shown: it may be a private key with a slip in it.
    text.parse()
        .map_err(|_| "expected the base64 of 32 bytes (44 characters), as `wg pubkey` prints it".to_owned())
}

/// `host:port`; IPv6 addresses in brackets.
pub(super) fn endpoint(text: &str) -> Result<Endpoint, String> {
    let error = || {
        format!(
            "`{text}` is no endpoint; expected such as `192.0.2.1:51820`, `[2001:db8::1]:51820` or `host.example:51820`"
        )
    };
    if let Ok(socket) = text.parse::<SocketAddr>() {
        usable(socket.ip())?;
        return if socket.port() == 0 {
            Err(error())
        } else {
            let host = Host::Address(socket.ip());
            Ok(Endpoint {
                host,
                port: socket.port(),
            })
        };
    }
    let (host, port) = text.rsplit_once(':').ok_or_else(error)?;
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    // A last label of digits is a mistyped IPv4 address (RFC 3696, section 2).
    let name = host.split('.').all(label)
        && host.len() <= 253
        && !host
            .rsplit('.')
            .next()
            .is_some_and(|last| last.bytes().all(|c| c.is_ascii_digit()));
    let digits = port.bytes().all(|c| c.is_ascii_digit());
    match port.parse() {
        Ok(port @ 1..) if name && digits => {
            let host = Host::Name(host.to_ascii_lowercase());
            Ok(Endpoint { host, port })
        }
        _ => Err(error()),
    }
}
