//! Reads HTTP answers of a running agent, and series of its metrics page.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};

use crate::NetNs;
use crate::agent::PATIENCE;

/// The default HTTP address of an agent.
pub const PORT: u16 = 9173;

/// Requests a path from the agent in a namespace. Returns the status code and the body.
///
/// # Panics
/// If there is no HTTP answer.
#[must_use]
pub fn get(netns: &NetNs, path: &str) -> (u16, String) {
    ask(netns, &format!("GET {path} HTTP/1.0\r\n\r\n"))
}

/// As [`get`], with a `Host` header, as browsers and scrapers send it.
///
/// # Panics
/// As [`get`].
#[must_use]
pub fn get_of(netns: &NetNs, host: &str, path: &str) -> (u16, String) {
    ask(
        netns,
        &format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"),
    )
}

fn ask(netns: &NetNs, request: &str) -> (u16, String) {
    let ask = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, PORT))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(request.as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    let answer = netns.enter(ask).expect("an agent that answers");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    let code = head.split(' ').nth(1).and_then(|code| code.parse().ok());
    (code.expect("a status line"), body.to_owned())
}

/// The metrics page of the agent in a namespace.
///
/// # Panics
/// As [`get`].
#[must_use]
pub fn page(netns: &NetNs) -> String {
    get(netns, "/metrics").1
}

/// The value of one series.
///
/// # Panics
/// If the page does not have it.
#[must_use]
pub fn value(page: &str, series: &str) -> u64 {
    let line = page
        .lines()
        .find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    let number = line.and_then(|line| line.parse().ok());
    number.unwrap_or_else(|| panic!("no {series} in\n{page}"))
}

/// The sum of all series with this prefix.
#[must_use]
pub fn sum(page: &str, series: &str) -> u64 {
    let values = page.lines().filter_map(|line| {
        let number = line.strip_prefix(series)?.rsplit(' ').next()?;
        number.parse::<u64>().ok()
    });
    values.sum()
}
