//! The namespaces, the directory and the BPF file systems of a run: created at its start, removed at its end.
use std::fs::{self, File, TryLockError};

use adit_tests::NetNs;
use adit_tests::netns::NAMED;
use adit_tests::topology::{Host, Node, forward};
use anyhow::{Context as _, Result, bail};
use nix::mount::{MntFlags, umount2};
use tempfile::TempDir;

use super::options::{ADVERTISERS, Underlay};
use super::topology::Topology;

/// The directory with all files of a run.
pub(crate) const FOLDER: &str = "/run/adit-lab";
/// The suffix of directories with a BPF file system.
const BPFFS: &str = "-bpf";
const LOCK: &str = "/run/adit-lab.lock";
/// The prefix of the names of the namespaces.
const PREFIX: &str = "adit-lab-";
/// The namespace between the hosts.
pub(crate) const ROUTER: &str = "adit-lab-router";

/// Overlay traffic arrives by another device than the one that routes lead back by. systemd sets 2 for each new device;
/// then a device without an IPv4 address drops every packet.
const RP_FILTER: [(&str, &str); 2] = [
    ("net/ipv4/conf/all/rp_filter", "0"),
    ("net/ipv4/conf/default/rp_filter", "2"),
];

/// The namespaces and files of the lab. Dropping it removes all of them.
pub(crate) struct Site {
    pub(crate) topology: Topology,
    pub(crate) router: NetNs,
    /// In the order of the nodes of the topology.
    pub(crate) hosts: Vec<Host>,
    _cleaner: Cleaner,
}

impl Site {
    /// Cleans up after a run that was killed, then creates everything. With `shared_prefix`, several nodes get an address
    /// of the shared prefix.
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
                // Without encapsulation, IPv4 of the overlay arrives on this device, which has no IPv4 address.
                host.netns.sysctl("net/ipv4/conf/u0/rp_filter", "0");
            }
            host
        };
        let hosts: Vec<Host> = topology.nodes.iter().map(host).collect();
        if shared_prefix {
            hosts.iter().take(ADVERTISERS).for_each(Host::take_shared_address);
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

/// Creates a directory of that name below [`FOLDER`].
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

/// Removes namespaces and files before and after a run. The lock prevents two labs at the same time.
struct Cleaner {
    _lock: File,
}

impl Cleaner {
    fn new() -> Result<Self> {
        let lock = File::create(LOCK).with_context(|| format!("creating {LOCK}"))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                bail!("another lab runs on this machine (it holds {LOCK}): end it first")
            }
            Err(TryLockError::Error(error)) => return Err(error).with_context(|| format!("locking {LOCK}")),
        }
        sweep().context("cleaning up after a run that was killed")?;
        Ok(Self { _lock: lock })
    }
}

impl Drop for Cleaner {
    fn drop(&mut self) {
        if let Err(error) = sweep() {
            eprintln!(
                "The lab could not remove its namespaces and files, the next run tries again: {error:#}"
            );
        }
    }
}

fn sweep() -> Result<()> {
    let entries = fs::read_dir(NAMED).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let ours = names.filter(|name| name.starts_with(PREFIX));
    let lines: String = ours.map(|name| format!("netns delete {name}\n")).collect();
    NetNs::current().ip_batch(&lines);
    // Each mount is a separate BPF file system, so unmounting it removes the pins.
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
