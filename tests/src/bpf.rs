//! Loads the BPF object into the kernel with separate maps, and runs its programs on single packets.

use std::collections::BTreeMap;
use std::io;

use anyhow::{Context as _, Result, bail};
use aya::maps::lpm_trie::Key;
use aya::maps::{Array, LpmTrie, Map, MapData, MapInfo, PerCpuArray, PerCpuHashMap, PerCpuValues};
use aya::programs::tc::qdisc_add_clsact;
use aya::programs::{ProgramInfo, SchedClassifier, TcAttachType, TestRun as _, TestRunOptions};
use aya::{Ebpf, EbpfLoader, Pod};
use dataplane_ebpf::layout::{Class, Counters, Group, NextHop, NextHopState, PrefixTarget, SourceKey, names};
use dataplane_user::kernel::bpf::object::object;

/// The result of a program that sends a packet by another device (linux/pkt_cls.h).
pub const TC_ACT_REDIRECT: u32 = 7;
/// The result of a program that drops a packet.
pub const TC_ACT_SHOT: u32 = 2;
/// The result of a program that passes a packet to the next program, -1.
pub const TC_ACT_UNSPEC: u32 = u32::MAX;

/// Returns true, and prints why, if the test cannot run, because loading programs needs root.
#[must_use]
pub fn skipped() -> bool {
    let skipped = !nix::unistd::geteuid().is_root();
    if skipped {
        println!("skipped: loading BPF programs needs root");
    }
    skipped
}

/// The result of a program for a packet.
#[derive(Debug, PartialEq, Eq)]
pub struct Outcome {
    /// TC_ACT_….
    pub action: u32,
    /// The packet after the program.
    pub packet: Vec<u8>,
}

/// The names of the programs.
#[must_use]
pub fn all() -> Vec<&'static str> {
    let ingress = names::INGRESS_PROGRAMS.map(|(_, name)| name);
    [&[names::EGRESS_PROGRAM], &ingress[..]].concat()
}

/// The ingress program of an encapsulation, such as [`Class::GENEVE`].
///
/// # Panics
/// If that encapsulation has none.
#[must_use]
pub fn ingress_program(encapsulation: u8) -> &'static str {
    let mut programs = names::INGRESS_PROGRAMS.into_iter();
    let found = programs.find(|(known, _)| *known == encapsulation);
    found.expect("it has an ingress program").1
}

/// Fields of the context of the program that a run may set (`struct __sk_buff`, linux/bpf.h).
#[derive(Clone, Copy, Debug, Default)]
pub struct Context {
    /// The index of the device by which the packet arrived.
    pub ingress_ifindex: u32,
    /// The index of the device by which it leaves; 0 means the loopback, which has index 1.
    pub ifindex: u32,
}

/// The loaded object. Nothing is pinned, so dropping this value unloads everything.
pub struct Programs {
    ebpf: Ebpf,
}

impl Programs {
    /// Loads all programs.
    ///
    /// # Errors
    /// The error of the kernel, with the log of the verifier.
    pub fn load(log: bool) -> Result<Programs> {
        let mut ebpf = EbpfLoader::new()
            .override_global(names::LOG_ENABLED, &u8::from(log), true)
            .load(object())
            .context("loading the object")?;
        for name in all() {
            program(&mut ebpf, name)?
                .load()
                .with_context(|| format!("loading {name}"))?;
        }
        Ok(Programs { ebpf })
    }

    /// Runs a program on one packet.
    ///
    /// # Errors
    /// The error of the kernel, which accepts no packet of fewer than 14 bytes.
    pub fn run(&mut self, name: &str, packet: &[u8], context: Context) -> Result<Outcome> {
        let mut output = vec![0; packet.len() + 256];
        let input = context.to_bytes();
        let result = program(&mut self.ebpf, name)?.test_run(TestRunOptions {
            data_in: Some(packet),
            data_out: Some(&mut output),
            ctx_in: Some(&input),
            ..TestRunOptions::default()
        })?;
        output.truncate(usize::try_from(result.data_size_out)?);
        Ok(Outcome {
            action: result.return_value,
            packet: output,
        })
    }

    /// Attaches a program to a device of the network namespace of the thread: the egress program to egress, an ingress
    /// program to ingress. Uses TCX if this kernel has it, else clsact.
    ///
    /// # Errors
    /// The error of the kernel.
    pub fn attach(&mut self, name: &str, device: &str) -> Result<()> {
        let side = if name == names::EGRESS_PROGRAM {
            TcAttachType::Egress
        } else {
            TcAttachType::Ingress
        };
        // Only clsact kernels need the qdisc; on other kernels it has no effect.
        if let Err(error) = qdisc_add_clsact(device).map_err(anyhow::Error::from) {
            let io = error.chain().find_map(|cause| cause.downcast_ref::<io::Error>());
            if io.and_then(io::Error::raw_os_error) != Some(libc::EEXIST) {
                return Err(error.context(format!("adding clsact to {device}")));
            }
        }
        program(&mut self.ebpf, name)?.attach(device, side)?;
        Ok(())
    }

    /// Information of the kernel about a program.
    ///
    /// # Errors
    /// The error of the kernel.
    pub fn info(&mut self, name: &str) -> Result<ProgramInfo> {
        Ok(program(&mut self.ebpf, name)?.info()?)
    }

    /// Information of the kernel about a map; `None` if the object has no such map.
    ///
    /// # Errors
    /// The error of the kernel.
    pub fn map_info(&self, name: &str) -> Result<Option<MapInfo>> {
        let Some(map) = self.ebpf.map(name) else {
            return Ok(None);
        };
        let data = match map {
            Map::Array(data) | Map::PerCpuArray(data) | Map::PerCpuHashMap(data) | Map::LpmTrie(data) => data,
            other => bail!("{name} is of another type: {other:?}"),
        };
        Ok(Some(data.info()?))
    }

    /// Sets the target of an IPv4 prefix.
    ///
    /// # Errors
    /// The error of the kernel.
    pub fn set_prefix_v4(&mut self, address: [u8; 4], length: u32, target: PrefixTarget) -> Result<()> {
        self.trie(names::PREFIXES_V4)?
            .insert(&Key::new(length, address), target.0, 0)?;
        Ok(())
    }

    /// Sets the target of an IPv6 prefix.
    ///
    /// # Errors
    /// The error of the kernel.
    pub fn set_prefix_v6(&mut self, address: [u8; 16], length: u32, target: PrefixTarget) -> Result<()> {
        self.trie(names::PREFIXES_V6)?
            .insert(&Key::new(length, address), target.0, 0)?;
        Ok(())
    }

    /// Writes a class.
    ///
    /// # Errors
    /// The error of the kernel.
    pub fn set_class(&mut self, slot: u32, class: &Class) -> Result<()> {
        self.set(names::CLASSES, slot, bytemuck::cast::<Class, [u32; 8]>(*class))
    }

    /// Writes a next hop.
    ///
    /// # Errors
    /// The error of the kernel.
    pub fn set_next_hop(&mut self, slot: u32, next_hop: &NextHop) -> Result<()> {
        self.set(
            names::NEXT_HOPS,
            slot,
            bytemuck::cast::<NextHop, [u32; 16]>(*next_hop),
        )
    }

    /// Sets the state of a next hop.
    ///
    /// # Errors
    /// The error of the kernel.
    pub fn set_state(&mut self, slot: u32, state: NextHopState) -> Result<()> {
        self.set(names::NEXT_HOP_STATES, slot, state.0)
    }

    /// Writes a slot of a group.
    ///
    /// # Errors
    /// The error of the kernel.
    pub fn set_group(&mut self, slot: u32, group: &Group) -> Result<()> {
        self.set(names::GROUPS, slot, bytemuck::cast::<Group, [u32; 16]>(*group))
    }

    /// A counter, summed over the CPUs.
    ///
    /// # Errors
    /// The error of the kernel.
    pub fn counters(&self, map: &str, index: u32) -> Result<Counters> {
        let map = self.ebpf.map(map).with_context(|| format!("no map {map}"))?;
        let counters = PerCpuArray::<&MapData, [u64; 2]>::try_from(map)?;
        Ok(sum(&counters.get(&index, 0)?))
    }

    /// A counter on each CPU.
    ///
    /// # Errors
    /// The error of the kernel.
    pub fn counters_by_cpu(&self, map: &str, index: u32) -> Result<Vec<Counters>> {
        let map = self.ebpf.map(map).with_context(|| format!("no map {map}"))?;
        let counters = PerCpuArray::<&MapData, [u64; 2]>::try_from(map)?;
        let values = counters.get(&index, 0)?;
        let count = |&[packets, bytes]: &[u64; 2]| Counters { packets, bytes };
        Ok(values.iter().map(count).collect())
    }

    /// Adds a known source.
    ///
    /// # Errors
    /// The error of the kernel.
    pub fn add_source(&mut self, key: SourceKey) -> Result<()> {
        let map = self.ebpf.map_mut(names::SOURCES).context("no map of sources")?;
        let mut sources = PerCpuHashMap::<&mut MapData, [u32; 6], [u64; 2]>::try_from(map)?;
        let zero = vec![[0; 2]; aya::util::nr_cpus().map_err(|(_, error)| error)?];
        sources.insert(
            bytemuck::cast::<SourceKey, [u32; 6]>(key),
            PerCpuValues::try_from(zero)?,
            0,
        )?;
        Ok(())
    }

    /// The counters of each known source, summed over the CPUs.
    ///
    /// # Errors
    /// The error of the kernel.
    pub fn sources(&self) -> Result<BTreeMap<SourceKey, Counters>> {
        let map = self.ebpf.map(names::SOURCES).context("no map of sources")?;
        let sources = PerCpuHashMap::<&MapData, [u32; 6], [u64; 2]>::try_from(map)?;
        let entry = |entry: Result<([u32; 6], PerCpuValues<[u64; 2]>), _>| {
            let (key, values) = entry?;
            Ok((bytemuck::cast(key), sum(&values)))
        };
        sources.iter().map(entry).collect()
    }

    fn trie<A: Pod>(&mut self, name: &str) -> Result<LpmTrie<&mut MapData, A, u32>> {
        let map = self
            .ebpf
            .map_mut(name)
            .with_context(|| format!("no map {name}"))?;
        Ok(LpmTrie::try_from(map)?)
    }

    fn set<V: Pod>(&mut self, name: &str, slot: u32, value: V) -> Result<()> {
        let map = self
            .ebpf
            .map_mut(name)
            .with_context(|| format!("no map {name}"))?;
        Array::<&mut MapData, V>::try_from(map)?.set(slot, value, 0)?;
        Ok(())
    }
}

impl Context {
    /// Offsets of the two fields in `struct __sk_buff`; the kernel requires 0 in all fields that it does not use.
    fn to_bytes(self) -> [u8; 44] {
        const INGRESS_IFINDEX: usize = 36;
        const IFINDEX: usize = 40;
        let mut bytes = [0; 44];
        bytes[INGRESS_IFINDEX..INGRESS_IFINDEX + 4].copy_from_slice(&self.ingress_ifindex.to_ne_bytes());
        bytes[IFINDEX..IFINDEX + 4].copy_from_slice(&self.ifindex.to_ne_bytes());
        bytes
    }
}

fn sum(per_cpu: &PerCpuValues<[u64; 2]>) -> Counters {
    let mut sum = Counters::default();
    for [packets, bytes] in per_cpu.iter() {
        sum.packets += packets;
        sum.bytes += bytes;
    }
    sum
}

fn program<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut SchedClassifier> {
    let program = ebpf
        .program_mut(name)
        .with_context(|| format!("no program {name}"))?;
    Ok(program.try_into()?)
}
