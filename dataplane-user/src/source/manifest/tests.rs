//! Tests of manifests: the resources of valid ones, and the errors of invalid ones.

mod accepted;
mod across;
mod fuzz;
mod netlink;
mod network;
mod node;
mod syntax;
mod wireguard;

use super::*;

/// Reads one file.
fn read_one(text: &str) -> Result<Resources, Vec<ManifestError>> {
    let file = ManifestFile {
        name: "a.yaml".into(),
        text: text.to_owned(),
    };
    read(&[file], true)
}

/// The error lines of one file.
fn errors(text: &str) -> Vec<String> {
    match read_one(text) {
        Ok(_) => Vec::new(),
        Err(errors) => errors.iter().map(ToString::to_string).collect(),
    }
}

/// Expects exactly these lines.
#[track_caller]
fn rejected(text: &str, lines: &[&str]) {
    assert_eq!(errors(text), lines, "{text}");
}

/// A valid network `net` of six lines; appended fields begin on line 7.
const NETWORK: &str = "\
apiVersion: adit.dev/v1alpha1
kind: TunnelNetwork
metadata:
  name: net
spec:
  prefixes: [10.0.0.0/8, 'fd00::/16']
";

/// A valid node `a` of `net`; appended fields begin on line 10.
const NODE: &str = "\
---
apiVersion: adit.dev/v1alpha1
kind: TunnelNode
metadata:
  name: a
spec:
  network: net
  underlay: {ipv4: 192.0.2.1}
  addresses: [10.0.0.1]
";
