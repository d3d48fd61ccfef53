//! An agent on the real kernel that crashes after a number of changes, in a separate process.

use std::collections::BTreeSet;
use std::env;
use std::net::IpAddr;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{self, Command};
use std::time::Duration;

use dataplane_user::event::Event;
use dataplane_user::heartbeat::Heartbeat;
use dataplane_user::kernel::bpf::BpfOptions;
use dataplane_user::kernel::{Kernel, KernelError, LinuxKernel};
use dataplane_user::model::facts::NodeFacts;
use dataplane_user::model::{Change, KernelState};
use dataplane_user::net::NodeName;
use dataplane_user::pauses::Pauses;
use dataplane_user::reconcile::{Agent as Reconciler, Config};
use dataplane_user::source::KeyRing;

use crate::Agent;

const AFTER: &str = "ADIT_TEST_CRASH_AFTER";
const NODE: &str = "ADIT_TEST_CRASH_NODE";
const MANIFESTS: &str = "ADIT_TEST_CRASH_MANIFESTS";
const PINS: &str = "ADIT_TEST_CRASH_PINS";
const STATE: &str = "ADIT_TEST_CRASH_STATE";

/// The real kernel; after a number of changes it aborts the process.
struct Crashing {
    kernel: LinuxKernel,
    left: usize,
}

impl Kernel for Crashing {
    async fn observe(&mut self) -> Result<KernelState, KernelError> {
        self.kernel.observe().await
    }

    async fn is_outdated(&mut self) -> bool {
        self.kernel.is_outdated().await
    }

    fn prepare(&mut self, desired: &KernelState) {
        self.kernel.prepare(desired);
    }

    async fn facts(&mut self, peers: &BTreeSet<IpAddr>) -> Result<NodeFacts, KernelError> {
        self.kernel.facts(peers).await
    }

    async fn execute(&mut self, changes: &[Change]) -> Vec<Result<(), KernelError>> {
        if changes.len() <= self.left {
            self.left -= changes.len();
            return self.kernel.execute(changes).await;
        }
        if self.left > 0 {
            let results = self.kernel.execute(&changes[..self.left]).await;
            results
                .into_iter()
                .for_each(|result| result.expect("it succeeds"));
        }
        process::abort();
    }
}

/// Runs one reconciliation with the directories and manifests of an agent in the namespace of its host, in a child process
/// that crashes after `after` changes. `test` is the test of the calling binary that calls [`child`].
///
/// # Panics
/// If the child does not crash.
pub fn crash(agent: &Agent<'_>, after: usize, test: &str) {
    let run = || {
        Command::new(env::current_exe().expect("/proc is mounted"))
            .args(["--exact", test, "--nocapture"])
            .env(AFTER, after.to_string())
            .env(NODE, agent.host().name)
            .env(MANIFESTS, agent.manifests())
            .env(PINS, agent.pins())
            .env(STATE, agent.state_directory())
            .output()
    };
    let output = agent.host().netns.enter(run).expect("the test runs again");
    assert_eq!(output.status.signal(), Some(libc::SIGABRT), "{output:?}");
}

/// The code of the child; does nothing in a process that [`crash`] did not start.
///
/// # Panics
/// If the agent cannot run.
pub fn child() {
    let Ok(after) = env::var(AFTER) else {
        return;
    };
    let path = |name| PathBuf::from(env::var_os(name).expect("the parent sets it"));
    let config = Config {
        paths: vec![path(MANIFESTS)],
        node: NodeName::new(&env::var(NODE).expect("the parent sets it")).expect("a node's name"),
        state_directory: path(STATE),
        keys: KeyRing::new(&path(STATE)),
        pauses: Pauses::default(),
        heartbeat: Heartbeat::new(Duration::from_secs(1), None),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime.expect("a runtime needs a few descriptors"), async {
        let kernel = LinuxKernel::open(
            &BpfOptions::new(path(PINS)),
            &path(STATE),
            config.keys.private_keys(),
        )
        .expect("root opens it");
        let left = after.parse().expect("a number");
        let agent = Reconciler::new(Crashing { kernel, left }, config);
        let (sender, events) = tokio::sync::mpsc::channel(1);
        sender.send(Event::Stop).await.expect("there is room");
        agent.run(events, &mut ()).await;
    });
    // The process should have crashed before; the parent notices that it did not.
    process::exit(0);
}
