//! Flows to an address that two hosts have, and which host each flow reaches.

use std::net::{IpAddr, UdpSocket};
use std::thread;
use std::time::Instant;

use dataplane_user::net::Family;

use crate::Agent;
use crate::agent::PATIENCE;
use crate::topology::Host;
use crate::traffic::bound;

const PORT: u16 = 7000;

/// Sends flows from the pod behind the host of an agent. Asserts that both hosts get some, and each flow always the same one.
///
/// # Panics
/// If that is not the case.
pub fn reach_both(agent: &Agent<'_>, to: [&Host; 2], shared: IpAddr) {
    let reached = shares(agent, to, shared, 40);
    assert!(reached.iter().all(|&flows| flows > 0), "{shared}: {reached:?}");
}

/// Sends a number of flows from the pod behind the host of an agent. Returns how many reach each of the two hosts.
///
/// # Panics
/// If a flow reaches neither or both.
#[must_use]
pub fn shares(agent: &Agent<'_>, to: [&Host; 2], shared: IpAddr, flows: usize) -> [usize; 2] {
    let servers = to.map(|host| {
        let bind = || UdpSocket::bind((shared, PORT));
        let server = host.pod.enter(bind).expect("the pod has the address");
        server.set_nonblocking(true).expect("the socket exists");
        server
    });
    let mut reached = [0; 2];
    for _ in 0..flows {
        let from = agent.host().pod_end();
        let client = bound(from.netns, from.address(Family::of(shared))).expect("the pod has the address");
        let send = || {
            client.send_to(b"adit", (shared, PORT)).expect("there is a route");
            receiver(&servers).unwrap_or_else(|| {
                let stats = agent.run(&["map", "stats"]).stdout;
                panic!("{shared}: neither receives it: {stats}")
            })
        };
        let server = send();
        assert_eq!(send(), server, "a flow stays with its next hop");
        reached[server] += 1;
    }
    reached
}

/// The index of the server that receives a packet; `None` if neither does.
fn receiver(servers: &[UdpSocket; 2]) -> Option<usize> {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        let received = servers
            .iter()
            .position(|server| server.recv(&mut [0; 16]).is_ok());
        if received.is_some() {
            return received;
        }
        thread::yield_now();
    }
    None
}
