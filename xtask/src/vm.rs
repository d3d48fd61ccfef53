//! `cargo xtask vm`, and `boot_and_run` for the commands that need a guest: a Debian kernel that runs on the files of the
//! host, as user-mode Linux or in QEMU.
//!
//! The guest sees the root of the host read-only under an overlay, with an empty /tmp and /run. Each run has two more
//! threads, which copy the output of the command. They end with the guest, and the guest ends with the thread of the
//! caller.
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

/// How often to boot a guest that dies before it is ready.
const BOOT_TRIES: u32 = 2;
/// The default memory of a guest, in MiB.
const MEMORY_MIB: u32 = 2048;
/// Environment variables that the guest gets from the host, in addition to those that start with `ADIT_`.
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

/// Boot a Debian kernel in a guest and run a command or a shell there.
///
/// The guest sees the files of this machine read-only under an overlay. Exits with the exit code of the command, or with
/// 125 if the command could not run to its end.
#[derive(clap::Args)]
pub struct Args {
    /// Kernel to boot
    #[arg(long, value_enum, default_value_t)]
    kernel: KernelName,
    /// How to run the kernel [default: the fastest that works here]
    #[arg(long, value_enum, env = "ADIT_VM_WITH")]
    with: Option<With>,
    /// Directory below /tmp or /run that the guest sees as well, besides the current one; may be given several times
    #[arg(long, value_name = "DIR")]
    bind: Vec<PathBuf>,
    /// Directory that the guest may write to, as $ADIT_ARTIFACTS
    #[arg(long, value_name = "DIR")]
    artifacts: Option<PathBuf>,
    /// Time limit of the command, in seconds
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<u64>,
    /// Memory of the guest, in MiB
    #[arg(long, value_name = "MIB", default_value_t = MEMORY_MIB)]
    memory: u32,
    /// Give the command a terminal
    #[arg(long, short)]
    tty: bool,
    /// Command and its arguments [default: a shell]
    #[arg(last = true, value_name = "CMD")]
    command: Vec<OsString>,
}

/// Exits with the exit code of the command, or with 125 if the command could not run to its end.
pub fn run(args: &Args) -> Result<ExitCode> {
    let shell = || vec![env::var_os("SHELL").unwrap_or_else(|| "/bin/sh".into())];
    let terminal = args.tty || args.command.is_empty();
    if terminal && !io::stdin().is_terminal() {
        bail!("standard input is not a terminal: give a command to run after `--`");
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
    /// How the kernel may be run.
    pub choice: Choice,
    /// Additional arguments for the kernel command line.
    pub arguments: String,
    /// The program, found in the PATH of the host, and its arguments.
    pub command: Vec<OsString>,
    /// Additional environment variables of the guest.
    pub environment: Vec<(OsString, OsString)>,
    /// Directories below /tmp or /run that the guest sees, besides the current one, the workspace and the target
    /// directory.
    pub binds: Vec<PathBuf>,
    /// A directory of the host that the guest may write to, as `$ADIT_ARTIFACTS`.
    pub artifacts: Option<PathBuf>,
    /// The time limit of the command, without the boot; `None` means no limit.
    pub timeout: Option<Duration>,
    /// Where the output of the command goes.
    pub output: Output,
    /// The memory of the guest in MiB.
    pub memory_mib: u32,
    /// Whether to print no progress of the boot.
    pub quiet: bool,
}

impl VmRequest {
    /// A command with streamed output, no time limit and no other options.
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

/// Where the output of a command goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// To the standard output and error of this process, immediately.
    Stream,
    /// Into the [`Outcome`].
    Capture,
    /// Both.
    StreamAndCapture,
    /// The command uses the terminal of this process.
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
    /// Its exit code; 128 plus the number of the signal if a signal ended it.
    pub code: u8,
    /// The captured standard output.
    pub stdout: Vec<u8>,
    /// The captured standard error.
    pub stderr: Vec<u8>,
}

/// A kernel with all files that its boot needs.
#[derive(Debug)]
enum Bootable {
    Uml(Kernel),
    Qemu { kernel: Kernel, boot: Boot, kvm: bool },
}

impl Bootable {
    /// Fetches or builds the files that are not in the cache.
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

/// Makes sure that the kernel boots on this machine, by booting it unless that is known, and returns how it runs. The
/// error says what is missing.
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

/// Runs a command in its own guest. Processes that the command leaves running end with it.
///
/// # Errors
/// If there is no exit code: no QEMU, no kernel, or a guest that panicked or hung. The error has the last lines of the
/// console.
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
                "{} guests do not run on this machine ({why}); trying the next kind",
                with.describe()
            )),
            // The command may have run, so it must not run again.
            Err(Failed::Running(error)) => return Err(error),
            Err(Failed::Before(error)) => progress::say(format_args!(
                "{} guests cannot be started ({error:#}); trying the next kind",
                with.describe()
            )),
        }
    }
    match boot_with(request, *last) {
        Ok(Ended::Command(outcome)) => Ok((*last, outcome)),
        Ok(Ended::Silent(why)) => bail!("{} guests do not run on this machine ({why})", last.describe()),
        Err(Failed::Before(error) | Failed::Running(error)) => Err(error),
    }
}

/// An error of a boot, by how far it came.
enum Failed {
    /// The command did not run.
    Before(anyhow::Error),
    /// It may have.
    Running(anyhow::Error),
}

fn boot_with(request: &VmRequest, with: With) -> std::result::Result<Ended, Failed> {
    let start = || -> Result<(Bootable, std::fs::File)> {
        let bootable = Bootable::prepare(request.kernel, with)?;
        let directory = env::current_dir().context("finding the current directory")?;
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
            // Emulated kernels sometimes die early. The command has not run yet, so it does not run twice.
            Err(error) if !attempt.ready.get() && tries < BOOT_TRIES => {
                progress::say(format_args!(
                    "the guest died while booting, booting it again: {error:#}"
                ));
            }
            Err(error) if !attempt.ready.get() => return Err(Failed::Before(error)),
            ended => return ended.map_err(Failed::Running),
        }
    }
}

/// The environment of the guest.
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

/// The directories that the empty /tmp and /run of the guest would hide.
fn binds(request: &VmRequest, directory: &Path) -> Result<Vec<PathBuf>> {
    let target = workspace::target_dir();
    let mut all = Vec::new();
    for bind in &request.binds {
        all.push(
            bind.canonicalize()
                .with_context(|| format!("finding the directory {} of --bind", bind.display()))?,
        );
    }
    let implied = [directory, workspace::root(), &target].into_iter();
    all.extend(implied.filter_map(|dir| dir.canonicalize().ok()));
    Ok(hidden(all))
}

/// The directories below /tmp and /run, without those inside of others.
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
    fn only_hidden_directories_are_bound_and_outer_ones_suffice() {
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
