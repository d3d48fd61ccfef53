//! How results are printed: for people, or as JSON. All that a command prints goes through here.
//!
//! What only reads uses [`show`]: it ends quietly when nobody reads any more. What changes something uses [`report`] once
//! the change is whole: a closed pipe or a full disk is an error then, and nothing is left half-done. No control character
//! that comes from elsewhere reaches a terminal.

mod escape;
mod paint;

use std::borrow::Cow;
use std::io::{self, Write as _};

use anyhow::anyhow;
use clap::ValueEnum;
use serde::Serialize;

use super::exit::{Code, Failure};

pub(super) use self::paint::Paint;

/// The format of a command's output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// For people.
    #[default]
    Text,
    /// JSON, for programs.
    Json,
}

/// Prints what a command read. Whoever closed the pipe has read enough.
///
/// # Errors
/// When it can't be written; silent, with the code by which a shell tells of SIGPIPE, when nobody reads it.
pub(super) fn show(text: &str) -> Result<(), Failure> {
    write(&escape::text(text, Paint::of_stdout())).map_err(|error| write_failure(&error))
}

/// The same, in the place of what was shown before on a terminal.
///
/// # Errors
/// As [`show`].
pub(super) fn redraw(text: &str) -> Result<(), Failure> {
    let text = escape::text(text, Paint::of_stdout());
    // Home, then each line's rest and what is below the last: nothing flickers.
    write(&format!("\x1b[H{}\x1b[J", text.replace('\n', "\x1b[K\n"))).map_err(|error| write_failure(&error))
}

/// That the result could not be written to the standard output.
pub(super) fn write_failure(error: &io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::BrokenPipe => Failure::silent(Code::ClosedPipe),
        _ => anyhow!("can't write to the standard output: {error}").into(),
    }
}

/// Prints what a command changed; to be called when all is done.
///
/// # Errors
/// When it can't be written, also to a pipe that nobody reads.
pub(super) fn report(text: &str) -> Result<(), Failure> {
    let written = write(&escape::text(text, Paint::of_stdout()));
    written.map_err(|error| anyhow!("it is done, but the standard output can't be written: {error}").into())
}

/// Prints a line beside the result, to the standard error. There is nobody to tell where that can't be written.
pub(super) fn note(text: &str) {
    let line = format!("adit: {}\n", escape::text(text, Paint::NEVER));
    let _closed = io::stderr().lock().write_all(line.as_bytes());
}

/// What is written of a text.
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
/// When it has no JSON.
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

/// The same. Colours take no room.
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
