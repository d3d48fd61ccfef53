//! Containers by name. crun alone makes one, without a network and without images; its root is busybox.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};

use adit_tests::{Agent, Topology, require_module};
use tempfile::TempDir;

use crate::{interface, reaches, said, waits};

/// A bundle, and the container that runs from it; gone with this.
struct Container {
    name: String,
    bundle: TempDir,
}

impl Container {
    fn new() -> Container {
        let bundle = tempfile::tempdir().unwrap();
        let root = bundle.path().join("rootfs");
        for directory in ["bin", "proc", "sys", "dev"] {
            fs::create_dir_all(root.join(directory)).unwrap();
        }
        fs::copy("/bin/busybox", root.join("bin/busybox")).unwrap();
        symlink("busybox", root.join("bin/sleep")).unwrap();
        said(
            &Command::new("crun")
                .arg("spec")
                .current_dir(bundle.path())
                .output()
                .unwrap(),
        );
        let config = bundle.path().join("config.json");
        let mut spec: serde_json::Value =
            serde_json::from_str(&fs::read_to_string(&config).unwrap()).unwrap();
        spec["process"]["terminal"] = false.into();
        spec["process"]["args"] = serde_json::json!(["/bin/sleep", "1000"]);
        fs::write(&config, spec.to_string()).unwrap();
        Container {
            name: format!("test-{}", std::process::id()),
            bundle,
        }
    }

    fn start(&self) {
        let mut command = crun();
        command
            .args(["run", "--detach", "--bundle"])
            .arg(self.bundle.path())
            .arg(&self.name);
        // What runs on would keep pipes open.
        let log = fs::File::create(self.bundle.path().join("log")).unwrap();
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        let status = command.status().unwrap();
        let log = fs::read_to_string(self.bundle.path().join("log")).unwrap();
        assert!(status.success(), "{log}");
    }

    fn stop(&self) {
        said(&crun().args(["delete", "--force", &self.name]).output().unwrap());
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let _gone = crun().args(["delete", "--force", &self.name]).output();
    }
}

fn crun() -> Command {
    let mut command = Command::new("crun");
    command.arg("--cgroup-manager=disabled");
    command
}

#[test]
fn a_container_gets_its_interface_and_gets_it_again_when_it_restarts() {
    if !require_module("veth") || !Path::new("/usr/bin/crun").exists() {
        println!("skipped: no crun");
        return;
    }
    let topology = Topology::new(1);
    let host = &topology.hosts[0];
    let container = Container::new();
    let manifests = interface(
        "host0",
        &format!(
            "type: veth, addresses: [10.82.0.1/24], peer: {{ name: eth0, namespace: {{ container: {{ runtime: crun, name: {} }} }}, addresses: [10.82.0.2/24] }}",
            container.name
        ),
    );
    let agent = Agent::started(host, &manifests);
    assert_eq!(waits(&agent.next_pass()), ["NetlinkInterface/host0"]);
    for _ in 0..2 {
        container.start();
        agent.wait("not waiting", |status| {
            waits(status).is_empty() && status.pass.residual == 0
        });
        assert!(reaches(&host.netns, "10.82.0.2"));
        container.stop();
        agent.wait("waiting", |status| !waits(status).is_empty());
    }
}
