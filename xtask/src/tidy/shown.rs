//! Checks that each test that docs/SHOWN-BY.md names exists.
use std::path::Path;

use super::Finding;
use super::files::Files;

const DOCUMENT: &str = "docs/SHOWN-BY.md";

/// Finds tests that are not in the file that the document names.
pub(super) fn check(files: &Files) -> Vec<Finding> {
    let document = Path::new(DOCUMENT);
    let Some(text) = files.get(document) else {
        return Vec::new();
    };
    let mut findings = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        for (file, test) in named(line) {
            let is_there = files
                .get(Path::new(file))
                .is_some_and(|source| has_test(source, test));
            if !is_there {
                let message =
                    format!("{file} has no test `{test}`: name the test that shows this behaviour, or `—`");
                findings.push(Finding::new(document, number, message));
            }
        }
    }
    findings
}

/// The tests of a row, each with its file: `` `file.rs`: `one`, `another`; `file.rs`: `third` ``.
fn named(line: &str) -> Vec<(&str, &str)> {
    let mut file = None;
    let mut found = Vec::new();
    for word in line.split('`').skip(1).step_by(2) {
        if Path::new(word)
            .extension()
            .is_some_and(|extension| extension == "rs")
        {
            file = Some(word);
        } else if let Some(file) = file {
            found.push((file, word));
        }
    }
    found
}

fn has_test(source: &str, test: &str) -> bool {
    let head = format!("fn {test}(");
    let is_head = |line: &str| line.trim_start().trim_start_matches("async ").starts_with(&head);
    source.lines().any(is_head)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_test_is_reported() {
        let rows = "# Title\n| what `ip` shows | `a/b.rs`: `one`, `two`; `c.rs`: `three` |\n| more | — |\n";
        let files = [
            (DOCUMENT, rows),
            ("a/b.rs", "#[test]\nfn one() {}\n"),
            ("c.rs", "    async fn three() {}\n"),
        ];
        let files = files.map(|(file, text)| (file.into(), text.to_owned())).into();
        let findings = check(&files);
        assert_eq!(findings.len(), 1, "{findings:?}");
        assert_eq!(findings[0].line, 2);
        assert!(findings[0].message.starts_with("a/b.rs has no test `two`"));
    }
}
