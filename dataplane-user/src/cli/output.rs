//! How results are printed: for people, or as JSON.

use std::env;
use std::io::{self, IsTerminal};

use clap::ValueEnum;
use serde::Serialize;

use super::exit::Failure;

/// The format of a command's output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// For people.
    #[default]
    Text,
    /// JSON, for programs.
    Json,
}

/// Prints a value as JSON.
pub(super) fn json(value: &impl Serialize) -> Result<(), Failure> {
    println!("{}", serde_json::to_string_pretty(value)?);
    Ok(())
}

/// Prints rows in columns as wide as their widest cell, two spaces apart, below a header.
pub(super) fn table<const N: usize>(header: [&str; N], rows: &[[String; N]]) {
    let header = header.map(str::to_owned);
    print!("{}", columns(&header, rows.iter().map(<[String; N]>::as_slice)));
}

/// The same as text. Colours take no room.
pub(super) fn columns<'a>(header: &'a [String], rows: impl Iterator<Item = &'a [String]>) -> String {
    let lines = [header].into_iter().chain(rows).collect::<Vec<_>>();
    let widths = (0..header.len())
        .map(|column| {
            let cells = lines.iter().filter_map(|line| line.get(column));
            cells.map(|cell| width(cell)).max().unwrap_or(0)
        })
        .collect::<Vec<_>>();
    let mut text = String::new();
    for line in lines {
        let mut row = String::new();
        for (cell, column) in line.iter().zip(&widths) {
            row.push_str(cell);
            row.push_str(&" ".repeat(column - width(cell) + 2));
        }
        text.push_str(row.trim_end());
        text.push('\n');
    }
    text
}

/// How many columns of a terminal a text takes: escape sequences (as far as [`Paint`] makes them) take none.
fn width(text: &str) -> usize {
    let mut escaped = false;
    text.chars()
        .filter(|&character| {
            let counts = !escaped && character != '\x1b';
            escaped = character == '\x1b' || escaped && character != 'm';
            counts
        })
        .count()
}

/// Colours, where they are wanted: on a terminal, unless `NO_COLOR` is set (no-color.org).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Paint(bool);

impl Paint {
    /// For standard output.
    pub(super) fn of_stdout() -> Paint {
        let refused = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Paint(!refused && io::stdout().is_terminal())
    }

    pub(super) fn good(self, text: &str) -> String {
        self.with(32, text)
    }

    pub(super) fn bad(self, text: &str) -> String {
        self.with(31, text)
    }

    pub(super) fn doubtful(self, text: &str) -> String {
        self.with(33, text)
    }

    pub(super) fn strong(self, text: &str) -> String {
        self.with(1, text)
    }

    fn with(self, code: u8, text: &str) -> String {
        if self.0 {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }
}

#[cfg(test)]
impl Paint {
    pub(super) const NEVER: Paint = Paint(false);
    pub(super) const ALWAYS: Paint = Paint(true);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_take_no_room() {
        let row = |a: String| [a, "x".to_owned()];
        let rows = [row("plain".to_owned()), row(Paint::ALWAYS.bad("red"))];
        let header = ["A".to_owned(), "B".to_owned()];
        let text = columns(&header, rows.iter().map(<[String; 2]>::as_slice));
        assert_eq!(text, "A      B\nplain  x\n\x1b[31mred\x1b[0m    x\n");
    }
}
