//! Checks the host of a request. A web page in a browser on this machine can make its own host name resolve
//! to this machine (DNS rebinding) and read the answer; the `Host` header still has that name.

use std::net::{IpAddr, Ipv6Addr};

use axum::extract::Request;
use axum::http::header;
use axum::http::uri::Authority;

/// The names that `/etc/hosts` gives the loopback.
const LOOPBACK: [&str; 2] = ["localhost", "ip6-localhost"];

/// Accepts a request for an IP address, the loopback or one of these names. One without `Host`, as in
/// HTTP/1.0, is not from a browser and accepted.
///
/// # Errors
/// The host of a request that is not accepted.
pub(super) fn check(request: &Request, names: &[String]) -> Result<(), String> {
    let headers = request.headers().get_all(header::HOST).into_iter();
    let hosts = headers.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    let target = request.uri().authority().map(ToString::to_string);
    match hosts.chain(target).find(|host| !is_answered(host, names)) {
        None => Ok(()),
        Some(other) => Err(other),
    }
}

fn is_answered(host: &str, names: &[String]) -> bool {
    let Ok(authority) = host.parse::<Authority>() else {
        return false;
    };
    let host = authority.host();
    let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    if bracketed.is_some_and(|host| host.parse::<Ipv6Addr>().is_ok()) || host.parse::<IpAddr>().is_ok() {
        return true;
    }
    let host = host.strip_suffix('.').unwrap_or(host);
    let names = names.iter().map(String::as_str).chain(LOOPBACK);
    names.into_iter().any(|name| name.eq_ignore_ascii_case(host))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_for_addresses_the_loopback_and_given_names() {
        let names = ["node-a.example".to_owned()];
        for host in [
            "127.0.0.1",
            "127.0.0.1:9173",
            "[::1]:9173",
            "192.0.2.1:80",
            "localhost:9173",
            "LOCALHOST.",
            "node-a.example:9173",
        ] {
            assert!(is_answered(host, &names), "{host}");
        }
        for host in [
            "rebound.example",
            "rebound.example:9173",
            "127.0.0.1.rebound.example",
            "localhost.rebound.example",
            "user@rebound.example",
            "",
            "[::1",
            "a b",
        ] {
            assert!(!is_answered(host, &names), "{host}");
        }
    }

    #[test]
    fn a_second_header_and_the_target_are_checked() {
        let request = |uri: &str, hosts: &[&str]| {
            let mut builder = Request::builder().uri(uri);
            for host in hosts {
                builder = builder.header(header::HOST, *host);
            }
            check(&builder.body(axum::body::Body::empty()).unwrap(), &[])
        };
        assert_eq!(request("/metrics", &[]), Ok(()));
        assert_eq!(request("/metrics", &["localhost"]), Ok(()));
        let rebound = Err("rebound.example".to_owned());
        assert_eq!(request("/metrics", &["localhost", "rebound.example"]), rebound);
        assert_eq!(request("http://rebound.example/metrics", &["localhost"]), rebound);
    }
}
