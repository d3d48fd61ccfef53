//! `cargo xtask test`: checks the code, then runs every test, on this machine and in guests with other kernels.
mod guest;
mod libtest;
mod placement;
mod runner;
mod summary;

use std::collections::BTreeSet;
use std::env;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::thread;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};

use self::guest::Kernels;
use self::libtest::Tally;
use self::placement::Placement;
use self::runner::{Binary, Plan};
pub(crate) use self::summary::{Row, Summary};
use crate::setup::{self, Need};
use crate::vm::{Choice, KernelName, With};
use crate::workspace::Profile;
use crate::{progress, tidy, workspace};

/// The default kernels: the oldest supported one and the usual one.
const KERNELS: [KernelName; 2] = [KernelName::V6_1, KernelName::V6_12];

/// The name of this machine in the summary.
const HERE: &str = "this machine";

/// Check the code, then run all tests, on this machine and in guests with other kernels.
///
/// Prints each failure, the time of each test program and the totals at the end. Exits with 1 if anything failed.
#[derive(clap::Args, Default)]
pub struct Args {
    /// Kernel to test on; may be given several times [default: 6.1 and 6.12]
    #[arg(long, value_enum)]
    kernel: Vec<KernelName>,
    /// How to run the kernels [default: the fastest that works here]
    #[arg(long, value_enum, env = "ADIT_VM_WITH")]
    with: Option<With>,
    /// Run only on this machine, without guests
    #[arg(long)]
    host_only: bool,
    /// Run only tests whose names contain this, and no checks; any argument of libtest works
    #[arg(last = true, value_name = "FILTER")]
    filter: Vec<String>,
    /// Run the tests of one plan inside of a guest
    #[arg(long, hide = true)]
    in_guest: bool,
}

impl Args {
    /// The kernels to test on, each once; none with `--host-only`.
    fn kernels(&self) -> Vec<KernelName> {
        match (self.host_only, self.kernel.is_empty()) {
            (true, _) => Vec::new(),
            (false, true) => KERNELS.to_vec(),
            (false, false) => {
                let asked: BTreeSet<_> = self.kernel.iter().copied().collect();
                asked.into_iter().collect()
            }
        }
    }
}

/// Exits with 1 if anything failed.
pub fn run(args: &Args) -> Result<ExitCode> {
    if args.in_guest {
        return guest::run_inside();
    }
    let mut summary = Summary::default();
    test(args, &mut summary)?;
    if summary.is_empty() {
        bail!("no test matches `{}`", args.filter.join(" "));
    }
    Ok(summary.print())
}

/// Runs all steps. If a step fails, the others run nevertheless, unless the build failed.
pub(crate) fn test(args: &Args, summary: &mut Summary) -> Result<()> {
    // A build may replace the file of this program, but then with one of the same sources.
    let this = env::current_exe().context("finding the file of this program")?;
    setup::ensure(&[Need::Build, Need::Test, Need::Lint])?;

    if args.filter.is_empty() {
        let mut format = workspace::cargo();
        format.args(["fmt", "--all", "--check"]);
        summary.add(check("format", &mut format)?);
        let mut clippy = workspace::cargo();
        clippy.args(["clippy", "--workspace", "--all-targets"]);
        clippy.args(["--", "--deny", "warnings"]);
        summary.add(check("clippy", &mut clippy)?);
        summary.add(check_tidy()?);
    }

    let choice = Choice::of(args.with);
    let kernels = args.kernels();
    // Building a kernel takes minutes on a new machine, so it runs in parallel to the builds of cargo.
    let preparing = {
        let wanted: Vec<_> = kernels.iter().map(|kernel| (*kernel, choice)).collect();
        thread::spawn(move || Kernels::prepare(wanted))
    };

    let started = Instant::now();
    let Some((placement, adit)) = build(summary)? else {
        return Ok(());
    };
    progress::say(format_args!(
        "built the tests in {:.0} s",
        started.elapsed().as_secs_f64()
    ));
    let mut plan = Plan {
        binaries: placement.on_host(),
        filter: args.filter.clone(),
        adit,
    };
    let mut jobs = placement.jobs(&kernels, choice);
    if !args.filter.is_empty() {
        plan.binaries = having_tests(&plan, plan.binaries.iter())?;
        let having = having_tests(&plan, jobs.iter().map(|job| &job.binary))?;
        jobs.retain(|job| having.contains(&job.binary));
        // Tests that need a machine repeat tests of other files, which are faster.
        if jobs.iter().any(|job| job.choice == choice) {
            jobs.retain(|job| job.choice == choice);
        }
    }
    // Tests that need no kernel run while guests wait.
    let mut beside = Plan {
        binaries: Vec::new(),
        ..plan.clone()
    };
    if !jobs.is_empty() {
        (beside.binaries, plan.binaries) = plan
            .binaries
            .into_iter()
            .partition(|binary| placement.asks_no_kernel(binary));
    }
    on_host(&plan, summary)?;
    if args.filter.is_empty() {
        summary.add(doc_tests()?);
    }
    let mut kernels = preparing.join().expect("preparing kernels does not panic");
    kernels.add(jobs.iter().map(|job| (job.kernel, job.choice)));
    let run_beside = || {
        let mut printed = Vec::new();
        let (tally, files) = beside.run(HERE, &mut printed)?;
        io::stdout().lock().write_all(&printed)?;
        Ok((tally, files))
    };
    let (ran, (tally, files)) = guest::run(jobs, &kernels, &plan, &this, run_beside)?;
    for (row, file) in ran {
        summary.add_file(row, file);
    }
    for file in files {
        summary.add_file(Row::new(HERE, file.took, Tally::default()), file);
    }
    summary.add_tally(HERE, tally);
    Ok(())
}

/// Builds the tests and the agent. Returns `None` if that failed, and adds the failure to the summary.
fn build(summary: &mut Summary) -> Result<Option<(Placement, PathBuf)>> {
    progress::say("building the tests and the agent…");
    let started = Instant::now();
    let built = workspace::build(&["test", "--workspace", "--no-run"])
        .and_then(|tests| Ok((tests, workspace::adit(Profile::Quick)?)));
    match built {
        Ok((tests, adit)) => Ok(Some((Placement::read(tests)?, adit))),
        Err(error) => {
            eprintln!("{error:#}");
            summary.add(Row::failed("build", started.elapsed(), format!("{error:#}")));
            Ok(None)
        }
    }
}

/// The programs that have a test which matches the filter, each once.
fn having_tests<'a>(plan: &Plan, binaries: impl Iterator<Item = &'a Binary>) -> Result<Vec<Binary>> {
    let mut having: Vec<Binary> = Vec::new();
    for binary in binaries {
        if !having.contains(binary) && plan.has_tests(binary)? {
            having.push(binary.clone());
        }
    }
    Ok(having)
}

/// Runs a command that succeeds or fails as a check.
pub(crate) fn check(name: &str, command: &mut Command) -> Result<Row> {
    progress::say(format_args!("{name}…"));
    let started = Instant::now();
    let status = command.status().with_context(|| format!("starting {name}"))?;
    let took = started.elapsed();
    Ok(if status.success() {
        Row::passed(name, took)
    } else {
        Row::failed(name, took, format!("{status}"))
    })
}

fn check_tidy() -> Result<Row> {
    progress::say("tidy…");
    let started = Instant::now();
    let findings = tidy::check(workspace::root())?;
    let errors = tidy::show(&findings);
    Ok(match errors {
        0 => Row::passed("tidy", started.elapsed()),
        count => Row::failed("tidy", started.elapsed(), format!("{count} findings")),
    })
}

fn on_host(plan: &Plan, summary: &mut Summary) -> Result<()> {
    if plan.binaries.is_empty() {
        return Ok(());
    }
    progress::say("running the tests on this machine…");
    let started = Instant::now();
    let (tally, files) = plan.run(HERE, &mut io::stdout())?;
    summary.add(Row::new(HERE, started.elapsed(), tally));
    summary.add_files(files);
    Ok(())
}

fn doc_tests() -> Result<Row> {
    progress::say("running the examples of the documentation…");
    let started = Instant::now();
    let mut command = workspace::cargo();
    command.args(["test", "--workspace", "--doc", "--quiet", "--", "--show-output"]);
    let mut child = command.stdout(Stdio::piped()).spawn().context("starting cargo")?;
    let output = child.stdout.take().expect("it is piped");
    let mut tally = libtest::follow(output, &mut io::stdout())?;
    let status = child.wait().context("waiting for cargo")?;
    if !status.success() && tally.failed == 0 {
        tally.fail(format!("cargo test --doc: {status}"));
    }
    Ok(Row::new("doc tests", started.elapsed(), tally))
}

/// A path as text, as messages and plans need it. A workspace in a directory that is not UTF-8 cannot be tested.
fn text(path: &Path) -> Result<String> {
    let text = path.to_str().map(str::to_owned);
    text.with_context(|| format!("the path {} is not UTF-8: move the workspace", path.display()))
}
