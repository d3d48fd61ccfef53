//! Addresses for hub clients.

use std::net::IpAddr;
use std::ops::RangeInclusive;

use ipnet::IpNet;

use crate::net::Family;

/// The lowest usable address of a subnet that is in none of the prefixes in `used`.
pub(super) fn lowest_free(subnet: IpNet, used: impl IntoIterator<Item = IpNet>) -> Option<IpAddr> {
    let usable = usable(subnet);
    let used = used
        .into_iter()
        .filter(|prefix| Family::of_prefix(*prefix) == Family::of_prefix(subnet));
    let mut used = used.map(range).collect::<Vec<_>>();
    used.sort_unstable_by_key(|range| *range.start());
    let mut free = *usable.start();
    for range in used {
        if *range.start() > free {
            break;
        }
        if *range.end() >= free {
            free = range.end().checked_add(1)?;
        }
    }
    usable
        .contains(&free)
        .then(|| address(Family::of_prefix(subnet), free))
}

/// The first usable address of a subnet: that of the hub, if the file does not set one.
pub(super) fn first(subnet: IpNet) -> IpAddr {
    address(Family::of_prefix(subnet), *usable(subnet).start())
}

/// The usable addresses of a subnet: all but the network address (with IPv6 the subnet-router anycast
/// address, RFC 4291, section 2.6.1) and the broadcast address. Subnets of one or two addresses have neither
/// (RFC 3021, RFC 6164).
fn usable(subnet: IpNet) -> RangeInclusive<u128> {
    let all = range(subnet);
    if subnet.max_prefix_len() - subnet.prefix_len() < 2 {
        return all;
    }
    match subnet {
        IpNet::V4(_) => all.start() + 1..=all.end() - 1,
        IpNet::V6(_) => all.start() + 1..=*all.end(),
    }
}

fn range(prefix: IpNet) -> RangeInclusive<u128> {
    number(prefix.network())..=number(prefix.broadcast())
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_bits().into(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

fn address(family: Family, number: u128) -> IpAddr {
    match (family, u32::try_from(number)) {
        (Family::Ipv4, Ok(number)) => IpAddr::V4(number.into()),
        _ => IpAddr::V6(number.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn free(subnet: &str, taken: &[&str]) -> Option<String> {
        let taken = taken.iter().map(|prefix| prefix.parse().unwrap());
        lowest_free(subnet.parse().unwrap(), taken).map(|address| address.to_string())
    }

    #[test]
    fn the_lowest_free_address_is_given() {
        for (subnet, taken, wanted) in [
            ("10.42.0.0/24", &[][..], "10.42.0.1"),
            ("10.42.0.0/24", &["10.42.0.1/32"], "10.42.0.2"),
            ("10.42.0.0/24", &["10.42.0.3/32", "10.42.0.1/32"], "10.42.0.2"),
            (
                "10.42.0.0/24",
                &["10.42.0.0/26", "10.42.0.65/32", "10.42.0.8/29"],
                "10.42.0.64",
            ),
            ("10.42.0.0/24", &["fd00::/8", "10.42.1.0/24"], "10.42.0.1"),
            ("10.42.0.0/31", &["10.42.0.0/32"], "10.42.0.1"),
            ("64.0.0.0/2", &["64.0.0.1/32"], "64.0.0.2"),
            ("fd42::/64", &["fd42::1/128"], "fd42::2"),
            ("fd42::/127", &[], "fd42::"),
            ("::/0", &["::/1"], "8000::"),
        ] {
            assert_eq!(free(subnet, taken).as_deref(), Some(wanted), "{subnet} {taken:?}");
        }
    }

    #[test]
    fn network_and_broadcast_are_never_given() {
        let all = |subnet: &str| {
            let mut taken = Vec::new();
            while let Some(address) = lowest_free(subnet.parse().unwrap(), taken.iter().copied()) {
                taken.push(IpNet::from(address));
            }
            taken
                .iter()
                .map(|prefix| prefix.addr().to_string())
                .collect::<Vec<_>>()
        };
        assert_eq!(all("10.0.0.4/30"), ["10.0.0.5", "10.0.0.6"]);
        assert_eq!(all("10.0.0.4/31"), ["10.0.0.4", "10.0.0.5"]);
        assert_eq!(all("10.0.0.4/32"), ["10.0.0.4"]);
        assert_eq!(all("fd00::4/126"), ["fd00::5", "fd00::6", "fd00::7"]);
        assert_eq!(all("10.0.0.0/24").len(), 254);
        assert_eq!(free("0.0.0.0/0", &["0.0.0.0/0"]), None);
        assert_eq!(free("ffff::/16", &["ffff::/16"]), None);
    }
}
