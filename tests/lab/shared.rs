//! `--shared-prefix`: a prefix that the first two nodes both advertise, an address in it that both of their pods have,
//! and flows from all others to it. One of the two pods must answer each flow, and each of them must answer some.
//!
//! One thread per pod and family answers. It waits only for its socket, in slices, and ends with [`measure`].
use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use adit_tests::interrupt::{Deadline, SLICE};
use adit_tests::socket::{is_pause, receive};
use adit_tests::topology::{SHARED_V4, SHARED_V6, of_family};
use anyhow::Result;
use dataplane_user::net::Family;

use super::links::Links;
use super::options::{ADVERTISERS, Encapsulation};
use super::pairs::Ends;
use super::traffic::Endpoint;

/// The number of flows from each end that does not advertise the prefix. One of two nodes gets none of them by chance
/// once in 2^63.
const FLOWS: usize = 64;
const PORT: u16 = 7007;

/// The address that several pods have.
pub(crate) fn address(family: Family) -> IpAddr {
    of_family((SHARED_V4, SHARED_V6), family)
}

/// The results of the flows from one end, in one family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Flows {
    pub(crate) from: String,
    /// The index of its node.
    pub(crate) node: usize,
    pub(crate) family: Family,
    pub(crate) sent: usize,
    /// How many flows each advertising node answered, by the index of the node; only nodes that a link reaches in this
    /// family.
    pub(crate) answered: BTreeMap<usize, usize>,
    /// The first thing that went wrong.
    pub(crate) error: Option<String>,
}

impl Flows {
    pub(crate) fn received(&self) -> usize {
        self.answered.values().sum()
    }

    /// Whether every flow was answered, and every advertising node answered some.
    pub(crate) fn is_good(&self) -> bool {
        self.sent > 0 && self.received() == self.sent && self.answered.values().all(|count| *count > 0)
    }
}

/// Sends the flows, of one packet in each direction. A node that reaches an advertising node without encapsulation sends
/// nothing, because the router would have to choose between the advertising nodes.
pub(crate) fn measure<'a>(ends: &'a Ends<'a>, links: &Links, wait: Duration) -> Result<Vec<Flows>> {
    let mut found = planned(ends, links);
    let stop = AtomicBool::new(false);
    let mut servers = Vec::new();
    for (index, pod) in ends.pods.iter().take(ADVERTISERS).enumerate() {
        for family in Family::BOTH {
            let bind = || UdpSocket::bind((address(family), PORT));
            servers.push((u8::try_from(index)?, pod.end.netns.enter(bind)?));
        }
    }
    thread::scope(|scope| {
        for (index, socket) in &servers {
            scope.spawn(|| answer(socket, *index, &stop));
        }
        for (flows, from) in &mut found {
            if let Err(error) = send(flows, from, wait) {
                flows.error.get_or_insert_with(|| format!("{error:#}"));
            }
        }
        stop.store(true, Ordering::Release);
    });
    Ok(found.into_iter().map(|(flows, _)| flows).collect())
}

fn planned<'a>(ends: &'a Ends<'a>, links: &Links) -> Vec<(Flows, &'a Endpoint<'a>)> {
    let mut planned = Vec::new();
    for group in [&ends.hosts, &ends.pods] {
        for (node, from) in group.iter().enumerate().skip(ADVERTISERS) {
            let reachable: Vec<_> = (0..ADVERTISERS)
                .filter_map(|advertiser| Some((advertiser, links.get(node, advertiser)?)))
                .collect();
            if reachable
                .iter()
                .any(|(_, link)| link.encapsulation == Encapsulation::Plain)
            {
                continue;
            }
            for family in Family::BOTH {
                let open = reachable.iter().filter(|(_, link)| link.carries(family));
                let answered: BTreeMap<usize, usize> = open.map(|(advertiser, _)| (*advertiser, 0)).collect();
                if answered.is_empty() {
                    continue;
                }
                let flows = Flows {
                    from: from.name.clone(),
                    node,
                    family,
                    sent: 0,
                    answered,
                    error: None,
                };
                planned.push((flows, from));
            }
        }
    }
    planned
}

fn send(flows: &mut Flows, from: &Endpoint<'_>, wait: Duration) -> Result<()> {
    let service = SocketAddr::from((address(flows.family), PORT));
    let any = flows.family.unspecified();
    let mut sockets = Vec::new();
    for flow in 0..FLOWS {
        let socket = from.end.netns.enter(|| UdpSocket::bind((any, 0)))?;
        socket.connect(service)?;
        flows.sent += 1;
        socket.send(&[u8::try_from(flow)?])?;
        sockets.push(socket);
    }
    let deadline = Deadline::after(wait);
    for (flow, socket) in sockets.iter().enumerate() {
        let index = receive(socket, deadline, |data, _| match data {
            [number, index] if usize::from(*number) == flow => Some(usize::from(*index)),
            _ => None,
        });
        match index {
            Ok(Some(index)) => *flows.answered.entry(index).or_default() += 1,
            Ok(None) => {
                flows.error = flows
                    .error
                    .take()
                    .or(Some("no answer within the time limit".to_owned()));
            }
            Err(error) => flows.error = flows.error.take().or(Some(error.to_string())),
        }
    }
    Ok(())
}

/// Sends each packet back, with the index of the answering node appended.
fn answer(socket: &UdpSocket, index: u8, stop: &AtomicBool) -> io::Result<()> {
    socket.set_read_timeout(Some(SLICE))?;
    let mut buffer = [0; 16];
    while !stop.load(Ordering::Acquire) {
        match socket.recv_from(&mut buffer) {
            Ok((length, from)) => {
                let reply = [&buffer[..length], &[index]].concat();
                // The sender notices a reply that is missing.
                let _ = socket.send_to(&reply, from);
            }
            Err(error) if is_pause(&error) => {}
            // An ICMP error about an earlier reply.
            Err(error) if error.raw_os_error().is_some() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flows_are_good_if_all_are_answered_and_all_nodes_answer() {
        let flows = |counts: [usize; 2]| Flows {
            from: "c".to_owned(),
            node: 2,
            family: Family::Ipv4,
            sent: 64,
            answered: counts.into_iter().enumerate().collect(),
            error: None,
        };
        assert!(flows([40, 24]).is_good());
        assert!(!flows([64, 0]).is_good());
        assert!(!flows([40, 23]).is_good());
        assert!(
            !Flows {
                sent: 0,
                ..flows([0, 0])
            }
            .is_good()
        );
    }

    #[test]
    fn an_answer_has_the_index_of_the_node() {
        let (server, client) = (
            UdpSocket::bind("127.0.0.1:0").unwrap(),
            UdpSocket::bind("127.0.0.1:0").unwrap(),
        );
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| answer(&server, 1, &stop));
            client.send_to(&[7], server.local_addr().unwrap()).unwrap();
            let deadline = Deadline::after(Duration::from_secs(10));
            let reply = receive(&client, deadline, |data, _| Some(data.to_vec())).unwrap();
            stop.store(true, Ordering::Release);
            assert_eq!(reply, Some(vec![7, 1]));
        });
    }
}
