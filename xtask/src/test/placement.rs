//! Decides where each test program runs.
//!
//! The unit tests of all packages run on this machine. The files in tests/tests run on this machine and on each kernel,
//! unless `[package.metadata.adit]` in tests/Cargo.toml lists them; [`Lists`] explains its fields.
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

use super::guest::Job;
use super::runner::Binary;
use crate::vm::{Choice, KernelName, With};
use crate::workspace::{self, Executable, Package};

/// The package whose tests need kernels.
const PACKAGE: &str = "adit-tests";

/// Where tests run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
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

/// The lists in tests/Cargo.toml, which name files of tests/tests.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Lists {
    /// Files that need no kernel: they run on this machine only.
    host: BTreeSet<String>,
    /// Files that run in guests only.
    vm: BTreeSet<String>,
    /// Files that need several CPUs, a JIT and BTF: they do not run in user-mode Linux.
    machine: BTreeSet<String>,
    /// Files whose tests share nothing, so that they run in parallel in guests; tests of other files run one by one.
    together: BTreeSet<String>,
    /// Files that run on one kernel only, the newest of the chosen ones.
    once: BTreeSet<String>,
    /// The files that take longest, in the order in which they start.
    first: Vec<String>,
    /// Additional arguments for the kernel command line, by file.
    arguments: BTreeMap<String, String>,
}

impl Placement {
    /// Combines the programs that cargo built with the lists of tests/Cargo.toml.
    pub(super) fn read(built: Vec<Executable>) -> Result<Placement> {
        let package = workspace::package(PACKAGE)?;
        let mut executables = built;
        executables.retain(|program| program.harness);
        // Cargo lists programs in the order in which they were built.
        executables.sort_by(|a, b| (&a.package, &a.kind, &a.name).cmp(&(&b.package, &b.kind, &b.name)));
        Ok(Placement {
            executables,
            kernel_package: workspace::root().join("tests"),
            lists: Lists::of(&package)?,
        })
    }

    /// The programs that run on these kernels, in the order in which they start.
    pub(super) fn jobs(&self, kernels: &[KernelName], choice: Choice) -> Vec<Job> {
        let newest = kernels.iter().max();
        let mut jobs = Vec::new();
        for program in self.executables.iter().filter(|program| self.places(program).1) {
            let name = &program.name;
            let once = self.lists.once.contains(name);
            for kernel in kernels.iter().filter(|kernel| !once || Some(*kernel) == newest) {
                let choice = match self.lists.machine.contains(name) {
                    // User-mode Linux is no machine, even if `--with uml` asks for it.
                    true if choice == Choice::Only(With::Uml) => Choice::Machine,
                    true if choice == Choice::Fastest => Choice::Machine,
                    _ => choice,
                };
                jobs.push(Job {
                    kernel: *kernel,
                    choice,
                    binary: self.binary(program, Place::Guest),
                });
            }
        }
        let rank = |job: &Job| {
            // Machines are the slowest.
            let machine = job.choice == Choice::Machine;
            let first = &self.lists.first;
            let position = first.iter().position(|name| *name == file_of(&job.binary.name));
            (!machine, position.unwrap_or(first.len()))
        };
        jobs.sort_by_key(rank);
        jobs
    }

    /// The programs that run on this machine, sorted by name.
    pub(super) fn on_host(&self) -> Vec<Binary> {
        let here = self.executables.iter().filter(|program| self.places(program).0);
        here.map(|program| self.binary(program, Place::Host)).collect()
    }

    /// Whether a program runs only on this machine, because it needs no kernel.
    pub(super) fn asks_no_kernel(&self, binary: &Binary) -> bool {
        self.lists.host.contains(file_of(&binary.name)) && binary.package == self.kernel_package
    }

    fn binary(&self, program: &Executable, place: Place) -> Binary {
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
            arguments: self
                .lists
                .arguments
                .get(&program.name)
                .cloned()
                .unwrap_or_default(),
        }
    }

    /// Whether the tests of a program may run in parallel.
    fn are_apart(&self, program: &Executable) -> bool {
        program.package == self.kernel_package && self.lists.together.contains(&program.name)
    }

    /// Whether a program runs on this machine, and whether it runs in guests.
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

/// The file name in the name of a binary.
fn file_of(name: &str) -> &str {
    name.rsplit(' ').next().unwrap_or(name)
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
        let sets = [
            &lists.host,
            &lists.vm,
            &lists.machine,
            &lists.together,
            &lists.once,
        ];
        let named = sets.into_iter().flatten();
        for name in named.chain(&lists.first).chain(lists.arguments.keys()) {
            if !tests.contains(name.as_str()) {
                bail!(
                    "tests/Cargo.toml lists `{name}`, but tests/tests has no such test: correct [package.metadata.adit]"
                );
            }
        }
        if let Some(name) = lists.host.intersection(&lists.vm).next() {
            bail!("tests/Cargo.toml lists `{name}` both in `host` and in `vm`: remove it from one of them");
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
                "targets":[{{"name":"pure","kind":["test"]}},{{"name":"netns","kind":["test"]}},
                    {{"name":"both","kind":["test"]}}]}}"#
        );
        serde_json::from_str(&json).unwrap()
    }

    fn names(all: &[Binary]) -> Vec<&str> {
        all.iter().map(|binary| binary.name.as_str()).collect()
    }

    const BOTH: [KernelName; 2] = [KernelName::V6_1, KernelName::V6_12];

    fn placement(lists: &str) -> Placement {
        Placement {
            executables: vec![
                program("tests", "test", "both"),
                program("tests", "test", "netns"),
                program("tests", "test", "pure"),
                program("tests", "lib", "adit_tests"),
                program("dataplane-ebpf", "test", "select"),
            ],
            kernel_package: "/w/tests".into(),
            lists: Lists::of(&package(lists)).unwrap(),
        }
    }

    #[test]
    fn only_files_of_the_test_package_reach_a_kernel() {
        let placement =
            placement(r#"{"host":["pure"],"vm":["netns"],"together":["netns"],"once":["netns"]}"#);
        let jobs = placement.jobs(&BOTH, Choice::Fastest);
        let expected = [
            ("tests: both", KernelName::V6_1, true),
            ("tests: both", KernelName::V6_12, true),
            ("tests: netns", KernelName::V6_12, false),
        ];
        let found = jobs
            .iter()
            .map(|job| (job.binary.name.as_str(), job.kernel, job.binary.serial));
        assert_eq!(found.collect::<Vec<_>>(), expected);
        let host = placement.on_host();
        let expected = [
            "tests: both",
            "tests: pure",
            "tests: lib adit_tests",
            "dataplane-ebpf: select",
        ];
        assert_eq!(names(&host), expected);
        assert!(host[0].serial && !host[1].serial && !host[3].serial);
        let pure = host.iter().map(|binary| placement.asks_no_kernel(binary));
        assert_eq!(pure.collect::<Vec<_>>(), [false, true, false, false]);
    }

    #[test]
    fn machines_start_first_then_the_slowest_files() {
        let placement = placement(
            r#"{"host":["pure"],"machine":["netns"],"first":["both"],"arguments":{"both":"ipv6.disable=1"}}"#,
        );
        for choice in [Choice::Fastest, Choice::Only(With::Uml)] {
            let jobs = placement.jobs(&[KernelName::V6_1], choice);
            assert_eq!(jobs[0].binary.name, "tests: netns");
            assert_eq!(jobs[0].choice, Choice::Machine);
            assert_eq!(jobs[1].choice, choice);
            assert_eq!(jobs[1].binary.arguments, "ipv6.disable=1");
        }
        let emulated = placement.jobs(&[KernelName::V6_1], Choice::Only(With::Qemu));
        assert!(emulated.iter().all(|job| job.choice == Choice::Only(With::Qemu)));
    }

    #[test]
    fn lists_name_existing_files_without_contradictions() {
        assert!(Lists::of(&package(r#"{"host":["pure"]}"#)).is_ok());
        assert!(Lists::of(&package(r#"{"host":["gone"]}"#)).is_err());
        assert!(Lists::of(&package(r#"{"host":["pure"],"vm":["pure"]}"#)).is_err());
        assert!(Lists::of(&package(r#"{"hosts":["pure"]}"#)).is_err());
    }
}
