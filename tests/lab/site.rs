//! The namespaces, the folder and the BPF file system of a run: made at its start, gone at its end.
use std::fs::{self, File, TryLockError};

use adit_tests::NetNs;
use adit_tests::netns::NAMED;
use adit_tests::topology::{Host, Node, forward};
use anyhow::{Context as _, Result, bail};
use nix::mount::{MntFlags, umount2};
use tempfile::TempDir;

use super::options::{CARRIERS, Underlay};
use super::topology::Topology;

/// Everything that a run has on disk.
pub(crate) const FOLDER: &str = "/run/adit-lab";
/// What the names of BPF file systems end with.
const BPFFS: &str = "-bpf";
const LOCK: &str = "/run/adit-lab.lock";
/// What the lab's namespaces are called.
const PREFIX: &str = "adit-lab-";
/// The namespace between the hosts.
pub(crate) const ROUTER: &str = "adit-lab-router";

/// Overlay traffic arrives by another device than the way back leaves by. 2 is what systemd sets, for each new device,
/// and has a trap: a device without an IPv4 address drops everything.
const RP_FILTER: [(&str, &str); 2] = [
    ("net/ipv4/conf/all/rp_filter", "0"),
    ("net/ipv4/conf/default/rp_filter", "2"),
];

/// The lab's place in the kernel and on disk; dropping it removes all of that.
pub(crate) struct Site {
    pub(crate) topology: Topology,
    pub(crate) router: NetNs,
    /// By the topology's order.
    pub(crate) hosts: Vec<Host>,
    _cleaner: Cleaner,
}

impl Site {
    /// Cleans up after a run that was killed, then makes everything anew; with `shared_prefix`, one that several carry.
    pub(crate) fn build(topology: Topology, shared_prefix: bool) -> Result<Self> {
        let cleaner = Cleaner::new()?;
        fs::create_dir_all(FOLDER).with_context(|| format!("creating {FOLDER}"))?;
        let pairs = topology
            .nodes
            .iter()
            .flat_map(|node| [namespace(node), pod_namespace(node)]);
        let names: Vec<String> = pairs.chain([ROUTER.to_owned()]).collect();
        let lines = names.iter().map(|name| format!("netns add {name}\n"));
        NetNs::current().ip_batch(&lines.collect::<String>());
        for name in &names {
            NetNs::named(name).ip("link set lo up");
        }
        let router = NetNs::named(ROUTER);
        forward(&router);
        let host = |node: &Node| {
            let netns = [namespace(node), pod_namespace(node)].map(|name| NetNs::named(&name));
            for (name, value) in RP_FILTER {
                netns[0].sysctl(name, value);
            }
            let host = Host::new(node.clone(), topology.underlay.families(), netns, &router);
            if topology.underlay == Underlay::Ipv6 {
                // Without encapsulation the overlay's IPv4 arrives there, into that trap.
                host.netns.sysctl("net/ipv4/conf/u0/rp_filter", "0");
            }
            host
        };
        let hosts: Vec<Host> = topology.nodes.iter().map(host).collect();
        if shared_prefix {
            hosts.iter().take(CARRIERS).for_each(Host::take_shared_address);
        }
        Ok(Self {
            topology,
            router,
            hosts,
            _cleaner: cleaner,
        })
    }
}

pub(crate) fn namespace(node: &Node) -> String {
    format!("{PREFIX}{}", node.name)
}

pub(crate) fn pod_namespace(node: &Node) -> String {
    format!("{PREFIX}{}-pod", node.name)
}

/// Makes a directory of that name below the lab's.
pub(crate) fn directory(name: &str) -> Result<TempDir> {
    let made = tempfile::Builder::new()
        .prefix(name)
        .rand_bytes(0)
        .tempdir_in(FOLDER);
    made.with_context(|| format!("creating {name} in {FOLDER}"))
}

/// The name of the directory with the BPF file system of a node.
pub(crate) fn bpffs_of(node: &str) -> String {
    format!("{node}{BPFFS}")
}

/// Sweeps before and after; the lock keeps two labs apart.
struct Cleaner {
    _lock: File,
}

impl Cleaner {
    fn new() -> Result<Self> {
        let lock = File::create(LOCK).with_context(|| format!("creating {LOCK}"))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => bail!("another lab is up on this machine (it holds {LOCK})"),
            Err(TryLockError::Error(error)) => return Err(error).with_context(|| format!("locking {LOCK}")),
        }
        sweep().context("cleaning up after a run that was killed")?;
        Ok(Self { _lock: lock })
    }
}

impl Drop for Cleaner {
    fn drop(&mut self) {
        if let Err(error) = sweep() {
            eprintln!("The lab could not be cleaned up, the next run will try again: {error:#}");
        }
    }
}

fn sweep() -> Result<()> {
    let entries = fs::read_dir(NAMED).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let ours = names.filter(|name| name.starts_with(PREFIX));
    let lines: String = ours.map(|name| format!("netns delete {name}\n")).collect();
    NetNs::current().ip_batch(&lines);
    // Each mount of this kind is a file system of its own: with it go the pins.
    for entry in fs::read_dir(FOLDER).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().ends_with(BPFFS) {
            while umount2(&entry.path(), MntFlags::MNT_DETACH).is_ok() {}
        }
    }
    match fs::remove_dir_all(FOLDER) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {FOLDER}"))
        }
        _ => Ok(()),
    }
}
