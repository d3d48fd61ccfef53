//! `cargo xtask setup` installs missing tools; `ensure` does so for the other commands.
mod apt;
mod components;
mod linker;
mod tools;

use std::process::ExitCode;

use anyhow::{Result, bail};

use self::tools::Tool;
use crate::host::Distribution;
use crate::progress;

/// What a command needs on this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Need {
    /// Build the BPF programs: a compiler with a core library for BPF, LLVM, and bpf-linker
    Build,
    /// Boot kernels in guests: QEMU, busybox, depmod, decompressors, and a C compiler for user-mode Linux
    Vm,
    /// Run the lab: ip, ping, nft, bpftool, and tcpdump
    Lab,
    /// Run the tests: the tools that they call, such as wg, strace, and podman
    Test,
    /// Check the code: rustfmt and clippy
    Lint,
}

const ALL: [Need; 5] = [Need::Build, Need::Vm, Need::Lab, Need::Test, Need::Lint];

/// Install the tools that building, testing and trying Adit needs.
///
/// Installs only what is missing: packages by apt-get on Debian and Ubuntu, as root; bpf-linker in the cache
/// directory; rustfmt and clippy by rustup. Elsewhere it prints the commands to run.
#[derive(clap::Args)]
pub struct Args {
    /// Install the tools for these purposes only [default: all]
    #[arg(value_enum)]
    needs: Vec<Need>,
}

/// Installs missing tools, and says so if none is missing.
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

/// Installs the missing tools for these needs. Takes milliseconds when nothing is missing.
///
/// # Errors
/// On other distributions than Debian and Ubuntu, or without root, the error lists the commands to run by hand.
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
        bail!(
            "still missing after the installation: {}; install them by hand",
            names(&still)
        );
    }
    Ok(true)
}

/// The commands to run by hand on a distribution other than Debian and Ubuntu.
fn by_hand(host: &Distribution, missing: &[&Tool], linker: bool, components: &[&str]) -> Result<String> {
    let mut lines = vec![format!("missing: {}; run:", names(missing))];
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
        lines.push(format!(
            "    rustup toolchain install {} --component rust-src",
            tools::nightly()
        ));
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
        let toolchain = format!(
            "rustup toolchain install {} --component rust-src",
            tools::nightly()
        );
        let expected = [
            "sudo dnf install iproute",
            toolchain.as_str(),
            "rustup component add clippy",
        ];
        assert_eq!(commands, expected);
    }
}
