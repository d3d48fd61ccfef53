//! The tests on one kernel: a single boot runs all of them, by this very program within the guest.
use std::env;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::libtest::Tally;
use super::runner::Plan;
use super::summary::Row;
use super::text;
use crate::progress;
use crate::vm::{self, KernelName, VmRequest};

/// Emulation is slow, but a guest that takes longer hangs.
const LIMIT: Duration = Duration::from_secs(45 * 60);
const PLAN: &str = "plan.json";
const TALLY: &str = "tally.json";

/// Runs the plan on a kernel. Where there can be no guest, all of it counts as one skipped test; with `CI=true`, as a
/// failed one.
pub(super) fn run(kernel: KernelName, plan: &Plan, this: &Path) -> Result<Row> {
    let place = format!("Linux {}", kernel.name());
    progress::say(format_args!("the tests on {place}…"));
    let started = Instant::now();
    if let Err(error) = vm::prepare(kernel) {
        let must = must_run(env::var("CI").ok().as_deref());
        let (message, tally) = without_guest(&place, &format!("{error:#}"), must);
        println!("{message}");
        return Ok(Row::new(&place, started.elapsed(), tally));
    }

    let shared = tempfile::tempdir().context("a folder to share with the guest")?;
    fs::write(shared.path().join(PLAN), serde_json::to_vec(plan)?).context("writing the plan")?;
    let command = [text(this)?, "test".to_owned(), "--in-guest".to_owned()];
    let outcome = vm::boot_and_run(&VmRequest {
        artifacts: Some(shared.path().to_owned()),
        timeout: Some(LIMIT),
        ..VmRequest::new(kernel, command.map(Into::into).to_vec())
    });

    // Written after each program, so that a guest which dies loses one of them.
    let mut tally: Tally = match fs::read(shared.path().join(TALLY)) {
        Ok(json) => serde_json::from_slice(&json).context("the guest's counts")?,
        Err(_) => Tally::default(),
    };
    match outcome {
        Ok(outcome) if outcome.code == 0 => {}
        Ok(outcome) => tally.fail(format!("the guest's command ended with {}", outcome.code)),
        Err(error) => {
            println!("{place}: {error:#}");
            let first = format!("{error:#}");
            tally.fail(first.lines().next().unwrap_or_default().to_owned());
        }
    }
    Ok(Row::new(&place, started.elapsed(), tally))
}

/// The guest's side. Failed tests are no failure of the run, they are counted.
pub(super) fn run_inside() -> Result<ExitCode> {
    let shared = env::var_os("ADIT_ARTIFACTS").context("ADIT_ARTIFACTS is not set: this is no guest")?;
    let shared = PathBuf::from(shared);
    let plan: Plan = serde_json::from_slice(&fs::read(shared.join(PLAN)).context("reading the plan")?)?;
    let kernel = nix::sys::utsname::uname().context("uname")?;
    let place = format!("Linux {}", kernel.release().to_string_lossy());
    plan.run(&place, &mut io::stdout(), |tally| {
        fs::write(shared.join(TALLY), serde_json::to_vec(tally)?).context("writing the counts")
    })?;
    Ok(ExitCode::SUCCESS)
}

fn must_run(ci: Option<&str>) -> bool {
    !matches!(ci, None | Some("" | "0" | "false"))
}

/// What to say, and what it counts as.
fn without_guest(place: &str, why: &str, must_run: bool) -> (String, Tally) {
    let message = format!("{place} can't be booted: {why}");
    let mut tally = Tally::default();
    if must_run {
        tally.fail(format!("can't be booted: {why}"));
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
        assert_eq!(message, "skipped: Linux 6.1 can't be booted: no QEMU");
    }
}
