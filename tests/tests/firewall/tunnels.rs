//! The rules for tunnels: segments that fit, UDP that is not tracked, and ports that are open only to peers.

use std::fs;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::thread::{self, JoinHandle};

use adit_tests::agent::PATIENCE;
use adit_tests::capture::Capture;
use adit_tests::frame::{ETHERNET, Udp};
use adit_tests::named::eventually;
use adit_tests::topology::End;
use adit_tests::traffic::{self, bound};
use adit_tests::{Agent, NetNs, Overlay, Topology, agent, require, snapshot};
use dataplane_user::net::{Family, MacAddr, NodeName};
use nix::sys::socket::{setsockopt, sockopt};
use serde_json::Value;

use crate::{ready, topology};

const SYN: u8 = 0x02;
const TCP: u8 = 6;

#[test]
fn tcp_segments_fit_into_tunnels_in_both_directions() {
    if !ready() {
        return;
    }
    let topology = topology();
    let [a, b] = &topology.hosts;
    for (asked, ipv4, ipv6) in [
        ("firewall: {clampMss: false}", 1460, 1440),
        ("firewall: {}", 1410, 1390),
    ] {
        let overlay = Overlay {
            network: vec![asked],
            ..Overlay::new(&topology, "geneve")
        };
        let _agents = agent::start_all(&topology, &overlay.manifests(&topology));
        for (family, expected) in [(Family::Ipv4, ipv4), (Family::Ipv6, ipv6)] {
            let sizes = segment_sizes(a.pod_end(), b.pod_end(), family);
            assert_eq!(sizes, [expected, expected], "{asked}: of both SYNs, {family}");
        }
    }
}

#[test]
fn a_large_reply_arrives_without_icmp() {
    if !ready() {
        return;
    }
    let topology = topology();
    let [a, b] = &topology.hosts;
    // Like a firewall that drops ICMP: the server never learns the path MTU.
    snapshot::run(&b.pod, "nft", DEAF);
    for (asked, clamped) in [("firewall: {clampMss: false}", false), ("firewall: {}", true)] {
        let overlay = Overlay {
            network: vec![asked],
            ..Overlay::new(&topology, "geneve")
        };
        let _agents = agent::start_all(&topology, &overlay.manifests(&topology));
        for family in Family::BOTH {
            let unheard = too_large(&b.pod);
            let mut reply = LargeReply::new(a.pod_end(), b.pod_end(), family);
            if clamped {
                reply.client.read_exact(&mut vec![0; LARGE]).unwrap();
                assert_eq!(too_large(&b.pod), unheard, "{family}: no segment is too large");
                continue;
            }
            let refused = eventually(|| too_large(&b.pod) > unheard);
            assert!(refused, "{family}: segments are too large");
            reply.client.set_nonblocking(true).unwrap();
            let read = reply.client.read(&mut vec![0; LARGE]);
            let read = read.map_err(|error| error.kind());
            assert_eq!(
                read,
                Err(ErrorKind::WouldBlock),
                "{family}: nothing of the reply arrives"
            );
        }
    }
}

/// Takes no word of a packet that was too large (RFC 792, RFC 4443, section 3.2), and counts them.
const DEAF: &str = "add table inet deaf ; \
    add chain inet deaf input { type filter hook input priority 0 ; } ; \
    add rule inet deaf input icmp code frag-needed icmp type destination-unreachable counter drop ; \
    add rule inet deaf input icmpv6 type packet-too-big counter drop";

/// The bytes of a reply that takes full segments.
const LARGE: usize = 100_000;

/// How often the namespace was told that a packet was too large.
fn too_large(netns: &NetNs) -> u64 {
    let listing = snapshot::run(netns, "nft", "list table inet deaf");
    let counts = listing.split("packets ").skip(1);
    counts
        .map(|rest| rest.split(' ').next().unwrap().parse::<u64>().unwrap())
        .sum()
}

/// A connection whose other end has just been given a large reply to send. With this that end is gone at once, whatever it
/// has not sent: one that lived on would send segments again that are too large, and they would be counted as others'.
struct LargeReply {
    client: TcpStream,
    server: TcpStream,
    writer: Option<JoinHandle<()>>,
}

impl LargeReply {
    fn new(from: End<'_>, to: End<'_>, family: Family) -> LargeReply {
        let address = to.address(family);
        let listener = to.netns.enter(|| TcpListener::bind((address, 0))).unwrap();
        let there = listener.local_addr().unwrap();
        let client = from.netns.enter(|| TcpStream::connect(there)).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        let (server, _) = listener.accept().unwrap();
        // Closed, it sends a reset and nothing more.
        let linger = libc::linger {
            l_onoff: 1,
            l_linger: 0,
        };
        setsockopt(&server, sockopt::Linger, &linger).unwrap();
        // More than fits into the buffers of both ends.
        let mut writing = server.try_clone().unwrap();
        let writer = thread::spawn(move || {
            // It ends early if nothing arrives.
            let _whole = writing.write_all(&[0xa5; LARGE]);
        });
        LargeReply {
            client,
            server,
            writer: Some(writer),
        }
    }
}

impl Drop for LargeReply {
    fn drop(&mut self) {
        // The writer returns; its data is sent before the last descriptor closes.
        let _shut = self.server.shutdown(Shutdown::Both);
        let _ended = self.writer.take().map(JoinHandle::join);
    }
}

/// The MSS of a connection's SYN and of its answer, where they arrive.
fn segment_sizes(from: End<'_>, to: End<'_>, family: Family) -> [u16; 2] {
    let (there, back) = (Capture::new(to.netns), Capture::new(from.netns));
    traffic::tcp(from, to, family, 100_000).unwrap();
    let of = |capture: &Capture, source: IpAddr| {
        let packets = capture.packets();
        let syn = packets.iter().find(|packet| {
            let flags = packet.payload.get(13).copied().unwrap_or_default();
            packet.protocol == TCP && flags & SYN != 0 && packet.source == source
        });
        let header = &syn.expect("the connection began").payload;
        maximum_segment(&header[20..]).expect("Linux sends one")
    };
    [of(&there, from.address(family)), of(&back, to.address(family))]
}

/// RFC 9293, section 3.2.
fn maximum_segment(mut options: &[u8]) -> Option<u16> {
    loop {
        match options {
            [1, rest @ ..] => options = rest,
            [2, 4, high, low, ..] => return Some(u16::from_be_bytes([*high, *low])),
            [0, ..] | [] => return None,
            [_, length, ..] => options = options.get(usize::from(*length)..)?,
            [_] => return None,
        }
    }
}

#[test]
fn outer_udp_is_not_tracked() {
    if !ready() {
        return;
    }
    let topology = topology();
    let [a, b] = &topology.hosts;
    // In this order, because connections stay tracked for minutes.
    for (asked, tracked) in [("firewall: {}", false), ("firewall: {notrack: []}", true)] {
        let overlay = Overlay {
            // That makes the kernel track connections.
            network: vec!["masquerade: {}", asked],
            ..Overlay::new(&topology, "geneve")
        };
        let _agents = agent::start_all(&topology, &overlay.manifests(&topology));
        traffic::udp(a.pod_end(), b.pod_end(), Family::Ipv4, 100).unwrap();
        let connections = connections(&a.netns);
        assert!(
            connections.contains("src=10.1.1.2"),
            "what is inside is: {connections}"
        );
        assert_eq!(
            connections.contains("dport=6081"),
            tracked,
            "{asked}: {connections}"
        );
    }
}

fn connections(netns: &NetNs) -> String {
    netns
        .enter(|| fs::read_to_string("/proc/thread-self/net/nf_conntrack"))
        .unwrap()
}

#[test]
fn tunnel_ports_are_open_only_to_peers_and_managers_keep_access() {
    if !ready() {
        return;
    }
    require!(modules: "vxlan");
    let topology = Topology::<3>::new();
    let [a, b, c] = &topology.hosts;
    let overlay = |asked| Overlay {
        members: vec!["a", "b"],
        network: vec![asked],
        ..Overlay::new(&topology, "geneve")
    };
    let open = overlay("firewall: {}").manifests(&topology);
    let closed = overlay("firewall: {protectPorts: true, managementPorts: [22, 6443]}").manifests(&topology);
    let agents = [a, b].map(|host| Agent::started(host, &open));
    let target = bound(&a.netns, a.end().address(Family::Ipv4)).unwrap();
    let injection = injection(a.end().address(Family::Ipv4), target.local_addr().unwrap().port());
    let outsiders =
        Family::BOTH.map(|family| (bound(&c.netns, c.underlay(family)).unwrap(), a.underlay(family)));
    let inject = |family: usize| {
        let (socket, to) = &outsiders[family];
        socket.send_to(&injection, (*to, 6081)).unwrap();
    };
    // By default, anybody who knows the VNI gets in.
    let got_in = (0..100).any(|_| {
        inject(0);
        target.recv(&mut [0; 64]).is_ok()
    });
    assert!(got_in, "the injected packet is a good one");

    agents[0].write(&closed);
    agents[0].wait("protected", |_| dropped(&a.netns).is_some());
    while target.recv(&mut [0; 64]).is_ok() {}
    for family in 0..2 {
        let before = dropped(&a.netns).unwrap();
        for _ in 0..5 {
            inject(family);
        }
        agents[0].wait("counting them", |_| {
            dropped(&a.netns).unwrap()[family] == before[family] + 5
        });
    }
    assert!(target.recv(&mut [0; 64]).is_err(), "nothing gets in");
    let before = dropped(&a.netns);
    for family in Family::BOTH {
        traffic::all(b.pod_end(), a.pod_end(), family).unwrap();
    }
    assert_eq!(dropped(&a.netns), before, "peers get through");
    // Managers, and ports of no tunnel.
    for port in [22, 6443, 8080] {
        connects(&c.netns, &a.netns, a.underlay(Family::Ipv4), port);
    }
    let server = bound(&a.netns, a.underlay(Family::Ipv4)).unwrap();
    let client = bound(&c.netns, c.underlay(Family::Ipv4)).unwrap();
    assert!(
        crate::arrives(&client, &server).is_some(),
        "other UDP ports are open"
    );
}

/// The packets to ports that were dropped so far, of IPv4 and of IPv6; nothing before there is a rule.
fn dropped(netns: &NetNs) -> Option<[u64; 2]> {
    let json = snapshot::run(netns, "nft", "-j list table inet adit");
    let listing: Value = serde_json::from_str(&json).unwrap();
    let counters = listing["nftables"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|object| object["rule"]["chain"] == "input")
        .filter_map(|object| {
            let expressions = object["rule"]["expr"].as_array()?;
            let drops = expressions.iter().any(|one| one.get("drop").is_some());
            let counter = expressions
                .iter()
                .find_map(|one| one["counter"]["packets"].as_u64());
            counter.filter(|_| drops)
        });
    counters.collect::<Vec<_>>().try_into().ok()
}

fn connects(from: &NetNs, to: &NetNs, address: IpAddr, port: u16) {
    let listener = to.enter(|| TcpListener::bind((address, port))).unwrap();
    let mut client = from.enter(|| TcpStream::connect((address, port))).unwrap();
    let (mut server, _) = listener.accept().unwrap();
    client.write_all(b"adit").unwrap();
    server.read_exact(&mut [0; 4]).unwrap();
}

/// A UDP packet from the other node's pod, as GENEVE carries it (RFC 8926, section 3.4), for whoever takes it.
fn injection(to: IpAddr, port: u16) -> Vec<u8> {
    let mut inner = Udp {
        ports: (40_000, port),
        ..Udp::new(Ipv4Addr::new(10, 2, 1, 2).into(), to)
    }
    .frame();
    inner[..6].copy_from_slice(&MacAddr::of_node(&NodeName::new("a").unwrap()).0);
    inner[6..12].copy_from_slice(&MacAddr::of_node(&NodeName::new("b").unwrap()).0);
    let header = &inner[ETHERNET..ETHERNET + 20];
    let sum: u32 = header
        .chunks(2)
        .map(|word| u32::from(u16::from_be_bytes([word[0], word[1]])))
        .sum();
    let folded = u16::try_from((sum & 0xffff) + (sum >> 16)).unwrap();
    inner[ETHERNET + 10..ETHERNET + 12].copy_from_slice(&(!folded).to_be_bytes());
    let [_, vni @ ..] = 4711_u32.to_be_bytes();
    let geneve = [&[0, 0, 0x65, 0x58][..], &vni, &[0]].concat();
    [geneve, inner].concat()
}
