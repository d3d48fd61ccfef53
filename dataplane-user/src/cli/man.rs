//! `adit man`: the manual pages, for packages of Adit.

use std::fs;
use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, CommandFactory, ValueHint};

use super::Cli;
use super::exit::Failure;

/// Write the manual pages into a directory
///
/// Each command has its own page: adit.1, adit-run.1 and so on.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  adit man /usr/local/share/man/man1")]
pub(super) struct Arguments {
    /// Directory to write to; created if it does not exist
    #[arg(value_name = "DIR", value_hint = ValueHint::DirPath)]
    directory: PathBuf,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let directory = &arguments.directory;
    fs::create_dir_all(directory)
        .and_then(|()| clap_mangen::generate_to(Cli::command(), directory))
        .with_context(|| format!("writing manual pages to {}", directory.display()))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_command_has_a_page() {
        let directory = tempfile::tempdir().unwrap();
        let arguments = Arguments {
            directory: directory.path().join("man1"),
        };
        run(&arguments).map_err(|failure| failure.to_string()).unwrap();
        for page in ["adit.1", "adit-run.1", "adit-status.1", "adit-map-lookup.1"] {
            let text = fs::read_to_string(arguments.directory.join(page)).unwrap();
            assert!(text.contains(".SH SYNOPSIS"), "{page}:\n{text}");
        }
    }
}
