//! Whether a reader is led to each example. That examples are valid is a test of dataplane-user's.
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
        .filter(|file| !is_led_to(file, &documents))
        .map(|file| Finding::new(file, 1, "no document names this example: README.md should"))
        .collect()
}

/// By its own path, or by its folder's if that's not all of the examples.
fn is_led_to(file: &Path, documents: &[&str]) -> bool {
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
    fn an_example_that_nobody_names_is_found() {
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
