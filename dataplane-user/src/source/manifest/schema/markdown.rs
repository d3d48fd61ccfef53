//! The tables of fields in docs/MANIFESTS.md.

use std::fmt::Write as _;

use super::json::literal;
use super::{Absent, Accepts, Field, kinds};

/// The beginning of the line before a table. A kind, or a field of a kind such as `TunnelNetwork.ports`,
/// follows.
const BEGIN: &str = "<!-- fields of ";
/// The end of that line.
const BEGIN_END: &str = " -->";
/// The line after a table.
const END: &str = "<!-- end of fields -->";

/// The document with regenerated tables.
///
/// # Errors
/// If a mark names something without fields, or has no end mark.
pub fn markdown(document: &str) -> Result<String, String> {
    let mut generated = String::new();
    let mut lines = document.lines().enumerate();
    while let Some((_, line)) = lines.next() {
        let _ = writeln!(generated, "{line}");
        let Some(name) = line
            .strip_prefix(BEGIN)
            .and_then(|rest| rest.strip_suffix(BEGIN_END))
        else {
            continue;
        };
        let fields = find(name).ok_or_else(|| format!("there is no kind or field {name} that has fields"))?;
        generated.push_str(&table(&fields));
        loop {
            match lines.next() {
                Some((_, END)) => break,
                Some(_) => {}
                None => {
                    return Err(format!(
                        "the table of the fields of {name} has no end mark: {END}"
                    ));
                }
            }
        }
        let _ = writeln!(generated, "{END}");
    }
    Ok(generated)
}

/// The fields of a kind, or of a field of it.
fn find(path: &str) -> Option<Vec<&'static Field>> {
    let mut names = path.split('.');
    let kind = names.next()?;
    let kind = kinds().into_iter().find(|known| known.name == kind)?;
    names.try_fold(kind.fields, |fields, name| {
        let field = fields.into_iter().find(|field| field.name == name)?;
        let fields = field.accepts.fields();
        (!fields.is_empty()).then(|| fields.iter().collect())
    })
}

fn table(fields: &[&Field]) -> String {
    let mut table = "| field | value | default | meaning |\n|---|---|---|---|\n".to_owned();
    for field in fields {
        let Field { name, help, .. } = field;
        let _ = writeln!(
            table,
            "| `{name}` | {} | {} | {help} |",
            accepts(&field.accepts),
            absent(field.absent)
        );
    }
    table
}

fn accepts(value: &Accepts) -> String {
    match value {
        Accepts::Boolean => "`true`, `false`".to_owned(),
        Accepts::Integer(low, high) => format!("{low} … {high}"),
        Accepts::Words(words) => {
            let words = words.iter().map(|word| format!("`{word}`"));
            words.collect::<Vec<_>>().join(", ")
        }
        Accepts::Text(example) => format!("text: `{example}`"),
        Accepts::List(items) => format!("a list of: {}", accepts(items)),
        Accepts::Map(fields) => {
            let names = fields.iter().map(|field| field.name);
            format!("`{{ {} }}`", names.collect::<Vec<_>>().join(", "))
        }
        Accepts::Either(several) => several.iter().map(accepts).collect::<Vec<_>>().join("; or "),
    }
}

fn absent(absent: Absent) -> String {
    match absent {
        Absent::Required(_) => "required".to_owned(),
        Absent::Default(default) => match literal(default) {
            serde_json::Value::String(text) => format!("`{text}`"),
            value => format!("`{value}`"),
        },
        Absent::Means(means) => means.to_owned(),
    }
}
