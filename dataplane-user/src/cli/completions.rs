//! `adit completions`: shell completions of the command line.

use clap::{Args, CommandFactory, ValueEnum};
use clap_complete::Shell as Generator;

use super::exit::Failure;
use super::{Cli, output};

/// Print completions for a shell
///
/// Write the output to a file that the shell loads at its start.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  adit completions bash > /etc/bash_completion.d/adit\n  adit completions zsh > ~/.zfunc/_adit\n  adit completions fish > ~/.config/fish/completions/adit.fish"
)]
pub(super) struct Arguments {
    /// Shell to print completions for
    #[arg(value_enum)]
    shell: Shell,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    output::show(&generate(arguments.shell))
}

fn generate(shell: Shell) -> String {
    let generator = match shell {
        Shell::Bash => Generator::Bash,
        Shell::Zsh => Generator::Zsh,
        Shell::Fish => Generator::Fish,
    };
    let mut script = Vec::new();
    clap_complete::generate(generator, &mut Cli::command(), "adit", &mut script);
    String::from_utf8(script).expect("commands and their help texts are UTF-8")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_shell_learns_the_commands() {
        for shell in Shell::value_variants() {
            let script = generate(*shell);
            for word in ["uninstall", "status", "resync"] {
                assert!(script.contains(word), "{shell:?} lacks {word}");
            }
        }
    }
}
