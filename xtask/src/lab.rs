//! `cargo xtask lab`: builds the agent and the lab, a program of the tests (`tests/lab`), and runs it here or in a guest.
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

/// Exit code of a lab that could not be run to its end: no answer to whether the dataplane works.
const NOT_RUN: u8 = 125;
/// Every wait in the lab has an end; this is for a guest that hangs.
const LIMIT: Duration = Duration::from_secs(3600);

/// Join hosts and pods in network namespaces by real agents, send traffic between all of them, and show what the
/// underlay saw.
///
/// Exits with 0 when everything arrived and nothing went bare, with 1 when not, with 125 when it could not be run to its
/// end. Sent and received are packets in JSON, bytes for TCP.
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
    /// Run on this kernel, in a virtual machine; without it on the host's, if that can do it, else on 6.12.
    #[arg(long, value_enum)]
    kernel: Option<KernelName>,
    /// What runs that kernel; without it, the fastest that works here.
    #[arg(long, value_enum, env = "ADIT_VM_WITH")]
    with: Option<With>,
}

/// Sets up what is missing, builds the agent and the lab, and runs it here or in a virtual machine.
pub fn run(args: &Args) -> Result<ExitCode> {
    match place_and_run(args) {
        Ok(code) => Ok(ExitCode::from(code)),
        Err(error) => {
            eprintln!("Error: {error:#}");
            Ok(ExitCode::from(NOT_RUN))
        }
    }
}

fn place_and_run(args: &Args) -> Result<u8> {
    args.options.check()?;
    setup::ensure(&[Need::Build, Need::Lab])?;
    let lab = Lab::build(&args.options)?;
    let kernel = match args.kernel {
        Some(kernel) => kernel,
        None => {
            let Some(why) = lab.obstacle()? else {
                progress::say("on this machine's own kernel");
                return Err(lab.command("run").exec()).context("starting the lab");
            };
            let kernel = KernelName::default();
            let name = kernel.name();
            progress::say(format_args!(
                "not on this machine: {why}; in a virtual machine, on {name}"
            ));
            kernel
        }
    };
    lab.run_in_guest(args, kernel)
}

/// The lab's program and what it is told.
struct Lab {
    program: PathBuf,
    options: String,
    environment: [(OsString, OsString); 2],
}

impl Lab {
    /// Builds it and the agent at once: they share all but a little.
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

    /// Why this machine's kernel can't hold it; `None` if it can.
    fn obstacle(&self) -> Result<Option<String>> {
        let output = child::run(&mut self.command("probe"))?;
        let why = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        Ok((!why.is_empty()).then_some(why))
    }

    /// Returns the guest's exit code.
    fn run_in_guest(&self, args: &Args, kernel: KernelName) -> Result<u8> {
        if args.options.hold && !io::stdin().is_terminal() {
            bail!("--hold in a virtual machine gives a shell: standard input must be a terminal");
        }
        let program: &Path = &self.program;
        let command = vec![program.into(), "run".into(), self.options.clone().into()];
        let mut request = VmRequest {
            choice: Choice::of(args.with),
            environment: self.environment.to_vec(),
            ..VmRequest::new(kernel, command)
        };
        if args.options.sabotage.is_some() {
            // What is sabotaged is waited for in vain: user-mode Linux lets that time pass at once.
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

/// Does standard output end on a terminal whose user wants colours (<https://no-color.org>)?
fn is_coloured() -> bool {
    io::stdout().is_terminal() && env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}
