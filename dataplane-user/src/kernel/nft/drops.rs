//! The number of packets that the rules have dropped, including those of former tables since the first
//! reading.
//!
//! The counters of a replaced table start at zero. So when a rule is gone, its last count is added to a sum.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use netlink_sys::protocols::NETLINK_NETFILTER;
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use super::query::{self, Table};
use crate::kernel::KernelError;
use crate::kernel::netlink::message::Failure;
use crate::kernel::netlink::socket::Socket;
use crate::model::firewall::DropReason;

/// A number of packets and their bytes. For packets that the nft table drops, the bytes do not include the
/// link-layer header; for packets of the overlay, they do not include the outer headers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    /// Packets.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
}

impl Count {
    fn add(&mut self, more: Count) {
        self.packets = self.packets.saturating_add(more.packets);
        self.bytes = self.bytes.saturating_add(more.bytes);
    }
}

/// The count of one rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RuleCount {
    /// The handle of the rule, which is unique in the lifetime of its table.
    pub(super) handle: u64,
    /// The reason for its drops.
    pub(super) reason: DropReason,
    /// The dropped packets.
    pub(super) count: Count,
}

/// The sums of dropped packets. Clones share them, also between threads in one network namespace.
#[derive(Clone, Debug, Default)]
pub struct Drops(Arc<Mutex<Sums>>);

#[derive(Debug, Default)]
struct Sums {
    /// The sums of rules that no longer exist.
    gone: BTreeMap<DropReason, Count>,
    /// The counts of the rules at the last reading, by the handles of table and rule.
    current: BTreeMap<(u64, u64), (DropReason, Count)>,
}

impl Drops {
    /// The dropped packets by reason, read from the kernel now.
    ///
    /// # Errors
    /// When it can't be read.
    pub async fn read(&self) -> Result<BTreeMap<DropReason, Count>, KernelError> {
        let context = "read the drop counters of nft table inet adit";
        let failed = |error: io::Error| KernelError::new(context, error);
        let mut socket = Socket::open(NETLINK_NETFILTER).map_err(failed)?;
        let looked = self.look(&mut socket).await;
        looked.map_err(|failure| failure.into_error(context))?;
        Ok(self.0.lock().await.total())
    }

    /// Reads the counters, and adds those of deleted rules to the sums.
    pub(super) async fn look(&self, socket: &mut Socket) -> Result<(), Failure> {
        // The lock is held meanwhile, because older counts that are added after newer ones would look like a
        // reset.
        let mut sums = self.0.lock().await;
        let before = query::table(socket).await?;
        let rules = match before {
            Table::Managed(_) => query::drops(socket).await?,
            Table::Absent | Table::Foreign => Vec::new(),
        };
        // Handles of rules start again in each table.
        if query::table(socket).await? != before {
            return Ok(());
        }
        let table = match before {
            Table::Managed(handle) => handle,
            Table::Absent | Table::Foreign => 0,
        };
        sums.take(table, &rules);
        Ok(())
    }
}

impl Sums {
    fn take(&mut self, table: u64, rules: &[RuleCount]) {
        let mut current = BTreeMap::new();
        for rule in rules {
            current.insert((table, rule.handle), (rule.reason, rule.count));
        }
        for (rule, (reason, before)) in std::mem::take(&mut self.current) {
            let now = current.get(&rule).map(|(_, now)| *now);
            // The user may have reset it (`nft reset counters`).
            if now.is_none_or(|now| now.packets < before.packets) {
                self.gone.entry(reason).or_default().add(before);
            }
        }
        self.current = current;
    }

    fn total(&self) -> BTreeMap<DropReason, Count> {
        let mut total: BTreeMap<_, _> = DropReason::ALL
            .map(|reason| (reason, self.gone.get(&reason).copied().unwrap_or_default()))
            .into();
        for (reason, count) in self.current.values() {
            total.entry(*reason).or_default().add(*count);
        }
        total
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(handle: u64, reason: DropReason, packets: u64) -> RuleCount {
        let count = Count {
            packets,
            bytes: packets * 100,
        };
        RuleCount {
            handle,
            reason,
            count,
        }
    }

    #[test]
    fn counts_outlive_rules_and_tables() {
        let mut sums = Sums::default();
        let total = |sums: &Sums| {
            let total = sums.total();
            DropReason::ALL.map(|reason| (total[&reason].packets, total[&reason].bytes))
        };
        assert_eq!(total(&sums), [(0, 0), (0, 0)]);
        let (cleartext, port) = (DropReason::Cleartext, DropReason::Port);
        sums.take(
            1,
            &[rule(4, cleartext, 3), rule(5, cleartext, 2), rule(6, port, 7)],
        );
        sums.take(
            1,
            &[rule(4, cleartext, 4), rule(5, cleartext, 2), rule(6, port, 7)],
        );
        assert_eq!(total(&sums), [(6, 600), (7, 700)]);
        // The same handles in another table belong to other rules.
        sums.take(2, &[rule(4, cleartext, 5)]);
        assert_eq!(total(&sums), [(11, 1100), (7, 700)]);
        // The user resets it, then the table is deleted and recreated.
        sums.take(2, &[rule(4, cleartext, 1)]);
        assert_eq!(total(&sums), [(12, 1200), (7, 700)]);
        sums.take(0, &[]);
        sums.take(3, &[rule(4, cleartext, 1)]);
        assert_eq!(total(&sums), [(13, 1300), (7, 700)]);
    }
}
