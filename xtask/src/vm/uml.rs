//! User-mode Linux: a kernel that runs as a program of the host (Documentation/virt/uml of the kernel).
mod build;

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};

pub(super) use self::build::locate;
use super::kernel::Kernel;
use super::machine::{Machine, Wires};
use super::with;
use crate::host;

/// The command for a guest with one CPU. `scratch` is a directory for its files on the host.
///
/// The guest runs in its own PID namespace, because its processes are processes of the host that the kernel process
/// traces. Without the namespace they would continue on the host when the kernel process dies.
pub(super) fn command(kernel: &Kernel, machine: &Machine, wires: &Wires, scratch: &Path) -> Result<Command> {
    let unshare = host::find_program("unshare").context("unshare is missing: install util-linux")?;
    let mut command = Command::new(unshare);
    if !host::is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    command
        .args(["--pid", "--fork", "--kill-child"])
        .arg(&kernel.image)
        .arg(format!("mem={}M", machine.memory_mib))
        .arg(format!("initrd=/proc/self/fd/{}", wires.initrd))
        .args(["con=null", &format!("con0=null,fd:{}", wires.console)])
        .args(["ssl=null", &format!("ssl0=fd:{}", wires.control)])
        .arg(format!("ssl1=fd:{}", wires.output))
        .arg(format!("ssl2=fd:{}", wires.errors))
        .arg(format!("uml_dir={}/", scratch.display()))
        .args(["loglevel=5", "oops=panic", "noreboot", "random.trust_cpu=on"])
        .args(machine.arguments.split_ascii_whitespace())
        .env("TMPDIR", with::memory_dir(u64::from(machine.memory_mib) << 20)?);
    Ok(command)
}
