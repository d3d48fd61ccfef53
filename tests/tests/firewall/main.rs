//! The nft table `inet adit` on a real kernel: its effects on packets, and that it is replaced as a whole or not at all.

mod cleartext;
mod masquerade;
mod return_path;
mod table;
mod tunnels;

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::process::Command;
use std::time::Instant;

use adit_tests::agent::PATIENCE;
use adit_tests::traffic::bound;
use adit_tests::{NetNs, Topology, require_module};

/// Whether devices and the table can be had here.
fn ready() -> bool {
    [
        "dummy",
        "geneve",
        "nf_tables",
        "nft_masq",
        "nft_fib_inet",
        "nft_ct",
    ]
    .into_iter()
    .all(require_module)
}

/// Whether the kernel has tables, built in or to be loaded.
fn has_tables() -> bool {
    let listed = Command::new("nft").args(["list", "tables"]).output();
    listed.is_ok_and(|output| output.status.success()) || require_module("nf_tables")
}

/// Two hosts, the second one's pods reached by a tunnel, and addresses of the world outside on the router.
fn topology() -> Topology<2> {
    let topology = Topology::<2>::new();
    for address in OUTSIDE {
        // Without duplicate address detection, which takes long on a busy machine.
        let nodad = if address.contains(':') { "nodad" } else { "" };
        topology
            .router
            .ip(&format!("address add {address} dev lo {nodad}"));
    }
    topology
}

/// No overlay's, each of a family, and beside each another one.
const OUTSIDE: [&str; 4] = [
    "198.51.100.1/32",
    "198.51.100.2/32",
    "2001:db8:ffff::1/128",
    "2001:db8:ffff::2/128",
];

/// The address that a UDP packet comes from where it arrives.
fn seen((from, source): (&NetNs, IpAddr), (to, destination): (&NetNs, IpAddr)) -> IpAddr {
    let server = bound(to, destination).unwrap();
    let client = bound(from, source).unwrap();
    arrives(&client, &server).unwrap_or_else(|| panic!("nothing comes from {source} to {destination}"))
}

/// Sends until something arrives; where from.
fn arrives(client: &UdpSocket, server: &UdpSocket) -> Option<IpAddr> {
    let to: SocketAddr = server.local_addr().unwrap();
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        client.send_to(b"adit", to).unwrap();
        if let Ok((4, peer)) = server.recv_from(&mut [0; 16]) {
            return Some(peer.ip());
        }
    }
    None
}
