//! `cargo xtask setup`, and `ensure` for the commands that need some of it: installs what is missing.
mod apt;
mod components;
mod linker;
mod tools;

use std::process::ExitCode;

use anyhow::{Result, bail};

use self::tools::Tool;
use crate::host::Distribution;
use crate::progress;

/// What a command needs of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Need {
    /// To build the BPF object: a compiler with a core library for BPF, LLVM, and bpf-linker.
    Build,
    /// To boot kernels: QEMU, busybox, depmod, what unpacks kernels, and what builds user-mode Linux.
    Vm,
    /// To lay out networks, look at them, and capture on them.
    Lab,
    /// To run the tests, beside building them and booting kernels.
    Test,
    /// To check the code: rustfmt and clippy.
    Lint,
}

const ALL: [Need; 5] = [Need::Build, Need::Vm, Need::Lab, Need::Test, Need::Lint];

/// Install what is missing to build, test and try Adit.
#[derive(clap::Args)]
pub struct Args {
    /// What it is to be enough for; without any, everything.
    #[arg(value_enum)]
    needs: Vec<Need>,
}

/// Installs, and says so if there was nothing to do.
pub fn run(args: &Args) -> Result<ExitCode> {
    let needs = if args.needs.is_empty() {
        &ALL[..]
    } else {
        &args.needs
    };
    if !install(needs)? {
        progress::say("nothing is missing");
    }
    Ok(ExitCode::SUCCESS)
}

/// Makes sure of what these need; takes milliseconds when nothing is missing. An error has the commands to be run by
/// hand where this can't install: not on Debian or Ubuntu, or not as root.
pub fn ensure(needs: &[Need]) -> Result<()> {
    install(needs).map(drop)
}

/// Returns whether anything was missing.
fn install(needs: &[Need]) -> Result<bool> {
    let missing = tools::missing(needs);
    let linker = needs.contains(&Need::Build) && linker::is_missing();
    let components = if needs.contains(&Need::Lint) {
        components::missing()
    } else {
        Vec::new()
    };
    if missing.is_empty() && !linker && components.is_empty() {
        return Ok(false);
    }
    let host = Distribution::of_host();
    if !host.is("debian") && !missing.is_empty() {
        bail!(by_hand(&host, &missing, linker, &components)?);
    }
    if !missing.is_empty() {
        apt::install(&tools::packages(&missing, |tool| tool.debian))?;
    }
    if linker {
        linker::install()?;
    }
    if !components.is_empty() {
        components::install(&components)?;
    }
    let still = tools::missing(needs);
    if !still.is_empty() {
        bail!("still missing after the installation: {}", names(&still));
    }
    Ok(true)
}

/// The commands for a distribution that this doesn't install on.
fn by_hand(host: &Distribution, missing: &[&Tool], linker: bool, components: &[&str]) -> Result<String> {
    let mut lines = vec![format!("missing: {}. Please run:", names(missing))];
    let (packaged, bpf): (Vec<&Tool>, Vec<&Tool>) =
        missing.iter().copied().partition(|tool| tool.fedora.is_some());
    let fedora = tools::packages(&packaged, |tool| tool.fedora.unwrap_or_default());
    if host.is("fedora") || host.is("rhel") {
        if !fedora.is_empty() {
            lines.push(format!("    sudo dnf install {}", fedora.join(" ")));
        }
    } else if !packaged.is_empty() {
        lines.push(format!("    (your package manager) install {}", names(&packaged)));
    }
    if !bpf.is_empty() {
        lines.push("    rustup toolchain install nightly --component rust-src".to_owned());
    }
    if linker {
        lines.push(format!("    {}", linker::command_line()?));
    }
    if !components.is_empty() {
        lines.push(format!("    {}", components::command_line(components)));
    }
    Ok(lines.join("\n"))
}

fn names(tools: &[&Tool]) -> String {
    let names: Vec<&str> = tools.iter().map(|tool| tool.name).collect();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_distributions_get_commands() {
        let tool = |name| tools::ALL.iter().find(|tool| tool.name == name).unwrap();
        let missing = [tool("ip"), tool("a Rust compiler with a core library for BPF")];
        let fedora = Distribution {
            id: "fedora".into(),
            ..Distribution::default()
        };
        let text = by_hand(&fedora, &missing, false, &["clippy"]).unwrap();
        let commands: Vec<&str> = text.lines().skip(1).map(str::trim).collect();
        let expected = [
            "sudo dnf install iproute",
            "rustup toolchain install nightly --component rust-src",
            "rustup component add clippy",
        ];
        assert_eq!(commands, expected);
    }
}
