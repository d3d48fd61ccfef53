//! Checks the text of each file: white space, paths of one machine, registries, left-overs, headers and length.
use std::path::Path;

use super::Finding;
use super::code::Names;

/// Longer files get a warning: they may contain two things. In lines.
const LONG: usize = 450;
/// The source of crates in Cargo.lock.
const REGISTRY: &str = concat!(
    "source = \"registry+https://github.com/rust-lang/crates.io",
    "-index\""
);

/// Macros and attributes that must not stay, each with a remedy. In halves, because this file is checked, too.
const LEFT_OVERS: [(&str, &str); 5] = [
    (concat!("#[al", "low("), "use `#[expect(…, reason = \"…\")]`"),
    (concat!("#![al", "low("), "use `#![expect(…, reason = \"…\")]`"),
    (concat!("to", "do!"), "implement it or remove it"),
    (concat!("unimple", "mented!"), "implement it or remove it"),
    (concat!("db", "g!"), "log it or remove it"),
];

/// Directories that exist on one machine only.
const MACHINE_PATHS: [&str; 4] = [
    concat!("/wo", "rk"),
    concat!("/ro", "ot"),
    concat!("/mnt/", "data"),
    concat!("/home/", "runner"),
];

/// Hosts of registries and of their mirrors: the configuration of each machine decides which one is used.
const HOSTS: [&str; 10] = [
    concat!("index.", "crates.io"),
    concat!("static.", "crates.io"),
    concat!("crates.io-", "index"),
    concat!("deb.", "debian.org"),
    concat!("ftp.", "debian.org"),
    concat!("archive.", "ubuntu.com"),
    concat!("pypi", ".org"),
    concat!("files.", "pythonhosted.org"),
    concat!("static.", "rust-lang.org"),
    concat!("registry.", "npmjs.org"),
];

/// Checks one file.
pub(super) fn check(file: &Path, text: &str) -> Vec<Finding> {
    if file.file_name().is_some_and(|name| name == "Cargo.lock") {
        return lock_file(file, text);
    }
    let mut findings = Vec::new();
    // Not `lines`, which removes the carriage return, too.
    for (index, line) in text.split('\n').enumerate() {
        let mut add = |message: String| findings.push(Finding::new(file, index + 1, message));
        if line.ends_with([' ', '\t', '\r']) {
            add("white space at the end of the line: remove it".to_owned());
        }
        if let Some(path) = MACHINE_PATHS.iter().find(|path| names_path(line, path)) {
            add(format!(
                "{path} is a directory of one machine: find the path at run time"
            ));
        }
        if let Some(host) = HOSTS.iter().find(|host| line.contains(*host)) {
            add(format!(
                "{host} is the host of a registry: leave it to the configuration of the machine"
            ));
        }
    }
    if !text.is_empty() && !text.ends_with('\n') {
        findings.push(Finding::new(
            file,
            text.lines().count(),
            "the last line has no newline: add one",
        ));
    }
    if file.extension().is_some_and(|extension| extension == "rs") {
        findings.extend(rust(file, text));
    }
    findings
}

fn rust(file: &Path, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    if !text.starts_with("//! ") {
        let message = "the file does not start with a `//!` line: add one that says what the file contains";
        findings.push(Finding::new(file, 1, message));
    }
    // What is no Rust is reported by the check of imports.
    for (found, line) in Names::of(text, true).unwrap_or_default().macros {
        if let Some((word, remedy)) = LEFT_OVERS.iter().find(|(word, _)| *word == found) {
            findings.push(Finding::new(file, line, format!("`{word}`: {remedy}")));
        }
    }
    let count = text.lines().count();
    if count > LONG {
        let message = format!("{count} lines: check whether the file can be split");
        findings.push(Finding::new(file, count, message).warning());
    }
    findings
}

/// Whether the line has exactly this absolute path, not a longer one that contains it.
fn names_path(line: &str, path: &str) -> bool {
    line.match_indices(path).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + path.len()..].chars().next();
        let starts = before.is_none_or(|c| c.is_whitespace() || "\"'`(=:,<[".contains(c));
        starts && !after.is_some_and(|c| c.is_alphanumeric() || "_-".contains(c))
    })
}

fn lock_file(file: &Path, text: &str) -> Vec<Finding> {
    let sources = text
        .lines()
        .enumerate()
        .filter(|(_, line)| line.starts_with("source = "));
    sources
        .filter(|(_, line)| *line != REGISTRY)
        .map(|(index, _)| {
            Finding::new(
                file,
                index + 1,
                "this crate does not come from crates.io: use a registry version",
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(file: &str, text: &str) -> Vec<String> {
        check(Path::new(file), text)
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    #[test]
    fn each_rule_reports_the_line() {
        for bad in [
            "x \n".to_owned(),
            "x\t\n".to_owned(),
            "x\r\n".to_owned(),
            "x".to_owned(),
            format!("cd {}/main\n", MACHINE_PATHS[0]),
            format!("`{}`\n", MACHINE_PATHS[1]),
            format!("curl https://{}/x\n", HOSTS[3]),
        ] {
            let found = messages("a.md", &bad);
            assert!(
                found.len() == 1 && found[0].starts_with("a.md:1: "),
                "{bad:?}: {found:?}"
            );
        }
        for (word, _) in LEFT_OVERS {
            let used = match word.strip_suffix('(') {
                Some(attribute) if word.starts_with("#!") => format!("//! A.\n\n{attribute}(x)]\n"),
                Some(attribute) => format!("//! A.\n\n{attribute}(x)]\nfn f() {{}}\n"),
                None => format!("//! A.\n\nfn f() {{ {word}(x) }}\n"),
            };
            let found = messages("a.rs", &used);
            assert!(
                found.len() == 1 && found[0].starts_with("a.rs:3: "),
                "{word}: {found:?}"
            );
        }
        assert_eq!(messages("a.rs", "use std::fmt;\n").len(), 1);
        assert_eq!(messages("Cargo.lock", "source = \"git+https://x\"\n").len(), 1);
    }

    #[test]
    fn similar_text_is_not_reported() {
        let paths = format!("$2{0} {0}s {0}-x sub{0}/x\n", MACHINE_PATHS[0]);
        assert_eq!(messages("a.sh", &paths), [""; 0]);
        let said = format!(
            "//! Never {0}x)\nfn f() {{ let s = \"{0}\"; my_{1}(); }}\n",
            LEFT_OVERS[2].0, LEFT_OVERS[4].0
        );
        assert_eq!(messages("a.rs", &said), [""; 0]);
        assert_eq!(messages("Cargo.lock", &format!("{REGISTRY}\n")), [""; 0]);
    }

    #[test]
    fn a_long_file_is_a_warning() {
        let found = check(Path::new("a.rs"), &format!("//! A.\n{}", "\n".repeat(LONG)));
        assert!(found.len() == 1 && found[0].warning);
        assert!(check(Path::new("a.rs"), &format!("//! A.\n{}", "\n".repeat(LONG - 1))).is_empty());
    }
}
