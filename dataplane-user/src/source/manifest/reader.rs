//! Typed reading of trees. Each error is reported with its position, and reading continues with the next
//! field.

use std::cell::RefCell;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use serde_saphyr::Spanned;

use super::error::{ManifestError, Position, Positioned};
use super::scalar;
use super::schema::Field;
use super::suggest::hint;
use super::tree::{Node, Tree};

/// The errors of one file.
pub(super) struct Report {
    file: Arc<str>,
    errors: RefCell<Vec<ManifestError>>,
}

impl Report {
    pub(super) fn new(file: Arc<str>) -> Report {
        Report {
            file,
            errors: RefCell::default(),
        }
    }

    pub(super) fn into_errors(self) -> Vec<ManifestError> {
        self.errors.into_inner()
    }
}

/// The error of a value that is not usable: the reason is in the report.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reported;

/// The result of reading a value.
pub(super) type Read<T> = Result<T, Reported>;

/// A value of a manifest, to be converted to a type.
#[derive(Clone)]
pub(super) struct Value<'a> {
    report: &'a Report,
    node: &'a Node,
    field: String,
}

impl<'a> Value<'a> {
    pub(super) fn root(report: &'a Report, node: &'a Node) -> Value<'a> {
        Value {
            report,
            node,
            field: String::new(),
        }
    }

    /// Reports an error of this value.
    pub(super) fn reject(&self, message: impl Into<String>) -> Reported {
        let error = self.locate(()).error(message);
        self.report.errors.borrow_mut().push(error);
        Reported
    }

    /// Adds the position of this value to a converted value.
    pub(super) fn locate<T>(&self, value: T) -> Positioned<T> {
        Positioned {
            value,
            position: Position {
                file: Arc::clone(&self.report.file),
                line: self.node.line,
                column: self.node.column,
            },
            field: self.field.clone(),
        }
    }

    /// Whether the value is exactly this text.
    pub(super) fn is(&self, text: &str) -> bool {
        matches!(&self.node.tree, Tree::Text(found) if found == text)
    }

    pub(super) fn is_text(&self) -> bool {
        matches!(self.node.tree, Tree::Text(_))
    }

    pub(super) fn is_list(&self) -> bool {
        matches!(self.node.tree, Tree::List(_))
    }

    pub(super) fn is_integer(&self) -> bool {
        matches!(self.node.tree, Tree::Integer(_))
    }

    pub(super) fn mismatch(&self, expected: &str) -> Reported {
        let found = self.node.tree.kind();
        let remedy = match self.node.tree {
            Tree::Integer(_) | Tree::Float | Tree::Bool(_) if expected == "text" => "; put it in quotes",
            _ => "",
        };
        self.reject(format!("expected {expected}, found {found}{remedy}"))
    }

    /// A map with any keys.
    pub(super) fn open_map(&self) -> Read<Fields<'a>> {
        let Tree::Map(entries) = &self.node.tree else {
            return Err(self.mismatch("a map"));
        };
        Ok(Fields {
            value: self.clone(),
            entries,
            known: Vec::new(),
        })
    }

    /// A map with these fields. Unknown fields are reported, and the known ones are read nevertheless.
    pub(super) fn map(&self, known: impl IntoIterator<Item = &'static Field>) -> Read<Fields<'a>> {
        let known = known.into_iter().collect::<Vec<_>>();
        let names = known.iter().map(|field| field.name).collect::<Vec<_>>();
        let fields = self.keys(&names)?;
        Ok(Fields { known, ..fields })
    }

    /// A map with these keys. Unknown keys are reported.
    pub(super) fn keys(&self, known: &[&str]) -> Read<Fields<'a>> {
        let fields = self.open_map()?;
        for (key, _) in fields.entries {
            if !known.contains(&key.value.as_str()) {
                let hint = hint(&key.value, known.iter().copied());
                fields.at_key(key).reject(format!("unknown field; {hint}"));
            }
        }
        Ok(fields)
    }

    /// The items of a list.
    pub(super) fn list(&self, expected: &str) -> Read<Vec<Value<'a>>> {
        let Tree::List(items) = &self.node.tree else {
            return Err(self.mismatch(expected));
        };
        let value = |(index, node)| Value {
            report: self.report,
            node,
            field: format!("{}[{index}]", self.field),
        };
        Ok(items.iter().enumerate().map(value).collect())
    }

    /// A list whose items are all read by `read`, even after an item with an error.
    pub(super) fn each<T>(&self, expected: &str, read: impl Fn(&Value<'a>) -> Read<T>) -> Read<Vec<T>> {
        let items = self.list(expected)?;
        let read = items.iter().map(read).collect::<Vec<_>>();
        read.into_iter().collect()
    }

    pub(super) fn text(&self) -> Read<&'a str> {
        match &self.node.tree {
            Tree::Text(text) => Ok(text),
            _ => Err(self.mismatch("text")),
        }
    }

    /// Text that a parser converts. The error of the parser becomes the message.
    pub(super) fn parse<T>(&self, parse: impl FnOnce(&str) -> Result<T, String>) -> Read<T> {
        parse(self.text()?).map_err(|message| self.reject(message))
    }

    /// A duration such as `300ms` or `5s`. A number without a unit is an error.
    pub(super) fn duration(&self) -> Read<Duration> {
        if !self.is_text() {
            return Err(self.mismatch("a duration such as `300ms` or `5s`"));
        }
        self.parse(scalar::duration)
    }

    pub(super) fn boolean(&self) -> Read<bool> {
        match self.node.tree {
            Tree::Bool(value) => Ok(value),
            _ => Err(self.mismatch("true or false")),
        }
    }

    /// An integer in a range.
    pub(super) fn integer<T>(&self, range: RangeInclusive<T>) -> Read<T>
    where
        T: TryFrom<i128> + PartialOrd + std::fmt::Display,
    {
        let expected = || format!("an integer of {} … {}", range.start(), range.end());
        let Tree::Integer(integer) = self.node.tree else {
            return Err(self.mismatch(&expected()));
        };
        T::try_from(integer)
            .ok()
            .filter(|value| range.contains(value))
            .ok_or_else(|| self.reject(format!("{integer} is out of range; expected {}", expected())))
    }

    /// One of some words.
    pub(super) fn word<T: Copy>(&self, words: &[(&str, T)]) -> Read<T> {
        let names = || words.iter().map(|(name, _)| *name);
        let Tree::Text(text) = &self.node.tree else {
            let expected = names().collect::<Vec<_>>().join(", ");
            return Err(self.mismatch(&format!("one of {expected}")));
        };
        let known = words.iter().find(|(name, _)| name == text);
        known.map(|(_, value)| *value).ok_or_else(|| {
            let hint = hint(text, names());
            self.reject(format!("unknown value `{text}`; {hint}"))
        })
    }
}

/// The fields of a map. Fields without a value (`null`) count as absent, as in Kubernetes.
pub(super) struct Fields<'a> {
    value: Value<'a>,
    entries: &'a [(Spanned<String>, Node)],
    /// The descriptions of the fields that the map may have.
    known: Vec<&'static Field>,
}

impl<'a> Fields<'a> {
    /// The map itself.
    pub(super) fn value(&self) -> &Value<'a> {
        &self.value
    }

    /// The value of a field.
    pub(super) fn get(&self, name: &str) -> Option<Value<'a>> {
        let (_, node) = self.entries.iter().find(|(key, _)| key.value == name)?;
        (!matches!(node.tree, Tree::Null)).then(|| self.child(name, node))
    }

    /// All fields, by name; `null`s too.
    pub(super) fn all(&self) -> impl Iterator<Item = Value<'a>> {
        self.entries
            .iter()
            .map(|(key, node)| self.child(&key.value, node))
    }

    /// A required field.
    pub(super) fn required<T>(&self, name: &str, read: impl FnOnce(&Value<'a>) -> Read<T>) -> Read<T> {
        let give = self
            .field(name)
            .give()
            .expect("its table says that it must be there");
        self.required_key(name, give, read)
    }

    /// A required key; `give` tells the user what to write.
    pub(super) fn required_key<T>(
        &self,
        name: &str,
        give: &str,
        read: impl FnOnce(&Value<'a>) -> Read<T>,
    ) -> Read<T> {
        match self.get(name) {
            Some(value) => read(&value),
            None => Err(self
                .child(name, self.value.node)
                .reject(format!("missing; give {give}"))),
        }
    }

    /// A field that may be absent.
    pub(super) fn optional<T>(
        &self,
        name: &str,
        read: impl FnOnce(&Value<'a>) -> Read<T>,
    ) -> Read<Option<T>> {
        self.get(name).map(|value| read(&value)).transpose()
    }

    /// A field with a default. The default is read like a written value.
    pub(super) fn or<T>(&self, name: &str, read: impl FnOnce(&Value<'_>) -> Read<T>) -> Read<T> {
        if let Some(value) = self.get(name) {
            return read(&value);
        }
        let default = self.field(name).default().expect("its table gives a default");
        let node = Node {
            tree: default.into(),
            line: self.value.node.line,
            column: self.value.node.column,
        };
        read(&self.child(name, &node))
    }

    /// `true` or `false`.
    pub(super) fn boolean(&self, name: &str) -> Read<bool> {
        self.or(name, boolean)
    }

    /// An integer in the range of the field.
    pub(super) fn integer<T>(&self, name: &str) -> Read<T>
    where
        T: TryFrom<i128> + PartialOrd + std::fmt::Display,
    {
        self.or(name, |value| self.in_range(name, value))
    }

    /// An integer of an optional field, in the range of the field.
    pub(super) fn optional_integer<T>(&self, name: &str) -> Read<Option<T>>
    where
        T: TryFrom<i128> + PartialOrd + std::fmt::Display,
    {
        self.optional(name, |value| self.in_range(name, value))
    }

    /// Reads a value as an integer in the range of the named field.
    pub(super) fn in_range<T>(&self, name: &str, value: &Value<'_>) -> Read<T>
    where
        T: TryFrom<i128> + PartialOrd + std::fmt::Display,
    {
        let (low, high) = self.field(name).accepts.range().expect("its table gives a range");
        let bound = |number: i128| {
            T::try_from(number)
                .ok()
                .expect("the range is one of the field's type")
        };
        value.integer(bound(low)..=bound(high))
    }

    /// The description of a field, from the table beside its reader.
    fn field(&self, name: &str) -> &'static Field {
        let field = self.known.iter().copied().find(|field| field.name == name);
        field.expect("it is a field of this map's table")
    }

    /// Those of the given fields that are written.
    pub(super) fn written(&self, names: &[&'static str]) -> Vec<&'static str> {
        let there = names.iter().filter(|name| self.get(name).is_some());
        there.copied().collect()
    }

    fn child<'v>(&self, name: &str, node: &'v Node) -> Value<'v>
    where
        'a: 'v,
    {
        let field = match self.value.field.as_str() {
            "" => name.to_owned(),
            parent => format!("{parent}.{name}"),
        };
        Value {
            report: self.value.report,
            node,
            field,
        }
    }

    /// An error about a key instead of its value.
    fn at_key(&self, key: &Spanned<String>) -> KeyPosition<'_> {
        let field = self.child(&key.value, self.value.node).field;
        KeyPosition {
            report: self.value.report,
            error: ManifestError {
                position: Position {
                    file: Arc::clone(&self.value.report.file),
                    line: key.referenced.line(),
                    column: key.referenced.column(),
                },
                field,
                message: String::new(),
            },
        }
    }
}

struct KeyPosition<'a> {
    report: &'a Report,
    error: ManifestError,
}

impl KeyPosition<'_> {
    fn reject(self, message: String) {
        let error = ManifestError {
            message,
            ..self.error
        };
        self.report.errors.borrow_mut().push(error);
    }
}

/// As [`Value::boolean`], for a value of any lifetime.
fn boolean(value: &Value<'_>) -> Read<bool> {
    value.boolean()
}
