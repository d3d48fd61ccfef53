//! `cargo xtask fuzz`: feeds random input to every reader of input, for a chosen time.
use std::process::{Command, ExitCode, Stdio};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context as _, Result, bail};

use crate::setup::{self, Need};
use crate::{child, progress, workers, workspace};

/// The names of the tests that feed random input contain this.
const MARK: &str = "fuzz";
/// The module with the generator, whose own tests feed nothing.
const FEEDER: &str = "fuzz::";

/// Feed random input to the readers of manifests, wg0.conf, netlink, nft JSON and WireGuard messages.
///
/// Each reader gets an equal share of the time. A reader must neither panic nor hang, its memory is limited, and formats
/// that Adit also writes must survive a round trip. If a reader fails, the command shows the smallest input that makes
/// it fail and exits with 1. The same seed gives the same input.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  cargo xtask fuzz\n  cargo xtask fuzz --minutes 60 --seed 7\n  cargo xtask fuzz wg_quick"
)]
pub struct Args {
    /// Total time, in minutes
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=10_080))]
    minutes: u64,
    /// Seed of the random numbers
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Run only readers whose names contain one of these words
    names: Vec<String>,
}

/// Builds the tests and runs those that feed random input: each in its own process, as many in parallel as there are
/// CPUs.
pub fn run(args: &Args) -> Result<ExitCode> {
    setup::ensure(&[Need::Build])?;
    let built = workspace::build(&["test", "--no-run", "--package", "dataplane-user", "--lib"])?;
    let program = built.into_iter().find(|program| program.harness);
    let program = program.context("cargo built no tests of dataplane-user")?.path;
    let listed = child::run(Command::new(&program).args([MARK, "--list", "--format", "terse"]))?;
    let listed = String::from_utf8(listed.stdout).context("the names of tests")?;
    let wanted =
        |name: &&str| args.names.is_empty() || args.names.iter().any(|word| name.contains(word.as_str()));
    let readers: Vec<&str> = listed
        .lines()
        .filter_map(|line| line.strip_suffix(": test"))
        .filter(|name| !name.starts_with(FEEDER))
        .filter(wanted)
        .collect();
    if readers.is_empty() {
        bail!(
            "no reader has {} in its name; without names, all readers run",
            args.names.join(" or ")
        );
    }
    let side_by_side = workers::count().min(readers.len());
    let rounds = u64::try_from(readers.len().div_ceil(side_by_side))?;
    let seconds = (args.minutes * 60 / rounds).max(1);
    progress::say(format_args!(
        "{} readers, {seconds} s each, {side_by_side} in parallel…",
        readers.len()
    ));

    let all = readers.len();
    let outcomes = Mutex::new(Vec::new());
    workers::each(side_by_side, readers, |_, reader| {
        let output = Command::new(&program)
            .args(["--exact", reader, "--show-output"])
            .env("ADIT_FUZZ_SECONDS", seconds.to_string())
            .env("ADIT_FUZZ_SEED", args.seed.to_string())
            .stdin(Stdio::null())
            .output()
            .with_context(|| format!("starting {}", program.display()))?;
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        let passed = output.status.success();
        let counts = printed.lines().rfind(|line| line.ends_with(" refused"));
        let mut outcomes = outcomes.lock().unwrap_or_else(PoisonError::into_inner);
        outcomes.push(passed);
        let said = if passed {
            counts.unwrap_or("passed")
        } else {
            "FAILED"
        };
        progress::say(format_args!("{} of {all}: {reader}: {said}", outcomes.len()));
        if !passed {
            // A hang is reported on standard error, because the process ends then.
            println!("{printed}\n{}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(())
    })?;
    let outcomes = outcomes.into_inner().unwrap_or_else(PoisonError::into_inner);
    let failed = outcomes.iter().filter(|passed| !**passed).count();
    println!(
        "{} readers passed, {failed} failed, seed {}",
        all - failed,
        args.seed
    );
    Ok(if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
