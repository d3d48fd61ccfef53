//! The processes of containers, as their runtimes tell.

use std::collections::BTreeMap;
use std::fs;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

use crate::net::Runtime;

/// A runtime that does not answer must not hold up a pass for long.
const PATIENCE: Duration = Duration::from_secs(3);

/// A process, and when it began: numbers are used again.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Process {
    pid: u32,
    start: String,
}

/// What was last told of each container.
#[derive(Debug, Default)]
pub(super) struct Containers(BTreeMap<(Runtime, String), Process>);

impl Containers {
    /// The first process of a container, or why there is none. While its runtime can't be asked, the last one goes on
    /// for as long as it lives.
    pub(super) async fn pid(&mut self, runtime: Runtime, name: &str) -> Result<u32, String> {
        let key = (runtime, name.to_owned());
        let last = self.0.get(&key);
        let answer = match ask(runtime, name).await {
            Ok(answer) => answer,
            Err(why) => {
                return match last {
                    Some(last) if start(last.pid).as_ref() == Some(&last.start) => Ok(last.pid),
                    _ => Err(why),
                };
            }
        };
        let process = answer.filter(|pid| *pid > 0).and_then(|pid| {
            let start = start(pid)?;
            Some(Process { pid, start })
        });
        match process {
            Some(process) => {
                let pid = process.pid;
                self.0.insert(key, process);
                Ok(pid)
            }
            None => {
                self.0.remove(&key);
                Err(format!("{} runs no container {name}", runtime.name()))
            }
        }
    }
}

/// `None`: the runtime knows no such container, or it does not run.
async fn ask(runtime: Runtime, name: &str) -> Result<Option<u32>, String> {
    let program = runtime.name();
    let mut command = Command::new(program);
    match runtime {
        Runtime::Podman | Runtime::Docker => {
            command.args(["container", "inspect", "--format", "{{.State.Pid}}", "--", name]);
        }
        Runtime::Crun => drop(command.args(["state", "--", name])),
    }
    command
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let output = tokio::time::timeout(PATIENCE, command.output()).await;
    let output = output
        .map_err(|_| format!("{program} does not answer"))?
        .map_err(|error| format!("{program} can't be run: {error}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).to_lowercase();
        let unknown = [
            "no such container",
            "no such object",
            "does not exist",
            "no such file",
        ];
        if unknown.iter().any(|words| said.contains(words)) {
            return Ok(None);
        }
        let line = said.lines().last().unwrap_or_default();
        return Err(format!("{program} fails: {line}"));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    match runtime {
        Runtime::Podman | Runtime::Docker => Ok(text.trim().parse().ok()),
        Runtime::Crun => {
            let state = serde_json::from_str::<serde_json::Value>(&text);
            let state = state.map_err(|error| format!("{program} says something odd: {error}"))?;
            Ok(state["pid"].as_u64().and_then(|pid| pid.try_into().ok()))
        }
    }
}

/// When a process began, in ticks since the boot (proc(5), field 22 of stat).
fn start(pid: u32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is a name in parentheses, with anything in it.
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_whitespace().nth(19).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_has_a_beginning() {
        let own = start(std::process::id()).unwrap();
        assert!(own.parse::<u64>().unwrap() > 0, "{own}");
        assert_eq!(start(0), None);
    }
}
