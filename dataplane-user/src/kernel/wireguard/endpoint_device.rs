//! The devices of link-local endpoints. They are names everywhere except in messages of the kernel, which
//! contain interface indexes. They are devices of the agent's own namespace, in which WireGuard sends and
//! receives.

use std::io;
use std::net::IpAddr;

use nix::net::if_::{if_indextoname, if_nametoindex};

use crate::net::endpoint::needs_device;
use crate::net::{LinkName, PeerEndpoint};

/// The interface index of a device. If no device has the name and the name is a number, it is the index, as
/// in `getaddrinfo`.
///
/// # Errors
/// When there is no such device.
pub(crate) fn index(device: &LinkName) -> io::Result<u32> {
    let number = || device.as_str().parse().ok().filter(|index| *index > 0);
    let found = if_nametoindex(device.as_str()).ok().or_else(number);
    found.ok_or_else(|| {
        let text = format!("the device {device} of an endpoint does not exist");
        io::Error::new(io::ErrorKind::NotFound, text)
    })
}

/// An endpoint from a message of the kernel. A device that does not exist any more is represented by its
/// index.
pub(crate) fn endpoint(address: IpAddr, port: u16, scope: u32) -> PeerEndpoint {
    let of_link = matches!(address, IpAddr::V6(v6) if needs_device(&v6));
    let name = || {
        // If there is no such device, the name may be empty.
        let name = if_indextoname(scope).ok()?;
        LinkName::new(&name.to_string_lossy()).ok()
    };
    let device = (of_link && scope != 0).then(|| name().or_else(|| LinkName::new(&scope.to_string()).ok()));
    PeerEndpoint {
        address,
        port,
        device: device.flatten(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_numbers_to_the_kernel_alone() {
        // The loopback device has index 1 in every namespace.
        assert_eq!(index(&LinkName::constant("lo")).unwrap(), 1);
        assert_eq!(index(&LinkName::constant("4000000")).unwrap(), 4_000_000);
        let error = index(&LinkName::constant("no-such0")).unwrap_err();
        assert!(error.to_string().contains("no-such0"), "{error}");
        let at = |address: &str, scope| endpoint(address.parse().unwrap(), 7, scope).to_string();
        assert_eq!(at("fe80::1", 1), "[fe80::1%lo]:7");
        assert_eq!(at("fe80::1", 4_000_000), "[fe80::1%4000000]:7");
        assert_eq!(at("fe80::1", 0), "[fe80::1]:7");
        assert_eq!(at("2001:db8::1", 1), "[2001:db8::1]:7");
    }
}
