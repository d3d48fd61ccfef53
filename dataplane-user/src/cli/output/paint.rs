//! Colours.

use std::env;
use std::io::{self, IsTerminal};

/// Colours on a terminal, unless `NO_COLOR` is set (no-color.org).
///
/// A painted text contains marks, which become escape sequences when it is written. Escape sequences in
/// external text can thus be distinguished and escaped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) struct Paint(bool);

/// Marks and their escape sequences (ECMA-48, SGR). Unicode reserves these characters for use inside a
/// program (noncharacters, chapter 23.7).
const MARKS: [(char, &str); 5] = [
    (RESET, "\x1b[0m"),
    ('\u{fdd1}', "\x1b[1m"),
    ('\u{fdd2}', "\x1b[31m"),
    ('\u{fdd3}', "\x1b[32m"),
    ('\u{fdd4}', "\x1b[33m"),
];
const RESET: char = '\u{fdd0}';

impl Paint {
    /// No colours.
    pub(in super::super) const NEVER: Paint = Paint(false);
    #[cfg(test)]
    pub(in super::super) const ALWAYS: Paint = Paint(true);

    /// For standard output.
    pub(in super::super) fn of_stdout() -> Paint {
        let refused = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Paint(!refused && io::stdout().is_terminal())
    }

    pub(in super::super) fn strong(self, text: &str) -> String {
        self.with('\u{fdd1}', text)
    }

    pub(in super::super) fn bad(self, text: &str) -> String {
        self.with('\u{fdd2}', text)
    }

    pub(in super::super) fn good(self, text: &str) -> String {
        self.with('\u{fdd3}', text)
    }

    pub(in super::super) fn doubtful(self, text: &str) -> String {
        self.with('\u{fdd4}', text)
    }

    fn with(self, mark: char, text: &str) -> String {
        if self.0 {
            format!("{mark}{text}{RESET}")
        } else {
            text.to_owned()
        }
    }

    /// The escape sequence of a mark; `None` if the paint is off or the character is no mark.
    pub(super) fn sequence(self, mark: char) -> Option<&'static str> {
        let (_, sequence) = MARKS.iter().find(|(known, _)| *known == mark)?;
        self.0.then_some(*sequence)
    }
}

/// Whether a character is a mark.
pub(super) fn is_mark(character: char) -> bool {
    MARKS.iter().any(|(mark, _)| *mark == character)
}
