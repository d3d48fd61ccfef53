//! Prints the rounds: as tables, or as one JSON object a line.
mod table;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write as _};
use std::net::IpAddr;
use std::time::Duration;

use adit_tests::overlay::family_name;
use anyhow::Result;
use dataplane_user::status::RefusedStatus;
use serde::Serialize;

use super::capture::protocol_name;
use super::options::Encapsulation;
use super::pairs;
use super::shared::{self, Flows};
use super::verdict::{Round, Row};

/// The output format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Json,
    Text { colour: bool },
}

/// One kind of traffic between one pair, in one direction.
#[derive(Serialize)]
struct Line<'a> {
    from: &'a str,
    to: &'a str,
    family: &'a str,
    encapsulation: &'a str,
    underlay: &'a str,
    traffic: &'a str,
    mtu: u32,
    /// In packets; for TCP in bytes.
    sent: u64,
    received: u64,
    rtt_us: Option<u64>,
}

/// Flows from one end to the prefix that several nodes advertise.
#[derive(Serialize)]
struct SharedLine<'a> {
    from: &'a str,
    to: IpAddr,
    family: &'a str,
    traffic: &'a str,
    /// The number of flows, each of one packet in both directions.
    sent: usize,
    received: usize,
    /// By the names of the nodes that advertise the prefix.
    answered: BTreeMap<&'a str, usize>,
}

#[derive(Serialize)]
struct Last<'a> {
    summary: Totals<'a>,
}

/// The result of all rounds.
#[derive(Serialize)]
struct Totals<'a> {
    pairs: usize,
    failed: usize,
    refused: &'a [RefusedStatus],
    kernel: &'a str,
    outer: &'a BTreeSet<OuterLine>,
    /// What is wrong, by the capture and by the status of the agents.
    problems: &'a [String],
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
struct OuterLine {
    encapsulation: &'static str,
    protocol: String,
    port: Option<u16>,
    vni: Option<u32>,
}

/// Prints each round, and the result of all rounds at the end.
pub(crate) struct Report {
    format: Format,
    kernel: String,
    pairs: usize,
    failed: usize,
    refused: Vec<RefusedStatus>,
    outer: BTreeSet<OuterLine>,
    problems: Vec<String>,
}

impl Report {
    pub(crate) fn new(format: Format, kernel: String) -> Self {
        let (refused, outer) = (Vec::new(), BTreeSet::new());
        Self {
            format,
            kernel,
            pairs: 0,
            failed: 0,
            refused,
            outer,
            problems: Vec::new(),
        }
    }

    /// Adds a round and prints it.
    pub(crate) fn add(&mut self, round: &Round<'_>) -> Result<()> {
        let leaks = round.leaks();
        self.pairs += round.rows.len() + round.flows.len();
        self.failed += round.rows.iter().filter(|row| !row.is_complete()).count();
        self.failed += round.flows.iter().filter(|flows| !flows.is_good()).count();
        self.refused.extend(round.refused.iter().cloned());
        self.refused = pairs::sorted(std::mem::take(&mut self.refused));
        self.outer.extend(round.crossed().keys().map(|crossed| OuterLine {
            encapsulation: crossed.encapsulation.map_or("unexpected", Encapsulation::name),
            protocol: protocol_name(crossed.protocol),
            port: crossed.port,
            vni: crossed.vni,
        }));
        match self.format {
            Format::Json => {
                round.rows.iter().try_for_each(json_lines)?;
                round
                    .flows
                    .iter()
                    .try_for_each(|flows| shared_line(round, flows))?;
            }
            Format::Text { .. } => self.print(round, &leaks)?,
        }
        self.problems.extend(leaks);
        Ok(())
    }

    /// Prints the result of all rounds; returns whether everything was right.
    pub(crate) fn finish(&self) -> Result<bool> {
        let good = self.pairs > 0 && self.failed == 0 && self.problems.is_empty();
        let mut out = io::stdout().lock();
        if self.format == Format::Json {
            let Self {
                refused,
                kernel,
                outer,
                problems,
                ..
            } = self;
            let summary = Totals {
                pairs: self.pairs,
                failed: self.failed,
                refused,
                kernel,
                outer,
                problems,
            };
            writeln!(out, "{}", serde_json::to_string(&Last { summary })?)?;
            return Ok(good);
        }
        for RefusedStatus {
            from,
            to,
            family,
            reason,
        } in &self.refused
        {
            writeln!(out, "{from} → {to}, {family}: not possible: {reason}")?;
        }
        let (pairs, failed, problems) = (self.pairs, self.failed, self.problems.len());
        let verdict = if good {
            self.painted("ok", GREEN)
        } else {
            self.painted("FAILED", RED)
        };
        writeln!(
            out,
            "{verdict}: traffic between {pairs} pairs, {failed} of them failed; {problems} problems in captures and reports; Linux {}",
            self.kernel
        )?;
        Ok(good)
    }

    fn print(&self, round: &Round<'_>, leaks: &[String]) -> Result<()> {
        let mut out = io::stdout().lock();
        for (index, line) in table::matrix(&round.rows).iter().enumerate() {
            let colour = match index.checked_sub(1) {
                None => BOLD,
                Some(row) if round.rows[row].is_complete() => PLAIN,
                Some(_) => RED,
            };
            writeln!(out, "{}", self.painted(line, colour))?;
        }
        writeln!(out)?;
        for table in [table::shared(round), table::wire(round)] {
            for (index, line) in table.iter().enumerate() {
                let code = if index == 0 { BOLD } else { PLAIN };
                writeln!(out, "{}", self.painted(line, code))?;
            }
            if !table.is_empty() {
                writeln!(out)?;
            }
        }
        for line in round.losses().iter().chain(leaks) {
            writeln!(out, "{}", self.painted(line, RED))?;
        }
        Ok(())
    }

    fn painted(&self, text: &str, code: &str) -> String {
        match self.format {
            Format::Text { colour: true } if code != PLAIN => format!("\x1b[{code}m{text}\x1b[0m"),
            _ => text.to_owned(),
        }
    }
}

const PLAIN: &str = "0";
const BOLD: &str = "1";
const RED: &str = "31";
const GREEN: &str = "32";

fn json_lines(row: &Row<'_>) -> Result<()> {
    let mut out = io::stdout().lock();
    for (kind, measured) in &row.cells {
        let line = Line {
            from: &row.pair.from.name,
            to: &row.pair.to.name,
            family: family_name(row.pair.family),
            encapsulation: row.pair.link.encapsulation.name(),
            underlay: family_name(row.pair.link.underlay()),
            traffic: kind.name(),
            mtu: row.pair.mtu,
            sent: measured.sent,
            received: measured.received,
            rtt_us: measured.rtt.map(micros),
        };
        writeln!(out, "{}", serde_json::to_string(&line)?)?;
    }
    Ok(())
}

fn shared_line(round: &Round<'_>, flows: &Flows) -> Result<()> {
    let name = |(advertiser, count): (&usize, &usize)| (round.topology.nodes[*advertiser].name, *count);
    let line = SharedLine {
        from: &flows.from,
        to: shared::address(flows.family),
        family: family_name(flows.family),
        traffic: "shared",
        sent: flows.sent,
        received: flows.received(),
        answered: flows.answered.iter().map(name).collect(),
    };
    writeln!(io::stdout().lock(), "{}", serde_json::to_string(&line)?)?;
    Ok(())
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
