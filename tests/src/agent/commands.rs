//! Commands of `adit` with an agent's places.

use std::process::Command;

use serde_json::Value;

use super::{Agent, binary};

/// What a command printed, and its exit code.
#[derive(Debug)]
pub struct Printed {
    /// The exit code; -1 for a signal.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Agent<'_> {
    /// Runs `adit` with these words and this agent's places.
    ///
    /// # Panics
    /// When it can't be started.
    pub fn run(&self, words: &[&str]) -> Printed {
        self.print(self.adit(), words)
    }

    /// Runs `adit` with these words, this agent's places and its variable.
    ///
    /// # Panics
    /// When it can't be started.
    pub fn run_alike(&self, words: &[&str]) -> Printed {
        let mut command = self.adit();
        command.envs(self.variables.clone());
        self.print(command, words)
    }

    fn print(&self, mut command: Command, words: &[&str]) -> Printed {
        command.args(words);
        let output = self.netns().enter(|| command.output());
        let output = output.unwrap_or_else(|error| panic!("{}: {error}", binary().display()));
        Printed {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// The JSON that `adit` prints for these words.
    ///
    /// # Panics
    /// When it fails, or prints something else.
    pub fn json(&self, words: &[&str]) -> Value {
        let printed = self.run(&[words, &["-o", "json"]].concat());
        assert_eq!(printed.code, 0, "{printed:?}");
        serde_json::from_str(&printed.stdout).expect("it prints JSON")
    }

    /// Runs `adit plan` on its manifests, with further words.
    pub fn plan(&self, words: &[&str]) -> Printed {
        let manifests = self.manifests();
        let manifests = manifests.to_str().expect("our directory's name is UTF-8");
        let mut all = vec!["plan", "--node", self.host.name, "-f", manifests];
        all.extend(words);
        self.run(&all)
    }

    /// A command of `adit` with its places, to be run in its namespace by [`crate::NetNs::enter`].
    #[must_use]
    pub fn command(&self) -> Command {
        self.adit()
    }

    pub(super) fn adit(&self) -> Command {
        let mut command = Command::new(binary());
        self.add_places(&mut command);
        command
    }

    pub(super) fn add_places(&self, command: &mut Command) {
        command
            .arg("--state-dir")
            .arg(self.state_directory())
            .arg("--run-dir")
            .arg(self.run_directory())
            .arg("--bpffs")
            .arg(self.pins());
    }
}
