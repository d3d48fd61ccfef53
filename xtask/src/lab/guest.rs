//! The lab in a virtual machine: this program again, on another kernel.
use std::env;
use std::ffi::OsString;
use std::io::{self, IsTerminal as _};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use super::Args;
use crate::vm::{Choice, KernelName, Output, VmRequest, boot_and_run};

/// Every wait in the lab has an end; this is for a guest that hangs.
const LIMIT: Duration = Duration::from_secs(3600);

/// Returns the guest's exit code.
pub(super) fn run(args: &Args, kernel: KernelName, adit: &Path) -> Result<u8> {
    let terminal = io::stdin().is_terminal();
    if args.hold && !terminal {
        bail!("--hold in a virtual machine gives a shell: standard input must be a terminal");
    }
    let mut command = vec![
        env::current_exe().context("this program's file")?.into(),
        OsString::from("lab"),
    ];
    command.extend(args.to_words());
    command.extend(["--adit".into(), adit.into()]);
    if super::is_coloured() {
        command.push("--colour".into());
    }
    let mut request = VmRequest {
        choice: Choice::of(args.with),
        ..VmRequest::new(kernel, command)
    };
    if args.sabotage.is_some() {
        // What is sabotaged is waited for in vain: user-mode Linux lets that time pass at once.
        "time-travel=inf-cpu".clone_into(&mut request.arguments);
    }
    if args.hold {
        request.output = Output::Terminal;
        request
            .environment
            .extend(env::var_os("SHELL").map(|shell| ("SHELL".into(), shell)));
    } else {
        request.timeout = Some(LIMIT);
    }
    Ok(boot_and_run(&request)?.code)
}
