//! What fields manifests have: their names, what they take, their defaults, and a line of help each. The readers read by these tables, and
//! the tables of docs/MANIFESTS.md and the JSON schema for editors are made from them.

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
    /// What it takes.
    pub takes: Takes,
    /// What holds without it.
    pub absent: Absent,
    /// What it is for: a line of Markdown.
    pub help: &'static str,
}

/// What a field takes.
#[derive(Clone, Copy, Debug)]
pub enum Takes {
    /// `true` or `false`.
    Boolean,
    /// An integer of a range, both ends included.
    Integer(i128, i128),
    /// One of some words.
    Words(&'static [&'static str]),
    /// Text, such as this one.
    Text(&'static str),
    /// A list.
    List(&'static Takes),
    /// A map with these fields.
    Map(&'static [Field]),
    /// Any of these.
    Either(&'static [Takes]),
}

/// What holds where a field is not there, or `null`.
#[derive(Clone, Copy, Debug)]
pub enum Absent {
    /// It must be there; what to give.
    Refused(&'static str),
    /// The same as with this value.
    Default(Literal),
    /// Something that no value says; in a few words.
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
    /// What it declares: a sentence.
    pub help: &'static str,
    /// The fields of its `spec`.
    pub fields: Vec<&'static Field>,
}

impl Field {
    /// A field that must be there.
    pub(super) const fn required(
        name: &'static str,
        takes: Takes,
        give: &'static str,
        help: &'static str,
    ) -> Field {
        Field {
            name,
            takes,
            absent: Absent::Refused(give),
            help,
        }
    }

    /// A field with a default.
    pub(super) const fn or(name: &'static str, takes: Takes, default: Literal, help: &'static str) -> Field {
        Field {
            name,
            takes,
            absent: Absent::Default(default),
            help,
        }
    }

    /// A field whose absence means what no value says.
    pub(super) const fn optional(
        name: &'static str,
        takes: Takes,
        means: &'static str,
        help: &'static str,
    ) -> Field {
        Field {
            name,
            takes,
            absent: Absent::Means(means),
            help,
        }
    }

    /// What to give where it must be there.
    pub(super) fn give(&self) -> Option<&'static str> {
        match self.absent {
            Absent::Refused(give) => Some(give),
            _ => None,
        }
    }

    /// The value that it has where it is absent.
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

impl Takes {
    /// The range of the integers that it takes.
    pub(super) fn range(&self) -> Option<(i128, i128)> {
        match self {
            Takes::Integer(low, high) => Some((*low, *high)),
            Takes::Either(several) => several.iter().find_map(Takes::range),
            _ => None,
        }
    }

    /// The fields of the maps that it takes.
    pub(super) fn fields(&self) -> &'static [Field] {
        match *self {
            Takes::Map(fields) => fields,
            Takes::List(items) => items.fields(),
            Takes::Either(several) => several
                .iter()
                .map(Takes::fields)
                .find(|fields| !fields.is_empty())
                .unwrap_or_default(),
            Takes::Boolean | Takes::Integer(..) | Takes::Words(_) | Takes::Text(_) => &[],
        }
    }
}

/// All kinds.
#[must_use]
pub fn kinds() -> Vec<Kind> {
    vec![
        Kind {
            name: "TunnelNetwork",
            help: "An overlay network: its address space and how packets travel.",
            fields: network::FIELDS.iter().collect(),
        },
        Kind {
            name: "TunnelNode",
            help: "A node of overlay networks: where it is reached, and what it advertises.",
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
