//! Endpoints of WireGuard peers.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use super::LinkName;

/// An address and a UDP port, and for a link-local address the device of its link (the zone of RFC 4007).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PeerEndpoint {
    /// The address.
    pub address: IpAddr,
    /// The UDP port.
    pub port: u16,
    /// The device, if the address is valid on one link only.
    pub device: Option<LinkName>,
}

impl PeerEndpoint {
    /// An endpoint with an address that is valid on all links.
    #[must_use]
    pub fn new(address: IpAddr, port: u16) -> PeerEndpoint {
        PeerEndpoint {
            address,
            port,
            device: None,
        }
    }
}

impl From<SocketAddr> for PeerEndpoint {
    /// Drops the scope id: the number means nothing outside of the kernel.
    fn from(socket: SocketAddr) -> PeerEndpoint {
        PeerEndpoint::new(socket.ip(), socket.port())
    }
}

impl<A: Into<IpAddr>> From<(A, u16)> for PeerEndpoint {
    fn from((address, port): (A, u16)) -> PeerEndpoint {
        PeerEndpoint::new(address.into(), port)
    }
}

/// The error for a text that is not an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected an address and a port, such as `192.0.2.1:51820` or `[fe80::1%eth0]:51820`")]
pub struct InvalidEndpoint;

/// Reads the format of `Display`.
impl FromStr for PeerEndpoint {
    type Err = InvalidEndpoint;

    fn from_str(text: &str) -> Result<PeerEndpoint, InvalidEndpoint> {
        // An address with `%` is read below, because `SocketAddr` turns the device into a number that would
        // be lost.
        if let (Ok(socket), false) = (text.parse::<SocketAddr>(), text.contains('%')) {
            return Ok(socket.into());
        }
        let scoped = text.strip_prefix('[').and_then(|rest| rest.split_once("]:"));
        let (host, port) = scoped.ok_or(InvalidEndpoint)?;
        let (address, device) = parse_scoped(host).ok_or(InvalidEndpoint)?;
        Ok(PeerEndpoint {
            address: address.into(),
            port: port.parse().map_err(|_| InvalidEndpoint)?,
            device: Some(device),
        })
    }
}

/// In the format of `wg`: `192.0.2.1:51820`, `[2001:db8::1]:51820` or `[fe80::1%eth0]:51820`.
impl fmt::Display for PeerEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let port = self.port;
        match (self.address, &self.device) {
            (IpAddr::V4(address), _) => write!(f, "{address}:{port}"),
            (IpAddr::V6(address), None) => write!(f, "[{address}]:{port}"),
            (IpAddr::V6(address), Some(device)) => write!(f, "[{address}%{device}]:{port}"),
        }
    }
}

/// Whether an address is valid on one link only and therefore needs a device.
#[must_use]
pub fn needs_device(address: &Ipv6Addr) -> bool {
    address.is_unicast_link_local() || address.octets()[..2] == [0xff, 2]
}

/// Parses a link-local address with its device, such as `fe80::1%eth0`.
#[must_use]
pub fn parse_scoped(text: &str) -> Option<(Ipv6Addr, LinkName)> {
    let (address, device) = text.split_once('%')?;
    let address = address.parse().ok().filter(needs_device)?;
    Some((address, LinkName::new(device).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_reads_as_wg_writes_it() {
        for text in [
            "192.0.2.1:7",
            "[2001:db8::1]:7",
            "[fe80::1%eth0]:7",
            "[fe80::1%3]:7",
        ] {
            assert_eq!(text.parse::<PeerEndpoint>().unwrap().to_string(), text);
        }
        for bad in [
            "192.0.2.1",
            "[fe80::1%eth0]",
            "[fe80::1%eth0]:x",
            "fe80::1%eth0:7",
            "a:7",
        ] {
            assert_eq!(bad.parse::<PeerEndpoint>(), Err(InvalidEndpoint), "{bad}");
        }
        for bad in [
            "fe80::1",
            "fe80::1%",
            "2001:db8::1%eth0",
            "fe80::1%a/b",
            "192.0.2.1%eth0",
        ] {
            assert_eq!(parse_scoped(bad), None, "{bad}");
        }
    }
}
