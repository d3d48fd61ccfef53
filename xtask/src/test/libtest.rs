//! Reads the output of test programs, passes it on, and counts the results.
//!
//! The programs run with `--show-output`, because a test says on its standard output why it skips. Of the output of
//! passing tests, only these lines are passed on.
use std::collections::BTreeSet;
use std::io::{self, Read, Write};

use serde::{Deserialize, Serialize};

/// Counts of test results.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Tally {
    /// Tests that passed.
    pub(crate) passed: u32,
    /// Tests that failed, and programs that did not run to their end.
    pub(crate) failed: u32,
    /// Tests that printed `skipped: REASON`, and those that are marked as ignored.
    pub(crate) skipped: u32,
    /// The names of the failed tests.
    pub(crate) failures: Vec<String>,
}

impl Tally {
    /// Counts one failure.
    pub(crate) fn fail(&mut self, name: String) {
        self.failed += 1;
        self.failures.push(name);
    }

    /// Adds the counts of `other`. Prefixes the names of its failures with `within` unless that is empty.
    pub(crate) fn add(&mut self, other: Tally, within: &str) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
        let names = other.failures.into_iter();
        self.failures.extend(names.map(|name| match within {
            "" => name,
            within => format!("{within}: {name}"),
        }));
    }
}

/// Copies a stream to its end and counts the results in it.
pub(crate) fn follow(mut from: impl Read, to: &mut impl Write) -> io::Result<Tally> {
    let mut reader = Reader {
        to,
        line: Vec::new(),
        shown: 0,
        section: Section::Tests,
        test: String::new(),
        skips: BTreeSet::new(),
        failing: Vec::new(),
        tally: Tally::default(),
    };
    let mut buffer = vec![0; 16 * 1024];
    loop {
        match from.read(&mut buffer)? {
            0 => break,
            count => reader.take(&buffer[..count])?,
        }
    }
    reader.end_line(b"")?;
    Ok(reader.tally)
}

const SUCCESSES: &[u8] = b"successes:";
const SKIPPED: &str = "skipped: ";

#[derive(Clone, Copy, PartialEq, Eq)]
enum Section {
    /// `test NAME ... ok`, and output of child processes of tests, which libtest does not capture.
    Tests,
    /// Output and names of passing tests.
    Successes,
    /// Output and names of failing tests.
    Failures,
}

struct Reader<'a, W> {
    to: &'a mut W,
    line: Vec<u8>,
    /// How many bytes of the line were already passed on.
    shown: usize,
    section: Section,
    /// The test whose output this is, within the section of successes.
    test: String,
    /// Names of the tests of this program that printed that they skip.
    skips: BTreeSet<String>,
    /// The last list of failures.
    failing: Vec<String>,
    tally: Tally,
}

impl<W: Write> Reader<'_, W> {
    fn take(&mut self, data: &[u8]) -> io::Result<()> {
        for piece in data.split_inclusive(|byte| *byte == b'\n') {
            let Some(text) = piece.strip_suffix(b"\n") else {
                self.line.extend(piece);
                continue;
            };
            self.line.extend(text);
            self.end_line(b"\n")?;
        }
        // A test that hangs must be visible, so the name before `...` is passed on before the line ends.
        if self.section != Section::Successes && !SUCCESSES.starts_with(&self.line) {
            self.show(b"")?;
        }
        self.to.flush()
    }

    fn show(&mut self, end: &[u8]) -> io::Result<()> {
        self.to.write_all(&self.line[self.shown..])?;
        self.to.write_all(end)?;
        self.shown = self.line.len();
        Ok(())
    }

    fn end_line(&mut self, end: &[u8]) -> io::Result<()> {
        let line = String::from_utf8_lossy(&self.line).into_owned();
        if line.as_bytes() == SUCCESSES {
            self.section = Section::Successes;
        } else if line == "failures:" {
            self.section = Section::Failures;
            self.failing.clear();
        } else if let Some(result) = line.strip_prefix("test result: ") {
            self.count(result);
            self.section = Section::Tests;
        } else if self.section == Section::Failures
            && let Some(name) = line.strip_prefix("    ")
        {
            self.failing.push(name.to_owned());
        }

        if self.section != Section::Successes {
            self.show(end)?;
        } else if let Some(name) = heading(&line) {
            name.clone_into(&mut self.test);
        } else if line.starts_with(SKIPPED) && !self.test.is_empty() {
            self.skips.insert(self.test.clone());
            writeln!(self.to, "{line} ({})", self.test)?;
        }
        self.line.clear();
        self.shown = 0;
        Ok(())
    }

    /// Reads `ok. 3 passed; 0 failed; 1 ignored; 0 measured; 2 filtered out; finished in 0.01s`.
    fn count(&mut self, result: &str) {
        let number = |what: &str| {
            let found = result
                .split(['.', ';'])
                .find_map(|part| part.trim().strip_suffix(what)?.trim().parse::<u32>().ok());
            found.unwrap_or_default()
        };
        let skipped = u32::try_from(std::mem::take(&mut self.skips).len()).expect("tests are countable");
        let failed = number("failed");
        self.tally.passed += number("passed").saturating_sub(skipped);
        self.tally.failed += failed;
        self.tally.skipped += number("ignored") + skipped;
        if failed > 0 {
            self.tally.failures.append(&mut self.failing);
        }
        self.test.clear();
    }
}

/// The name in `---- NAME stdout ----`.
fn heading(line: &str) -> Option<&str> {
    line.strip_prefix("---- ")?.strip_suffix(" stdout ----")
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "
running 4 tests
test a ... ok
test b ... FAILED
test c ... ok
test d ... ignored

successes:

---- a stdout ----
skipped: no such device
skipped: nor the other
noise

---- c stdout ----
noise that says skipped: nothing


successes:
    a
    c

failures:

---- b stdout ----
the agent's log
skipped: not really

failures:
    b

test result: FAILED. 2 passed; 1 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s
";

    /// A reader that gives few bytes at a time.
    struct Slow<'a>(&'a [u8], usize);

    impl Read for Slow<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let count = self.1.min(self.0.len());
            self.0.read(&mut buffer[..count])
        }
    }

    #[test]
    fn tests_are_counted_however_the_stream_is_cut() {
        for cut in [1, 2, 7, 10_000] {
            let mut shown = Vec::new();
            let tally = follow(Slow(OUTPUT.as_bytes(), cut), &mut shown).unwrap();
            assert_eq!(
                (tally.passed, tally.failed, tally.skipped),
                (1, 1, 2),
                "cut {cut}"
            );
            assert_eq!(tally.failures, ["b"]);
            let shown = String::from_utf8(shown).unwrap();
            assert!(shown.contains("test a ... ok\ntest b ... FAILED\n"));
            assert!(shown.contains("skipped: no such device (a)\n"));
            assert!(shown.contains("the agent's log\n") && shown.contains("test result: FAILED"));
            assert!(!shown.contains("noise") && !shown.contains("successes:"));
        }
    }

    #[test]
    fn several_programs_add_up() {
        let one =
            "test x ... ok\n\ntest result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out\n";
        let tally = follow(one.repeat(3).as_bytes(), &mut io::sink()).unwrap();
        assert_eq!((tally.passed, tally.failed), (3, 0));
    }

    #[test]
    fn a_name_is_shown_while_its_test_runs() {
        let mut shown = Vec::new();
        follow("running 1 test\ntest hangs ... ".as_bytes(), &mut shown).unwrap();
        assert!(shown.ends_with(b"test hangs ... "));
    }
}
