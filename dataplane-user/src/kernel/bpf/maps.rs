//! The pinned maps: the expected shape of each, and typed access to it.

use std::collections::BTreeMap;
use std::io;
use std::marker::PhantomData;
use std::path::Path;

use aya::maps::MapType;
use bytemuck::{Pod, Zeroable};
use dataplane_ebpf::layout::{
    Class, Counters, Group, MAX_CLASSES, MAX_GROUPS, MAX_NEXT_HOPS, MAX_PREFIXES_V4, MAX_PREFIXES_V6,
    MAX_SOURCES, NextHop, NextHopState, NodeLabel, PrefixKeyV4, PrefixKeyV6, PrefixTarget, SourceKey, names,
};
use dataplane_ebpf::verdict::{IngressVerdict, Verdict};

use super::syscall::{Batch, MapFd, MapShape};
use crate::kernel::KernelError;
use crate::limits;

/// `BPF_F_NO_PREALLOC`: mandatory for LPM tries, and saves the hash table memory for entries that it does not
/// have.
pub(super) const NO_PREALLOC: u32 = 1;

/// All pinned maps.
#[derive(Debug)]
pub(super) struct Maps {
    pub(super) prefixes_v4: Table<PrefixKeyV4, PrefixTarget>,
    pub(super) prefixes_v6: Table<PrefixKeyV6, PrefixTarget>,
    pub(super) classes: Table<u32, Class>,
    pub(super) next_hops: Table<u32, NextHop>,
    pub(super) states: Table<u32, NextHopState>,
    pub(super) labels: Table<u32, NodeLabel>,
    pub(super) groups: Table<u32, Group>,
    pub(super) next_hop_counters: CounterTable<u32>,
    pub(super) sources: CounterTable<SourceKey>,
    pub(super) egress_counters: CounterTable<u32>,
    pub(super) ingress_counters: CounterTable<u32>,
}

impl Maps {
    /// Opens the maps that are pinned in a directory, and checks their shapes.
    pub(super) fn open(directory: &Path, writable: bool) -> Result<Maps, KernelError> {
        let open = |name: &'static str| {
            let path = directory.join(name);
            let map = MapFd::open(&path, writable)
                .map_err(|error| KernelError::new(format!("opening the map {}", path.display()), error))?;
            check(name, &path, map.shape())?;
            Ok::<MapFd, KernelError>(map)
        };
        Ok(Maps {
            prefixes_v4: Table::new(names::PREFIXES_V4, open(names::PREFIXES_V4)?),
            prefixes_v6: Table::new(names::PREFIXES_V6, open(names::PREFIXES_V6)?),
            classes: Table::new(names::CLASSES, open(names::CLASSES)?),
            next_hops: Table::new(names::NEXT_HOPS, open(names::NEXT_HOPS)?),
            states: Table::new(names::NEXT_HOP_STATES, open(names::NEXT_HOP_STATES)?),
            labels: Table::new(names::NEXT_HOP_LABELS, open(names::NEXT_HOP_LABELS)?),
            groups: Table::new(names::GROUPS, open(names::GROUPS)?),
            next_hop_counters: CounterTable::new(names::NEXT_HOP_COUNTERS, open(names::NEXT_HOP_COUNTERS)?),
            sources: CounterTable::new(names::SOURCES, open(names::SOURCES)?),
            egress_counters: CounterTable::new(names::EGRESS_COUNTERS, open(names::EGRESS_COUNTERS)?),
            ingress_counters: CounterTable::new(names::INGRESS_COUNTERS, open(names::INGRESS_COUNTERS)?),
        })
    }
}

impl Maps {
    /// Whether all maps are pinned in a directory.
    pub(super) fn are_pinned(&self, directory: &Path) -> Result<bool, KernelError> {
        for (name, map) in self.all() {
            let path = directory.join(name);
            let found = map.is_pinned(&path);
            if !found.map_err(|error| KernelError::new(format!("reading {}", path.display()), error))? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Pins those maps in a directory that are not pinned there.
    pub(super) fn pin(&self, directory: &Path) -> Result<(), KernelError> {
        for (name, map) in self.all() {
            let path = directory.join(name);
            let pinned = map.keep_pinned(&path);
            pinned.map_err(|error| KernelError::new(format!("pinning {}", path.display()), error))?;
        }
        Ok(())
    }

    fn all(&self) -> [(&'static str, &MapFd); names::PINNED_MAPS.len()] {
        [
            self.prefixes_v4.named(),
            self.prefixes_v6.named(),
            self.classes.named(),
            self.next_hops.named(),
            self.states.named(),
            self.labels.named(),
            self.groups.named(),
            self.next_hop_counters.named(),
            self.sources.named(),
            self.egress_counters.named(),
            self.ingress_counters.named(),
        ]
    }
}

/// Refuses pinned maps of an unexpected shape. Missing maps are no error, because the loader creates them.
pub(super) fn check_pins(directory: &Path) -> Result<(), KernelError> {
    for name in names::PINNED_MAPS {
        let path = directory.join(name);
        match MapFd::open(&path, true) {
            Ok(map) => check(name, &path, map.shape())?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                return Err(KernelError::new(
                    format!("opening the map {}", path.display()),
                    error,
                ));
            }
        }
    }
    Ok(())
}

/// The expected shape of the map of this name.
fn expected(name: &str) -> MapShape {
    fn shape<K, V>(kind: MapType, max_entries: u32) -> MapShape {
        let size = |bytes: usize| u32::try_from(bytes).expect("keys and values are small");
        MapShape {
            kind: kind as u32,
            key_size: size(size_of::<K>()),
            value_size: size(size_of::<V>()),
            max_entries,
            flags: match kind {
                MapType::LpmTrie | MapType::PerCpuHash => NO_PREALLOC,
                _ => 0,
            },
        }
    }
    match name {
        names::PREFIXES_V4 => shape::<PrefixKeyV4, PrefixTarget>(MapType::LpmTrie, MAX_PREFIXES_V4),
        names::PREFIXES_V6 => shape::<PrefixKeyV6, PrefixTarget>(MapType::LpmTrie, MAX_PREFIXES_V6),
        names::CLASSES => shape::<u32, Class>(MapType::Array, MAX_CLASSES),
        names::NEXT_HOPS => shape::<u32, NextHop>(MapType::Array, MAX_NEXT_HOPS),
        names::NEXT_HOP_STATES => shape::<u32, NextHopState>(MapType::Array, MAX_NEXT_HOPS),
        names::NEXT_HOP_LABELS => shape::<u32, NodeLabel>(MapType::Array, MAX_NEXT_HOPS),
        names::NEXT_HOP_COUNTERS => shape::<u32, Counters>(MapType::PerCpuArray, MAX_NEXT_HOPS),
        names::GROUPS => shape::<u32, Group>(MapType::Array, MAX_GROUPS),
        names::SOURCES => shape::<SourceKey, Counters>(MapType::PerCpuHash, MAX_SOURCES),
        names::EGRESS_COUNTERS => shape::<u32, Counters>(MapType::PerCpuArray, Verdict::COUNT),
        names::INGRESS_COUNTERS => shape::<u32, Counters>(MapType::PerCpuArray, IngressVerdict::COUNT),
        other => unreachable!("{other} is not one of the pinned maps"),
    }
}

fn check(name: &str, path: &Path, found: MapShape) -> Result<(), KernelError> {
    let expected = expected(name);
    if found == expected {
        return Ok(());
    }
    let text = |shape: MapShape| {
        format!(
            "type {} key {} value {} entries {} flags {:#x}",
            shape.kind, shape.key_size, shape.value_size, shape.max_entries, shape.flags
        )
    };
    let remedy = path.parent().and_then(Path::parent).unwrap_or(path);
    Err(KernelError::new(
        format!("adopting the map {}", path.display()),
        io::Error::new(
            io::ErrorKind::InvalidData,
            format!(
                "map {name} is `{}`, but this version needs `{}`; stop the programs that use it and remove {} (traffic \
                 stops until the agent has filled new maps)",
                text(found),
                text(expected),
                remedy.display()
            ),
        ),
    ))
}

/// A map of plain keys and values.
#[derive(Debug)]
pub(super) struct Table<K, V> {
    name: &'static str,
    map: MapFd,
    types: PhantomData<(K, V)>,
}

impl<V: Pod> Table<u32, V> {
    /// Reads the elements of an array that are not all zeros, by index. Usually these are few.
    pub(super) fn read_used(&self) -> Result<BTreeMap<u32, V>, KernelError> {
        let is_used = |value: &V| bytemuck::bytes_of(value).iter().any(|byte| *byte != 0);
        Ok(self.read(is_used)?.into_iter().collect())
    }

    /// Reads these elements of an array; one by one if they are few, as they usually are.
    pub(super) fn read_these<'a>(
        &self,
        indexes: impl ExactSizeIterator<Item = &'a u32>,
    ) -> Result<BTreeMap<u32, V>, KernelError> {
        if indexes.len() > limits::MAP_ONE_BY_ONE {
            return self.read_used();
        }
        let mut found = BTreeMap::new();
        for index in indexes {
            if let Some(value) = self.get(*index)? {
                found.insert(*index, value);
            }
        }
        Ok(found)
    }
}

impl<K: Pod, V: Pod> Table<K, V> {
    pub(super) fn new(name: &'static str, map: MapFd) -> Table<K, V> {
        Table {
            name,
            map,
            types: PhantomData,
        }
    }

    pub(super) fn named(&self) -> (&'static str, &MapFd) {
        (self.name, &self.map)
    }

    /// The maximum number of entries.
    pub(super) fn capacity(&self) -> u32 {
        self.map.shape().max_entries
    }

    pub(super) fn get(&self, key: K) -> Result<Option<V>, KernelError> {
        let mut value = V::zeroed();
        let found = self
            .map
            .lookup(bytemuck::bytes_of(&key), bytemuck::bytes_of_mut(&mut value))
            .map_err(|error| self.error("reading", error))?;
        Ok(found.then_some(value))
    }

    pub(super) fn put(&self, key: K, value: V) -> Result<(), KernelError> {
        self.map
            .update(bytemuck::bytes_of(&key), bytemuck::bytes_of(&value))
            .map_err(|error| self.error("writing", error))
    }

    /// Reads all entries. Entries that others write or delete meanwhile may be missing or not.
    pub(super) fn read_all(&self) -> Result<Vec<(K, V)>, KernelError> {
        self.read(|_| true)
    }

    /// Reads the entries for whose values `is_wanted` holds.
    fn read(&self, is_wanted: impl Fn(&V) -> bool) -> Result<Vec<(K, V)>, KernelError> {
        let fitting = (limits::MAP_BATCH_BYTES / (size_of::<K>() + size_of::<V>())).max(1);
        let batch = limits::MAP_BATCH.min(fitting).min(self.capacity() as usize);
        let (mut keys, mut values) = (vec![K::zeroed(); batch], vec![V::zeroed(); batch]);
        let (mut all, mut seen) = (Vec::new(), 0);
        let mut cursor: Option<Vec<u8>> = None;
        loop {
            let (count, next) = self
                .map
                .lookup_batch(
                    cursor.as_deref(),
                    bytemuck::cast_slice_mut(&mut keys),
                    bytemuck::cast_slice_mut(&mut values),
                )
                .map_err(|error| self.error("reading", error))?;
            let entries = keys[..count].iter().zip(&values[..count]);
            let wanted = entries.filter(|(_, value)| is_wanted(value));
            all.extend(wanted.map(|(key, value)| (*key, *value)));
            seen += count;
            let Some(next) = next else {
                return Ok(all);
            };
            // An LPM trie starts again if the entry at its cursor was deleted.
            if seen > 2 * self.capacity() as usize {
                return Err(self.error("reading", io::Error::from_raw_os_error(libc::EAGAIN)));
            }
            cursor = Some(next);
        }
    }

    /// Writes entries and continues after failures; one result per entry.
    pub(super) fn put_all(&self, entries: &[(K, V)]) -> Vec<Result<(), KernelError>> {
        let (keys, values): (Vec<K>, Vec<V>) = entries.iter().copied().unzip();
        self.in_batches("writing", entries.len(), |from, to| {
            self.map.update_batch(
                bytemuck::cast_slice(&keys[from..to]),
                bytemuck::cast_slice(&values[from..to]),
            )
        })
    }

    /// Deletes entries and continues after failures; one result per entry. Missing entries are no error.
    pub(super) fn delete_all(&self, keys: &[K]) -> Vec<Result<(), KernelError>> {
        let results = self.in_batches("deleting from", keys.len(), |from, to| {
            self.map.delete_batch(bytemuck::cast_slice(&keys[from..to]))
        });
        results
            .into_iter()
            .map(|result| match result {
                Err(error) if error.errno() == Some(libc::ENOENT) => Ok(()),
                result => result,
            })
            .collect()
    }

    /// Runs batches until all elements have a result; each batch starts after the element that failed.
    fn in_batches(
        &self,
        doing: &str,
        count: usize,
        batch: impl Fn(usize, usize) -> Batch,
    ) -> Vec<Result<(), KernelError>> {
        let mut results = Vec::with_capacity(count);
        while results.len() < count {
            let from = results.len();
            let Batch { done, error } = batch(from, count.min(from + limits::MAP_BATCH));
            results.extend((0..done).map(|_| Ok(())));
            results.extend(error.map(|error| Err(self.error(doing, error))));
        }
        results
    }

    fn error(&self, doing: &str, error: io::Error) -> KernelError {
        let full = matches!(error.raw_os_error(), Some(libc::ENOSPC | libc::E2BIG));
        let context = Some(format!("{doing} the map {}", self.name));
        KernelError {
            context,
            source: error,
            kernel_text: full.then(|| format!("the table holds at most {} entries", self.capacity())),
        }
    }
}

/// Counters in a per-CPU map: by index in an array, by key in a hash table.
#[derive(Debug)]
pub(super) struct CounterTable<K> {
    name: &'static str,
    map: MapFd,
    keys: PhantomData<K>,
}

impl<K: Pod> CounterTable<K> {
    fn new(name: &'static str, map: MapFd) -> CounterTable<K> {
        CounterTable {
            name,
            map,
            keys: PhantomData,
        }
    }

    fn named(&self) -> (&'static str, &MapFd) {
        (self.name, &self.map)
    }

    /// The maximum number of counters.
    pub(super) fn capacity(&self) -> u32 {
        self.map.shape().max_entries
    }

    /// All counters with their keys, summed over the CPUs; those of an array in the order of their indexes.
    pub(super) fn entries(&self) -> Result<Vec<(K, Counters)>, KernelError> {
        let batch = limits::MAP_BATCH.min(self.capacity() as usize);
        let (mut keys, mut values) = (vec![K::zeroed(); batch], self.buffer(batch));
        let cpus = values.len() / batch;
        let mut all = Vec::new();
        let mut cursor: Option<Vec<u8>> = None;
        loop {
            let (count, next) = self
                .map
                .lookup_batch(
                    cursor.as_deref(),
                    bytemuck::cast_slice_mut(&mut keys),
                    bytemuck::cast_slice_mut(&mut values),
                )
                .map_err(|error| self.error("reading", error))?;
            let sums = values.chunks_exact(cpus).map(sum);
            all.extend(keys[..count].iter().copied().zip(sums));
            let Some(next) = next else {
                return Ok(all);
            };
            cursor = Some(next);
        }
    }

    fn buffer(&self, elements: usize) -> Vec<Counters> {
        vec![Counters::zeroed(); elements * self.map.value_bytes() / size_of::<Counters>()]
    }

    fn error(&self, doing: &str, error: io::Error) -> KernelError {
        let full = matches!(error.raw_os_error(), Some(libc::ENOSPC | libc::E2BIG));
        KernelError {
            context: Some(format!("{doing} the counters {}", self.name)),
            source: error,
            kernel_text: full.then(|| format!("the table holds at most {} entries", self.capacity())),
        }
    }
}

impl CounterTable<u32> {
    /// One counter, summed over the CPUs.
    pub(super) fn get(&self, index: u32) -> Result<Counters, KernelError> {
        let mut value = self.buffer(1);
        self.map
            .lookup(bytemuck::bytes_of(&index), bytemuck::cast_slice_mut(&mut value))
            .map_err(|error| self.error("reading", error))?;
        Ok(sum(&value))
    }

    /// All counters by index, summed over the CPUs.
    pub(super) fn read_all(&self) -> Result<Vec<Counters>, KernelError> {
        Ok(self
            .entries()?
            .into_iter()
            .map(|(_, counters)| counters)
            .collect())
    }

    /// Sets one counter to zero on all CPUs.
    pub(super) fn reset(&self, index: u32) -> Result<(), KernelError> {
        self.map
            .update(bytemuck::bytes_of(&index), bytemuck::cast_slice(&self.buffer(1)))
            .map_err(|error| self.error("resetting", error))
    }
}

impl CounterTable<SourceKey> {
    /// Adds a counter of zero; an existing one stays unchanged.
    pub(super) fn put(&self, key: SourceKey) -> Result<(), KernelError> {
        let zero = self.buffer(1);
        match self
            .map
            .insert(bytemuck::bytes_of(&key), bytemuck::cast_slice(&zero))
        {
            Err(error) if error.raw_os_error() != Some(libc::EEXIST) => Err(self.error("adding to", error)),
            _ => Ok(()),
        }
    }

    /// Deletes counters; missing ones are no error.
    pub(super) fn delete(&self, key: SourceKey) -> Result<(), KernelError> {
        match self.map.delete_batch(bytemuck::bytes_of(&key)).error {
            Some(error) if error.raw_os_error() != Some(libc::ENOENT) => {
                Err(self.error("removing from", error))
            }
            _ => Ok(()),
        }
    }
}

fn sum(per_cpu: &[Counters]) -> Counters {
    per_cpu.iter().fold(Counters::default(), |total, one| Counters {
        packets: total.packets.wrapping_add(one.packets),
        bytes: total.bytes.wrapping_add(one.bytes),
    })
}
