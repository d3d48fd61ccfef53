//! Tables with aligned columns.
use std::time::Duration;

use adit_tests::overlay::family_name;
use dataplane_user::net::Family;

use super::super::capture::protocol_name;
use super::super::options::{ADVERTISERS, Encapsulation};
use super::super::shared;
use super::super::traffic::{Kind, Measured};
use super::super::verdict::{Round, Row};

/// The matrix: a header, and a line for each pair. SENT and RECEIVED are bytes of payload; the last columns count each
/// kind of traffic, received of sent.
pub(crate) fn matrix(rows: &[Row<'_>]) -> Vec<String> {
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

/// The packets that crossed the underlay.
pub(crate) fn wire(round: &Round<'_>) -> Vec<String> {
    let header = ["ON THE UNDERLAY", "PROTOCOL", "PORT", "VNI", "PACKETS"].map(str::to_owned);
    let rows = round.crossed().into_iter().map(|(crossed, count)| {
        let name = crossed.encapsulation.map_or("(unexpected)", Encapsulation::name);
        vec![
            over(name, crossed.family),
            protocol_name(crossed.protocol),
            number(crossed.port.map(u32::from)),
            number(crossed.vni),
            count.to_string(),
        ]
    });
    let all: Vec<Vec<String>> = std::iter::once(header.to_vec()).chain(rows).collect();
    aligned(&all, 2)
}

/// Which node answered the flows to the shared prefix; empty if there were none.
pub(crate) fn shared(round: &Round<'_>) -> Vec<String> {
    if round.flows.is_empty() {
        return Vec::new();
    }
    let advertisers = round.topology.nodes.iter().take(ADVERTISERS).enumerate();
    let fixed = ["FROM", "TO SHARED PREFIX", "FLOWS"].map(str::to_owned);
    let by = advertisers
        .clone()
        .map(|(_, node)| format!("ANSWERED BY {}", node.name.to_uppercase()));
    let header: Vec<String> = fixed.into_iter().chain(by).collect();
    let rows = round.flows.iter().map(|flows| {
        let answered = advertisers.clone().map(|(advertiser, _)| {
            let count = flows.answered.get(&advertiser);
            number(count.and_then(|count| u32::try_from(*count).ok()))
        });
        let fixed = [
            flows.from.clone(),
            shared::address(flows.family).to_string(),
            flows.sent.to_string(),
        ];
        fixed.into_iter().chain(answered).collect()
    });
    let all: Vec<Vec<String>> = std::iter::once(header).chain(rows).collect();
    aligned(&all, 2)
}

fn over(name: &str, family: Family) -> String {
    format!("{name} over {}", family_name(family))
}

fn number(value: Option<u32>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
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
        family_name(pair.family).to_owned(),
        over(pair.link.encapsulation.name(), pair.link.underlay()),
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

/// Aligns rows: the first `text` columns to the left, the others, which are numbers, to the right.
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
    fn numbers_are_aligned_to_the_right() {
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
