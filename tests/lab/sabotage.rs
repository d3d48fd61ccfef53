//! Breaks one thing on a host whose agent was killed, with tools of others, so that the lab must fail.
use std::fs;
use std::path::Path;

use adit_tests::NetNs;
use adit_tests::agent::Agent;
use adit_tests::snapshot::run;
use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

use super::options::Sabotage;

/// The directory with the pins, below the one of the agent.
const PINS: &str = "v2";
/// The name of the pinned TCX link of the program on the egress of `adit0`.
const EGRESS_LINK: &str = "adit0-egress";
/// Offsets of VNI and encapsulation in a class, and a VNI that no lab uses.
const CLASS_VNI: usize = 4;
const CLASS_ENCAPSULATION: usize = 14;
const FOREIGN_VNI: u32 = 0x01_d117;
/// The position of the kind in a target, and the kind of prefixes that the node itself advertises.
const TARGET_SHIFT: u32 = 30;
const TARGET_LOCAL: u32 = 3;

impl Sabotage {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Detach => "detach",
            Self::Vni => "vni",
            Self::Map => "map",
        }
    }

    /// Breaks it on the host of this agent.
    pub(crate) fn commit(self, agent: &Agent<'_>) -> Result<()> {
        let (pins, netns) = (agent.pins().join(PINS), &agent.host().netns);
        match self {
            Self::Detach => detach(&pins, netns),
            Self::Vni => change_vni(&pins.join("maps")),
            Self::Map => delete_prefixes(&pins.join("maps")),
        }
    }
}

/// With TCX, deleting the pin detaches the program; a clsact filter has to be deleted.
fn detach(pins: &Path, namespace: &NetNs) -> Result<()> {
    let links = fs::read_dir(pins.join("links")).into_iter().flatten().flatten();
    let egress = links.filter(|entry| entry.file_name().to_string_lossy().starts_with(EGRESS_LINK));
    let mut found = false;
    for entry in egress {
        fs::remove_file(entry.path()).with_context(|| format!("removing {}", entry.path().display()))?;
        found = true;
    }
    if found {
        return Ok(());
    }
    run(namespace, "tc", "filter del dev adit0 egress");
    Ok(())
}

fn change_vni(maps: &Path) -> Result<()> {
    let map = maps.join("adit_classes");
    let mut changed = false;
    for Entry { key, mut value } in dump(&map)? {
        if value
            .get(CLASS_ENCAPSULATION)
            .is_none_or(|encapsulation| *encapsulation == 0)
        {
            continue;
        }
        value[CLASS_VNI..CLASS_VNI + 4].copy_from_slice(&FOREIGN_VNI.to_ne_bytes());
        let words = format!("{} {}", hex("key", &key), hex("value", &value));
        bpftool("update", &map, &words);
        changed = true;
    }
    if !changed {
        bail!(
            "{} has no class that is in use, so there is nothing to break",
            map.display()
        );
    }
    Ok(())
}

fn delete_prefixes(maps: &Path) -> Result<()> {
    let mut changed = false;
    for map in ["adit_prefixes4", "adit_prefixes6"].map(|name| maps.join(name)) {
        for Entry { key, value } in dump(&map)? {
            let target = u32::from_ne_bytes(
                value
                    .as_slice()
                    .try_into()
                    .context("the value of a prefix has not four bytes")?,
            );
            if target >> TARGET_SHIFT != TARGET_LOCAL {
                bpftool("delete", &map, &hex("key", &key));
                changed = true;
            }
        }
    }
    if !changed {
        bail!(
            "{} has no prefix of a peer, so there is nothing to break",
            maps.display()
        );
    }
    Ok(())
}

/// An entry of a map.
#[derive(Debug, PartialEq, Eq)]
struct Entry {
    key: Vec<u8>,
    value: Vec<u8>,
}

fn dump(map: &Path) -> Result<Vec<Entry>> {
    let json = bpftool("dump", map, "");
    parse(&json).with_context(|| format!("reading the dump of {} by bpftool", map.display()))
}

fn parse(json: &str) -> Result<Vec<Entry>> {
    #[derive(Deserialize)]
    struct Raw {
        key: Vec<String>,
        value: Vec<String>,
    }
    let bytes = |texts: &[String]| -> Result<Vec<u8>> {
        let byte = |text: &String| Ok(u8::from_str_radix(text.trim_start_matches("0x"), 16)?);
        texts.iter().map(byte).collect()
    };
    let raw: Vec<Raw> = serde_json::from_str(json)?;
    raw.iter()
        .map(|raw| {
            Ok(Entry {
                key: bytes(&raw.key)?,
                value: bytes(&raw.value)?,
            })
        })
        .collect()
}

/// Runs `bpftool map WHAT pinned MAP WORDS`. Not in batch mode, which fails on standard input even after success.
fn bpftool(what: &str, map: &Path, words: &str) -> String {
    let words = format!("--json map {what} pinned {} {words}", map.display());
    run(&NetNs::current(), "bpftool", &words)
}

/// A name and bytes in the syntax of bpftool.
fn hex(name: &str, bytes: &[u8]) -> String {
    let bytes = bytes.iter().map(|byte| format!(" {byte:02x}"));
    format!("{name} hex{}", bytes.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dump_of_bpftool_is_parsed() {
        let json = r#"[{"key":["0x01","0x00"],"value":["0xff"],"formatted":{"key":1,"value":255}}]"#;
        let entry = Entry {
            key: vec![1, 0],
            value: vec![255],
        };
        assert_eq!(parse(json).unwrap(), [entry]);
        assert!(parse(r#"{"error":"no such map"}"#).is_err());
    }

    #[test]
    fn bytes_are_written_in_the_syntax_of_bpftool() {
        assert_eq!(hex("key", &[0, 10, 255]), "key hex 00 0a ff");
    }
}
