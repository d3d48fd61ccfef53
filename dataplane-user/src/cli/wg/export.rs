//! `adit wg export`: an interface as a wg-quick file.

use anyhow::anyhow;
use clap::Args;

use crate::cli::exit::{Code, Failure};
use crate::cli::output;
use crate::cli::privilege::{self, NET_ADMIN};
use crate::kernel::netlink::Netlink;
use crate::kernel::wireguard::{WireGuard, no_private_keys};
use crate::model::LinkKind;
use crate::net::LinkName;
use crate::wg_quick::{Config, Interface};

/// Print an interface as a wg-quick file
///
/// `adit wg up` and `wg-quick up` can create the interface again from this file. It contains keys, port,
/// mark, addresses, MTU and peers, but no name servers and no routing table. Because of the private and
/// preshared keys, --show-keys is required.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  umask 077; adit wg export wg0 --show-keys > wg0.conf")]
pub(super) struct Arguments {
    /// Name of the interface, managed by Adit or not
    #[arg(value_name = "INTERFACE")]
    interface: String,
    /// Print private and preshared keys
    #[arg(long)]
    show_keys: bool,
}

pub(super) async fn run(arguments: &Arguments) -> Result<(), Failure> {
    if !arguments.show_keys {
        let text = "the file contains private keys: add --show-keys, and write it to a file that only its owner can read";
        return Err(Failure::new(Code::Usage, anyhow!(text)));
    }
    privilege::require(&[NET_ADMIN])?;
    let unknown = || {
        let text = format!(
            "there is no WireGuard interface `{}`; `adit wg show interfaces` lists them",
            arguments.interface
        );
        Failure::new(Code::NotFound, anyhow!(text))
    };
    let name = LinkName::new(&arguments.interface).map_err(|_| unknown())?;
    let mut netlink = Netlink::open()?;
    let link = netlink.link(&name).await?;
    link.filter(|link| link.kind == LinkKind::WireGuard)
        .ok_or_else(unknown)?;
    let mut wireguard = WireGuard::open(no_private_keys())?;
    let config = config(&name, &mut netlink, &mut wireguard).await?;
    super::keys::warn_of_readers();
    output::show(&config.render())
}

/// The configuration of an interface, without its routing table and name servers.
pub(super) async fn config(
    name: &LinkName,
    netlink: &mut Netlink,
    wireguard: &mut WireGuard,
) -> Result<Config, Failure> {
    let listing = wireguard.list_device(name, true).await?;
    let addresses = netlink.addresses_on(name).await?;
    let mtu = netlink.link(name).await?.and_then(|link| link.mtu);
    Ok(Config {
        interface: Interface {
            private_key: listing.private_key,
            listen_port: Some(listing.listen_port).filter(|port| *port != 0),
            fwmark: listing.fwmark,
            addresses: addresses.into_iter().map(|(address, _)| address).collect(),
            mtu,
            ..Interface::default()
        },
        peers: listing.peers,
        ..Config::default()
    })
}
