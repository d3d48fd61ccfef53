//! `adit peer add`.

use std::net::IpAddr;
use std::path::PathBuf;

use anyhow::anyhow;
use clap::Args;
use ipnet::IpNet;
use serde::Serialize;

use super::{PrefixTarget, Sync, device_id, failure, usage, warn};
use crate::cli::exit::Failure;
use crate::cli::output::{self, Format};
use crate::hub::{Admission, Status};
use crate::net::{PublicKey, prefix};

/// Add a client with the lowest free address, or change its key
///
/// If the client exists with this key, nothing changes. If it exists with another key, the key is replaced
/// and the address stays. The configuration of the client itself needs `Address = <the address>` and the hub
/// as its `[Peer]`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Id of the client
    #[arg(value_name = "ID")]
    id: String,
    /// Public key of the client, as `adit wg pubkey` prints it
    #[arg(long, value_name = "KEY")]
    public_key: String,
    /// Subnet to choose the address from; it contains the address of the hub, too
    #[arg(long, value_name = "CIDR")]
    subnet: String,
    #[command(flatten)]
    desired: PrefixTarget,
    #[command(flatten)]
    sync: Sync,
    /// Output format
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

/// The answer as JSON.
#[derive(Debug, Serialize)]
struct Answer {
    device_id: String,
    assigned_ip: IpAddr,
    config_path: PathBuf,
    status: &'static str,
}

pub(super) async fn run(arguments: &Arguments) -> Result<(), Failure> {
    let id = device_id(&arguments.id)?;
    // Not shown: it may be a private key.
    let key = arguments.public_key.parse::<PublicKey>();
    let key = key.map_err(|error| usage(anyhow!("--public-key: {error}")))?;
    let subnet = subnet(&arguments.subnet).map_err(|why| usage(anyhow!("--subnet: {why}")))?;
    let mut hub = arguments.desired.open(&arguments.sync).await?;
    let admission = hub.add(&id, key, subnet).await.map_err(failure)?;
    warn(&hub);
    output::report(&match arguments.output {
        Format::Json => output::json(&Answer::from(admission))?,
        Format::Text => sentence(&admission) + "\n",
    })
}

fn sentence(admission: &Admission) -> String {
    let (id, address) = (&admission.device_id, admission.assigned_ip);
    match admission.status {
        Status::Added => format!("{id} added with address {address}."),
        Status::AlreadyPresent => format!("{id} exists already with address {address}."),
        Status::Reconfigured => format!("{id} has a new key and keeps address {address}."),
    }
}

impl From<Admission> for Answer {
    fn from(admission: Admission) -> Answer {
        Answer {
            device_id: admission.device_id,
            assigned_ip: admission.assigned_ip,
            config_path: admission.config_path,
            status: match admission.status {
                Status::Added => "added",
                Status::AlreadyPresent => "already-present",
                Status::Reconfigured => "reconfigured",
            },
        }
    }
}

fn subnet(text: &str) -> Result<IpNet, String> {
    let subnet = prefix::parse(text).ok_or_else(|| {
        format!("`{text}` is not a subnet; expected a subnet such as 10.42.0.0/24 or fd42::/64, without leading zeros")
    })?;
    let first = subnet.network();
    let is_reserved = matches!(first, IpAddr::V4(v4) if v4.octets()[0] == 0 || v4.octets()[0] >= 240);
    if first.is_unspecified() || first.is_loopback() || first.is_multicast() || is_reserved {
        return Err(format!(
            "`{text}` begins with addresses that no client can have; expected a subnet such as 10.42.0.0/24 or \
             fd42::/64"
        ));
    }
    if subnet != subnet.trunc() {
        return Err(format!("`{text}` has host bits set; write `{}`", subnet.trunc()));
    }
    Ok(subnet)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subnet_has_a_length_and_no_host_bits() {
        assert_eq!(subnet("fd42::/64").unwrap().to_string(), "fd42::/64");
        assert!(
            subnet("10.42.0.1/24")
                .unwrap_err()
                .ends_with("write `10.42.0.0/24`")
        );
        for bad in ["10.42.0.0", "10.42.0.0/33", "10.42.0.0/024", "", "x"] {
            assert!(subnet(bad).unwrap_err().contains("is not a subnet"), "{bad}");
        }
        for bad in ["0.0.0.0/0", "::/0", "0.0.0.0/1", "127.0.0.0/8", "240.0.0.0/4"] {
            assert!(subnet(bad).unwrap_err().contains("no client can have"), "{bad}");
        }
    }
}
