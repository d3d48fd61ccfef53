//! `adit wg import`: a file of wg-quick as a manifest that the agent keeps.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use clap::Args;

use super::quick::Quick;
use crate::cli::exit::Failure;
use crate::cli::output;
use crate::cli::places::Places;
use crate::net::NodeName;
use crate::resource::node::{Endpoint, Host};
use crate::resource::wireguard::AllowedIpRoutes;
use crate::source::key_file;
use crate::wg_quick::Peer;

/// Prints a WireGuardInterface of a file of wg-quick. Keys don't go into manifests: the manifest names files in the state
/// directory, and --write-keys writes them. What a manifest has no field for (DNS, PreUp and the like, SaveConfig) is told.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  adit wg import /etc/wireguard/wg0.conf --node a\n  adit wg import wg0 --write-keys > /etc/adit/manifests/wg0.yaml"
)]
pub(super) struct Arguments {
    /// A file, or the name of one in /etc/wireguard without its .conf
    #[arg(value_name = "FILE|NAME")]
    file: String,
    /// The node that shall have the interface [default: the hostname]
    #[arg(long, value_name = "NAME", env = "ADIT_NODE")]
    node: Option<String>,
    /// Writes the keys into the files that the manifest names, mode 0600; a file that is there already must hold the same key
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

    /// Of the peer of this number, from 1.
    fn preshared(&self, number: usize) -> PathBuf {
        self.directory.join(format!("{}-{number}.psk", self.name))
    }
}

pub(super) fn run(places: &Places, arguments: &Arguments) -> Result<(), Failure> {
    let quick = Quick::read(&arguments.file)?;
    let node = match &arguments.node {
        Some(node) => node.clone(),
        None => nix::unistd::gethostname()?.to_string_lossy().to_lowercase(),
    };
    let node = NodeName::new(&node).map_err(|error| anyhow!("{error}; name the node by --node"))?;
    let files = KeyFiles {
        directory: places.state_dir.join("wireguard"),
        name: quick.name.to_string(),
    };
    if arguments.write_keys {
        write_keys(&quick, &files)?;
    } else {
        output::note(&format!(
            "the keys are not written; --write-keys puts them into {}",
            files.directory.display()
        ));
    }
    for (key, given) in left_out(&quick) {
        if given {
            output::note(&format!("{key} has no field in a manifest and is skipped"));
        }
    }
    output::report(&manifest(&quick, &node, &files))
}

fn write_keys(quick: &Quick, files: &KeyFiles) -> Result<(), Failure> {
    let config = &quick.config;
    let key = config.interface.private_key.as_ref();
    let key = key.with_context(|| format!("{} has no PrivateKey", quick.path.display()))?;
    write(&files.private(), &key.to_base64())?;
    for (number, peer) in (1..).zip(&config.peers) {
        if let Some(preshared) = &peer.preshared_key {
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

/// What a file can say and a manifest can't.
fn left_out(quick: &Quick) -> [(&'static str, bool); 6] {
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
    ]
}

fn manifest(quick: &Quick, node: &NodeName, files: &KeyFiles) -> String {
    let interface = &quick.config.interface;
    let mut text = format!(
        "apiVersion: adit.dev/v1alpha1\nkind: WireGuardInterface\nmetadata: {{name: {}}}\nspec:\n  node: {node}\n  name: \"{}\"\n  privateKey: {{file: \"{}\"}}\n",
        manifest_name(quick.name.as_str()),
        quick.name,
        files.private().display()
    );
    let mut line = |line: String| {
        text.push_str(&line);
        text.push('\n');
    };
    if let Some(port) = interface.listen_port {
        line(format!("  listenPort: {port}"));
    }
    if interface.fwmark != 0 {
        line(format!("  fwMark: \"{:#x}\"", interface.fwmark));
    }
    if !interface.addresses.is_empty() {
        line(format!("  addresses: [{}]", quoted(&interface.addresses)));
    }
    if let Some(mtu) = interface.mtu {
        line(format!("  mtu: {mtu}"));
    }
    match interface.table {
        AllowedIpRoutes::Auto => {}
        AllowedIpRoutes::Off => line("  table: off".to_owned()),
        AllowedIpRoutes::Table(table) => line(format!("  table: {table}")),
    }
    if !quick.config.peers.is_empty() {
        line("  peers:".to_owned());
    }
    for (number, peer) in (1..).zip(&quick.config.peers) {
        text.push_str(&peer_fields(peer, &files.preshared(number)));
    }
    text
}

fn peer_fields(peer: &Peer, preshared: &Path) -> String {
    let mut text = format!("  - publicKey: \"{}\"\n", peer.public_key);
    if peer.preshared_key.is_some() {
        text.push_str(&format!("    presharedKeyFile: \"{}\"\n", preshared.display()));
    }
    if let Some(Endpoint { host, port }) = &peer.endpoint {
        let host = match host {
            Host::Address(address) if address.is_ipv6() => format!("[{address}]"),
            Host::Address(address) => address.to_string(),
            Host::Name(name) => name.clone(),
        };
        text.push_str(&format!("    endpoint: \"{host}:{port}\"\n"));
    }
    if !peer.allowed_ips.is_empty() {
        text.push_str(&format!("    allowedIPs: [{}]\n", quoted(&peer.allowed_ips)));
    }
    if peer.persistent_keepalive > 0 {
        text.push_str(&format!(
            "    persistentKeepalive: {}\n",
            peer.persistent_keepalive
        ));
    }
    text
}

fn quoted(prefixes: &[ipnet::IpNet]) -> String {
    let quoted = prefixes.iter().map(|prefix| format!("\"{prefix}\""));
    quoted.collect::<Vec<_>>().join(", ")
}

/// A resource's name of an interface's: what resources may not have in theirs becomes a dash.
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
mod tests {
    use super::*;
    use crate::source::manifest::{self, ManifestFile};
    use crate::wg_quick::Config;

    const KEY: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";

    #[test]
    fn the_manifest_says_what_the_file_says_but_for_keys() {
        let text = format!(
            "[Interface]\nPrivateKey = {KEY}\nListenPort = 51820\nFwMark = 0x7\nAddress = 10.0.0.1/24, fd00::1\nMTU = 1400\nTable = 77\nPostUp = true\n[Peer]\nPublicKey = {KEY}\nPresharedKey = AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\nEndPoint = [2001:db8::1]:51820\nAllowedIPs = 10.0.0.2, fd00::/64\nPersistentKeepalive = 25\n"
        );
        let path = PathBuf::from("/x/wg0.conf");
        let quick = Quick {
            config: Config::parse(&path, text.as_bytes()).unwrap(),
            name: crate::net::LinkName::constant("wg0"),
            path,
        };
        let files = KeyFiles {
            directory: PathBuf::from("/keys"),
            name: "wg0".to_owned(),
        };
        let text = manifest(&quick, &NodeName::new("a").unwrap(), &files);
        let told = left_out(&quick).into_iter().filter(|(_, given)| *given);
        assert_eq!(told.map(|(key, _)| key).collect::<Vec<_>>(), ["PostUp"]);
        let file = ManifestFile {
            name: "wg0.yaml".into(),
            text: text.clone(),
        };
        let resources = manifest::read(&[file], true).unwrap_or_else(|errors| panic!("{errors:#?}\n{text}"));
        let read = &resources.netlink.wireguard["wg0"].object;
        assert_eq!(
            (read.listen_port, read.fwmark, read.end.mtu),
            (51820, 7, Some(1400))
        );
        assert_eq!(
            read.end
                .addresses
                .keys()
                .map(ToString::to_string)
                .collect::<Vec<_>>(),
            ["10.0.0.1/24", "fd00::1/128"]
        );
        let peer = &read.peers[&KEY.parse().unwrap()];
        assert_eq!(peer.preshared_key_file.as_deref(), Some("/keys/wg0-1.psk"));
        assert_eq!((peer.keepalive, peer.allowed_ips.len()), (25, 2));
        assert_eq!(
            peer.endpoint.as_ref().unwrap().host,
            Host::Address("2001:db8::1".parse().unwrap())
        );
    }

    #[test]
    fn any_interface_has_a_manifest_s_name() {
        for (interface, name) in [
            ("wg0", "wg0"),
            ("Home_1", "home-1"),
            ("=", "wireguard"),
            ("a.b+", "a-b"),
        ] {
            assert_eq!(manifest_name(interface), name);
            NodeName::new(name).unwrap();
        }
    }
}
