//! The first root of the guest: busybox, the scripts, and the parameters of this run.
use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use super::Bootable;
use super::cpio::Archive;
use crate::host;

const INIT: &str = include_str!("init.sh");
const GUEST: &str = include_str!("guest.sh");

/// The parameters of one run.
pub(super) struct Plan<'a> {
    pub(super) bootable: &'a Bootable,
    pub(super) command: &'a [OsString],
    /// The whole environment of the guest.
    pub(super) environment: &'a [(OsString, OsString)],
    pub(super) directory: &'a Path,
    /// Directories below /tmp or /run that the guest sees as well.
    pub(super) binds: &'a [PathBuf],
    /// A directory of the host that the guest may write to.
    pub(super) artifacts: Option<&'a Path>,
    /// Rows and columns, if the command has a terminal.
    pub(super) terminal: Option<(u16, u16)>,
}

/// Writes the archive to a file without a name.
pub(super) fn build(plan: &Plan) -> Result<File> {
    let busybox = host::find_program("busybox").context("busybox is missing: run `cargo xtask setup`")?;
    let mut archive = Archive::default();
    for dir in ["dev", "proc", "sys"] {
        archive.directory(dir)?;
    }
    archive.device("dev/console", (5, 1))?;
    archive.file("bin/busybox", 0o755, &fs::read(busybox)?)?;
    archive.file("init", 0o755, INIT.as_bytes())?;
    archive.file("adit/guest.sh", 0o644, GUEST.as_bytes())?;
    archive.file("adit/config", 0o644, config(plan).as_bytes())?;
    archive.file("adit/binds", 0o644, &bind_lines(plan.binds)?)?;
    archive.file("adit/command", 0o644, &command_script(plan))?;

    let mut file = tempfile::tempfile().context("a scratch file")?;
    file.write_all(&archive.finish()?).context("writing the initrd")?;
    if let Bootable::Qemu { boot, .. } = plan.bootable {
        let mut preload =
            File::open(&boot.preload).with_context(|| format!("reading {}", boot.preload.display()))?;
        std::io::copy(&mut preload, &mut file).context("writing the initrd")?;
    }
    Ok(file)
}

/// Shell variables for the scripts of the guest.
fn config(plan: &Plan) -> String {
    let (rows, columns) = plan.terminal.unwrap_or((24, 80));
    let kernel = plan.bootable.kernel();
    let quoted = |path: &Path| String::from_utf8_lossy(&quote(path.as_os_str())).into_owned();
    let machine = match plan.bootable {
        Bootable::Uml(_) => "uml",
        Bootable::Qemu { .. } => "qemu",
    };
    let terminal = if plan.terminal.is_some() { "yes" } else { "no" };
    let mut config = String::new();
    let _ = writeln!(config, "MACHINE={machine}\nRELEASE={}", kernel.release);
    let _ = writeln!(config, "MODULES={}", quoted(&kernel.modules));
    let _ = writeln!(
        config,
        "ARTIFACTS={}",
        plan.artifacts.map(quoted).unwrap_or_default()
    );
    let _ = writeln!(config, "TERMINAL={terminal}\nROWS={rows}\nCOLUMNS={columns}");
    config
}

fn bind_lines(binds: &[PathBuf]) -> Result<Vec<u8>> {
    let mut lines = Vec::new();
    for bind in binds {
        let bytes = bind.as_os_str().as_bytes();
        if bytes.contains(&b'\n') {
            bail!(
                "the name of the directory {} has a line break: rename it",
                bind.display()
            );
        }
        lines.extend(bytes);
        lines.push(b'\n');
    }
    Ok(lines)
}

/// A script that executes the command, in its directory and with its environment.
fn command_script(plan: &Plan) -> Vec<u8> {
    let mut script = Vec::new();
    for (name, value) in plan.environment {
        script.extend([b"export ", name.as_bytes(), b"=", &quote(value), b"\n"].concat());
    }
    script.extend([b"cd ", &*quote(plan.directory.as_os_str()), b" || exit 126\nexec"].concat());
    for word in plan.command {
        script.push(b' ');
        script.extend(quote(word));
    }
    script.push(b'\n');
    script
}

/// Quotes a word for a POSIX shell.
fn quote(word: &OsStr) -> Vec<u8> {
    let mut quoted = vec![b'\''];
    for byte in word.as_bytes() {
        match byte {
            b'\'' => quoted.extend(br"'\''"),
            byte => quoted.push(*byte),
        }
    }
    quoted.push(b'\'');
    quoted
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::vm::kernel::Kernel;

    #[test]
    fn a_shell_reads_back_what_was_quoted() {
        for word in [
            "",
            "plain",
            "two words",
            "it's",
            "$HOME `id` \\ \"x\"",
            "line\nbreak",
            "-n *",
            "'",
        ] {
            let script = [b"printf %s ", &*quote(OsStr::new(word))].concat();
            let output = Command::new("sh")
                .arg("-c")
                .arg(OsStr::from_bytes(&script))
                .output()
                .unwrap();
            assert_eq!(String::from_utf8(output.stdout).unwrap(), word);
        }
    }

    #[test]
    fn the_script_executes_the_command() {
        let bootable = Bootable::Uml(Kernel {
            release: "6.1".into(),
            image: "/k".into(),
            modules: "/m".into(),
        });
        let plan = Plan {
            bootable: &bootable,
            command: &["sh".into(), "-c".into(), "echo \"$PWD $X\"; exit 7".into()],
            environment: &[
                ("X".into(), "a 'b'".into()),
                ("PATH".into(), "/usr/bin:/bin".into()),
            ],
            directory: Path::new("/usr"),
            binds: &[],
            artifacts: None,
            terminal: None,
        };
        let script = command_script(&plan);
        let output = Command::new("sh")
            .arg("-c")
            .arg(OsStr::from_bytes(&script))
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(7));
        assert_eq!(String::from_utf8(output.stdout).unwrap(), "/usr a 'b'\n");
    }

    #[test]
    fn a_folder_with_a_line_break_is_refused() {
        assert_eq!(
            bind_lines(&["/tmp/a b".into(), "/run/c".into()]).unwrap(),
            b"/tmp/a b\n/run/c\n"
        );
        assert!(bind_lines(&["/tmp/a\nb".into()]).is_err());
    }
}
