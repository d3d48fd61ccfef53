//! Commands of `adit` with the directories of an agent.

use std::process::Command;

use serde_json::Value;

use super::{Agent, binary};

/// The output and exit code of a command.
#[derive(Debug)]
pub struct Printed {
    /// The exit code; -1 if a signal ended the command.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Agent<'_> {
    /// Runs `adit` with these arguments and the directories of this agent.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn run(&self, words: &[&str]) -> Printed {
        self.print(self.adit(), words)
    }

    /// Runs `adit` with these arguments, the directories of this agent and one environment variable.
    ///
    /// # Panics
    /// If it cannot be started.
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

    /// The JSON output of `adit` with these arguments.
    ///
    /// # Panics
    /// If it fails or prints no JSON.
    pub fn json(&self, words: &[&str]) -> Value {
        let printed = self.run(&[words, &["-o", "json"]].concat());
        assert_eq!(printed.code, 0, "{printed:?}");
        serde_json::from_str(&printed.stdout).expect("it prints JSON")
    }

    /// Runs `adit plan` on the manifests of the agent, with additional arguments.
    pub fn plan(&self, words: &[&str]) -> Printed {
        let manifests = self.manifests();
        let manifests = manifests.to_str().expect("our directory's name is UTF-8");
        let mut all = vec!["plan", "--node", self.host.name, "-f", manifests];
        all.extend(words);
        self.run(&all)
    }

    /// A command of `adit` with the directories of the agent, to be started in its namespace by [`crate::NetNs::enter`].
    #[must_use]
    pub fn command(&self) -> Command {
        self.adit()
    }

    pub(super) fn adit(&self) -> Command {
        let mut command = Command::new(binary());
        self.add_directories(&mut command);
        command
    }

    pub(super) fn add_directories(&self, command: &mut Command) {
        command
            .arg("--state-dir")
            .arg(self.state_directory())
            .arg("--run-dir")
            .arg(self.run_directory())
            .arg("--bpffs")
            .arg(self.pins());
    }
}
