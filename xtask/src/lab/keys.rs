//! The nodes' WireGuard keys, made by the agent's own command in each node's place.
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use super::topology::Node;
use super::{agent, site};
use crate::child;

/// What stands before the key, in what the command prints and in manifests.
const FIELD: &str = "wireguard: {publicKey: ";

/// For each node the field that its manifest needs, as `adit wg pubkey --manifest` prints it.
pub(super) fn fields(adit: &Path, nodes: &[Node]) -> Result<Vec<String>> {
    nodes.iter().map(|node| field(adit, &node.name)).collect()
}

fn field(adit: &Path, node: &str) -> Result<String> {
    let folder = site::folder_of(node);
    fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()))?;
    let mut command = Command::new(adit);
    command
        .args(agent::places(node))
        .args(["wg", "pubkey", "--manifest"]);
    let output = child::run(&mut command).with_context(|| format!("making the key of {node}"))?;
    parse(&String::from_utf8_lossy(&output.stdout)).with_context(|| format!("the key of {node}"))
}

/// One line, to be pasted as it is.
fn parse(output: &str) -> Result<String> {
    let mut lines = output.lines();
    match (lines.next(), lines.next()) {
        (Some(line), None) if line.starts_with(FIELD) => Ok(line.to_owned()),
        _ => bail!("`adit wg pubkey --manifest` printed no field: {output:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_field_is_one_line() {
        let line = "wireguard: {publicKey: AAAA=}";
        assert_eq!(parse(&format!("{line}\n")).unwrap(), line);
        assert!(parse("").is_err() && parse("AAAA=\n").is_err());
        assert!(parse(&format!("{line}\n{line}\n")).is_err());
    }
}
