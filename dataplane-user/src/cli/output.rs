//! Output for people or as JSON. Everything that a command prints passes through this file.
//!
//! Commands that only read use [`show`]: it ends quietly when the pipe is closed. Commands that change
//! something use [`report`] after the change is complete: then a closed pipe or a full disk is an error, and
//! no change is half done. Control characters in external names and texts are escaped before they reach a
//! terminal.

mod escape;
mod paint;

use std::borrow::Cow;
use std::io::{self, Write as _};

use anyhow::anyhow;
use clap::ValueEnum;
use serde::Serialize;

use super::exit::{Code, Failure};

pub(super) use self::paint::Paint;

/// The format of the output of a command.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// Text for people
    #[default]
    Text,
    /// JSON for programs
    Json,
}

/// Prints the result of a command that only reads.
///
/// # Errors
/// When standard output can't be written. If the pipe is closed, the failure is silent, with the exit code of
/// SIGPIPE.
pub(super) fn show(text: &str) -> Result<(), Failure> {
    write(&escape::text(text, Paint::of_stdout())).map_err(|error| write_failure(&error))
}

/// The same, over the previous output on a terminal.
///
/// # Errors
/// As [`show`].
pub(super) fn redraw(text: &str) -> Result<(), Failure> {
    let text = escape::text(text, Paint::of_stdout());
    // Cursor home, then clear the rest of each line and everything below the last: this does not flicker.
    write(&format!("\x1b[H{}\x1b[J", text.replace('\n', "\x1b[K\n"))).map_err(|error| write_failure(&error))
}

/// The failure for a result that could not be written to standard output.
pub(super) fn write_failure(error: &io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::BrokenPipe => Failure::silent(Code::ClosedPipe),
        _ => anyhow!("can't write to standard output: {error}").into(),
    }
}

/// Prints the changes of a command. Call it after all of them are done.
///
/// # Errors
/// When standard output can't be written, also when the pipe is closed.
pub(super) fn report(text: &str) -> Result<(), Failure> {
    let written = write(&escape::text(text, Paint::of_stdout()));
    written
        .map_err(|error| anyhow!("the changes are done, but can't write to standard output: {error}").into())
}

/// Prints a line to standard error. If that fails, there is no other channel to report it.
pub(super) fn note(text: &str) {
    let line = format!("adit: {}\n", escape::text(text, Paint::NEVER));
    let _closed = io::stderr().lock().write_all(line.as_bytes());
}

/// A text as it is written.
#[cfg(test)]
pub(super) fn shown(text: &str, paint: Paint) -> String {
    escape::text(text, paint).into_owned()
}

fn write(text: &str) -> io::Result<()> {
    let mut output = io::stdout().lock();
    output.write_all(text.as_bytes())?;
    output.flush()
}

/// A value as JSON.
///
/// # Errors
/// When the value can't be serialised.
pub(super) fn json(value: &impl Serialize) -> Result<String, Failure> {
    let json = serde_json::to_string_pretty(value)? + "\n";
    Ok(match escape::json(&json) {
        Cow::Owned(escaped) => escaped,
        Cow::Borrowed(_) => json,
    })
}

/// Rows in columns as wide as their widest cell, two spaces apart, below a header.
pub(super) fn table<const N: usize>(header: [&str; N], rows: &[[String; N]]) -> String {
    let header = header.map(str::to_owned);
    columns(&header, rows.iter().map(<[String; N]>::as_slice))
}

/// The same. Colours do not count as width.
pub(super) fn columns<'a>(header: &'a [String], rows: impl Iterator<Item = &'a [String]>) -> String {
    let lines = [header].into_iter().chain(rows).collect::<Vec<_>>();
    let widths = (0..header.len())
        .map(|column| {
            let cells = lines.iter().filter_map(|line| line.get(column));
            cells.map(|cell| escape::width(cell)).max().unwrap_or(0)
        })
        .collect::<Vec<_>>();
    let mut text = String::new();
    for line in lines {
        let mut row = String::new();
        for (cell, column) in line.iter().zip(&widths) {
            row.push_str(cell);
            row.push_str(&" ".repeat(column - escape::width(cell) + 2));
        }
        text.push_str(row.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neither_colours_nor_escapes_spoil_columns() {
        let row = |a: String| [a, "x".to_owned()];
        let rows = [
            row("plain".to_owned()),
            row(Paint::ALWAYS.bad("red")),
            row("\x1b]0;x\x07".to_owned()),
        ];
        let text = escape::text(&table(["A", "B"], &rows), Paint::ALWAYS).into_owned();
        let expected = "\
A                B
plain            x
\x1b[31mred\x1b[0m              x
\\u{1b}]0;x\\u{7}  x
";
        assert_eq!(text, expected);
    }

    #[test]
    fn json_has_no_control_character_but_newlines() {
        let text = json(&["\x1b[31m", "\u{9b}31m\u{7f}"]).unwrap_or_default();
        assert!(!text.contains(|c: char| c.is_control() && c != '\n'), "{text:?}");
        let read: [String; 2] = serde_json::from_str(&text).unwrap();
        assert_eq!(read[1], "\u{9b}31m\u{7f}");
    }
}
