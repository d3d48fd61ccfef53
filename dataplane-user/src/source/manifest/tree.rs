//! Documents as trees that know where each value stands, so that one pass reports everything that is wrong.

use std::fmt;
use std::sync::Arc;

use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;
use serde_saphyr::options::{MergeKeyPolicy, NonFiniteFloatPolicy};

use super::error::{ManifestError, Place};

/// A value and its place.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) tree: Tree,
    pub(super) line: u64,
    pub(super) column: u64,
}

/// A value.
#[derive(Clone, Debug)]
pub(super) enum Tree {
    Null,
    Bool(bool),
    Integer(i128),
    Float,
    Text(String),
    List(Vec<Node>),
    Map(Vec<(Spanned<String>, Node)>),
}

impl Tree {
    /// What it is, without what it says: that may be a key.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Tree::Null => "no value",
            Tree::Bool(true) => "`true`",
            Tree::Bool(false) => "`false`",
            Tree::Integer(_) => "an integer",
            Tree::Float => "a number that is no integer",
            Tree::Text(_) => "text",
            Tree::List(_) => "a list",
            Tree::Map(_) => "a map",
        }
    }
}

/// Parses a file of YAML documents (JSON is YAML); empty documents are left out.
pub(super) fn parse(file: &Arc<str>, text: &str) -> Result<Vec<Node>, ManifestError> {
    let options = serde_saphyr::options! {
        // `off` is a value of ours, `yes` may be a name.
        strict_booleans: true,
        merge_keys: MergeKeyPolicy::Merge,
        non_finite_float_policy: NonFiniteFloatPolicy::AsString,
        // It would show what stands around, be it a key.
        with_snippet: false,
        // A network of many nodes in one file is fine; depth stays bounded, it costs stack.
        budget: serde_saphyr::budget! {
            max_documents: 1_000_000,
            max_nodes: 50_000_000,
            max_events: 100_000_000,
        },
    };
    serde_saphyr::from_multiple_with_options(text, options).map_err(|error| {
        let error = error.without_snippet();
        let (line, column) = error
            .location()
            .map_or((0, 0), |location| (location.line(), location.column()));
        ManifestError {
            place: Place {
                file: Arc::clone(file),
                line,
                column,
            },
            field: String::new(),
            message: match error {
                serde_saphyr::Error::DuplicateMappingKey { key: Some(key), .. } => {
                    format!("`{key}` is given twice in one map")
                }
                other => format!("not readable as YAML: {}", one_line(&other.to_string())),
            },
        }
    })
}

/// The parser's words without its own naming of the place.
fn one_line(text: &str) -> String {
    let line = text.lines().map(str::trim).collect::<Vec<_>>().join(" ");
    match line.rfind(" at line ") {
        Some(at) => line[..at].to_owned(),
        None => line,
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Node, D::Error> {
        let Spanned {
            value, referenced, ..
        } = Spanned::<Tree>::deserialize(deserializer)?;
        Ok(Node {
            tree: value,
            line: referenced.line(),
            column: referenced.column(),
        })
    }
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Tree, D::Error> {
        deserializer.deserialize_any(TreeVisitor)
    }
}

struct TreeVisitor;

impl<'de> Visitor<'de> for TreeVisitor {
    type Value = Tree;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E: Error>(self) -> Result<Tree, E> {
        Ok(Tree::Null)
    }

    fn visit_none<E: Error>(self) -> Result<Tree, E> {
        Ok(Tree::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Tree, E> {
        Ok(Tree::Bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Tree, E> {
        Ok(Tree::Integer(value.into()))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Tree, E> {
        Ok(Tree::Integer(value.into()))
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Tree, E> {
        Ok(Tree::Float)
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Tree, E> {
        Ok(Tree::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Tree, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Tree::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Tree, A::Error> {
        let mut map = Vec::new();
        while let Some(entry) = entries.next_entry()? {
            map.push(entry);
        }
        Ok(Tree::Map(map))
    }
}
