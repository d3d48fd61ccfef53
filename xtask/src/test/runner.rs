//! Runs test programs one after another: on this machine, and within a guest.
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use super::libtest::{self, Tally};
use crate::child;

/// A test program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Binary {
    /// For messages: the package and the test.
    pub(super) name: String,
    /// The program.
    pub(super) path: PathBuf,
    /// The package's folder, where cargo would start it.
    pub(super) package: PathBuf,
    /// Whether its tests must not run at the same time: they share what the kernel has one of.
    pub(super) serial: bool,
}

/// Programs and how to run them; it goes into a guest as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Plan {
    pub(super) binaries: Vec<Binary>,
    /// Arguments for libtest.
    pub(super) filter: Vec<String>,
    /// Variables for the tests.
    pub(super) environment: Vec<(String, String)>,
}

impl Plan {
    /// Runs all of them, shows what they print, and gives what is known after each to `record`.
    pub(super) fn run(
        &self,
        place: &str,
        to: &mut impl Write,
        mut record: impl FnMut(&Tally) -> Result<()>,
    ) -> Result<Tally> {
        let mut total = Tally::default();
        for binary in &self.binaries {
            // On the same stream, so that it is not overtaken by what it is the heading of.
            writeln!(to, "\n{} on {place}", binary.name)?;
            total.add(self.run_one(binary, to)?, &binary.name);
            record(&total)?;
        }
        Ok(total)
    }

    fn run_one(&self, binary: &Binary, to: &mut impl Write) -> Result<Tally> {
        let mut command = Command::new(&binary.path);
        command.arg("--show-output").args(&self.filter);
        if binary.serial {
            command.arg("--test-threads=1");
        }
        command
            .current_dir(&binary.package)
            .env("CARGO_MANIFEST_DIR", &binary.package)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
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
            writeln!(to, "{} ended early: {status}", binary.name)?;
            tally.fail(format!("ended early, {status}"));
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
        };
        let plan = Plan {
            binaries: vec![binary],
            filter: vec!["some".into()],
            environment: vec![("ADIT_BIN".into(), "/x/adit".into())],
        };
        (dir, plan)
    }

    #[test]
    fn a_program_that_dies_has_failed() {
        let (_dir, plan) = plan("echo 'running 1 test'; kill -SEGV $$");
        let tally = plan.run("here", &mut io::sink(), |_| Ok(())).unwrap();
        assert_eq!((tally.passed, tally.failed), (0, 1));
        assert!(tally.failures[0].starts_with("sample: ended early, signal: 11"));
    }

    #[test]
    fn tests_get_their_arguments_and_their_environment() {
        let script = "[ \"$*\" = '--show-output some --test-threads=1' ] && [ $ADIT_BIN = /x/adit ] || exit 1
            echo 'test result: ok. 1 passed; 0 failed; 0 ignored;'";
        let (_dir, plan) = plan(script);
        let mut recorded = Vec::new();
        let tally = plan
            .run("here", &mut io::sink(), |tally| {
                recorded.push(tally.clone());
                Ok(())
            })
            .unwrap();
        assert_eq!((tally.passed, tally.failed), (1, 0));
        assert_eq!(recorded, [tally]);
    }
}
