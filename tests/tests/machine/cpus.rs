//! Packets on two CPUs at once, while the map of their lookup is written.
use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use adit_tests::NetNs;
use adit_tests::bpf::{Programs, skipped};
use dataplane_ebpf::layout::target::{PrefixTarget, TargetKind};
use dataplane_ebpf::layout::{Counters, names};
use dataplane_ebpf::verdict::Verdict;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

/// The number of packets that each of two CPUs sends.
const PACKETS: u64 = 20_000;

/// Every packet is counted once, on the CPU that sent it, under a verdict of one of the two targets of the prefix.
#[test]
fn each_packet_is_counted_once_on_its_cpu_while_its_prefix_changes() {
    if skipped() {
        return;
    }
    if count() < 2 {
        println!("skipped: this machine has one CPU");
        return;
    }
    let netns = NetNs::new();
    netns.ip("link add adit0 type veth peer name peer0");
    let mut programs = Programs::load(false).unwrap();
    netns
        .enter(|| programs.attach(names::EGRESS_PROGRAM, "adit0"))
        .unwrap();
    netns.ip("address add 10.1.0.1/32 dev adit0");
    netns.ip("link set adit0 up");
    netns.ip("route add 10.2.0.0/16 via 169.254.1.1 dev adit0 onlink");
    netns.ip("neigh add 169.254.1.1 lladdr 02:00:00:00:00:01 dev adit0");

    // Neither target forwards: the prefix is of this node itself, or its next hop does not exist.
    let targets = [TargetKind::Local, TargetKind::NextHop(5)].map(PrefixTarget::new);
    let mut set = |target| programs.set_prefix_v4([10, 2, 0, 0], 16, target).unwrap();
    set(targets[0]);
    let done = AtomicBool::new(false);
    let changes = thread::scope(|scope| {
        let senders = [0, 1].map(|cpu| {
            let netns = &netns;
            scope.spawn(move || netns.enter(|| send_on(cpu)))
        });
        let writer = scope.spawn(|| {
            let mut changes = 0_u64;
            while !done.load(Ordering::Relaxed) {
                targets.into_iter().for_each(&mut set);
                changes += 2;
            }
            changes
        });
        senders.into_iter().for_each(|sender| sender.join().unwrap());
        done.store(true, Ordering::Relaxed);
        writer.join().unwrap()
    });

    let [local, next_hop] = [Verdict::LocalPrefix, Verdict::NoNextHop].map(|verdict| {
        programs
            .counters_by_cpu(names::EGRESS_COUNTERS, verdict.index())
            .unwrap()
    });
    let total = |cpu: usize| local[cpu].packets + next_hop[cpu].packets;
    assert_eq!([total(0), total(1)], [PACKETS; 2]);
    assert!(changes > 100, "{changes}");
    let sum = |counts: &[Counters]| counts.iter().map(|count| count.packets).sum::<u64>();
    assert!(sum(&local) > 0 && sum(&next_hop) > 0, "both states were seen");
}

/// The number of CPUs.
pub(crate) fn count() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

fn send_on(cpu: usize) {
    let mut set = CpuSet::new();
    set.set(cpu).unwrap();
    sched_setaffinity(Pid::from_raw(0), &set).unwrap();
    let socket = UdpSocket::bind("10.1.0.1:0").unwrap();
    for _ in 0..PACKETS {
        // The send may return an error for the drop.
        let _ = socket.send_to(b"adit", "10.2.0.1:9");
    }
}
