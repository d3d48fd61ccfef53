//! Which files are read, and the errors of files that can't be read.

use std::fs;
use std::os::unix::fs::symlink;

use super::*;
use crate::net::NetworkName;

fn network(name: &str, prefix: &str) -> String {
    format!(
        "apiVersion: adit.dev/v1alpha1\nkind: TunnelNetwork\nmetadata: {{name: {name}}}\nspec: {{prefixes: [{prefix}]}}\n"
    )
}

fn names(resources: &Resources) -> Vec<&str> {
    resources.networks.keys().map(NetworkName::as_str).collect()
}

fn lines(paths: &[PathBuf], directory: &Path) -> Vec<String> {
    let text = load(paths).unwrap_err().to_string();
    let short = text.replace(&format!("{}/", directory.display()), "");
    short.lines().map(str::to_owned).collect()
}

#[test]
fn a_directorys_manifests_are_read_and_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    for (index, name) in ["a.yaml", "b.yml", "c.json"].iter().enumerate() {
        fs::write(
            root.join(name),
            network(&format!("n{index}"), &format!("10.{index}.0.0/16")),
        )
        .unwrap();
    }
    for noise in [
        ".hidden.yaml",
        "a.yaml~",
        "#a.yaml#",
        ".a.yaml.swp",
        "README.md",
        "a.yaml.tmp",
        "yaml",
    ] {
        fs::write(root.join(noise), "- no manifest").unwrap();
    }
    fs::create_dir(root.join("below.yaml")).unwrap();
    fs::write(root.join("below.yaml/d.yaml"), "- no manifest").unwrap();
    let resources = load(&[root.to_owned()]).unwrap();
    assert_eq!(names(&resources), ["n0", "n1", "n2"]);
    // A file that is named twice is read once.
    let resources = load(&[root.join("a.yaml"), root.to_owned(), root.join("a.yaml")]).unwrap();
    assert_eq!(names(&resources), ["n0", "n1", "n2"]);
    // A file that is named by the user may have any name.
    fs::write(root.join("manifest"), network("x", "10.0.0.0/8")).unwrap();
    assert_eq!(names(&load(&[root.join("manifest")]).unwrap()), ["x"]);
}

#[test]
fn the_links_of_a_config_map_are_followed() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    fs::create_dir(root.join("..2026")).unwrap();
    fs::write(root.join("..2026/a.yaml"), network("x", "10.0.0.0/8")).unwrap();
    symlink("..2026", root.join("..data")).unwrap();
    symlink("..data/a.yaml", root.join("a.yaml")).unwrap();
    assert_eq!(names(&load(&[root.to_owned()]).unwrap()), ["x"]);
}

#[test]
fn an_empty_directory_is_an_empty_set() {
    let directory = tempfile::tempdir().unwrap();
    assert_eq!(
        load(&[directory.path().to_owned()]).unwrap(),
        Resources::default()
    );
    fs::write(directory.path().join("a.yaml"), "# later\n").unwrap();
    assert_eq!(
        load(&[directory.path().to_owned()]).unwrap(),
        Resources::default()
    );
}

#[test]
fn the_whole_set_or_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    fs::write(root.join("a.yaml"), network("a", "10.0.0.0/8")).unwrap();
    fs::write(root.join("b.yaml"), network("b", "10.1.0.1/16")).unwrap();
    fs::write(root.join("c.yaml"), b"\xff\xfe\x00").unwrap();
    symlink("nowhere", root.join("d.yaml")).unwrap();
    assert_eq!(
        lines(&[root.to_owned()], root),
        [
            "c.yaml: can't be read: it is not UTF-8",
            "d.yaml: can't be read: No such file or directory (os error 2)",
            "b.yaml:4:19: spec.prefixes[0]: `10.1.0.1/16` has host bits set; write `10.1.0.0/16`",
        ]
    );
}

#[test]
fn an_empty_input_is_reported() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    fs::write(root.join("empty.yaml"), "---\n# nothing\n").unwrap();
    assert_eq!(
        lines(&[], root),
        ["no manifests; give a file or a directory with manifests"]
    );
    assert_eq!(
        lines(&[root.join("empty.yaml"), root.join("absent")], root),
        [
            "empty.yaml: contains no manifest",
            "absent: can't be read: No such file or directory (os error 2)",
        ]
    );
}

#[test]
fn a_network_in_an_unreadable_file_is_not_called_unknown() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    let node = "apiVersion: adit.dev/v1alpha1\nkind: TunnelNode\nmetadata: {name: a}\nspec: {network: x, underlay: {ipv4: 192.0.2.1}, addresses: [10.0.0.1]}\n";
    fs::write(root.join("a.yaml"), node).unwrap();
    assert_eq!(
        lines(&[root.to_owned(), root.join("absent.yaml")], root),
        ["absent.yaml: can't be read: No such file or directory (os error 2)"]
    );
}

#[test]
fn a_path_that_is_no_file_is_reported_and_never_blocks() {
    let directory = tempfile::tempdir().unwrap();
    let fifo = directory.path().join("a.yaml");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let device = PathBuf::from("/dev/zero");
    for paths in [vec![fifo], vec![directory.path().to_owned()], vec![device]] {
        let told = lines(&paths, directory.path());
        assert!(
            told.len() == 1 && told[0].contains("not a regular file"),
            "{told:?}"
        );
    }
}
