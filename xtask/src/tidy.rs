//! `cargo xtask tidy`: the rules of the project that neither rustfmt nor clippy checks.
mod code;
mod examples;
mod files;
mod imports;
mod shown;
mod text;

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;

use crate::{codegen, workspace};

/// Check the rules of the project: layers, file headers, forbidden text, named tests, and generated documents.
#[derive(clap::Args)]
pub struct Args {
    /// Generate docs/MAP-ABI.md first
    #[arg(long)]
    fix: bool,
}

/// Exits with 1 if a rule is broken.
pub fn run(args: &Args) -> Result<ExitCode> {
    if args.fix {
        codegen::write(workspace::root())?;
    }
    let findings = check(workspace::root())?;
    Ok(ExitCode::from(u8::from(show(&findings) > 0)))
}

/// A line that breaks a rule.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Finding {
    /// The path relative to the workspace.
    file: PathBuf,
    /// The line number, counted from 1.
    line: usize,
    /// What is wrong and what to do about it.
    message: String,
    /// Whether this is only a warning.
    warning: bool,
}

impl Finding {
    fn new(file: &Path, line: usize, message: impl Into<String>) -> Finding {
        Finding {
            file: file.to_owned(),
            line,
            message: message.into(),
            warning: false,
        }
    }

    fn warning(self) -> Finding {
        Finding {
            warning: true,
            ..self
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.warning { "warning: " } else { "" };
        write!(f, "{}:{}: {kind}{}", self.file.display(), self.line, self.message)
    }
}

/// All findings, by file and line.
pub(crate) fn check(root: &Path) -> Result<Vec<Finding>> {
    let crates = workspace::package("dataplane-user")?.crates();
    let files = files::tracked(root)?;
    let mut findings = Vec::new();
    for (file, text) in &files {
        findings.extend(text::check(file, text));
        findings.extend(imports::check(file, text, &crates));
    }
    findings.extend(examples::check(&files));
    findings.extend(shown::check(&files));
    if let Some(line) = codegen::first_stale_line(root)? {
        findings.push(Finding::new(
            Path::new(codegen::DOCUMENT),
            line,
            "not up to date: run `cargo xtask codegen`",
        ));
    }
    findings.sort();
    Ok(findings)
}

/// Prints the findings and returns how many of them are errors.
pub(crate) fn show(findings: &[Finding]) -> usize {
    for finding in findings {
        println!("{finding}");
    }
    findings.iter().filter(|finding| !finding.warning).count()
}
