//! The tables of fields in docs/MANIFESTS.md.

use std::fmt::Write as _;

use super::json::literal;
use super::{Absent, Field, Takes, kinds};

/// What stands before a table, with the name of what has the fields: a kind, or a field of one (`TunnelNetwork.ports`).
const BEGIN: &str = "<!-- fields of ";
/// What ends that line.
const BEGIN_END: &str = " -->";
/// What stands behind a table.
const END: &str = "<!-- end of fields -->";

/// The document with its tables made anew.
///
/// # Errors
/// When a mark names nothing that has fields, or has no end.
pub fn markdown(document: &str) -> Result<String, String> {
    let mut made = String::new();
    let mut lines = document.lines().enumerate();
    while let Some((_, line)) = lines.next() {
        let _ = writeln!(made, "{line}");
        let Some(name) = line
            .strip_prefix(BEGIN)
            .and_then(|rest| rest.strip_suffix(BEGIN_END))
        else {
            continue;
        };
        let fields = find(name).ok_or_else(|| format!("nothing has the name {name}"))?;
        made.push_str(&table(&fields));
        loop {
            match lines.next() {
                Some((_, END)) => break,
                Some(_) => {}
                None => return Err(format!("the fields of {name} have no end: {END}")),
            }
        }
        let _ = writeln!(made, "{END}");
    }
    Ok(made)
}

/// The fields of a kind, or of a field of it.
fn find(path: &str) -> Option<Vec<&'static Field>> {
    let mut names = path.split('.');
    let kind = names.next()?;
    let kind = kinds().into_iter().find(|known| known.name == kind)?;
    names.try_fold(kind.fields, |fields, name| {
        let field = fields.into_iter().find(|field| field.name == name)?;
        let fields = field.takes.fields();
        (!fields.is_empty()).then(|| fields.iter().collect())
    })
}

fn table(fields: &[&Field]) -> String {
    let mut table = "| field | takes | default | meaning |\n|---|---|---|---|\n".to_owned();
    for field in fields {
        let Field { name, help, .. } = field;
        let _ = writeln!(
            table,
            "| `{name}` | {} | {} | {help} |",
            takes(&field.takes),
            absent(field.absent)
        );
    }
    table
}

fn takes(value: &Takes) -> String {
    match value {
        Takes::Boolean => "`true`, `false`".to_owned(),
        Takes::Integer(low, high) => format!("{low} … {high}"),
        Takes::Words(words) => {
            let words = words.iter().map(|word| format!("`{word}`"));
            words.collect::<Vec<_>>().join(", ")
        }
        Takes::Text(example) => format!("text: `{example}`"),
        Takes::List(items) => format!("a list of: {}", takes(items)),
        Takes::Map(fields) => {
            let names = fields.iter().map(|field| field.name);
            format!("`{{ {} }}`", names.collect::<Vec<_>>().join(", "))
        }
        Takes::Either(several) => several.iter().map(takes).collect::<Vec<_>>().join("; or "),
    }
}

fn absent(absent: Absent) -> String {
    match absent {
        Absent::Refused(_) => "required".to_owned(),
        Absent::Default(default) => match literal(default) {
            serde_json::Value::String(text) => format!("`{text}`"),
            value => format!("`{value}`"),
        },
        Absent::Means(means) => means.to_owned(),
    }
}
