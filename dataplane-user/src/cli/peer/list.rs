//! `adit peer list`.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Args, ValueHint};
use serde::Serialize;

use super::failure;
use crate::cli::exit::Failure;
use crate::cli::output::{self, Format};
use crate::hub::{self, Member};

/// List the clients with their keys and addresses
///
/// The list shows the file. `adit wg show` shows the interface.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The wg-quick file of the hub
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    config: PathBuf,
    /// Output format
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

/// A client as JSON.
#[derive(Debug, Serialize)]
struct Row {
    /// `None` if its `[Peer]` has no id.
    device_id: Option<String>,
    assigned_ip: Option<IpAddr>,
    public_key: String,
    allowed_ips: Vec<String>,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let (members, warnings) = hub::list(&arguments.config).map_err(failure)?;
    for warning in warnings {
        output::note(&format!("warning: {warning}"));
    }
    let rows = members.into_iter().map(Row::from).collect::<Vec<_>>();
    output::show(&match arguments.output {
        Format::Json => output::json(&rows)?,
        Format::Text => output::table(
            ["DEVICE", "ADDRESS", "PUBLIC KEY", "ALLOWED IPS"],
            &rows.into_iter().map(Row::cells).collect::<Vec<_>>(),
        ),
    })
}

impl Row {
    fn cells(self) -> [String; 4] {
        let dash = || "-".to_owned();
        [
            self.device_id.unwrap_or_else(dash),
            self.assigned_ip.map_or_else(dash, |address| address.to_string()),
            self.public_key,
            match self.allowed_ips.is_empty() {
                true => dash(),
                false => self.allowed_ips.join(", "),
            },
        ]
    }
}

impl From<Member> for Row {
    fn from(member: Member) -> Row {
        Row {
            device_id: member.device_id,
            assigned_ip: member.assigned_ip,
            public_key: member.public_key.to_string(),
            allowed_ips: member.allowed_ips.iter().map(ToString::to_string).collect(),
        }
    }
}
