//! The description of the fields of manifests: name, type, default and one line of help each. The readers use
//! these tables, and the tables of docs/MANIFESTS.md and the JSON schema for editors are generated from them.

mod json;
mod markdown;
#[cfg(test)]
mod tests;

use super::netlink::{interface, plan, route, rule, wireguard};
use super::tree::{Node, Tree};
use super::{network, node};

pub use self::json::json_schema;
pub use self::markdown::markdown;

/// A field of a map.
#[derive(Debug)]
pub struct Field {
    /// Its name.
    pub name: &'static str,
    /// The values that the field accepts.
    pub accepts: Accepts,
    /// What an absent field means.
    pub absent: Absent,
    /// The purpose of the field: one line of Markdown.
    pub help: &'static str,
}

/// The values that a field accepts.
#[derive(Clone, Copy, Debug)]
pub enum Accepts {
    /// `true` or `false`.
    Boolean,
    /// An integer in a range, both ends included.
    Integer(i128, i128),
    /// One of some words.
    Words(&'static [&'static str]),
    /// Text; this is an example.
    Text(&'static str),
    /// A list.
    List(&'static Accepts),
    /// A map with these fields.
    Map(&'static [Field]),
    /// Any of these.
    Either(&'static [Accepts]),
}

/// What it means if a field is absent or `null`.
#[derive(Clone, Copy, Debug)]
pub enum Absent {
    /// The field is required; this text tells the user what to give.
    Required(&'static str),
    /// The same as this value.
    Default(Literal),
    /// Something that no value expresses, in a few words.
    Means(&'static str),
}

/// A value of a field.
#[derive(Clone, Copy, Debug)]
pub enum Literal {
    /// `true` or `false`.
    Boolean(bool),
    /// An integer.
    Integer(i128),
    /// Text.
    Text(&'static str),
    /// A list.
    List(&'static [Literal]),
    /// A map without fields: each has its own default.
    Empty,
}

/// A kind of resource.
#[derive(Debug)]
pub struct Kind {
    /// Its name.
    pub name: &'static str,
    /// The purpose of the kind: one sentence.
    pub help: &'static str,
    /// The fields of its `spec`.
    pub fields: Vec<&'static Field>,
}

impl Field {
    /// A required field.
    pub(super) const fn required(
        name: &'static str,
        accepts: Accepts,
        give: &'static str,
        help: &'static str,
    ) -> Field {
        Field {
            name,
            accepts,
            absent: Absent::Required(give),
            help,
        }
    }

    /// A field with a default.
    pub(super) const fn or(
        name: &'static str,
        accepts: Accepts,
        default: Literal,
        help: &'static str,
    ) -> Field {
        Field {
            name,
            accepts,
            absent: Absent::Default(default),
            help,
        }
    }

    /// A field whose absence has a meaning that no value expresses.
    pub(super) const fn optional(
        name: &'static str,
        accepts: Accepts,
        means: &'static str,
        help: &'static str,
    ) -> Field {
        Field {
            name,
            accepts,
            absent: Absent::Means(means),
            help,
        }
    }

    /// What to give for a required field; `None` for other fields.
    pub(super) fn give(&self) -> Option<&'static str> {
        match self.absent {
            Absent::Required(give) => Some(give),
            _ => None,
        }
    }

    /// The default, if the field has one.
    pub(super) fn default(&self) -> Option<Literal> {
        match self.absent {
            Absent::Default(default) => Some(default),
            _ => None,
        }
    }
}

impl From<Literal> for Tree {
    fn from(literal: Literal) -> Tree {
        let node = |literal: &Literal| Node {
            tree: Tree::from(*literal),
            line: 0,
            column: 0,
        };
        match literal {
            Literal::Boolean(value) => Tree::Bool(value),
            Literal::Integer(value) => Tree::Integer(value),
            Literal::Text(text) => Tree::Text(text.to_owned()),
            Literal::List(items) => Tree::List(items.iter().map(node).collect()),
            Literal::Empty => Tree::Map(Vec::new()),
        }
    }
}

impl Accepts {
    /// The range of the accepted integers.
    pub(super) fn range(&self) -> Option<(i128, i128)> {
        match self {
            Accepts::Integer(low, high) => Some((*low, *high)),
            Accepts::Either(several) => several.iter().find_map(Accepts::range),
            _ => None,
        }
    }

    /// The fields of the accepted maps.
    pub(super) fn fields(&self) -> &'static [Field] {
        match *self {
            Accepts::Map(fields) => fields,
            Accepts::List(items) => items.fields(),
            Accepts::Either(several) => several
                .iter()
                .map(Accepts::fields)
                .find(|fields| !fields.is_empty())
                .unwrap_or_default(),
            Accepts::Boolean | Accepts::Integer(..) | Accepts::Words(_) | Accepts::Text(_) => &[],
        }
    }
}

/// All kinds of manifests.
#[must_use]
pub fn kinds() -> Vec<Kind> {
    vec![
        Kind {
            name: "TunnelNetwork",
            help: "An overlay network: its address space and how packets are sent.",
            fields: network::FIELDS.iter().collect(),
        },
        Kind {
            name: "TunnelNode",
            help: "A node of overlay networks: its addresses and the prefixes that it advertises.",
            fields: node::FIELDS.iter().collect(),
        },
        Kind {
            name: "WireGuardInterface",
            help: "A WireGuard device of a node, as wg-quick(8) would set it up.",
            fields: wireguard::FIELDS.iter().collect(),
        },
        Kind {
            name: "WireGuardNetworkPlan",
            help: "Point-to-point WireGuard devices for the links between nodes.",
            fields: plan::FIELDS.iter().collect(),
        },
        Kind {
            name: "NetlinkInterface",
            help: "A network device of a node.",
            fields: interface::all_fields(),
        },
        Kind {
            name: "NetlinkRoute",
            help: "A route of a node.",
            fields: route::FIELDS.iter().chain(&route::HOP).collect(),
        },
        Kind {
            name: "NetlinkRule",
            help: "A policy rule of a node.",
            fields: rule::FIELDS.iter().collect(),
        },
    ]
}
