//! Writes prefixes. Consecutive changes of the same type are sent to the kernel in one batch per family.

use dataplane_ebpf::layout::{self, PrefixKeyV4, PrefixKeyV6};
use ipnet::IpNet;

use super::codec;
use super::maps::Maps;
use super::tables::Tables;
use crate::kernel::KernelError;
use crate::model::change::{BpfChange, PrefixChange, Write};

/// Whether two changes can be in one batch.
pub(super) fn go_together(a: &BpfChange, b: &BpfChange) -> bool {
    matches!(
        (a, b),
        (
            BpfChange::Prefix(PrefixChange(_, Write::Put(_))),
            BpfChange::Prefix(PrefixChange(_, Write::Put(_)))
        ) | (
            BpfChange::Prefix(PrefixChange(_, Write::Delete)),
            BpfChange::Prefix(PrefixChange(_, Write::Delete))
        )
    )
}

/// Executes changes of one batch; one result per change. If a change fails, the target to which its prefix
/// still points is held, so that it is not freed.
pub(super) fn execute(
    maps: &Maps,
    tables: &mut Tables,
    run: &[&PrefixChange],
) -> Vec<Result<(), KernelError>> {
    let mut results: Vec<Option<Result<(), KernelError>>> = run.iter().map(|_| None).collect();
    let mut puts = Puts::default();
    let mut deletes = Deletes::default();
    for (index, PrefixChange(prefix, write)) in run.iter().enumerate() {
        match write {
            Write::Put(target) => match tables.target(target) {
                Ok(target) => puts.add(index, *prefix, target),
                Err(error) => results[index] = Some(Err(error)),
            },
            Write::Delete => deletes.add(index, *prefix),
        }
    }
    let done = [
        (puts.v4.0, maps.prefixes_v4.put_all(&puts.v4.1)),
        (puts.v6.0, maps.prefixes_v6.put_all(&puts.v6.1)),
        (deletes.v4.0, maps.prefixes_v4.delete_all(&deletes.v4.1)),
        (deletes.v6.0, maps.prefixes_v6.delete_all(&deletes.v6.1)),
    ];
    for (index, result) in done
        .into_iter()
        .flat_map(|(indexes, done)| indexes.into_iter().zip(done))
    {
        results[index] = Some(result);
    }
    let results: Vec<_> = results
        .into_iter()
        .map(|result| result.expect("every change was put into a batch or has failed"))
        .collect();
    for (PrefixChange(prefix, _), _) in run.iter().zip(&results).filter(|(_, result)| result.is_err()) {
        hold(maps, tables, *prefix);
    }
    results
}

/// Sets prefixes to no target: their packets are dropped, and no shorter prefix is used instead.
pub(super) fn empty(maps: &Maps, prefixes: &[IpNet]) -> Result<(), KernelError> {
    let mut puts = Puts::default();
    for prefix in prefixes {
        puts.add(0, *prefix, layout::PrefixTarget::default());
    }
    maps.prefixes_v4
        .put_all(&puts.v4.1)
        .into_iter()
        .chain(maps.prefixes_v6.put_all(&puts.v6.1))
        .collect()
}

/// Removes prefixes.
pub(super) fn remove(maps: &Maps, prefixes: &[IpNet]) -> Result<(), KernelError> {
    let mut deletes = Deletes::default();
    for prefix in prefixes {
        deletes.add(0, *prefix);
    }
    maps.prefixes_v4
        .delete_all(&deletes.v4.1)
        .into_iter()
        .chain(maps.prefixes_v6.delete_all(&deletes.v6.1))
        .collect()
}

/// Holds the target of a prefix. The lookup by the key of a prefix returns its entry, or that of a shorter
/// prefix if it has none; holding that target, too, does no harm.
fn hold(maps: &Maps, tables: &mut Tables, prefix: IpNet) {
    let target = match prefix {
        IpNet::V4(prefix) => maps.prefixes_v4.get(codec::key_v4(prefix)),
        IpNet::V6(prefix) => maps.prefixes_v6.get(codec::key_v6(prefix)),
    };
    if let Ok(Some(target)) = target {
        tables.hold(target);
    }
}

/// Entries to write, each with the index of its change.
#[derive(Default)]
struct Puts {
    v4: (Vec<usize>, Vec<(PrefixKeyV4, layout::PrefixTarget)>),
    v6: (Vec<usize>, Vec<(PrefixKeyV6, layout::PrefixTarget)>),
}

impl Puts {
    fn add(&mut self, index: usize, prefix: IpNet, target: layout::PrefixTarget) {
        match prefix {
            IpNet::V4(prefix) => {
                self.v4.0.push(index);
                self.v4.1.push((codec::key_v4(prefix), target));
            }
            IpNet::V6(prefix) => {
                self.v6.0.push(index);
                self.v6.1.push((codec::key_v6(prefix), target));
            }
        }
    }
}

/// Keys to delete, each with the index of its change.
#[derive(Default)]
struct Deletes {
    v4: (Vec<usize>, Vec<PrefixKeyV4>),
    v6: (Vec<usize>, Vec<PrefixKeyV6>),
}

impl Deletes {
    fn add(&mut self, index: usize, prefix: IpNet) {
        match prefix {
            IpNet::V4(prefix) => {
                self.v4.0.push(index);
                self.v4.1.push(codec::key_v4(prefix));
            }
            IpNet::V6(prefix) => {
                self.v6.0.push(index);
                self.v6.1.push(codec::key_v6(prefix));
            }
        }
    }
}
