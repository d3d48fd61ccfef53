//! Child processes: how to kill them with this process, pass descriptors to them, and report their failure.
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Output};

use anyhow::{Context as _, Result, bail};
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::unistd::{Pid, getppid};

/// Makes the kernel kill the child when the thread that started it ends, for whatever reason, and passes the
/// descriptors `inherited` to it under their numbers.
pub fn tie(command: &mut Command, inherited: Vec<OwnedFd>) {
    let parent = Pid::this();
    let prepare = move || {
        set_pdeathsig(Signal::SIGKILL)?;
        if getppid() != parent {
            return Err(io::Error::from(nix::errno::Errno::ESRCH));
        }
        for descriptor in &inherited {
            fcntl(descriptor, FcntlArg::F_SETFD(FdFlag::empty()))?;
        }
        Ok(())
    };
    #[expect(
        unsafe_code,
        reason = "only code between fork and exec can set the parent-death signal"
    )]
    // SAFETY: the closure only makes system calls and allocates nothing, so it's sound after fork.
    unsafe {
        command.pre_exec(prepare)
    };
}

/// Runs a command to its end and captures its output. If it fails, the error has the last lines of its standard error.
pub fn run(command: &mut Command) -> Result<Output> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().with_context(|| format!("starting {name}"))?;
    if !output.status.success() {
        bail!("{name}: {}\n{}", output.status, tail(&output.stderr, 20));
    }
    Ok(output)
}

/// The last `lines` lines of what a program printed.
pub fn tail(bytes: &[u8], lines: usize) -> String {
    let text = String::from_utf8_lossy(bytes);
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_shows_the_last_lines_of_standard_error() {
        let error = run(Command::new("sh").args(["-c", "seq 30 >&2; exit 3"]))
            .unwrap_err()
            .to_string();
        assert!(error.contains("exit status: 3") && error.ends_with("\n29\n30") && !error.contains("\n10\n"));
    }

    #[test]
    fn an_inherited_descriptor_keeps_its_number() {
        use std::io::Read as _;
        use std::os::fd::AsRawFd as _;

        let (mut reader, writer) = io::pipe().unwrap();
        let mut command = Command::new("sh");
        command
            .arg("-c")
            // Not `>&`: some shells know only numbers of one digit there.
            .arg(format!("echo through > /proc/self/fd/{}", writer.as_raw_fd()));
        tie(&mut command, vec![writer.into()]);
        assert!(command.status().unwrap().success());
        drop(command);
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "through\n");
    }
}
