//! Finds declarations and their doc comments in Rust sources that rustfmt formatted.

use anyhow::{Context as _, Result};

/// A declaration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Declared<'a> {
    /// The first line, without white space around it.
    pub(super) line: &'a str,
    /// The doc comment in one line, as Markdown without links.
    pub(super) docs: String,
}

/// Every line of the text that is no comment and no attribute, with the doc comment above it.
pub(super) fn declarations(text: &str) -> Vec<Declared<'_>> {
    let mut docs = Vec::new();
    let mut found = Vec::new();
    for line in text.lines().map(str::trim) {
        if let Some(doc) = line.strip_prefix("///") {
            docs.push(doc.trim());
        } else if !line.starts_with("//") && !line.starts_with("#[") && !line.is_empty() {
            let docs = plain(&std::mem::take(&mut docs).join(" "));
            found.push(Declared { line, docs });
        }
    }
    found
}

/// The text between the braces of an item that starts at the left margin, such as `pub struct Class`.
pub(super) fn body<'a>(text: &'a str, item: &str) -> Result<&'a str> {
    let start = text
        .find(&format!("\n{item} {{\n"))
        .with_context(|| format!("there is no `{item} {{`"))?;
    let inner = &text[start + item.len() + 4..];
    let end = inner
        .find("\n}")
        .with_context(|| format!("`{item}` has no end"))?;
    Ok(&inner[..=end])
}

/// `pub const NAME: TYPE = VALUE;` as its name and its value.
pub(super) fn constant(line: &str) -> Option<(&str, &str)> {
    let (declaration, value) = line.strip_prefix("pub const ")?.split_once(" = ")?;
    let (name, _) = declaration.split_once(':')?;
    Some((name, value.strip_suffix(';')?))
}

/// Removes the links from a doc comment: they work only in rustdoc.
fn plain(docs: &str) -> String {
    docs.replace("[`", "`")
        .replace("`]", "`")
        .replace("`super::", "`")
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = "//! X.\n\n/// A thing,\n/// see [`super::Y`].\n#[repr(C)]\npub struct X {\n    /// One.\n    \
        pub a: u32,\n    pub b: [u8; 4],\n}\n\nimpl X {\n    /// Kind.\n    pub const K: u8 = 1 << 2;\n}\n";

    #[test]
    fn declarations_have_their_docs() {
        let all = declarations(SOURCE);
        let find = |start: &str| all.iter().find(|found| found.line.starts_with(start)).unwrap();
        assert_eq!(find("pub struct X").docs, "A thing, see `Y`.");
        assert_eq!(find("pub a:").docs, "One.");
        assert_eq!(find("pub b:").docs, "");
        assert_eq!(constant(find("pub const").line), Some(("K", "1 << 2")));
    }

    #[test]
    fn a_body_belongs_to_one_item() {
        let fields = body(SOURCE, "pub struct X").unwrap();
        assert_eq!(fields, "    /// One.\n    pub a: u32,\n    pub b: [u8; 4],\n");
        assert!(body(SOURCE, "impl X").unwrap().contains("const K"));
        assert!(body(SOURCE, "impl Y").is_err());
    }
}
