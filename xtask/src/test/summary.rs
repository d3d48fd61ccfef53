//! What came out of each step, as a table.
use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use super::libtest::Tally;

/// A step: a check, which counts as one test, or the tests at one place.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    name: String,
    took: Duration,
    tally: Tally,
}

impl Row {
    /// Tests.
    pub(crate) fn new(name: &str, took: Duration, tally: Tally) -> Row {
        Row {
            name: name.to_owned(),
            took,
            tally,
        }
    }

    /// A check that found nothing.
    pub(crate) fn passed(name: &str, took: Duration) -> Row {
        let tally = Tally {
            passed: 1,
            ..Tally::default()
        };
        Row::new(name, took, tally)
    }

    /// A check that found something.
    pub(crate) fn failed(name: &str, took: Duration, why: String) -> Row {
        let mut tally = Tally::default();
        tally.fail(why);
        Row::new(name, took, tally)
    }
}

/// All steps.
#[derive(Debug, Default)]
pub(crate) struct Summary {
    rows: Vec<Row>,
}

impl Summary {
    /// Adds the next step.
    pub(crate) fn add(&mut self, row: Row) {
        self.rows.push(row);
    }

    /// Was there not a single test?
    pub(crate) fn is_empty(&self) -> bool {
        let total = self.total();
        total.passed + total.failed + total.skipped == 0
    }

    /// Prints the table, with the failures before it and the totals as its last line. The code is 1 if any failed.
    pub(crate) fn print(&self) -> ExitCode {
        print!("\n{}", self.render());
        ExitCode::from(u8::from(self.total().failed > 0))
    }

    fn total(&self) -> Tally {
        let mut total = Tally::default();
        for row in &self.rows {
            total.add(row.tally.clone(), &row.name);
        }
        total
    }

    fn render(&self) -> String {
        let mut text = String::new();
        let total = self.total();
        for failure in &total.failures {
            let _ = writeln!(text, "FAILED {failure}");
        }
        let widest = self.rows.iter().map(|row| row.name.chars().count()).max();
        let width = widest.unwrap_or_default();
        let _ = writeln!(
            text,
            "{:width$}  {:>6}  {:>6}  {:>7}  {:>7}",
            "", "passed", "failed", "skipped", "time"
        );
        for Row { name, took, tally } in &self.rows {
            let (passed, failed, skipped) = (tally.passed, tally.failed, tally.skipped);
            let seconds = took.as_secs_f64();
            let _ = writeln!(
                text,
                "{name:width$}  {passed:>6}  {failed:>6}  {skipped:>7}  {seconds:>5.1} s"
            );
        }
        let (passed, failed, skipped) = (total.passed, total.failed, total.skipped);
        let _ = writeln!(text, "{passed} passed, {failed} failed, {skipped} skipped");
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_has_the_totals_and_failures_name_their_kernel() {
        let mut summary = Summary::default();
        assert!(summary.is_empty());
        summary.add(Row::passed("clippy", Duration::from_millis(1500)));
        let mut tally = Tally {
            passed: 4,
            skipped: 2,
            ..Tally::default()
        };
        tally.fail("tests: netlink: adopts".to_owned());
        summary.add(Row::new("Linux 6.1", Duration::from_secs(75), tally));
        let text = summary.render();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "FAILED Linux 6.1: tests: netlink: adopts");
        assert_eq!(lines[1], "           passed  failed  skipped     time");
        assert_eq!(lines[2], "clippy          1       0        0    1.5 s");
        assert_eq!(lines[3], "Linux 6.1       4       1        2   75.0 s");
        assert_eq!(*lines.last().unwrap(), "5 passed, 1 failed, 2 skipped");
    }
}
