//! `cargo xtask chaos`: the chaos test for as long as one likes, on a kernel in a guest.
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::setup::{self, Need};
use crate::vm::{Choice, KernelName, Output, VmRequest, With, boot_and_run};
use crate::workspace::Profile;
use crate::{progress, workspace};

/// What the test program's line of counts begins with.
const COUNTS: &str = "chaos: ";
/// What starting, and the last repairs, may take beside the minutes asked for.
const REST: Duration = Duration::from_secs(15 * 60);

/// Let a seeded hand meddle with an agent's objects while traffic flows, and kill the agent now and then.
///
/// Ends with one line of counts; exits with 1 on any difference from what was planned, was there before, or had to be
/// repaired.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  cargo xtask chaos\n  cargo xtask chaos --minutes 30 --seed 7 --kernel 6.1"
)]
pub struct Args {
    /// How long.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=1440))]
    minutes: u64,
    /// The same seed gives the same course.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The kernel.
    #[arg(long, value_enum, default_value_t)]
    kernel: KernelName,
    /// What runs it; without it, the fastest that works here.
    #[arg(long, value_enum, env = "ADIT_VM_WITH")]
    with: Option<With>,
}

/// Builds the agent and the test program, and runs it in a guest.
pub fn run(args: &Args) -> Result<ExitCode> {
    setup::ensure(&[Need::Build, Need::Test])?;
    progress::say("building the test and the agent…");
    let built = workspace::build(&["test", "--no-run", "--package", "adit-tests", "--test", "chaos"])?;
    let test = built.into_iter().find(|program| program.name == "chaos");
    let test = test.context("cargo built no `chaos`")?.path;
    let adit = workspace::adit(Profile::Quick)?;
    let set = |name: &str, value: String| (name.into(), value.into());
    let request = VmRequest {
        environment: vec![
            set("ADIT_BIN", adit.display().to_string()),
            set("ADIT_CHAOS_MINUTES", args.minutes.to_string()),
            set("ADIT_CHAOS_SEED", args.seed.to_string()),
        ],
        timeout: Some(Duration::from_secs(60 * args.minutes) + REST),
        output: Output::StreamAndCapture,
        choice: Choice::of(args.with),
        ..VmRequest::new(
            args.kernel,
            vec![test.into(), "--nocapture".into(), "--test-threads=1".into()],
        )
    };
    let outcome = boot_and_run(&request)?;
    let printed = String::from_utf8_lossy(&outcome.stdout);
    // Libtest may have put its own words before it.
    let counts = printed
        .lines()
        .rev()
        .find_map(|line| Some(&line[line.find(COUNTS)?..]));
    match (outcome.code, counts) {
        (0, Some(counts)) => {
            println!("{counts}");
            Ok(ExitCode::SUCCESS)
        }
        (code, _) => {
            println!(
                "{COUNTS}seed {} on Linux {}: it ended with {code}, see above",
                args.seed,
                args.kernel.name()
            );
            Ok(ExitCode::FAILURE)
        }
    }
}
