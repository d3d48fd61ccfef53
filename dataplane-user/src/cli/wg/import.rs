//! `adit wg import`: converts a wg-quick file to a manifest, which the agent keeps.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use clap::Args;
use serde::Serialize;

use super::quick::Quick;
use crate::cli::directories::Directories;
use crate::cli::exit::Failure;
use crate::cli::output;
use crate::net::NodeName;
use crate::resource::wireguard::{AllowedIpRoutes, Peer};
use crate::source::key_file;
use crate::source::manifest::{self, ManifestFile};
use crate::wg_quick::Config;

/// The MTUs that manifests accept, in bytes.
const MTUS: std::ops::RangeInclusive<u32> = 68..=65_535;

/// Convert a wg-quick file to a manifest
///
/// Prints a WireGuardInterface. Manifests contain no private keys: the manifest names files in the state
/// directory, and --write-keys writes them. Settings without a field in manifests (DNS, PreUp, PostUp,
/// PreDown, PostDown, SaveConfig) are skipped with a note.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  adit wg import /etc/wireguard/wg0.conf --node a\n  adit wg import wg0 --write-keys > /etc/adit/manifests/wg0.yaml"
)]
pub(super) struct Arguments {
    /// Path of a file, or the name of a file in /etc/wireguard without .conf
    #[arg(value_name = "FILE|NAME")]
    file: String,
    /// Name of the node of the interface [default: the hostname]
    #[arg(long, value_name = "NAME", env = "ADIT_NODE")]
    node: Option<String>,
    /// Write the keys to the files that the manifest names, with mode 0600; an existing file must contain the
    /// same key
    #[arg(long)]
    write_keys: bool,
}

/// The files that a manifest names.
struct KeyFiles {
    directory: PathBuf,
    name: String,
}

impl KeyFiles {
    fn private(&self) -> PathBuf {
        self.directory.join(format!("{}.key", self.name))
    }

    /// The file of the preshared key of a peer; peers are numbered from 1.
    fn preshared(&self, number: usize) -> PathBuf {
        self.directory.join(format!("{}-{number}.psk", self.name))
    }
}

pub(super) fn run(directories: &Directories, arguments: &Arguments) -> Result<(), Failure> {
    let quick = Quick::read(&arguments.file)?;
    let node = match &arguments.node {
        Some(node) => node.clone(),
        None => nix::unistd::gethostname()?.to_string_lossy().to_lowercase(),
    };
    let node = NodeName::new(&node).map_err(|error| anyhow!("{error}; name the node with --node"))?;
    let files = KeyFiles {
        directory: std::path::absolute(&directories.state_dir)?.join("wireguard"),
        name: quick.name.to_string(),
    };
    let text = manifest(&quick, &node, &files)?;
    if arguments.write_keys {
        write_keys(&quick, &files)?;
    } else {
        output::note(&format!(
            "the keys are not written; --write-keys writes them to {}",
            files.directory.display()
        ));
    }
    for (key, given) in skipped(&quick) {
        if given {
            output::note(&format!("{key} skipped: a manifest can't express it"));
        }
    }
    output::report(&text)
}

fn write_keys(quick: &Quick, files: &KeyFiles) -> Result<(), Failure> {
    let config = &quick.config;
    let key = config.interface.private_key.as_ref();
    let key = key.with_context(|| format!("{} has no PrivateKey", quick.path.display()))?;
    write(&files.private(), &key.to_base64())?;
    for (number, peer) in (1..).zip(&config.peers) {
        if let Some(preshared) = peer.known_preshared_key() {
            write(&files.preshared(number), &preshared.to_base64())?;
        }
    }
    Ok(())
}

fn write(path: &Path, key: &str) -> Result<(), Failure> {
    let stored = key_file::store_text(path, key);
    stored.with_context(|| path.display().to_string())?;
    Ok(())
}

/// The settings that a manifest can't express, and whether the file has them.
fn skipped(quick: &Quick) -> [(&'static str, bool); 7] {
    let interface = &quick.config.interface;
    let hooks = &interface.hooks;
    [
        (
            "DNS",
            !interface.dns.is_empty() || !interface.dns_search.is_empty(),
        ),
        ("PreUp", !hooks.pre_up.is_empty()),
        ("PostUp", !hooks.post_up.is_empty()),
        ("PreDown", !hooks.pre_down.is_empty()),
        ("PostDown", !hooks.post_down.is_empty()),
        ("SaveConfig", interface.save_config),
        ("MTU", interface.mtu.is_some_and(|mtu| !MTUS.contains(&mtu))),
    ]
}

/// A WireGuardInterface as it is written.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Manifest {
    api_version: &'static str,
    kind: &'static str,
    metadata: Metadata,
    spec: Spec,
}

#[derive(Serialize)]
struct Metadata {
    name: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    node: String,
    name: String,
    private_key: KeyFile,
    #[serde(skip_serializing_if = "Option::is_none")]
    listen_port: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fw_mark: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    addresses: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mtu: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    table: Option<Table>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    peers: Vec<PeerSpec>,
}

#[derive(Serialize)]
struct KeyFile {
    file: String,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Table {
    Word(&'static str),
    Number(u32),
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PeerSpec {
    public_key: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    preshared_key_file: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    endpoint: Option<String>,
    #[serde(rename = "allowedIPs", skip_serializing_if = "Vec::is_empty")]
    allowed_ips: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    persistent_keepalive: Option<u16>,
}

/// The manifest as text. It is an error if the manifest would be rejected.
fn manifest(quick: &Quick, node: &NodeName, files: &KeyFiles) -> Result<String, Failure> {
    let spec = spec(quick, node, files);
    let manifest = Manifest {
        api_version: "adit.dev/v1alpha1",
        kind: "WireGuardInterface",
        metadata: Metadata {
            name: manifest_name(quick.name.as_str()),
        },
        spec,
    };
    let text = serde_saphyr::to_string(&manifest)?;
    let file = ManifestFile {
        name: "the manifest".into(),
        text,
    };
    if let Err(errors) = manifest::read(std::slice::from_ref(&file), false) {
        let errors = errors.iter().map(ToString::to_string).collect::<Vec<_>>();
        return Err(anyhow!(
            "{} can't be converted to a manifest: {}",
            quick.path.display(),
            errors.join("; ")
        )
        .into());
    }
    Ok(file.text)
}

fn spec(quick: &Quick, node: &NodeName, files: &KeyFiles) -> Spec {
    let Config { interface, peers, .. } = &quick.config;
    // Of two sections with one key only the last one counts.
    let is_last = |index: usize, peer: &Peer| {
        peers[index + 1..]
            .iter()
            .all(|later| later.public_key != peer.public_key)
    };
    let peers = peers
        .iter()
        .enumerate()
        .filter(|(index, peer)| is_last(*index, peer));
    Spec {
        node: node.to_string(),
        name: quick.name.to_string(),
        private_key: KeyFile {
            file: files.private().display().to_string(),
        },
        listen_port: interface.listen_port,
        fw_mark: (interface.fwmark != 0).then(|| format!("{:#x}", interface.fwmark)),
        addresses: interface.addresses.iter().map(ToString::to_string).collect(),
        mtu: interface.mtu.filter(|mtu| MTUS.contains(mtu)),
        table: match interface.table {
            AllowedIpRoutes::Auto => None,
            AllowedIpRoutes::Off => Some(Table::Word("off")),
            AllowedIpRoutes::Table(table) => Some(Table::Number(table)),
        },
        peers: peers
            .map(|(index, peer)| peer_spec(peer, &files.preshared(index + 1)))
            .collect(),
    }
}

fn peer_spec(peer: &Peer, preshared: &Path) -> PeerSpec {
    PeerSpec {
        public_key: peer.public_key.to_string(),
        preshared_key_file: peer
            .preshared_key
            .is_some()
            .then(|| preshared.display().to_string()),
        endpoint: peer.endpoint.as_ref().map(ToString::to_string),
        allowed_ips: peer.allowed_ips.iter().map(ToString::to_string).collect(),
        persistent_keepalive: Some(peer.keepalive).filter(|seconds| *seconds > 0),
    }
}

/// The name of the resource: that of the interface, with dashes for characters that names of resources do not
/// allow.
fn manifest_name(interface: &str) -> String {
    let lower = interface.to_ascii_lowercase();
    let name = lower.replace(|c: char| !c.is_ascii_alphanumeric(), "-");
    let name = name.trim_matches('-');
    if name.is_empty() {
        "wireguard".to_owned()
    } else {
        name.to_owned()
    }
}

#[cfg(test)]
mod tests;
