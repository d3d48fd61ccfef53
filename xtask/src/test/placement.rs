//! Which test programs run where.
//!
//! The unit tests of all packages run on this machine. So do the files in tests/tests, and on each kernel, too, unless
//! `[package.metadata.adit]` in tests/Cargo.toml lists them under `host` (this machine only) or `vm` (kernels only). In
//! guests the tests of a file run one by one, unless it is listed under `together`, and on all kernels, unless it is listed
//! under `once`: the newest of those that were asked for is enough then.
use std::collections::BTreeSet;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

use super::runner::Binary;
use crate::workspace::{self, Executable, Package};

/// The package whose tests are about kernels.
const PACKAGE: &str = "adit-tests";

/// Where tests run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// On this machine.
    Host,
    /// On a kernel in a guest.
    Guest,
}

/// The test programs and the lists.
#[derive(Debug)]
pub(super) struct Placement {
    executables: Vec<Executable>,
    kernel_package: PathBuf,
    lists: Lists,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Lists {
    #[serde(default)]
    host: BTreeSet<String>,
    #[serde(default)]
    vm: BTreeSet<String>,
    /// Those whose tests share nothing.
    #[serde(default)]
    together: BTreeSet<String>,
    /// Those that one kernel is enough for.
    #[serde(default)]
    once: BTreeSet<String>,
}

impl Placement {
    /// Sorts what cargo built, by what tests/Cargo.toml says.
    pub(super) fn read(built: Vec<Executable>) -> Result<Placement> {
        let package = workspace::package(PACKAGE)?;
        let mut executables = built;
        executables.retain(|program| program.harness);
        // Cargo tells of them as they get ready.
        executables.sort_by(|a, b| (&a.package, &a.kind, &a.name).cmp(&(&b.package, &b.kind, &b.name)));
        Ok(Placement {
            executables,
            kernel_package: workspace::root().join("tests"),
            lists: Lists::of(&package)?,
        })
    }

    /// What runs in guests of every kernel but one: without what one kernel is enough for.
    pub(super) fn on_further_kernels(&self) -> Vec<Binary> {
        let mut all = self.on(Place::Guest);
        all.retain(|binary| {
            let once = &self.lists.once;
            !once
                .iter()
                .any(|name| binary.name.ends_with(&format!(": {name}")))
        });
        all
    }

    /// What runs there, by name.
    pub(super) fn on(&self, place: Place) -> Vec<Binary> {
        let here = self.executables.iter().filter(|program| {
            let (host, guest) = self.places(program);
            match place {
                Place::Host => host,
                Place::Guest => guest,
            }
        });
        here.map(|program| {
            let package = program.package.file_name().unwrap_or_default().to_string_lossy();
            Binary {
                name: if program.kind == "test" {
                    format!("{package}: {}", program.name)
                } else {
                    format!("{package}: {} {}", program.kind, program.name)
                },
                path: program.path.clone(),
                package: program.package.clone(),
                serial: self.places(program).1 && !(place == Place::Guest && self.are_apart(program)),
            }
        })
        .collect()
    }

    /// Whether its tests may run beside each other.
    fn are_apart(&self, program: &Executable) -> bool {
        program.package == self.kernel_package && self.lists.together.contains(&program.name)
    }

    /// On this machine? In guests?
    fn places(&self, program: &Executable) -> (bool, bool) {
        if program.kind != "test" || program.package != self.kernel_package {
            return (true, false);
        }
        (
            !self.lists.vm.contains(&program.name),
            !self.lists.host.contains(&program.name),
        )
    }
}

impl Lists {
    fn of(package: &Package) -> Result<Lists> {
        let found = package
            .metadata
            .as_ref()
            .and_then(|metadata| metadata.get("adit"));
        let lists = match found {
            Some(value) => {
                Lists::deserialize(value).context("[package.metadata.adit] in tests/Cargo.toml")?
            }
            None => Lists::default(),
        };
        let tests = package.tests();
        let named = lists.host.iter().chain(&lists.vm);
        for name in named.chain(&lists.together).chain(&lists.once) {
            if !tests.contains(name.as_str()) {
                bail!("tests/Cargo.toml lists `{name}`, but tests/tests has no such test");
            }
        }
        if let Some(name) = lists.host.intersection(&lists.vm).next() {
            bail!("tests/Cargo.toml lists `{name}` both as host and as vm");
        }
        Ok(lists)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(package: &str, kind: &str, name: &str) -> Executable {
        Executable {
            name: name.into(),
            path: format!("/t/{name}").into(),
            package: format!("/w/{package}").into(),
            kind: kind.into(),
            harness: true,
        }
    }

    fn package(lists: &str) -> Package {
        let json = format!(
            r#"{{"name":"adit-tests","dependencies":[],"metadata":{{"adit":{lists}}},
                "targets":[{{"name":"pure","kind":["test"]}},{{"name":"netns","kind":["test"]}}]}}"#
        );
        serde_json::from_str(&json).unwrap()
    }

    fn names(all: &[Binary]) -> Vec<&str> {
        all.iter().map(|binary| binary.name.as_str()).collect()
    }

    #[test]
    fn only_files_of_the_test_package_reach_a_kernel() {
        let placement = Placement {
            executables: vec![
                program("tests", "test", "both"),
                program("tests", "test", "pure"),
                program("tests", "test", "netns"),
                program("tests", "lib", "adit_tests"),
                program("dataplane-ebpf", "test", "select"),
            ],
            kernel_package: "/w/tests".into(),
            lists: Lists::of(&package(
                r#"{"host":["pure"],"vm":["netns"],"together":["netns"],"once":["netns"]}"#,
            ))
            .unwrap(),
        };
        let guest = placement.on(Place::Guest);
        assert_eq!(names(&guest), ["tests: both", "tests: netns"]);
        assert!(guest[0].serial && !guest[1].serial);
        assert_eq!(names(&placement.on_further_kernels()), ["tests: both"]);
        let host = placement.on(Place::Host);
        let expected = [
            "tests: both",
            "tests: pure",
            "tests: lib adit_tests",
            "dataplane-ebpf: select",
        ];
        assert_eq!(names(&host), expected);
        assert!(host[0].serial && !host[1].serial && !host[3].serial);
    }

    #[test]
    fn a_list_names_files_that_are_there_and_once() {
        assert!(Lists::of(&package(r#"{"host":["pure"]}"#)).is_ok());
        assert!(Lists::of(&package(r#"{"host":["gone"]}"#)).is_err());
        assert!(Lists::of(&package(r#"{"host":["pure"],"vm":["pure"]}"#)).is_err());
        assert!(Lists::of(&package(r#"{"hosts":["pure"]}"#)).is_err());
    }
}
