//! How results are printed: for people, or as JSON.

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
    let widths: [usize; N] = std::array::from_fn(|column| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([header[column].len()]).max().unwrap_or(0)
    });
    let print = |cells: [&str; N]| {
        let line = cells
            .iter()
            .zip(widths)
            .map(|(cell, width)| format!("{cell:<width$}"))
            .collect::<Vec<_>>();
        println!("{}", line.join("  ").trim_end());
    };
    print(header);
    for row in rows {
        print(std::array::from_fn(|column| row[column].as_str()));
    }
}
