//! Values that manifests write as text: CIDRs, addresses, durations, keys. Each error tells the expected
//! form.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use ipnet::IpNet;

use crate::net::endpoint::parse_scoped;
use crate::net::family::host_prefix;
use crate::net::name::is_host_name;
use crate::net::{PublicKey, prefix};
use crate::resource::node::{Endpoint, Host};

/// A prefix without host bits.
pub(super) fn cidr(text: &str) -> Result<IpNet, String> {
    let Some(net) = prefix::parse(text) else {
        return Err(match text.parse::<IpAddr>() {
            Ok(address) => format!(
                "`{text}` has no prefix length; write `{}` for this address alone",
                host_prefix(address)
            ),
            Err(_) => format!(
                "`{text}` is not a CIDR; expected for example `10.0.0.0/8` or `fd00::/48`, without leading zeros"
            ),
        });
    };
    if net != net.trunc() {
        return Err(format!("`{text}` has host bits set; write `{}`", net.trunc()));
    }
    Ok(net)
}

/// A prefix of an overlay: not in multicast, loopback or link-local address space.
pub(super) fn overlay_cidr(text: &str) -> Result<IpNet, String> {
    let net = cidr(text)?;
    match special(net.addr()) {
        // `0.0.0.0/0` begins with an unspecified address and is fine.
        Some(kind) if net.prefix_len() >= 8 => Err(format!(
            "`{text}` is {kind} address space; expected a unicast prefix, for example `10.0.0.0/8`"
        )),
        _ => Ok(net),
    }
}

/// A single address, without prefix length.
pub(super) fn address(text: &str) -> Result<IpAddr, String> {
    let address = text.parse::<IpAddr>().map_err(|_| match prefix::parse(text) {
        Some(net) => format!("`{text}` has a prefix length; write `{}`", net.addr()),
        None => format!("`{text}` is not an IP address; expected for example `192.0.2.1` or `2001:db8::1`"),
    })?;
    usable(address)
}

/// An IPv4 address that other machines can reach.
pub(super) fn ipv4(text: &str) -> Result<Ipv4Addr, String> {
    match address(text)? {
        IpAddr::V4(address) => Ok(address),
        IpAddr::V6(_) => Err(format!("`{text}` is an IPv6 address; give it as `ipv6`")),
    }
}

/// An IPv6 address that other machines can reach.
pub(super) fn ipv6(text: &str) -> Result<Ipv6Addr, String> {
    match address(text)? {
        IpAddr::V6(address) => Ok(address),
        IpAddr::V4(_) => Err(format!("`{text}` is an IPv4 address; give it as `ipv4`")),
    }
}

fn usable(address: IpAddr) -> Result<IpAddr, String> {
    match special(address) {
        Some(kind) => Err(format!("`{address}` is {kind}; expected a unicast address")),
        None => Ok(address),
    }
}

/// Why an address is not a unicast address that is valid beyond its machine and link; `None`: it is one.
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
    let error = || format!("`{text}` is not a duration; expected for example `300ms` or `5s`");
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

/// An absolute path, which does not depend on the working directory of the agent.
pub(super) fn absolute_path(text: &str) -> Result<String, String> {
    if text.starts_with('/') {
        return Ok(text.to_owned());
    }
    // The text is not shown: a user who mistakes the field writes the key itself.
    Err("expected an absolute path, for example `/etc/adit/key`".to_owned())
}

/// Base64 of 32 bytes, as `wg pubkey` prints it.
pub(super) fn public_key(text: &str) -> Result<PublicKey, String> {
    // The text is not shown: it may be a private key with a typing error.
    text.parse()
        .map_err(|_| "expected the base64 of 32 bytes (44 characters), as `wg pubkey` prints it".to_owned())
}

/// `host:port`, with IPv6 addresses in brackets. Loopback and link-local addresses are rejected, because
/// other nodes can't use them.
pub(super) fn endpoint(text: &str) -> Result<Endpoint, String> {
    let endpoint = endpoint_here(text)?;
    let address = match endpoint.host {
        Host::Scoped(address, _) => Some(address.into()),
        Host::Address(address) => Some(address),
        Host::Name(_) => None,
    };
    address.map(usable).transpose()?;
    Ok(endpoint)
}

/// An address to which a single machine can send, including itself.
fn reachable(address: IpAddr) -> Result<IpAddr, String> {
    match special(address) {
        None | Some("loopback" | "link-local") => Ok(address),
        Some(kind) => Err(format!("`{address}` is {kind}; expected a unicast address")),
    }
}

/// As [`endpoint`], for an endpoint that only one node uses. Also accepted are loopback addresses, and
/// link-local addresses with their device.
pub(super) fn endpoint_here(text: &str) -> Result<Endpoint, String> {
    let error = || {
        format!(
            "`{text}` is not an endpoint; expected for example `192.0.2.1:51820`, `[2001:db8::1]:51820` or `host.example:51820`"
        )
    };
    let (host, port) = text.rsplit_once(':').ok_or_else(error)?;
    let digits = port.bytes().all(|c| c.is_ascii_digit());
    let port = port
        .parse()
        .ok()
        .filter(|port| digits && *port > 0)
        .ok_or_else(error)?;
    let host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(address) => {
            if let Some((address, device)) = parse_scoped(address) {
                Host::Scoped(address, device)
            } else {
                let address = address.parse::<Ipv6Addr>().map_err(|_| error())?;
                if address.is_unicast_link_local() {
                    return Err(format!(
                        "`{text}` is link-local; add its device, for example `[{address}%eth0]:{port}`"
                    ));
                }
                Host::Address(reachable(address.into())?)
            }
        }
        None => match host.parse::<Ipv4Addr>() {
            Ok(address) => Host::Address(reachable(address.into())?),
            Err(_) if is_host_name(host) => Host::Name(host.to_ascii_lowercase()),
            Err(_) => return Err(error()),
        },
    };
    Ok(Endpoint { host, port })
}

/// A prefix from which addresses of devices are assigned.
pub(super) fn pool(text: &str) -> Result<IpNet, String> {
    let net = cidr(text)?;
    match special(net.addr()) {
        None | Some("link-local") => Ok(net),
        Some(kind) => Err(format!(
            "`{text}` begins with {kind} addresses, which a device can't have; expected for example `10.0.0.0/16`"
        )),
    }
}
