//! Checks that a document mentions each example. A test of dataplane-user checks that the examples are valid.
use std::path::Path;

use super::Finding;
use super::files::Files;

/// Each manifest in examples/ must be named, by its path, in README.md or below docs/.
pub(super) fn check(files: &Files) -> Vec<Finding> {
    let documents: Vec<&str> = files
        .iter()
        .filter(|(file, _)| *file == Path::new("README.md") || file.starts_with("docs"))
        .map(|(_, text)| text.as_str())
        .collect();
    let examples = files.keys().filter(|file| {
        let yaml = file.extension().is_some_and(|extension| extension == "yaml");
        file.starts_with("examples") && yaml
    });
    examples
        .filter(|file| !is_mentioned(file, &documents))
        .map(|file| {
            Finding::new(
                file,
                1,
                "no document mentions this example: mention it in README.md",
            )
        })
        .collect()
}

/// Whether a document has the path of the file or of one of its directories below `examples`.
fn is_mentioned(file: &Path, documents: &[&str]) -> bool {
    let names = file
        .ancestors()
        .take_while(|path| *path != Path::new("examples"))
        .map(|path| path.to_string_lossy());
    names
        .into_iter()
        .any(|name| documents.iter().any(|text| text.contains(&*name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_example_that_no_document_mentions_is_reported() {
        let files = [
            ("README.md", "Try examples/two.yaml and examples/site."),
            ("src/x.rs", "examples/three.yaml"),
            ("examples/two.yaml", ""),
            ("examples/three.yaml", ""),
            ("examples/site/a.yaml", ""),
        ];
        let files = files.map(|(file, text)| (file.into(), text.to_owned())).into();
        let found = check(&files);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].file, Path::new("examples/three.yaml"));
    }
}
