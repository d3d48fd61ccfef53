//! Changes of the nft table.

use std::fmt;

use super::Firewall;
use crate::model::Object;
use crate::model::change::{Operation, Verb};
use crate::model::order::{Around, Condition, Needs, Stage};

/// A change of the nft table as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NftChange {
    /// Creates it with the mark of Adit; fails if a table with this name exists.
    Create(Box<Firewall>),
    /// Replaces it.
    Replace(Box<Firewall>),
    /// Deletes it.
    Delete,
}

impl Operation for NftChange {
    fn object(&self) -> Object {
        Object::Firewall
    }

    fn verb(&self) -> Verb {
        match self {
            NftChange::Create(_) => Verb::Add,
            NftChange::Replace(_) => Verb::Set,
            NftChange::Delete => Verb::Delete,
        }
    }

    fn stage(&self) -> Stage {
        match self {
            NftChange::Create(_) | NftChange::Replace(_) => Stage::Firewall,
            NftChange::Delete => Stage::DeleteFirewall,
        }
    }

    fn needs<'a>(&'a self, _around: Around<'a>, needs: &mut Needs<'a>) {
        if *self == NftChange::Delete {
            // The rules stay while routes or devices of Adit exist.
            needs.requires(Condition::FirewallUnneeded);
        }
    }
}

impl fmt::Display for NftChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rules = |table: &Firewall| table.rules().count();
        match self {
            NftChange::Create(table) => {
                write!(f, "add nft table inet adit with {} rules", rules(table))
            }
            NftChange::Replace(table) => {
                write!(
                    f,
                    "replace nft table inet adit by one with {} rules",
                    rules(table)
                )
            }
            NftChange::Delete => f.write_str("delete nft table inet adit"),
        }
    }
}
