//! `adit wg rotate`: changes the key of this node in two steps, each of which is a line in its manifest.

use anyhow::{Context as _, anyhow};
use clap::Args;

use super::keys;
use crate::cli::directories::Directories;
use crate::cli::exit::{Code, Failure};
use crate::cli::output;
use crate::cli::status::ask;
use crate::kernel::wireguard::generate;
use crate::net::KeySource;
use crate::net::PublicKey;
use crate::resource::Reason;
use crate::source::KeyRing;

/// Change the key of this node, without packet loss
///
/// The first step creates a next key, if there is none, and prints a field for the TunnelNode of this node.
/// When all nodes have that manifest, each of them creates a second device, and packets move to it after a
/// handshake.
///
/// The second step, --finish, prints the field that ends the rotation: the first devices get the new key,
/// packets move back to them, and the second devices are deleted. It is refused while the agent still waits
/// for handshakes.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  adit wg rotate\n  adit status -o json | jq '.problems[] | select(.reason == \"KeyRotation\")'\n  adit wg rotate --finish"
)]
pub(super) struct Arguments {
    /// Print the field with the new key only; exit code 8 while the agent waits for handshakes, 3 if there is
    /// no next key
    #[arg(long)]
    finish: bool,
}

pub(super) async fn run(directories: &Directories, arguments: &Arguments) -> Result<(), Failure> {
    let ring = KeyRing::new(&directories.state_dir);
    if arguments.finish {
        let next = key(&ring, &KeySource::Next, false)?;
        let next = next.ok_or_else(|| {
            let text = "this node has no next key: `adit wg rotate` creates one";
            Failure::new(Code::NotFound, anyhow!(text))
        })?;
        all_have_moved(directories, next).await?;
        return output::show(&format!("wireguard: {{publicKey: {next}}}\n"));
    }
    let own = key(&ring, &KeySource::Node, false)?;
    let own = own.ok_or_else(|| {
        let text = "this node has no key: `adit wg pubkey --manifest` creates one";
        Failure::new(Code::NotFound, anyhow!(text))
    })?;
    let next = key(&ring, &KeySource::Next, true)?.context("no key was created")?;
    output::report(&format!(
        "wireguard: {{publicKey: {own}, nextPublicKey: {next}}}\n"
    ))?;
    output::note(
        "put this field into the TunnelNode of this node, on all nodes; keep other fields of spec.wireguard. When all links \
         have moved, run `adit wg rotate --finish`",
    );
    Ok(())
}

fn key(ring: &KeyRing, source: &KeySource, create: bool) -> Result<Option<PublicKey>, Failure> {
    let create = create.then_some(generate::private_key as fn() -> _);
    let key = ring.public(source, create);
    key.map_err(|error| Failure::new(keys::code(&error), error.into()))
}

/// Fails unless all links of this node use the next key since the last reconciliation.
async fn all_have_moved(directories: &Directories, next: PublicKey) -> Result<(), Failure> {
    let status = ask(directories).await?;
    let refused = |text: String| Err(Failure::new(Code::Refused, anyhow!(text)));
    let awaited = status.problems.iter();
    let awaited = awaited.filter(|problem| problem.reason == Reason::KeyRotation.name());
    let awaited = awaited
        .map(|problem| problem.subject.as_str())
        .collect::<Vec<_>>();
    if !awaited.is_empty() {
        return refused(format!(
            "waiting for handshakes with the next key: {}",
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
            "packets still use {} with the current key: nextPublicKey must be in the manifest of this node, on all nodes",
            link.device
        )),
    }
}
