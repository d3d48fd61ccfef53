//! Runs test programs in guests: each in its own guest, started there by this same program, several in parallel.
use std::env;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::libtest::Tally;
use super::runner::{Binary, Plan};
use super::summary::{File, Row};
use super::text;
use crate::vm::{self, Choice, KernelName, Output, VmRequest, With};
use crate::{progress, workers};

const PLAN: &str = "plan.json";
const TALLY: &str = "tally.json";
/// The memory of a guest for one test program, in MiB.
const MEMORY_MIB: u32 = 1024;

/// A test program to run on a kernel.
#[derive(Debug, Clone)]
pub(super) struct Job {
    pub(super) kernel: KernelName,
    /// How the kernel may be run.
    pub(super) choice: Choice,
    pub(super) binary: Binary,
}

impl Job {
    fn place(&self, with: With) -> String {
        format!("Linux {} ({})", self.kernel.name(), with.describe())
    }
}

/// The kernels that the jobs need, each with how it runs here. Preparing takes minutes if a kernel has to be built.
#[derive(Debug, Default)]
pub(super) struct Kernels(Vec<(KernelName, Choice, Result<With>)>);

impl Kernels {
    pub(super) fn prepare(wanted: impl IntoIterator<Item = (KernelName, Choice)>) -> Self {
        let mut kernels = Self::default();
        kernels.add(wanted);
        kernels
    }

    /// Prepares the kernels that are not prepared yet.
    pub(super) fn add(&mut self, wanted: impl IntoIterator<Item = (KernelName, Choice)>) {
        for (kernel, choice) in wanted {
            if !self
                .0
                .iter()
                .any(|(known, by, _)| (*known, *by) == (kernel, choice))
            {
                self.0.push((kernel, choice, vm::prepare(kernel, choice)));
            }
        }
    }

    /// How the kernel of a job runs; the error says why it does not run.
    pub(super) fn with(&self, job: &Job) -> Result<With, String> {
        let found = self
            .0
            .iter()
            .find(|(kernel, choice, _)| (*kernel, *choice) == (job.kernel, job.choice));
        match found {
            Some((_, _, Ok(with))) => Ok(*with),
            Some((_, _, Err(error))) => Err(format!("{error:#}")),
            None => Err("the kernel was not prepared".to_owned()),
        }
    }
}

/// Runs the jobs in their order, and `beside` in parallel to those that leave CPU time. Each job gives a row of the
/// summary. A job that cannot run counts as a skipped test, with `CI=true` as a failed one.
pub(super) fn run<T: Send>(
    jobs: Vec<Job>,
    kernels: &Kernels,
    plan: &Plan,
    this: &Path,
    beside: impl FnOnce() -> Result<T> + Send,
) -> Result<(Vec<(Row, File)>, T)> {
    let all = jobs.len();
    let done = Mutex::new(Vec::new());
    let run_one = |index: usize, job: &Job| {
        let ran = run_job(job, kernels, plan, this)?;
        let place = ran.place.clone();
        let file = File {
            order: index + 1,
            name: job.binary.name.clone(),
            place: ran.place,
            took: ran.took,
            failed: ran.tally.failed,
        };
        // Written at once, so that the output of guests does not mix.
        let mut out = io::stdout().lock();
        writeln!(out, "\n{} on {place}", job.binary.name)?;
        out.write_all(&ran.printed)?;
        out.flush()?;
        let mut done = done.lock().unwrap_or_else(PoisonError::into_inner);
        progress::say(format_args!(
            "{} of {all}: {} on {place}, {:.1} s, {} passed, {} failed",
            done.len() + 1,
            job.binary.name,
            ran.took.as_secs_f64(),
            ran.tally.passed,
            ran.tally.failed
        ));
        let mut tally = Tally::default();
        tally.add(ran.tally, &job.binary.name);
        done.push((Row::new(&place, ran.took, tally), file));
        Ok(())
    };
    // User-mode Linux uses no CPU while its tests wait; emulated machines use all CPUs.
    let waits = |job: &Job| kernels.with(job) == Ok(With::Uml);
    let (waiting, computing): (Vec<_>, Vec<_>) = jobs.into_iter().partition(waits);
    let first = computing.len();
    workers::each(workers::count(), &computing, run_one)?;
    let beside = thread::scope(|scope| {
        let beside = scope.spawn(beside);
        workers::each(workers::more_than_cpus(), &waiting, |index, job| {
            run_one(first + index, job)
        })?;
        beside.join().expect("what runs beside does not panic")
    })?;
    let done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok((done, beside))
}

/// The result of a job.
struct Ran {
    place: String,
    printed: Vec<u8>,
    took: Duration,
    tally: Tally,
}

fn run_job(job: &Job, kernels: &Kernels, plan: &Plan, this: &Path) -> Result<Ran> {
    let started = Instant::now();
    let with = match kernels.with(job) {
        Ok(with) => with,
        Err(why) => {
            let place = format!("Linux {}", job.kernel.name());
            let (message, tally) = without_guest(&place, &why, must_run(env::var("CI").ok().as_deref()));
            return Ok(Ran {
                place,
                printed: format!("{message}\n").into_bytes(),
                took: started.elapsed(),
                tally,
            });
        }
    };
    let shared = tempfile::tempdir().context("creating a directory to share with the guest")?;
    let plan = Plan {
        binaries: vec![job.binary.clone()],
        ..plan.clone()
    };
    fs::write(shared.path().join(PLAN), serde_json::to_vec(&plan)?).context("writing the plan")?;
    let command = [text(this)?, "test".to_owned(), "--in-guest".to_owned()];
    let run = || {
        vm::boot_and_run(&VmRequest {
            choice: Choice::Only(with),
            arguments: job.binary.arguments.clone(),
            artifacts: Some(shared.path().to_owned()),
            timeout: Some(limit(with)),
            output: Output::Capture,
            memory_mib: memory(with),
            quiet: true,
            ..VmRequest::new(job.kernel, command.clone().map(Into::into).to_vec())
        })
    };
    let mut printed = Vec::new();
    let mut outcome = run();
    if let Err(error) = &outcome
        && with == With::Uml
        && started.elapsed() >= limit(with)
    {
        // On a loaded machine, a process that exits in user-mode Linux can walk the dentries of /proc forever
        // (shrink_dcache_parent, called by release_task; seen with Linux 6.12.117). A test that hangs does so twice.
        writeln!(printed, "{error:#}\nthe guest hung; it runs once more")?;
        outcome = run();
    }

    let mut tally: Tally = match fs::read(shared.path().join(TALLY)) {
        Ok(json) => serde_json::from_slice(&json).context("reading the counts of the guest")?,
        Err(_) => Tally::default(),
    };
    match outcome {
        Ok(outcome) => {
            printed.extend(outcome.stdout);
            printed.extend(outcome.stderr);
            if outcome.code != 0 {
                tally.fail(format!("the command in the guest exited with {}", outcome.code));
            }
        }
        Err(error) => {
            let text = format!("{error:#}");
            tally.fail(text.lines().next().unwrap_or_default().to_owned());
            writeln!(printed, "{text}")?;
        }
    }
    Ok(Ran {
        place: job.place(with),
        printed,
        took: started.elapsed(),
        tally,
    })
}

/// The time limit of a guest: one that takes longer hangs.
fn limit(with: With) -> Duration {
    match with {
        With::Uml | With::Kvm => Duration::from_secs(10 * 60),
        With::Qemu => Duration::from_secs(45 * 60),
    }
}

/// The memory of a guest in MiB: with QEMU it unpacks modules and has two CPUs.
fn memory(with: With) -> u32 {
    match with {
        With::Uml => MEMORY_MIB,
        With::Qemu | With::Kvm => 2 * MEMORY_MIB,
    }
}

/// Runs inside of the guest. Failed tests are counted; they do not make this command fail.
pub(super) fn run_inside() -> Result<ExitCode> {
    let shared = env::var_os("ADIT_ARTIFACTS")
        .context("ADIT_ARTIFACTS is not set: --in-guest works only inside of a guest")?;
    let shared = PathBuf::from(shared);
    let plan: Plan = serde_json::from_slice(&fs::read(shared.join(PLAN)).context("reading the plan")?)?;
    let mut total = Tally::default();
    for binary in &plan.binaries {
        total.add(plan.run_one(binary, &mut io::stdout())?, "");
    }
    fs::write(shared.join(TALLY), serde_json::to_vec(&total)?).context("writing the counts")?;
    Ok(ExitCode::SUCCESS)
}

fn must_run(ci: Option<&str>) -> bool {
    !matches!(ci, None | Some("" | "0" | "false"))
}

/// The message about a kernel that does not boot, and how it counts.
fn without_guest(place: &str, why: &str, must_run: bool) -> (String, Tally) {
    let message = format!("{place} cannot be booted: {why}");
    let mut tally = Tally::default();
    if must_run {
        tally.fail(format!("cannot be booted: {why}"));
        return (message, tally);
    }
    tally.skipped += 1;
    (format!("skipped: {message}"), tally)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_kernel_fails_in_ci_and_only_there() {
        assert!(must_run(Some("true")) && must_run(Some("1")));
        assert!(!must_run(None) && !must_run(Some("")) && !must_run(Some("false")));
        let (_, tally) = without_guest("Linux 6.1", "no QEMU", true);
        assert_eq!((tally.failed, tally.skipped), (1, 0));
        let (message, tally) = without_guest("Linux 6.1", "no QEMU", false);
        assert_eq!((tally.failed, tally.skipped), (0, 1));
        assert_eq!(message, "skipped: Linux 6.1 cannot be booted: no QEMU");
    }
}
