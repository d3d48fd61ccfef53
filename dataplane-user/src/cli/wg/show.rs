//! `adit wg show`: WireGuard interfaces as `wg show` prints them, without secrets.

mod field;
mod format;
mod json;
mod secrets;
mod text;

use std::io::{self, Write};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::anyhow;
use clap::Args;
use zeroize::Zeroizing;

use crate::cli::exit::{Code, Failure};
use crate::cli::output::{self, Format, Paint};
use crate::cli::privilege::{self, NET_ADMIN};
use crate::kernel::netlink::Netlink;
use crate::kernel::wireguard::listing::Listing;
use crate::kernel::wireguard::{WireGuard, no_private_keys};
use crate::net::LinkName;
use crate::source::hint;
use field::Field;
use secrets::Secrets;

const ALL: &str = "all";
const INTERFACES: &str = "interfaces";

/// Show WireGuard interfaces, also those not managed by Adit
///
/// Prints what `wg show` prints with the same arguments, except that private and preshared keys are always
/// `(hidden)` without --show-keys. JSON has the field names of `wg-json`, and times in seconds since 1970.
///
/// Exit code 3 means that there is no such interface.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  adit wg show\n  adit wg show wg0\n  adit wg show interfaces\n  adit wg show wg0 peers\n  adit wg show all dump --show-keys\n  adit wg show -o json | jq '.wg0.peers[].transferRx'"
)]
pub(super) struct Arguments {
    /// Name of an interface; `all` for all of them; `interfaces` for only their names
    #[arg(value_name = "INTERFACE", default_value = ALL)]
    interface: String,
    /// Field to print, for scripts: separated by tabs; with `all`, each line begins with the interface
    #[arg(value_enum)]
    field: Option<Field>,
    /// Show private and preshared keys
    #[arg(long)]
    show_keys: bool,
    /// Output format
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

pub(super) async fn run(arguments: &Arguments) -> Result<(), Failure> {
    if arguments.field.is_some() && arguments.output == Format::Json {
        return Err(anyhow!("JSON contains all fields: omit the field, or `-o json`").into());
    }
    let links = Netlink::open()?.wireguard_links().await?;
    let names: Vec<LinkName> = links.into_iter().map(|(name, _)| name).collect();
    if arguments.interface == INTERFACES {
        if arguments.field.is_some() {
            return Err(anyhow!("`interfaces` has no fields: name an interface, or `all`").into());
        }
        return print(|text| write_names(text, arguments.output, &names));
    }
    privilege::require(&[NET_ADMIN])?;
    let secrets = if arguments.show_keys {
        Secrets::Shown
    } else {
        Secrets::Hidden
    };
    let mut wireguard = WireGuard::open(no_private_keys())?;
    let listings = if arguments.interface == ALL {
        list_all(&mut wireguard, &names, secrets).await?
    } else {
        vec![list_one(&mut wireguard, &arguments.interface, &names, secrets).await?]
    };
    print(|text| write(text, arguments, &listings, secrets))
}

/// All interfaces, without those that are deleted meanwhile.
async fn list_all(
    wireguard: &mut WireGuard,
    names: &[LinkName],
    secrets: Secrets,
) -> Result<Vec<Listing>, Failure> {
    let mut listings = Vec::with_capacity(names.len());
    for name in names {
        match wireguard.list_device(name, secrets == Secrets::Shown).await {
            Ok(listing) => listings.push(listing),
            Err(error) if error.errno() == Some(libc::ENODEV) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(listings)
}

async fn list_one(
    wireguard: &mut WireGuard,
    interface: &str,
    known: &[LinkName],
    secrets: Secrets,
) -> Result<Listing, Failure> {
    let unknown = || {
        let hint = hint(interface, known.iter().map(LinkName::as_str));
        let text = format!("there is no WireGuard interface `{interface}`; {hint}");
        Failure::new(Code::NotFound, anyhow!(text))
    };
    let name = LinkName::new(interface).map_err(|_| unknown())?;
    // Also if the name is unknown: it may be an alternative name.
    match wireguard.list_device(&name, secrets == Secrets::Shown).await {
        Ok(listing) => Ok(listing),
        Err(_) if !known.contains(&name) => Err(unknown()),
        Err(error) => Err(error.into()),
    }
}

fn print(write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), Failure> {
    let mut text = Zeroizing::new(Vec::new());
    write(&mut *text)?;
    output::show(std::str::from_utf8(&text)?)
}

fn write_names(output: &mut dyn Write, format: Format, names: &[LinkName]) -> io::Result<()> {
    let names: Vec<&str> = names.iter().map(LinkName::as_str).collect();
    match format {
        Format::Json => json::write(output, &names),
        Format::Text if names.is_empty() => Ok(()),
        Format::Text => writeln!(output, "{}", names.join(" ")),
    }
}

fn write(
    output: &mut dyn Write,
    arguments: &Arguments,
    listings: &[Listing],
    secrets: Secrets,
) -> io::Result<()> {
    if arguments.output == Format::Json {
        return json::write(output, &json::devices(listings, secrets));
    }
    if let Some(field) = arguments.field {
        let named = arguments.interface == ALL;
        return listings
            .iter()
            .try_for_each(|listing| field::write(output, field, listing, named, secrets));
    }
    let style = text::Style {
        now: SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs(),
        paint: Paint::of_stdout(),
        secrets,
    };
    for (index, listing) in listings.iter().enumerate() {
        if index > 0 {
            writeln!(output)?;
        }
        text::write(output, listing, style)?;
    }
    Ok(())
}
