//! Dispatches `cargo xtask COMMAND` to the module of the command.
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Declares the commands, one a line: the name, and the module with its `Args` and its `run`.
macro_rules! commands {
    ($($name:ident => $module:ident),* $(,)?) => {
        #[derive(Subcommand)]
        enum Command {
            $($name(xtask::$module::Args)),*
        }

        impl Command {
            fn run(&self) -> anyhow::Result<ExitCode> {
                match self {
                    $(Self::$name(args) => xtask::$module::run(args)),*
                }
            }
        }
    };
}

commands! {
    Chaos => chaos,
    Ci => ci,
    Codegen => codegen,
    Fuzz => fuzz,
    Lab => lab,
    Run => run,
    Setup => setup,
    Test => test,
    Tidy => tidy,
    Vm => vm,
}

/// Build, test and try Adit.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

fn main() -> anyhow::Result<ExitCode> {
    Cli::parse().command.run()
}
