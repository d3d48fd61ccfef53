//! Dispatches `cargo xtask COMMAND` to one module a command.
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Lists the commands, one line each: its name, and the module that has its `Args` and its `run`.
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

/// Adit's build, test and demonstration commands.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

fn main() -> anyhow::Result<ExitCode> {
    Cli::parse().command.run()
}
