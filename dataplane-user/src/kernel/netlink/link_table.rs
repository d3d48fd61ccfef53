//! The links of the namespace by name and by index, as last read.

use std::collections::BTreeMap;

use super::link::Observed;
use crate::model::Owner;
use crate::net::LinkName;

/// A link as last read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// Its interface index, which is never reused after its deletion.
    pub(super) index: u32,
    /// Whether it has the mark of Adit.
    pub(super) managed: bool,
    /// Its MTU in bytes.
    pub(super) mtu: u32,
    /// Whether IPv6 can be used on it.
    pub(super) ipv6: bool,
}

/// Links by name and by index.
#[derive(Debug, Default)]
pub(super) struct LinkTable {
    by_name: BTreeMap<LinkName, Entry>,
    names: BTreeMap<u32, LinkName>,
}

impl LinkTable {
    pub(super) fn get(&self, name: &LinkName) -> Option<Entry> {
        self.by_name.get(name).copied()
    }

    pub(super) fn name(&self, index: u32) -> Option<&LinkName> {
        self.names.get(&index)
    }

    /// The name of the managed link with this index.
    pub(super) fn managed_name(&self, index: u32) -> Option<&LinkName> {
        self.name(index)
            .filter(|name| self.get(name).is_some_and(|link| link.managed))
    }

    pub(super) fn insert(&mut self, link: &Observed) {
        self.remove(&link.name);
        let entry = Entry {
            index: link.index,
            managed: link.link.owner == Owner::Adit,
            mtu: link.link.mtu.unwrap_or_default(),
            ipv6: link.ipv6 == Some(true),
        };
        if let Some(former) = self.names.insert(link.index, link.name.clone()) {
            self.by_name.remove(&former);
        }
        self.by_name.insert(link.name.clone(), entry);
    }

    pub(super) fn remove(&mut self, name: &LinkName) {
        if let Some(entry) = self.by_name.remove(name) {
            self.names.remove(&entry.index);
        }
    }
}

impl<'a> FromIterator<&'a Observed> for LinkTable {
    fn from_iter<I: IntoIterator<Item = &'a Observed>>(links: I) -> LinkTable {
        let mut table = LinkTable::default();
        for link in links {
            table.insert(link);
        }
        table
    }
}
