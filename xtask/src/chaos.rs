//! `cargo xtask chaos`: runs the chaos test for a chosen time, on a kernel in a guest.
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::setup::{self, Need};
use crate::vm::{Choice, KernelName, Output, VmRequest, With, boot_and_run};
use crate::workspace::Profile;
use crate::{progress, workspace};

/// How the line of counts of the test program begins.
const COUNTS: &str = "chaos: ";
/// Time for the start and the last repairs, in addition to the minutes that were asked for.
const REST: Duration = Duration::from_secs(15 * 60);

/// Damage the objects of an agent at random while traffic flows, and kill the agent now and then.
///
/// Prints one line of counts at the end. Exits with 1 if a repair is missing or superfluous, if the desired state is not
/// reached, or if an object changed that Adit does not manage.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  cargo xtask chaos\n  cargo xtask chaos --minutes 30 --seed 7 --kernel 6.1"
)]
pub struct Args {
    /// Time, in minutes
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=1440))]
    minutes: u64,
    /// Seed of the random numbers: the same seed gives the same steps
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Kernel to run on
    #[arg(long, value_enum, default_value_t)]
    kernel: KernelName,
    /// How to run the kernel [default: the fastest that works here]
    #[arg(long, value_enum, env = "ADIT_VM_WITH")]
    with: Option<With>,
}

/// Builds the agent and the test program, and runs the test program in a guest.
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
    // Libtest may have printed its own text before it on the same line.
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
                "{COUNTS}seed {} on Linux {}: the test exited with {code}; see its output above",
                args.seed,
                args.kernel.name()
            );
            Ok(ExitCode::FAILURE)
        }
    }
}
