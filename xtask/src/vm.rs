//! `cargo xtask vm`, and `boot_and_run` for the commands that need a guest: a Debian kernel over the host's own files, as
//! a program of the host (user-mode Linux) or in QEMU.
//!
//! The guest sees the host's root read-only under an overlay, with a fresh /tmp and /run. Each run has two threads
//! beside the caller's, which copy the command's output; they end with the guest, which ends with the caller's thread.
mod attempt;
mod boot;
mod cpio;
mod fetch;
mod initrd;
mod kernel;
mod machine;
mod modules;
mod qemu;
mod terminal;
mod uml;
mod with;

use std::cell::Cell;
use std::env;
use std::ffi::OsString;
use std::io::{self, IsTerminal as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use self::attempt::{Attempt, Ended};
use self::boot::Boot;
use self::initrd::Plan;
use self::kernel::Kernel;
pub use self::kernel::KernelName;
pub use self::with::{Choice, With};
use crate::setup::{self, Need};
use crate::{progress, workspace};

/// How often a guest is booted that dies before it is ready.
const BOOT_TRIES: u32 = 2;
/// What a guest has unless told otherwise.
const MEMORY_MIB: u32 = 2048;
/// Variables that the guest gets from the host, beside those that start with `ADIT_`.
const ENVIRONMENT: [&str; 14] = [
    "CARGO_HOME",
    "CARGO_TARGET_DIR",
    "CI",
    "COLORTERM",
    "HOME",
    "LANG",
    "LC_ALL",
    "NO_COLOR",
    "PATH",
    "RUSTUP_HOME",
    "RUST_BACKTRACE",
    "RUST_LOG",
    "TERM",
    "USER",
];

/// Boot a Debian kernel over the host's files and run a command, or a shell, on it.
#[derive(clap::Args)]
pub struct Args {
    /// The kernel to boot.
    #[arg(long, value_enum, default_value_t)]
    kernel: KernelName,
    /// What runs it; without it, the fastest that works here.
    #[arg(long, value_enum, env = "ADIT_VM_WITH")]
    with: Option<With>,
    /// A folder below /tmp or /run that the guest shall see, too (the current one does anyway).
    #[arg(long, value_name = "DIR")]
    bind: Vec<PathBuf>,
    /// A folder that the guest may write to, as $ADIT_ARTIFACTS.
    #[arg(long, value_name = "DIR")]
    artifacts: Option<PathBuf>,
    /// End the command after so many seconds.
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<u64>,
    /// The guest's memory in MiB.
    #[arg(long, value_name = "MIB", default_value_t = MEMORY_MIB)]
    memory: u32,
    /// Give the command a terminal.
    #[arg(long, short)]
    tty: bool,
    /// The command; without one, a shell.
    #[arg(last = true, value_name = "CMD")]
    command: Vec<OsString>,
}

/// Ends with the command's exit code, or with 125 when it could not be run to its end.
pub fn run(args: &Args) -> Result<ExitCode> {
    let shell = || vec![env::var_os("SHELL").unwrap_or_else(|| "/bin/sh".into())];
    let terminal = args.tty || args.command.is_empty();
    if terminal && !io::stdin().is_terminal() {
        bail!("standard input is no terminal: name a command to run, after `--`");
    }
    let request = VmRequest {
        binds: args.bind.clone(),
        artifacts: args.artifacts.clone(),
        timeout: args.timeout.map(Duration::from_secs),
        memory_mib: args.memory,
        choice: Choice::of(args.with),
        output: if terminal {
            Output::Terminal
        } else {
            Output::Stream
        },
        ..VmRequest::new(
            args.kernel,
            if args.command.is_empty() {
                shell()
            } else {
                args.command.clone()
            },
        )
    };
    match boot_and_run(&request) {
        Ok(outcome) => Ok(ExitCode::from(outcome.code)),
        Err(error) => {
            eprintln!("Error: {error:#}");
            Ok(ExitCode::from(125))
        }
    }
}

/// A command to run on a kernel.
#[derive(Debug, Clone)]
pub struct VmRequest {
    /// The kernel.
    pub kernel: KernelName,
    /// What may run it.
    pub choice: Choice,
    /// Further words for the kernel's command line.
    pub arguments: String,
    /// The program, found along the PATH of here, and its arguments.
    pub command: Vec<OsString>,
    /// Set in the guest, beside what it gets anyway.
    pub environment: Vec<(OsString, OsString)>,
    /// Folders below /tmp or /run that the guest shall see, beside the current one, the workspace and the target folder.
    pub binds: Vec<PathBuf>,
    /// A folder of the host that the guest may write to, as `$ADIT_ARTIFACTS`.
    pub artifacts: Option<PathBuf>,
    /// How long the command may take, the boot not counted; none means as long as it likes.
    pub timeout: Option<Duration>,
    /// Where its output goes.
    pub output: Output,
    /// The guest's memory in MiB.
    pub memory_mib: u32,
    /// Says nothing of the boot itself.
    pub quiet: bool,
}

impl VmRequest {
    /// A command whose output is streamed, with neither time-out nor anything else unusual.
    pub fn new(kernel: KernelName, command: Vec<OsString>) -> Self {
        Self {
            kernel,
            choice: Choice::default(),
            arguments: String::new(),
            command,
            environment: Vec::new(),
            binds: Vec::new(),
            artifacts: None,
            timeout: None,
            output: Output::Stream,
            memory_mib: MEMORY_MIB,
            quiet: false,
        }
    }
}

/// Where a command's output goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// To this process's standard output and error, as it comes.
    Stream,
    /// Into the [`Outcome`].
    Capture,
    /// Both.
    StreamAndCapture,
    /// The command has a terminal: this process's.
    Terminal,
}

impl Output {
    fn streams(self) -> bool {
        self != Self::Capture
    }

    fn captures(self) -> bool {
        matches!(self, Self::Capture | Self::StreamAndCapture)
    }
}

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Its exit code; 128 and the signal's number if a signal ended it.
    pub code: u8,
    /// What was captured of its standard output.
    pub stdout: Vec<u8>,
    /// What was captured of its standard error.
    pub stderr: Vec<u8>,
}

/// A kernel with all that its boot takes.
#[derive(Debug)]
enum Bootable {
    Uml(Kernel),
    Qemu { kernel: Kernel, boot: Boot, kvm: bool },
}

impl Bootable {
    /// Fetches or builds what is not in the cache.
    fn prepare(name: KernelName, with: With) -> Result<Self> {
        setup::ensure(&[Need::Vm])?;
        if with == With::Uml {
            return Ok(Self::Uml(uml::locate(name)?));
        }
        let kernel = kernel::locate(name)?;
        let boot = boot::prepare(&kernel)?;
        let kvm = with == With::Kvm;
        Ok(Self::Qemu { kernel, boot, kvm })
    }

    fn kernel(&self) -> &Kernel {
        match self {
            Self::Uml(kernel) | Self::Qemu { kernel, .. } => kernel,
        }
    }
}

/// Makes sure that such a kernel boots here, by booting it where that is not known, and says what runs it. An error says
/// what is missing.
pub fn prepare(kernel: KernelName, choice: Choice) -> Result<With> {
    let request = VmRequest {
        choice,
        output: Output::Capture,
        quiet: true,
        ..VmRequest::new(kernel, vec!["true".into()])
    };
    match choice.candidates()[..] {
        [with] if with.patience().is_none() => Bootable::prepare(kernel, with).map(|_| with),
        _ => boot_first(&request).map(|(with, _)| with),
    }
}

/// Runs a command in a guest of its own. An error says why there's no exit code: no QEMU, no kernel, a guest that
/// panicked or hung; the console's last lines are part of it. What the command leaves running ends with it.
pub fn boot_and_run(request: &VmRequest) -> Result<Outcome> {
    boot_first(request).map(|(_, outcome)| outcome)
}

/// Boots by the first of the candidates that works here.
fn boot_first(request: &VmRequest) -> Result<(With, Outcome)> {
    let candidates = request.choice.candidates();
    let (last, others) = candidates.split_last().context("there is always a candidate")?;
    for with in others {
        match boot_with(request, *with) {
            Ok(Ended::Command(outcome)) => return Ok((*with, outcome)),
            Ok(Ended::Silent(why)) => progress::say(format_args!(
                "{} guests do not run here ({why}); trying another way",
                with.describe()
            )),
            // What has run is not run again by another.
            Err(Failed::Running(error)) => return Err(error),
            Err(Failed::Before(error)) => progress::say(format_args!(
                "{} guests can't be had ({error:#}); trying another way",
                with.describe()
            )),
        }
    }
    match boot_with(request, *last) {
        Ok(Ended::Command(outcome)) => Ok((*last, outcome)),
        Ok(Ended::Silent(why)) => bail!("{} guests do not run here ({why})", last.describe()),
        Err(Failed::Before(error) | Failed::Running(error)) => Err(error),
    }
}

/// How far a boot came that failed.
enum Failed {
    /// The command did not run.
    Before(anyhow::Error),
    /// It may have.
    Running(anyhow::Error),
}

fn boot_with(request: &VmRequest, with: With) -> std::result::Result<Ended, Failed> {
    let start = || -> Result<(Bootable, std::fs::File)> {
        let bootable = Bootable::prepare(request.kernel, with)?;
        let directory = env::current_dir().context("the current folder")?;
        let initrd = initrd::build(&Plan {
            bootable: &bootable,
            command: &request.command,
            environment: &environment(request),
            directory: &directory,
            binds: &binds(request, &directory)?,
            artifacts: request.artifacts.as_deref(),
            terminal: (request.output == Output::Terminal).then(terminal::size),
        })?;
        Ok((bootable, initrd))
    };
    let (bootable, initrd) = start().map_err(Failed::Before)?;
    let attempt = Attempt {
        request,
        bootable: &bootable,
        initrd: &initrd,
        ready: Cell::new(false),
    };
    let patience = with.patience();
    let mut tries = 0;
    loop {
        tries += 1;
        attempt.say(format_args!(
            "booting Linux {} ({})…",
            bootable.kernel().release,
            with.describe()
        ));
        let ended = attempt.run(patience);
        if with == With::Kvm && patience.is_some() {
            with::remember_kvm(!matches!(ended, Ok(Ended::Silent(_)))).map_err(Failed::Running)?;
        }
        match ended {
            // Emulated kernels have been seen to die early; nothing has run yet, so nothing is run twice.
            Err(error) if !attempt.ready.get() && tries < BOOT_TRIES => {
                progress::say(format_args!("it died while booting, once more: {error:#}"));
            }
            Err(error) if !attempt.ready.get() => return Err(Failed::Before(error)),
            ended => return ended.map_err(Failed::Running),
        }
    }
}

/// The guest's environment.
fn environment(request: &VmRequest) -> Vec<(OsString, OsString)> {
    let wanted = |name: &OsString| {
        let name = name.to_string_lossy();
        ENVIRONMENT.contains(&&*name) || name.starts_with("ADIT_")
    };
    let mut all: Vec<_> = env::vars_os().filter(|(name, _)| wanted(name)).collect();
    all.push(("ADIT_VM".into(), "1".into()));
    all.push(("ADIT_KERNEL".into(), request.kernel.name().into()));
    if request.artifacts.is_some() {
        all.push(("ADIT_ARTIFACTS".into(), "/run/adit-vm/artifacts".into()));
    }
    all.extend(request.environment.iter().cloned());
    all
}

/// The folders that the guest's fresh /tmp and /run would hide.
fn binds(request: &VmRequest, directory: &Path) -> Result<Vec<PathBuf>> {
    let target = workspace::target_dir();
    let mut all = Vec::new();
    for bind in &request.binds {
        all.push(
            bind.canonicalize()
                .with_context(|| format!("the folder {}", bind.display()))?,
        );
    }
    let implied = [directory, workspace::root(), &target].into_iter();
    all.extend(implied.filter_map(|dir| dir.canonicalize().ok()));
    Ok(hidden(all))
}

/// Those below /tmp and /run, without those inside of others.
fn hidden(mut dirs: Vec<PathBuf>) -> Vec<PathBuf> {
    dirs.retain(|dir| dir.starts_with("/tmp") || dir.starts_with("/run"));
    dirs.sort();
    dirs.dedup_by(|inner, outer| inner.starts_with(outer));
    dirs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_hidden_folders_are_bound_and_outer_ones_suffice() {
        let dirs = [
            "/tmp/a/target",
            "/home/x",
            "/tmp/a",
            "/run/b",
            "/tmpfs",
            "/tmp/ab",
        ]
        .map(PathBuf::from);
        assert_eq!(
            hidden(dirs.into()),
            ["/run/b", "/tmp/a", "/tmp/ab"].map(PathBuf::from)
        );
    }
}
