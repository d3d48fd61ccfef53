//! Writes prefixes: runs of equal changes go to the kernel in batches, a family each.

use dataplane_ebpf::layout::{self, PrefixKeyV4, PrefixKeyV6};
use ipnet::IpNet;

use super::codec;
use super::maps::Maps;
use super::tables::Tables;
use crate::kernel::KernelError;
use crate::model::Change;

/// How many changes at the start of the slice are prefix changes of one sort, all puts or all deletes.
pub(super) fn run_length(changes: &[Change]) -> usize {
    let is_put = |change: &Change| match change {
        Change::PutPrefix(..) => Some(true),
        Change::DeletePrefix(..) => Some(false),
        _ => None,
    };
    let Some(first) = changes.first().and_then(is_put) else {
        return 0;
    };
    changes
        .iter()
        .take_while(|change| is_put(change) == Some(first))
        .count()
}

/// Executes such a run; one result a change. What a failing change leaves in place is held, so that the target which
/// the prefix still names is not freed under it.
pub(super) fn execute(maps: &Maps, tables: &mut Tables, run: &[Change]) -> Vec<Result<(), KernelError>> {
    let mut results: Vec<Option<Result<(), KernelError>>> = run.iter().map(|_| None).collect();
    let mut puts = Puts::default();
    let mut deletes = Deletes::default();
    for (index, change) in run.iter().enumerate() {
        match change {
            Change::PutPrefix(prefix, target) => match tables.target(target) {
                Ok(target) => puts.add(index, *prefix, target),
                Err(error) => results[index] = Some(Err(error)),
            },
            Change::DeletePrefix(prefix) => deletes.add(index, *prefix),
            _ => unreachable!("a run holds prefix changes only"),
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
    for (change, _) in run.iter().zip(&results).filter(|(_, result)| result.is_err()) {
        if let Change::PutPrefix(prefix, _) | Change::DeletePrefix(prefix) = change {
            hold(maps, tables, *prefix);
        }
    }
    results
}

/// Points prefixes at nothing: their packets are dropped, and no shorter prefix takes them over meanwhile.
pub(super) fn empty(maps: &Maps, prefixes: &[IpNet]) -> Result<(), KernelError> {
    let mut puts = Puts::default();
    for prefix in prefixes {
        puts.add(0, *prefix, layout::Target::default());
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

/// A lookup by a prefix's own key gives its entry, or a shorter prefix's where it has none: holding that one as well
/// costs nothing.
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
    v4: (Vec<usize>, Vec<(PrefixKeyV4, layout::Target)>),
    v6: (Vec<usize>, Vec<(PrefixKeyV6, layout::Target)>),
}

impl Puts {
    fn add(&mut self, index: usize, prefix: IpNet, target: layout::Target) {
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
