//! Prefixes as text. Numbers with leading zeros are rejected: `ip` reads them as octal, `wg` as decimal.

use std::net::IpAddr;

use ipnet::IpNet;

use super::family::host_prefix;

/// Reads an address and a prefix length, such as `10.0.0.1/8`, with its host bits; `None` for any other text.
#[must_use]
pub fn parse(text: &str) -> Option<IpNet> {
    let (address, length) = text.split_once('/')?;
    let digits = length.bytes().all(|byte| byte.is_ascii_digit());
    let fits = digits && (length == "0" || !length.starts_with('0'));
    IpNet::new(address.parse().ok()?, length.parse().ok().filter(|_| fits)?).ok()
}

/// Reads the same, or an address without prefix length, which means /32 or /128.
#[must_use]
pub fn parse_or_address(text: &str) -> Option<IpNet> {
    text.parse::<IpAddr>()
        .ok()
        .map(host_prefix)
        .or_else(|| parse(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_with_leading_zeros_are_rejected() {
        for good in [
            "10.0.0.1/8",
            "0.0.0.0/0",
            "::/0",
            "2001:0db8::1/64",
            "10.0.0.0/32",
        ] {
            assert!(parse(good).is_some(), "{good}");
        }
        for bad in [
            "10.0.0.0/08",
            "10.0.0.0/00",
            "010.0.0.0/8",
            "10.00.0.0/8",
            "::/064",
            "::ffff:192.0.02.1/128",
            "10.0.0.0/+8",
            "10.0.0.0/",
            "10.0.0.0/33",
            "10.0.0.0",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
        assert_eq!(parse_or_address("10.0.0.1").unwrap().to_string(), "10.0.0.1/32");
        assert_eq!(parse_or_address("fd00::/64").unwrap().to_string(), "fd00::/64");
        assert_eq!(parse_or_address("10.0.0.010"), None);
    }
}
