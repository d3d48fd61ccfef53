//! `adit wg rotate`: this node's key changes in two steps, each of which is a line in its manifest.

use anyhow::{Context as _, anyhow};
use clap::Args;

use super::keys;
use crate::cli::exit::{Code, Failure};
use crate::cli::output;
use crate::cli::places::Places;
use crate::cli::status::ask;
use crate::kernel::wireguard::generate;
use crate::net::KeySource;
use crate::net::PublicKey;
use crate::resource::Reason;
use crate::source::KeyRing;

/// Makes a next key, if there is none, and prints the field for this node's TunnelNode by which all nodes learn of it. They then
/// make a second device each, and packets move there once handshakes were seen. When the agent awaits none any more, --finish
/// prints the field that ends it: the first devices get the new key, packets move back, and the second ones go.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  adit wg rotate\n  adit status -o json | jq '.problems[] | select(.reason == \"KeyRotation\")'\n  adit wg rotate --finish"
)]
pub(super) struct Arguments {
    /// Prints the field without the former key; exits with 8 while the agent still awaits handshakes, and 3 when no key changes
    #[arg(long)]
    finish: bool,
}

pub(super) async fn run(places: &Places, arguments: &Arguments) -> Result<(), Failure> {
    let ring = KeyRing::new(&places.state_dir);
    if arguments.finish {
        let next = key(&ring, &KeySource::Next, false)?;
        let next = next.ok_or_else(|| {
            let text = "this node has no next key: `adit wg rotate` makes one";
            Failure::new(Code::NotFound, anyhow!(text))
        })?;
        all_have_moved(places, next).await?;
        return output::show(&format!("wireguard: {{publicKey: {next}}}\n"));
    }
    let own = key(&ring, &KeySource::Node, false)?;
    let own = own.ok_or_else(|| {
        let text = "this node has no key: `adit wg pubkey --manifest` makes one";
        Failure::new(Code::NotFound, anyhow!(text))
    })?;
    let next = key(&ring, &KeySource::Next, true)?.context("no key was made")?;
    output::report(&format!(
        "wireguard: {{publicKey: {own}, nextPublicKey: {next}}}\n"
    ))?;
    output::note(
        "give this to all nodes; what is in spec.wireguard beside it stays. Then `adit wg rotate --finish`.",
    );
    Ok(())
}

fn key(ring: &KeyRing, source: &KeySource, make: bool) -> Result<Option<PublicKey>, Failure> {
    let make = make.then_some(generate::private_key as fn() -> _);
    let key = ring.public(source, make);
    key.map_err(|error| Failure::new(keys::code(&error), error.into()))
}

/// Whether the agent has sent to nobody by the former key for a pass.
async fn all_have_moved(places: &Places, next: PublicKey) -> Result<(), Failure> {
    let status = ask(places).await?;
    let refused = |text: String| Err(Failure::new(Code::Refused, anyhow!(text)));
    let awaited = status.problems.iter();
    let awaited = awaited.filter(|problem| problem.reason == Reason::KeyRotation.name());
    let awaited = awaited
        .map(|problem| problem.subject.as_str())
        .collect::<Vec<_>>();
    if !awaited.is_empty() {
        return refused(format!(
            "handshakes with the next key are awaited of {}",
            awaited.join(", ")
        ));
    }
    let mismatch = status.problems.iter();
    let mut mismatch = mismatch.filter(|problem| problem.reason == Reason::KeyMismatch.name());
    if let Some(problem) = mismatch.next() {
        return refused(format!("{}: {}", problem.subject, problem.message));
    }
    let links = status.peers.iter().filter_map(|peer| peer.wireguard.as_ref());
    let mut before = links.filter(|link| link.own_key != Some(next));
    match before.next() {
        None => Ok(()),
        Some(link) => refused(format!(
            "packets still go by {} with the present key: its manifest must say nextPublicKey on all nodes",
            link.device
        )),
    }
}
