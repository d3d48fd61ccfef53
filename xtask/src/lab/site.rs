//! The namespaces, the folder and the BPF file system of a run: made at its start, gone at its end.
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use super::family::Family;
use super::netns::{self, NetNs};
use super::shared;
use super::topology::{self, Node, PREFIX, ROUTER, Topology};

/// Everything that a run has on disk.
const FOLDER: &str = "/run/adit-lab";
const LOCK: &str = "/run/adit-lab.lock";

/// Overlay traffic arrives by another device than the way back leaves by. 2 is what systemd sets, for each new device,
/// and has a trap: a device without an IPv4 address drops everything.
const FORWARDING: [(&str, &str); 4] = [
    ("ipv4/ip_forward", "1"),
    ("ipv6/conf/all/forwarding", "1"),
    ("ipv4/conf/all/rp_filter", "0"),
    ("ipv4/conf/default/rp_filter", "2"),
];
/// Of hosts whose underlay has no IPv4: without encapsulation the overlay's IPv4 arrives there, into that trap.
const UNDERLAY_OF_IPV6: [(&str, &str); 1] = [("ipv4/conf/eth0/rp_filter", "0")];
const UNDERLAY_OF_IPV4: [(&str, &str); 1] = [("ipv4/conf/eth0/rp_filter", "2")];

/// The lab's place in the kernel and on disk; dropping it removes all of that.
pub(super) struct Site {
    pub(super) topology: Topology,
    pub(super) router: NetNs,
    /// By the topology's order.
    pub(super) hosts: Vec<NetNs>,
    /// By the topology's order.
    pub(super) pods: Vec<NetNs>,
    _cleaner: Cleaner,
}

impl Site {
    /// Cleans up after a run that was killed, then makes everything anew; with `shared_prefix`, one that several carry.
    pub(super) fn build(topology: Topology, shared_prefix: bool) -> Result<Self> {
        let cleaner = Cleaner::new()?;
        fs::create_dir_all(bpffs()).with_context(|| format!("creating {FOLDER}"))?;
        mount(Some("bpf"), &bpffs(), Some("bpf"), MsFlags::empty(), None::<&str>)
            .context("mounting a BPF file system")?;

        netns::ip(&[], &topology.wires()).context("making the namespaces")?;
        let open = |name: fn(&Node) -> String| -> Result<Vec<NetNs>> {
            topology
                .nodes
                .iter()
                .map(|node| NetNs::open(&name(node)))
                .collect()
        };
        let (router, hosts, pods) = (
            NetNs::open(ROUTER)?,
            open(Node::namespace)?,
            open(Node::pod_namespace)?,
        );
        router.sysctl(&FORWARDING)?;
        router.ip(&topology.router())?;
        let of_underlay = match topology.underlay.has(Family::Ipv4) {
            true => UNDERLAY_OF_IPV4,
            false => UNDERLAY_OF_IPV6,
        };
        for (place, (node, (host, pod))) in topology.nodes.iter().zip(hosts.iter().zip(&pods)).enumerate() {
            host.sysctl(&FORWARDING)?;
            host.sysctl(&of_underlay)?;
            let (mut in_host, mut in_pod) = (topology.host(node), topology::pod(node));
            if shared_prefix && place < shared::CARRIERS {
                in_host.push_str(&shared::host(node));
                in_pod.push_str(&shared::pod());
            }
            host.ip(&in_host)?;
            pod.ip(&in_pod)?;
        }
        Ok(Self {
            topology,
            router,
            hosts,
            pods,
            _cleaner: cleaner,
        })
    }
}

/// A node's own folder, for its agent.
pub(super) fn folder_of(node: &str) -> PathBuf {
    Path::new(FOLDER).join(node)
}

/// The manifests' file, which all agents read.
pub(super) fn manifest() -> PathBuf {
    Path::new(FOLDER).join("lab.yaml")
}

/// The BPF file system; each agent has a folder there.
pub(super) fn bpffs() -> PathBuf {
    Path::new(FOLDER).join("bpf")
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
    let names = netns::named(PREFIX);
    if !names.is_empty() {
        let lines: Vec<String> = names
            .iter()
            .map(|name| format!("netns delete {name}\n"))
            .collect();
        netns::ip(&["-force"], &lines.concat()).context("deleting the namespaces")?;
    }
    // Each mount of this kind is a file system of its own: with it go the pins.
    while umount2(&bpffs(), MntFlags::MNT_DETACH).is_ok() {}
    match fs::remove_dir_all(FOLDER) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {FOLDER}"))
        }
        _ => Ok(()),
    }
}
