//! The results of all steps, as a table.
use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use super::libtest::Tally;

/// A step: a check, which counts as one test, or the tests on one kernel.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    name: String,
    took: Duration,
    tally: Tally,
}

impl Row {
    /// A step that ran tests.
    pub(crate) fn new(name: &str, took: Duration, tally: Tally) -> Row {
        Row {
            name: name.to_owned(),
            took,
            tally,
        }
    }

    /// A check that passed.
    pub(crate) fn passed(name: &str, took: Duration) -> Row {
        let tally = Tally {
            passed: 1,
            ..Tally::default()
        };
        Row::new(name, took, tally)
    }

    /// A check that failed.
    pub(crate) fn failed(name: &str, took: Duration, why: String) -> Row {
        let mut tally = Tally::default();
        tally.fail(why);
        Row::new(name, took, tally)
    }
}

/// A test program on this machine or on a kernel.
#[derive(Debug, Clone)]
pub(crate) struct File {
    /// The position in the order of starts, counted from 1.
    pub(super) order: usize,
    pub(super) name: String,
    pub(super) place: String,
    pub(super) took: Duration,
    /// How many of its tests failed.
    pub(super) failed: u32,
}

/// All steps.
#[derive(Debug, Default)]
pub(crate) struct Summary {
    rows: Vec<Row>,
    files: Vec<File>,
}

impl Summary {
    /// Adds the next step.
    pub(crate) fn add(&mut self, row: Row) {
        self.rows.push(row);
    }

    /// Adds a test program to the row of its step, which the first program creates. The times of programs that run in
    /// parallel add up to more than the step took.
    pub(crate) fn add_file(&mut self, row: Row, file: File) {
        self.files.push(file);
        match self.rows.iter_mut().find(|known| known.name == row.name) {
            Some(known) => {
                known.took += row.took;
                // The names of its failures already have a prefix.
                known.tally.add(row.tally, "");
            }
            None => self.rows.push(row),
        }
    }

    /// Adds counts to the row of a step.
    pub(crate) fn add_tally(&mut self, step: &str, tally: Tally) {
        if let Some(known) = self.rows.iter_mut().find(|known| known.name == step) {
            known.tally.add(tally, "");
        }
    }

    /// Adds test programs of a step that already has a row.
    pub(crate) fn add_files(&mut self, files: Vec<File>) {
        self.files.extend(files);
    }

    /// Whether no test ran at all.
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
        let mut text = self.render_files();
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

    /// The time of each test program, the slowest first.
    fn render_files(&self) -> String {
        let mut text = String::new();
        let mut files: Vec<&File> = self.files.iter().collect();
        files.sort_by_key(|file| std::cmp::Reverse(file.took));
        let widest = |of: fn(&File) -> &str| files.iter().map(|file| of(file).chars().count()).max();
        let width = widest(|file| &file.name).unwrap_or_default();
        let place = widest(|file| &file.place).unwrap_or_default();
        for file in &files {
            let seconds = file.took.as_secs_f64();
            let failed = if file.failed > 0 { "  FAILED" } else { "" };
            let _ = writeln!(
                text,
                "{seconds:>6.1} s  {:width$}  {:place$}  started as {}{failed}",
                file.name, file.place, file.order
            );
        }
        if !files.is_empty() {
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_name_their_kernel_and_the_last_line_has_the_totals() {
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

    #[test]
    fn files_are_listed_slowest_first_and_counted_in_the_row_of_their_step() {
        let mut summary = Summary::default();
        for (order, name, seconds) in [(1, "tests: a", 2), (2, "tests: b", 9)] {
            let tally = Tally {
                passed: 3,
                ..Tally::default()
            };
            let took = Duration::from_secs(seconds);
            let file = File {
                order,
                name: name.to_owned(),
                place: "Linux 6.1 (user-mode)".to_owned(),
                took,
                failed: 0,
            };
            summary.add_file(Row::new("Linux 6.1 (user-mode)", took, tally), file);
        }
        let text = summary.render();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines[0],
            "   9.0 s  tests: b  Linux 6.1 (user-mode)  started as 2"
        );
        assert_eq!(
            lines[1],
            "   2.0 s  tests: a  Linux 6.1 (user-mode)  started as 1"
        );
        assert!(lines[4].starts_with("Linux 6.1 (user-mode)       6       0        0"));
    }
}
