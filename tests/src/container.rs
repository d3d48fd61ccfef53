//! Containers of each runtime, without a network and without downloaded images; their root is busybox.
#![expect(clippy::unwrap_used, reason = "what is made here is for tests alone")]

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{self, Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use dataplane_user::net::Runtime;
use tempfile::TempDir;

use crate::named::{eventually, said};

/// The command of the only process of a container.
const COMMAND: [&str; 2] = ["/bin/sleep", "1000"];
const IMAGE: &str = "adit-test:latest";

/// A container, with separate storage and a separate daemon if its runtime has them. Dropping it removes all of them.
pub struct Container {
    runtime: Runtime,
    name: String,
    directory: TempDir,
    daemon: Option<Child>,
}

impl Container {
    /// Creates a container without starting it.
    ///
    /// # Panics
    /// If the runtime fails.
    #[must_use]
    pub fn new(runtime: Runtime) -> Container {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("rootfs");
        for name in ["bin", "proc", "sys", "dev", "etc", "run", "tmp"] {
            fs::create_dir_all(root.join(name)).unwrap();
        }
        fs::copy("/bin/busybox", root.join("bin/busybox")).unwrap();
        symlink("busybox", root.join("bin/sleep")).unwrap();
        let mut container = Container {
            runtime,
            name: format!("test-{}-{number}", process::id()),
            directory,
            daemon: None,
        };
        match runtime {
            Runtime::Crun => container.make_bundle(),
            Runtime::Podman => container.create_by_podman(&root),
            Runtime::Docker => container.create_by_docker(&root),
        }
        container
    }

    /// The environment variable by which clients find this runtime.
    #[must_use]
    pub fn environment(&self) -> Option<(&'static str, String)> {
        let path = |name: &str| self.directory.path().join(name).display().to_string();
        match self.runtime {
            Runtime::Crun => None,
            Runtime::Podman => Some(("CONTAINERS_STORAGE_CONF", path("storage.conf"))),
            Runtime::Docker => Some(("DOCKER_HOST", format!("unix://{}", path("docker.sock")))),
        }
    }

    fn command(&self) -> Command {
        let mut command = Command::new(self.runtime.name());
        if self.runtime == Runtime::Crun {
            command.arg("--cgroup-manager=disabled");
        }
        command
            .envs(self.environment())
            .current_dir(self.directory.path())
            .stdin(Stdio::null());
        command
    }

    /// Runs the runtime with these arguments. Its output goes to a file, because remaining processes would keep pipes open.
    #[track_caller]
    fn run(&self, words: &[&str]) {
        let log = self.directory.path().join("log");
        let file = File::create(&log).unwrap();
        let mut command = self.command();
        command.args(words).stdout(file.try_clone().unwrap()).stderr(file);
        let status = command.status().unwrap();
        assert!(
            status.success(),
            "{words:?}: {}",
            fs::read_to_string(log).unwrap()
        );
    }

    fn make_bundle(&self) {
        self.run(&["spec"]);
        let config = self.directory.path().join("config.json");
        let mut spec: serde_json::Value =
            serde_json::from_str(&fs::read_to_string(&config).unwrap()).unwrap();
        spec["process"]["terminal"] = false.into();
        spec["process"]["args"] = serde_json::json!(COMMAND);
        fs::write(&config, spec.to_string()).unwrap();
    }

    fn create_by_podman(&self, root: &Path) {
        let place = self.directory.path().display();
        let text = format!(
            "[storage]\ndriver = \"vfs\"\ngraphroot = \"{place}/graph\"\nrunroot = \"{place}/run\"\n"
        );
        fs::write(self.directory.path().join("storage.conf"), text).unwrap();
        let root = root.to_str().unwrap();
        let words = [
            "create",
            "--cgroups=disabled",
            "--log-driver=none",
            "--network=none",
        ];
        let named = ["--events-backend=none", "--name", &self.name, "--rootfs", root];
        self.run(&[&words[..], &named, &COMMAND].concat());
    }

    /// Uses a separate daemon, which changes no firewall and creates no bridge.
    fn create_by_docker(&mut self, root: &Path) {
        let place = self.directory.path();
        let log = File::create(place.join("daemon.log")).unwrap();
        let (_, socket) = self.environment().unwrap();
        let daemon = Command::new("dockerd")
            .args(["--bridge=none", "--iptables=false", "--ip6tables=false"])
            .args(["--storage-driver=vfs", "--host", &socket])
            .arg("--data-root")
            .arg(place.join("data"))
            .arg("--exec-root")
            .arg(place.join("exec"))
            .arg("--pidfile")
            .arg(place.join("pid"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        self.daemon = Some(daemon);
        let answers = || self.command().arg("version").output().unwrap().status.success();
        let log = self.directory.path().join("daemon.log");
        assert!(eventually(answers), "{}", fs::read_to_string(log).unwrap());
        let image = self.directory.path().join("image.tar");
        let tar = Command::new("tar")
            .arg("-C")
            .arg(root)
            .arg("-cf")
            .arg(&image)
            .arg(".")
            .output();
        drop(said(&tar.unwrap()));
        self.run(&["import", image.to_str().unwrap(), IMAGE]);
        let words = ["create", "--network=none", "--name", &self.name, IMAGE];
        self.run(&[&words[..], &COMMAND].concat());
    }

    /// The name of the container.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Starts the container.
    ///
    /// # Panics
    /// If the runtime fails.
    pub fn start(&self) {
        match self.runtime {
            Runtime::Crun => self.run(&["run", "--detach", &self.name]),
            Runtime::Podman | Runtime::Docker => self.run(&["start", &self.name]),
        }
    }

    /// Stops the container.
    ///
    /// # Panics
    /// If the runtime fails.
    pub fn stop(&self) {
        match self.runtime {
            Runtime::Crun => self.run(&["delete", "--force", &self.name]),
            Runtime::Podman | Runtime::Docker => self.run(&["stop", "--time=0", &self.name]),
        }
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let words = match self.runtime {
            Runtime::Crun => ["delete", "--force"],
            Runtime::Podman | Runtime::Docker => ["rm", "--force"],
        };
        let _gone = self.command().args(words).arg(&self.name).output();
        if let Some(daemon) = &mut self.daemon {
            // dockerd ends the containerd that it started.
            let pid = nix::unistd::Pid::from_raw(daemon.id().cast_signed());
            let _gone = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
            let _gone = daemon.wait();
        }
    }
}
