//! Runs test programs: one after another on this machine, and one inside of a guest.
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use super::libtest::{self, Tally};
use super::summary::File;
use crate::child;

/// A test program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Binary {
    /// For messages: the package and the test.
    pub(super) name: String,
    /// The program.
    pub(super) path: PathBuf,
    /// The directory of the package, where cargo would start the program.
    pub(super) package: PathBuf,
    /// Whether its tests must run one by one, because they share something that the kernel has only once.
    pub(super) serial: bool,
    /// Additional arguments for the kernel command line of its guest.
    pub(super) arguments: String,
}

/// Programs and how to run them; passed to a guest as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Plan {
    pub(super) binaries: Vec<Binary>,
    /// Arguments for libtest.
    pub(super) filter: Vec<String>,
    /// The path of the agent.
    pub(super) adit: PathBuf,
}

impl Plan {
    /// Runs all programs, prints their output, and returns the counts and the time of each.
    pub(super) fn run(&self, place: &str, to: &mut impl Write) -> Result<(Tally, Vec<File>)> {
        let (mut total, mut files) = (Tally::default(), Vec::new());
        for binary in &self.binaries {
            // On the same stream as the output of the program, so that the heading comes first.
            writeln!(to, "\n{} on {place}", binary.name)?;
            let started = Instant::now();
            let tally = self.run_one(binary, to)?;
            files.push(File {
                order: files.len() + 1,
                name: binary.name.clone(),
                place: place.to_owned(),
                took: started.elapsed(),
                failed: tally.failed,
            });
            total.add(tally, &binary.name);
        }
        Ok((total, files))
    }

    /// Whether a program has a test that matches the filter. Lists the tests on this machine.
    pub(super) fn has_tests(&self, binary: &Binary) -> Result<bool> {
        if self.filter.is_empty() {
            return Ok(true);
        }
        let mut command = Command::new(&binary.path);
        command
            .arg("--list")
            .args(&self.filter)
            .current_dir(&binary.package)
            .env("CARGO_MANIFEST_DIR", &binary.package);
        let listed =
            child::run(&mut command).with_context(|| format!("listing the tests of {}", binary.name))?;
        let text = String::from_utf8_lossy(&listed.stdout);
        Ok(text.lines().any(|line| line.ends_with(": test")))
    }

    /// Runs one program.
    pub(super) fn run_one(&self, binary: &Binary, to: &mut impl Write) -> Result<Tally> {
        let mut command = Command::new(&binary.path);
        command.arg("--show-output").args(&self.filter);
        if binary.serial {
            command.arg("--test-threads=1");
        }
        command
            .current_dir(&binary.package)
            .env("CARGO_MANIFEST_DIR", &binary.package)
            .env("ADIT_BIN", &self.adit)
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        child::tie(&mut command, Vec::new());

        let mut child = command
            .spawn()
            .with_context(|| format!("starting {}", binary.path.display()))?;
        let output = child.stdout.take().expect("it is piped");
        let mut tally = libtest::follow(output, to)?;
        let status = child.wait().context("waiting for a test program")?;
        if !status.success() && tally.failed == 0 {
            writeln!(to, "{} ended before its tests did: {status}", binary.name)?;
            tally.fail(format!("ended before its tests did: {status}"));
        }
        Ok(tally)
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    fn plan(script: &str) -> (tempfile::TempDir, Plan) {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("program");
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        let binary = Binary {
            name: "sample".into(),
            path,
            package: dir.path().to_owned(),
            serial: true,
            arguments: String::new(),
        };
        let plan = Plan {
            binaries: vec![binary],
            filter: vec!["some".into()],
            adit: "/x/adit".into(),
        };
        (dir, plan)
    }

    #[test]
    fn a_program_that_dies_counts_as_failed() {
        let (_dir, plan) = plan("echo 'running 1 test'; kill -SEGV $$");
        let (tally, files) = plan.run("here", &mut io::sink()).unwrap();
        assert_eq!((tally.passed, tally.failed), (0, 1));
        assert_eq!((files[0].order, files[0].failed), (1, 1));
        assert!(tally.failures[0].starts_with("sample: ended before its tests did: signal: 11"));
    }

    #[test]
    fn tests_get_their_arguments_and_their_environment() {
        let script = "[ \"$*\" = '--show-output some --test-threads=1' ] && [ $ADIT_BIN = /x/adit ] || exit 1
            echo 'test result: ok. 1 passed; 0 failed; 0 ignored;'";
        let (_dir, plan) = plan(script);
        let (tally, _) = plan.run("here", &mut io::sink()).unwrap();
        assert_eq!((tally.passed, tally.failed), (1, 0));
    }

    #[test]
    fn tests_of_a_program_are_listed_with_the_filter() {
        let (_dir, plan) = plan("[ \"$*\" = '--list some' ] && echo 'some_test: test'");
        assert!(plan.has_tests(&plan.binaries[0]).unwrap());
        let (_dir, plan) = self::plan("echo '0 tests, 0 benchmarks'");
        assert!(!plan.has_tests(&plan.binaries[0]).unwrap());
    }
}
