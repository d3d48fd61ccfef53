//! Tables with aligned columns.
use std::time::Duration;

use super::super::capture::{Outer, protocol_name};
use super::super::traffic::{Kind, Measured};
use super::super::verdict::{Round, Row};

/// The matrix: a header, and a line a way. Sent and received are bytes of payload, then come counts of each kind.
pub(super) fn matrix(rows: &[Row<'_>]) -> Vec<String> {
    let fixed = [
        "FROM",
        "TO",
        "FAMILY",
        "ENCAPSULATION",
        "MTU",
        "SENT",
        "RECEIVED",
        "RTT",
    ];
    let kinds = Kind::ALL.map(|kind| kind.name().to_uppercase());
    let header = fixed.map(str::to_owned).into_iter().chain(kinds).collect();
    let all: Vec<Vec<String>> = std::iter::once(header).chain(rows.iter().map(columns)).collect();
    aligned(&all, 4)
}

/// What crossed the underlay.
pub(super) fn wire<'a>(round: &Round<'_>, outer: impl Iterator<Item = (&'a Outer, &'a u64)>) -> Vec<String> {
    let header = ["ON THE UNDERLAY", "PROTOCOL", "PORT", "VNI", "PACKETS"].map(str::to_owned);
    let number = |value: Option<u32>| value.map_or_else(|| "-".to_owned(), |value| value.to_string());
    let rows = outer.map(|(outer, count)| {
        let name = if round.is_expected(outer) {
            round.encapsulation.name()
        } else {
            "(unexpected)"
        };
        vec![
            format!("{name} over {}", outer.family),
            protocol_name(outer.protocol),
            number(outer.port.map(u32::from)),
            number(outer.vni),
            count.to_string(),
        ]
    });
    let all: Vec<Vec<String>> = std::iter::once(header.to_vec()).chain(rows).collect();
    aligned(&all, 2)
}

fn columns(row: &Row<'_>) -> Vec<String> {
    let pair = &row.pair;
    let total = |of: fn(&Measured) -> u64| {
        let bytes = row.cells.iter().map(|(_, measured)| of(measured) * measured.unit);
        bytes.sum::<u64>().to_string()
    };
    let cell = |kind: Kind| {
        row.cells
            .iter()
            .find(|(other, _)| *other == kind)
            .map(|(_, measured)| measured)
    };
    let mut columns = vec![
        pair.from.name.clone(),
        pair.to.name.clone(),
        pair.family.to_string(),
        format!("{} over {}", pair.encapsulation.name(), pair.underlay),
        pair.mtu.to_string(),
        total(|measured| measured.sent),
        total(|measured| measured.received),
        cell(Kind::Icmp)
            .and_then(|measured| measured.rtt)
            .map_or_else(|| "-".to_owned(), millis),
    ];
    columns.extend(
        Kind::ALL.map(|kind| cell(kind).map_or_else(|| "-".to_owned(), |measured| count(kind, measured))),
    );
    columns
}

fn millis(time: Duration) -> String {
    format!("{:.2} ms", time.as_secs_f64() * 1e3)
}

/// Received of sent.
fn count(kind: Kind, measured: &Measured) -> String {
    let Measured { sent, received, .. } = measured;
    match kind {
        Kind::Tcp => format!("{}/{} KiB", received >> 10, sent >> 10),
        _ => format!("{received}/{sent}"),
    }
}

/// The first columns are text, the others are figures.
fn aligned(rows: &[Vec<String>], text: usize) -> Vec<String> {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| {
        rows.iter()
            .map(|row| row[column].chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row
            .iter()
            .zip(&widths)
            .enumerate()
            .map(|(column, (cell, width))| match column < text {
                true => format!("{cell:<width$}"),
                false => format!("{cell:>width$}"),
            });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_stand_on_the_right() {
        let rows = [["NAME", "N"], ["x", "10"]].map(|row| row.map(str::to_owned).to_vec());
        assert_eq!(aligned(&rows, 1), ["NAME   N", "x     10"]);
    }

    #[test]
    fn a_stream_is_counted_in_kib() {
        let measured = Measured {
            sent: 2 << 20,
            received: 1 << 20,
            unit: 1,
            ..Measured::default()
        };
        assert_eq!(count(Kind::Tcp, &measured), "1024/2048 KiB");
        assert_eq!(
            count(
                Kind::Icmp,
                &Measured {
                    sent: 3,
                    ..Measured::default()
                }
            ),
            "0/3"
        );
    }
}
