//! Finds the processes of containers by asking the container runtimes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::process::Stdio;

use tokio::process::Command;

use crate::limits;
use crate::model::facts::Presence;
use crate::net::Runtime;

/// A process and its start time, because process ids are reused.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Process {
    pid: u32,
    start: String,
}

/// The last known process of each container.
#[derive(Debug, Default)]
pub(super) struct Containers {
    last: BTreeMap<(Runtime, String), Process>,
    /// Runtimes that did not answer in this reconciliation. They are not asked again, because each attempt
    /// would wait as long.
    silent: BTreeSet<Runtime>,
}

/// The answer of a runtime about a container.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    /// It runs, with this first process.
    Runs(u32),
    /// It does not exist, or does not run.
    NotRunning,
}

/// Why a runtime did not answer.
#[derive(Debug)]
enum NoAnswer {
    /// It did not answer in time.
    TimedOut(String),
    /// It could not be run, failed, or printed something unexpected.
    Failed(String),
}

impl Containers {
    /// Starts a new reconciliation: each runtime is asked again.
    pub(super) fn begin(&mut self) {
        self.silent.clear();
    }

    /// The first process of a container, or why there is none. While the runtime can't be asked, the last
    /// known process is used for as long as it lives.
    pub(super) async fn pid(&mut self, runtime: Runtime, name: &str) -> Result<u32, Presence> {
        let key = (runtime, name.to_owned());
        let program = runtime.name();
        let answer = match self.silent.contains(&runtime) {
            true => Err(NoAnswer::TimedOut(format!("{program} did not answer"))),
            false => ask(runtime, name).await,
        };
        let absent = || Presence::Absent(format!("no container {name} is running under {program}"));
        let why = match answer {
            Ok(Answer::NotRunning) => {
                self.last.remove(&key);
                return Err(absent());
            }
            Ok(Answer::Runs(pid)) => match start(pid) {
                Ok(start) => {
                    self.last.insert(key, Process { pid, start });
                    return Ok(pid);
                }
                // The container has ended meanwhile.
                Err(error) if is_gone(&error) => {
                    self.last.remove(&key);
                    return Err(absent());
                }
                Err(error) => format!("process {pid} of container {name}: {error}"),
            },
            Err(NoAnswer::TimedOut(why)) => {
                self.silent.insert(runtime);
                why
            }
            Err(NoAnswer::Failed(why)) => why,
        };
        match self.last.get(&key) {
            Some(last) if start(last.pid).is_ok_and(|start| start == last.start) => Ok(last.pid),
            _ => Err(Presence::Unknown(why)),
        }
    }
}

async fn ask(runtime: Runtime, name: &str) -> Result<Answer, NoAnswer> {
    let program = runtime.name();
    let mut command = Command::new(program);
    match runtime {
        Runtime::Podman | Runtime::Docker => {
            command.args(["container", "inspect", "--format", "{{.State.Pid}}", "--", name]);
        }
        Runtime::Crun => drop(command.args(["state", "--", name])),
    }
    command
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let output = tokio::time::timeout(limits::CONTAINER_TIMEOUT, command.output()).await;
    let output = output
        .map_err(|_| {
            let seconds = limits::CONTAINER_TIMEOUT.as_secs();
            NoAnswer::TimedOut(format!("{program} did not answer within {seconds} s"))
        })?
        .map_err(|error| NoAnswer::Failed(format!("{program} can't be run: {error}")))?;
    if output.status.success() {
        return read(runtime, &String::from_utf8_lossy(&output.stdout)).map_err(NoAnswer::Failed);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    if says_none(runtime, name, &said) {
        return Ok(Answer::NotRunning);
    }
    let line = said.lines().last().unwrap_or_default();
    Err(NoAnswer::Failed(format!("{program} failed: {line}")))
}

/// Parses the output of a runtime about a container that exists.
fn read(runtime: Runtime, text: &str) -> Result<Answer, String> {
    let pid = match runtime {
        Runtime::Podman | Runtime::Docker => text.trim().parse::<u32>().ok(),
        Runtime::Crun => serde_json::from_str::<serde_json::Value>(text)
            .ok()
            .and_then(|state| state["pid"].as_u64()?.try_into().ok()),
    };
    match pid {
        Some(0) => Ok(Answer::NotRunning),
        Some(pid) => Ok(Answer::Runs(pid)),
        None => Err(format!(
            "{} did not print the process id of the container",
            runtime.name()
        )),
    }
}

/// Whether the error message of a runtime says that the container does not exist. All other messages mean
/// that the runtime could not be asked: a missing socket, configuration or library is also reported as "no
/// such file".
fn says_none(runtime: Runtime, name: &str, said: &str) -> bool {
    let name = name.to_lowercase();
    said.to_lowercase().lines().any(|line| match runtime {
        Runtime::Podman | Runtime::Docker => {
            let unknown = ["no such container", "no such object"];
            line.contains(&name) && unknown.iter().any(|words| line.contains(words))
        }
        // The file in which crun keeps the state of the container.
        Runtime::Crun => {
            let is_own = line.contains(&format!("/{name}/status")) && line.contains("no such file");
            is_own || (line.contains(&name) && line.contains("container") && line.contains("does not exist"))
        }
    })
}

fn is_gone(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ESRCH))
}

/// The start time of a process, in ticks since boot (proc(5), field 22 of stat).
fn start(pid: u32) -> io::Result<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The second field is a name in parentheses, which can contain any character.
    let fields = stat.rsplit_once(')').map(|(_, fields)| fields);
    let start = fields.and_then(|fields| fields.split_whitespace().nth(19));
    let odd = || {
        io::Error::new(
            io::ErrorKind::InvalidData,
            "the stat file has fewer fields than expected",
        )
    };
    start.map(str::to_owned).ok_or_else(odd)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_has_a_beginning() {
        let own = start(std::process::id()).unwrap();
        assert!(own.parse::<u64>().unwrap() > 0, "{own}");
        assert!(is_gone(&start(0).unwrap_err()));
    }

    #[test]
    fn only_no_such_container_is_absence() {
        let none = |runtime, said| says_none(runtime, "web", said);
        for said in [
            "Error: No such container: web",
            "Error response from daemon: No such container: web\n",
            "[]\nError response from daemon: no such object: web",
        ] {
            assert!(none(Runtime::Docker, said), "{said}");
        }
        for said in [
            "Error: inspecting object: no such container web",
            "Error: no such container \"web\"",
            "Error: no container with name or ID \"web\" found: no such container",
        ] {
            assert!(none(Runtime::Podman, said), "{said}");
        }
        let said = "2026-01-01T00:00:00.000000Z: error opening file `/run/crun/web/status`: No such file or directory";
        assert!(none(Runtime::Crun, said), "{said}");
        assert!(none(Runtime::Crun, "container `web` does not exist"));

        let unknown = [
            "failed to connect to the docker API at unix:///var/run/docker.sock; check if the path is correct and if the daemon is running: dial unix /var/run/docker.sock: connect: no such file or directory",
            "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?",
            "permission denied while trying to connect to the Docker daemon socket",
            "Error: reading \"/etc/containers/storage.conf\": open /etc/containers/storage.conf: no such file or directory",
            "error: the context does not exist",
            "podman: error while loading shared libraries: libgpgme.so.11: cannot open shared object file: No such file or directory",
            "Error: No such container: another",
            "",
        ];
        for said in unknown {
            for runtime in Runtime::ALL {
                assert!(!none(runtime, said), "{}: {said}", runtime.name());
            }
        }
    }

    #[test]
    fn what_is_no_process_is_no_answer() {
        for runtime in [Runtime::Docker, Runtime::Podman] {
            assert_eq!(read(runtime, "12\n"), Ok(Answer::Runs(12)));
            assert_eq!(read(runtime, "0\n"), Ok(Answer::NotRunning));
            for odd in ["", "<no value>", "-1", "1 2"] {
                assert!(read(runtime, odd).is_err(), "{odd}");
            }
        }
        assert_eq!(read(Runtime::Crun, r#"{"pid": 12}"#), Ok(Answer::Runs(12)));
        assert_eq!(read(Runtime::Crun, r#"{"pid": 0}"#), Ok(Answer::NotRunning));
        for odd in ["", "{}", "[]", r#"{"pid": "x"}"#] {
            assert!(read(Runtime::Crun, odd).is_err(), "{odd}");
        }
    }
}
