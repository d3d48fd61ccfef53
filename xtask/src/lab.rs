//! `cargo xtask lab`: builds the agent and the lab, a program of the tests (`tests/lab`), and runs the lab on this
//! machine or in a guest.
pub mod options;

use std::env;
use std::ffi::OsString;
use std::io::{self, IsTerminal as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use self::options::Options;
use crate::setup::{self, Need};
use crate::vm::{Choice, KernelName, Output, VmRequest, With, boot_and_run};
use crate::{child, host, progress, workspace};

/// Exit code of a lab that could not run to its end, so that nothing is known about the dataplane.
const NOT_RUN: u8 = 125;
/// Every wait in the lab has a limit; this limit is for a guest that hangs.
const LIMIT: Duration = Duration::from_secs(3600);

/// Build an overlay of hosts and pods in network namespaces, send traffic between all of them, and show the packets
/// on the underlay.
///
/// Each host runs a real agent. The lab uses no network device of this machine.
///
/// Exit code 0 means that all traffic arrived and no packet of the overlay crossed the underlay in clear. Exit code 1
/// means that something was lost or wrong, and 125 that the lab could not run to its end. In JSON, `sent` and
/// `received` are packets, and bytes for TCP.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  cargo xtask lab\n  cargo xtask lab --underlay ipv6 --encapsulation vxlan\n  \
    cargo xtask lab --underlay dual --mixed --encapsulation geneve,vxlan,ipip,wireguard,none\n  \
    cargo xtask lab --dataplane mixed --encapsulation geneve,wireguard\n  \
    cargo xtask lab --shared-prefix --encapsulation wireguard\n  \
    cargo xtask lab --hold\n  cargo xtask lab --json | jq -c 'select(.sent != .received)'"
)]
pub struct Args {
    #[command(flatten)]
    options: Options,
    /// Run in a guest with this kernel [default: no guest if the kernel of this machine suffices, else 6.12]
    #[arg(long, value_enum)]
    kernel: Option<KernelName>,
    /// How to run the kernel of the guest [default: the fastest that works here]
    #[arg(long, value_enum, env = "ADIT_VM_WITH")]
    with: Option<With>,
}

/// Installs missing tools, builds the agent and the lab, and runs the lab on this machine or in a guest.
pub fn run(args: &Args) -> Result<ExitCode> {
    match choose_and_run(args) {
        Ok(code) => Ok(ExitCode::from(code)),
        Err(error) => {
            eprintln!("Error: {error:#}");
            Ok(ExitCode::from(NOT_RUN))
        }
    }
}

fn choose_and_run(args: &Args) -> Result<u8> {
    args.options.check()?;
    setup::ensure(&[Need::Build, Need::Lab])?;
    let lab = Lab::build(&args.options)?;
    let kernel = match args.kernel {
        Some(kernel) => kernel,
        None => {
            let Some(why) = lab.obstacle()? else {
                progress::say("running the lab on the kernel of this machine");
                return Err(lab.command("run").exec()).context("starting the lab");
            };
            let kernel = KernelName::default();
            let name = kernel.name();
            progress::say(format_args!(
                "running the lab in a guest with Linux {name}, because {why}"
            ));
            kernel
        }
    };
    lab.run_in_guest(args, kernel)
}

/// The program of the lab, its options and its environment.
struct Lab {
    program: PathBuf,
    options: String,
    environment: [(OsString, OsString); 2],
}

impl Lab {
    /// Builds the lab and the agent together, because they share most of their code.
    fn build(options: &Options) -> Result<Self> {
        let built = workspace::build(&[
            "build",
            "--profile=quick",
            "--package=dataplane-user",
            "--bin=adit",
            "--package=adit-tests",
            "--bin=lab",
        ])?;
        let find = |name: &str| -> Result<PathBuf> {
            let program = built.iter().find(|program| program.name == name);
            let program = program.with_context(|| format!("cargo built no `{name}`"))?;
            Ok(program.path.clone())
        };
        let options = Options {
            colour: is_coloured(),
            ..options.clone()
        };
        Ok(Self {
            program: find("lab")?,
            options: serde_json::to_string(&options)?,
            environment: [
                ("ADIT_BIN".into(), find("adit")?.into()),
                ("PATH".into(), env::join_paths(host::program_dirs())?),
            ],
        })
    }

    fn command(&self, what: &str) -> Command {
        let mut command = Command::new(&self.program);
        command.args([what, &self.options]).envs(self.environment.clone());
        command
    }

    /// Why the lab cannot run on the kernel of this machine; `None` if it can.
    fn obstacle(&self) -> Result<Option<String>> {
        let output = child::run(&mut self.command("probe"))?;
        let why = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        Ok((!why.is_empty()).then_some(why))
    }

    /// Returns the exit code of the lab.
    fn run_in_guest(&self, args: &Args, kernel: KernelName) -> Result<u8> {
        if args.options.hold && !io::stdin().is_terminal() {
            bail!(
                "--hold starts a shell in the guest, so standard input must be a terminal: run it from a terminal, or without --hold"
            );
        }
        let program: &Path = &self.program;
        let command = vec![program.into(), "run".into(), self.options.clone().into()];
        let mut request = VmRequest {
            choice: Choice::of(args.with),
            environment: self.environment.to_vec(),
            ..VmRequest::new(kernel, command)
        };
        if args.options.sabotage.is_some() {
            // A sabotaged lab waits for packets that never arrive: user-mode Linux skips that time.
            "time-travel=inf-cpu".clone_into(&mut request.arguments);
        }
        if args.options.hold {
            request.output = Output::Terminal;
            request
                .environment
                .extend(env::var_os("SHELL").map(|shell| ("SHELL".into(), shell)));
        } else {
            request.timeout = Some(LIMIT);
        }
        Ok(boot_and_run(&request)?.code)
    }
}

/// Whether standard output is a terminal and the user wants colours (<https://no-color.org>).
fn is_coloured() -> bool {
    io::stdout().is_terminal() && env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}
