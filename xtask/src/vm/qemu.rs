//! The command line of QEMU.
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};

use super::boot::Boot;
use super::machine::{Machine, Wires};
use crate::host;

/// With `-no-reboot`, `panic=-1 oops=panic` makes a crash end QEMU at once.
const KERNEL_ARGUMENTS: &str = "console=ttyS0 earlyprintk=ttyS0 loglevel=5 panic=-1 oops=panic random.trust_cpu=on \
                                mitigations=off nokaslr audit=0";

/// The command for a machine with two processors; with `kvm`, they are those of the host.
pub(super) fn command(boot: &Boot, kvm: bool, machine: &Machine, wires: &Wires) -> Result<Command> {
    let program = host::find_program("qemu-system-x86_64");
    let program = program.context("qemu-system-x86_64 is missing: run `cargo xtask setup`")?;
    let mut command = Command::new(program);
    command.args([
        "-nodefaults",
        "-no-user-config",
        "-display",
        "none",
        "-no-reboot",
        "-machine",
        "q35",
    ]);
    command.args(["-smp", "2", "-m", &machine.memory_mib.to_string()]);
    command.args(match kvm {
        true => ["-accel", "kvm", "-cpu", "host"],
        // With cx16, QEMU 7.2's translator corrupts the guest at random; `max` is several times slower.
        false => ["-accel", "tcg,thread=multi", "-cpu", "qemu64,-cx16"],
    });
    let initrd = format!("/dev/fd/{}", wires.initrd);
    let arguments = format!("{KERNEL_ARGUMENTS} {}", machine.arguments);
    command
        .arg("-kernel")
        .arg(&boot.vmlinux)
        .args(["-initrd", &initrd, "-append", arguments.trim_end()]);

    let ports = [
        ("console", wires.console),
        ("control", wires.control),
        ("output", wires.output),
        ("errors", wires.errors),
    ];
    for (id, number) in ports {
        command.args(["-chardev", &format!("socket,id={id},fd={number}")]);
    }
    command.args(["-serial", "chardev:console", "-device", "virtio-serial"]);
    command.args(["-device", "virtserialport,nr=1,chardev=control"]);
    command.args(["-device", "virtserialport,nr=3,chardev=errors"]);
    command.args(match machine.terminal {
        true => ["-device", "virtconsole,nr=0,chardev=output"],
        false => ["-device", "virtserialport,nr=2,chardev=output"],
    });
    share(
        &mut command,
        "root",
        Path::new("/"),
        "readonly=on,multidevs=remap",
    );
    if let Some(dir) = machine.artifacts {
        share(&mut command, "artifacts", dir, "readonly=off");
    }
    Ok(command)
}

/// Adds a 9p share under a tag.
fn share(command: &mut Command, tag: &str, dir: &Path, options: &str) {
    // A comma in the path would start the next option, so it is doubled.
    let path = dir.to_string_lossy().replace(',', ",,");
    command.args([
        "-fsdev",
        &format!("local,id={tag},path={path},security_model=none,{options}"),
    ]);
    command.args(["-device", &format!("virtio-9p-pci,fsdev={tag},mount_tag={tag}")]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comma_in_a_shared_path_is_doubled() {
        let mut command = Command::new("qemu");
        share(&mut command, "t", Path::new("/a,b"), "readonly=off");
        let args: Vec<_> = command.get_args().collect();
        assert_eq!(args[1], "local,id=t,path=/a,,b,security_model=none,readonly=off");
    }
}
