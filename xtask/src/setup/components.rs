//! rustfmt and clippy: components of the toolchain that a minimal installation lacks.
use std::env;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::{child, host, progress};

/// Each component with the program that cargo starts for it.
const COMPONENTS: [(&str, &str); 2] = [("rustfmt", "cargo-fmt"), ("clippy", "cargo-clippy")];

/// The components that the toolchain of the running cargo lacks.
pub(super) fn missing() -> Vec<&'static str> {
    // The proxies of rustup are on the PATH even if the component is missing, so look next to the real cargo, if known.
    let cargo = env::var_os("CARGO");
    let beside = cargo.as_ref().and_then(|cargo| Path::new(cargo).parent());
    let proxies = beside.is_some() && host::find_program("rustup").is_some();
    let present = |program: &str| {
        beside.is_some_and(|dir| host::is_executable(&dir.join(program)))
            || !proxies && host::find_program(program).is_some()
    };
    COMPONENTS
        .iter()
        .filter(|(_, program)| !present(program))
        .map(|(component, _)| *component)
        .collect()
}

/// Installs components by rustup; without rustup, the error says what to do.
pub(super) fn install(components: &[&str]) -> Result<()> {
    let Some(rustup) = host::find_program("rustup") else {
        bail!(
            "missing: {}; install them as you installed the toolchain (with rustup: `{}`)",
            components.join(", "),
            command_line(components)
        );
    };
    progress::say(format_args!("installing {}…", components.join(", ")));
    let mut command = Command::new(rustup);
    command.args(["component", "add"]).args(components);
    child::run(&mut command).with_context(|| format!("`{}`", command_line(components)))?;
    Ok(())
}

/// The command that installs them, for a shell.
pub(super) fn command_line(components: &[&str]) -> String {
    format!("rustup component add {}", components.join(" "))
}
