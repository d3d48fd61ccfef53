//! Network namespaces by name, and `ip` run in them.
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};
use nix::sched::{CloneFlags, setns};

use crate::{child, host};

const DIRECTORY: &str = "/run/netns";

/// A named network namespace.
#[derive(Debug)]
pub(super) struct NetNs {
    name: String,
    file: File,
}

impl NetNs {
    pub(super) fn open(name: &str) -> Result<Self> {
        let path = path_of(name);
        let file = File::open(&path).with_context(|| format!("opening {}", path.display()))?;
        Ok(Self {
            name: name.to_owned(),
            file,
        })
    }

    /// The calling thread's.
    #[cfg(test)]
    pub(super) fn open_this() -> Result<Self> {
        let file = File::open("/proc/thread-self/ns/net")?;
        let name = "this".to_owned();
        Ok(Self { name, file })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Moves the calling thread into it, network alone: mounts stay, so that BPF file systems stay in sight.
    pub(super) fn enter(&self) -> Result<()> {
        setns(&self.file, CloneFlags::CLONE_NEWNET)
            .with_context(|| format!("entering the namespace {}", self.name))
    }

    /// Does something in it with the calling thread, and comes back.
    pub(super) fn within<T>(&self, what: impl FnOnce() -> Result<T>) -> Result<T> {
        let before = File::open("/proc/thread-self/ns/net").context("this thread's namespace")?;
        self.enter()?;
        let result = what();
        setns(&before, CloneFlags::CLONE_NEWNET).context("leaving a namespace")?;
        result
    }

    /// Sets what lies below /proc/sys/net, of this namespace.
    pub(super) fn sysctl(&self, settings: &[(&str, &str)]) -> Result<()> {
        self.within(|| {
            for (name, value) in settings {
                let path = Path::new("/proc/sys/net").join(name);
                fs::write(&path, value).with_context(|| format!("{} in {}", path.display(), self.name))?;
            }
            Ok(())
        })
    }

    /// Runs `ip`'s commands in it, one a line.
    pub(super) fn ip(&self, lines: &str) -> Result<()> {
        ip(&["-netns", &self.name], lines)
    }
}

/// Where the namespace's file is.
pub(super) fn path_of(name: &str) -> PathBuf {
    Path::new(DIRECTORY).join(name)
}

/// The names of all namespaces that start so.
pub(super) fn named(prefix: &str) -> Vec<String> {
    let entries = fs::read_dir(DIRECTORY).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| name.starts_with(prefix))
        .collect();
    names.sort();
    names
}

/// Runs `ip`'s commands in the calling thread's namespace, one a line: processes are dear on an emulated machine.
pub(super) fn ip(options: &[&str], lines: &str) -> Result<()> {
    let program = host::find_program("ip").context("no `ip`: run `cargo xtask setup`")?;
    feed(Command::new(program).args(options).args(["-batch", "-"]), lines)
}

/// Runs a program on this input; if it fails, the error has what it said.
pub(super) fn feed(command: &mut Command, input: &str) -> Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let mut process = command.spawn().with_context(|| format!("starting {name}"))?;
    let mut stdin = process.stdin.take().context("its standard input")?;
    // One that fails stops reading; what it says then is more to the point than a broken pipe.
    let written = stdin.write_all(input.as_bytes());
    drop(stdin);
    let output = process
        .wait_with_output()
        .with_context(|| format!("waiting for {name}"))?;
    if !output.status.success() {
        bail!("{name}: {}\n{}", output.status, child::tail(&output.stderr, 20));
    }
    written.with_context(|| format!("writing to {name}"))
}
