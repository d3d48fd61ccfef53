//! `cargo xtask run` builds the agent and replaces itself by it.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};

const XTASK: &str = env!("CARGO_BIN_EXE_xtask");
/// The time limit; a build on a busy machine takes most of it.
const DEADLINE: Duration = Duration::from_secs(1800);

#[test]
fn arguments_and_exit_codes_are_those_of_the_agent() {
    let version = adit(&["--version"]);
    assert!(version.status.success(), "{version:?}");
    assert!(
        String::from_utf8_lossy(&version.stdout).starts_with("adit "),
        "{version:?}"
    );

    let nowhere = tempfile::tempdir().unwrap();
    let status = adit(&["--run-dir", path(nowhere.path()), "status"]);
    assert_eq!(status.status.code(), Some(3), "{status:?}");
}

/// In separate namespaces, the agent answers on its socket, reports its node, and ends on SIGTERM. Whether it can create
/// its devices depends on the kernel of this machine; the tests in guests cover that.
#[test]
fn the_agent_runs_until_told_to_stop() {
    if !geteuid().is_root() {
        println!("skipped: needs root");
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let (bpffs, run_dir) = (place.path().join("bpf"), place.path().join("run"));
    let log = place.path().join("log");
    let logged = || fs::read_to_string(&log).unwrap_or_default();
    fs::create_dir(&bpffs).unwrap();
    let manifests = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/two-nodes.yaml");
    let script = format!(
        "mount -t bpf bpf {bpffs} && exec {XTASK} run --profile quick -- --bpffs {bpffs}/adit --run-dir {run_dir} run -f {manifests} --node left",
        bpffs = path(&bpffs),
        run_dir = path(&run_dir),
        manifests = path(&manifests),
    );
    let mut agent = Agent(
        Command::new("unshare")
            .args(["--mount", "--net", "sh", "-c", &script])
            .stdin(Stdio::null())
            .stderr(File::create(&log).unwrap())
            .spawn()
            .unwrap(),
    );

    let started = Instant::now();
    let said = loop {
        if let Some(status) = agent.0.try_wait().unwrap() {
            panic!("the agent ended: {status}\n{}", logged());
        }
        let status = adit(&["--run-dir", path(&run_dir), "status", "-o", "json"]);
        if matches!(status.status.code(), Some(0 | 5)) {
            break String::from_utf8(status.stdout).unwrap();
        }
        assert!(
            started.elapsed() < DEADLINE,
            "no answer: {status:?}\n{}",
            logged()
        );
        thread::sleep(Duration::from_millis(200));
    };
    let said = serde_json::from_str::<serde_json::Value>(&said).unwrap();
    assert_eq!(said["node"], "left");

    kill(
        Pid::from_raw(i32::try_from(agent.0.id()).unwrap()),
        Signal::SIGTERM,
    )
    .unwrap();
    assert!(agent.0.wait().unwrap().success());
}

/// Ends the agent with the test.
struct Agent(Child);

impl Drop for Agent {
    fn drop(&mut self) {
        // An error means that the agent has ended already.
        let _gone = self.0.kill();
        let _reaped = self.0.wait();
    }
}

/// Runs `cargo xtask run` with these arguments of `adit`.
fn adit(words: &[&str]) -> Output {
    Command::new(XTASK)
        .args(["run", "--profile", "quick", "--"])
        .args(words)
        .output()
        .expect("the xtask that was built runs")
}

fn path(path: &Path) -> &str {
    path.to_str().expect("temporary paths are text")
}
