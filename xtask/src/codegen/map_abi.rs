//! Generates docs/MAP-ABI.md. Sizes, offsets and verdicts are the compiled ones; maps and explanations are read from the
//! sources.
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use dataplane_ebpf::layout::target::TargetKind;
use dataplane_ebpf::layout::{self as abi, PrefixTarget};
use dataplane_ebpf::verdict::{IngressVerdict, Verdict};

use super::layout::{self, Layout};
use super::source::{self, Declared};

const HEAD: &str = "\
<!-- Written by `cargo xtask codegen`; don't edit. -->

# The BPF map ABI

This page describes the layout of the maps that the agent pins below `adit/v$VERSION` in the BPF file system, for \
programs that read them without the code of Adit. The version of the ABI is **$VERSION**. Any change of a type, a size \
or a meaning increments it, and with it the number in the name of the directory. Addresses are big-endian bytes as on \
the wire, integers are in host byte order, and no type has implicit padding. Slot $UNUSED of classes, next hops and \
groups is never used.
";

/// Renders the document from the sources below the workspace's root.
pub(super) fn render(root: &Path) -> Result<String> {
    let sources = Sources::read(&root.join("dataplane-ebpf/src"))?;
    let layouts = layout::all();
    sources.check_all_described(&layouts)?;

    let mut text = HEAD
        .replace("$VERSION", &abi::ABI_VERSION.to_string())
        .replace("$UNUSED", &abi::UNUSED_SLOT.to_string());
    maps(&mut text, &sources)?;
    text.push_str("\n## Types\n");
    for layout in &layouts {
        type_section(&mut text, layout, sources.of(layout.file)?)
            .with_context(|| format!("{} in {}", layout.name, layout.file))?;
    }
    verdicts(&mut text);
    carry_map(&mut text);
    Ok(text)
}

/// The sources by their names: those below layout/, and the one that declares the maps.
struct Sources {
    layout: BTreeMap<String, String>,
    maps: String,
}

impl Sources {
    fn read(folder: &Path) -> Result<Sources> {
        let read =
            |file: &Path| fs::read_to_string(file).with_context(|| format!("reading {}", file.display()));
        let below = folder.join("layout");
        let mut layout = BTreeMap::new();
        for entry in fs::read_dir(&below).with_context(|| format!("reading {}", below.display()))? {
            let entry = entry?;
            layout.insert(
                entry.file_name().to_string_lossy().into_owned(),
                read(&entry.path())?,
            );
        }
        Ok(Sources {
            layout,
            maps: read(&folder.join("programs/maps.rs"))?,
        })
    }

    fn of(&self, file: &str) -> Result<&str> {
        let text = self
            .layout
            .get(file)
            .with_context(|| format!("there is no layout/{file}"))?;
        Ok(text)
    }

    /// A type that is new must not be missing from the document.
    fn check_all_described(&self, layouts: &[Layout]) -> Result<()> {
        let described: BTreeSet<&str> = layouts.iter().map(|layout| layout.name).collect();
        for (file, text) in &self.layout {
            for line in text.lines().filter_map(|line| line.strip_prefix("pub struct ")) {
                let name = line.split([' ', '(', ';']).next().unwrap_or_default();
                ensure!(
                    described.contains(name),
                    "layout/{file} declares {name}, which xtask/src/codegen/layout.rs does not list"
                );
            }
        }
        Ok(())
    }
}

fn maps(text: &mut String, sources: &Sources) -> Result<()> {
    text.push_str(
        "\n## Maps\n\n| name | type | key | value | entries | contents |\n|---|---|---|---|---|---|\n",
    );
    let names = source::declarations(sources.of("names.rs")?);
    let declared = declared_maps(&sources.maps)?;
    let pinned: BTreeSet<&str> = abi::names::PINNED_MAPS.into();
    if let Some(map) = declared.iter().find(|map| !pinned.contains(map.name)) {
        bail!("the map {} is none of PINNED_MAPS", map.name);
    }
    for name in abi::names::PINNED_MAPS {
        let map = declared.iter().find(|map| map.name == name);
        let map = map.with_context(|| format!("no program has the map {name}"))?;
        let value = format!("\"{name}\"");
        let docs = names
            .iter()
            .find(|found| source::constant(found.line).is_some_and(|(_, text)| text == value))
            .with_context(|| format!("names.rs has no {name}"))?;
        let (kind, key, value) = kind(map.kind)?;
        let entries = entries(map.entries)?;
        writeln!(
            text,
            "| `{name}` | {kind} | {key} | `{value}` | {entries} | {} |",
            docs.docs
        )?;
    }
    Ok(())
}

/// A map as the programs declare it.
#[derive(Debug, PartialEq, Eq)]
struct Map<'a> {
    name: &'a str,
    kind: &'a str,
    entries: &'a str,
}

/// Reads each `#[map(name = "N")] static M: KIND = TYPE::with_max_entries(ENTRIES, FLAGS);`.
fn declared_maps(text: &str) -> Result<Vec<Map<'_>>> {
    let mut maps = Vec::new();
    for part in text.split("\n#[map(name = \"").skip(1) {
        let map = part.split_once('"').and_then(|(name, rest)| {
            let (_, rest) = rest.split_once("static ")?;
            let (_, rest) = rest.split_once(": ")?;
            let (kind, rest) = rest.split_once(" =")?;
            let (_, rest) = rest.split_once("with_max_entries(")?;
            let (entries, _) = rest.split_once(',')?;
            Some(Map {
                name,
                kind: kind.trim(),
                entries: entries.trim(),
            })
        });
        let first = part.lines().next().unwrap_or_default();
        maps.push(
            map.with_context(|| format!("programs/maps.rs: what follows `{first}` reads unlike a map"))?,
        );
    }
    Ok(maps)
}

/// The kernel's type, the key and the value of what aya calls `kind`.
fn kind(kind: &str) -> Result<(&'static str, &'static str, &str)> {
    let (outer, inner) = kind
        .strip_suffix('>')
        .and_then(|kind| kind.split_once('<'))
        .with_context(|| format!("{kind} takes no types"))?;
    Ok(match outer {
        "Array" => ("`BPF_MAP_TYPE_ARRAY`", "slot, u32", inner),
        "PerCpuArray" => ("`BPF_MAP_TYPE_PERCPU_ARRAY`", "slot, u32", inner),
        "LpmTrie" => {
            let (key, value) = inner.rsplit_once(", ").context("a trie has a key and a value")?;
            let key = match key {
                "[u8; 4]" => "`PrefixKeyV4`",
                "[u8; 16]" => "`PrefixKeyV6`",
                other => bail!("no prefix has the address {other}"),
            };
            ("`BPF_MAP_TYPE_LPM_TRIE`", key, value)
        }
        "PerCpuHashMap" => match inner.split_once(", ") {
            Some(("SourceKey", value)) => ("`BPF_MAP_TYPE_PERCPU_HASH`", "`SourceKey`", value),
            _ => bail!("no hash table leads from {inner}"),
        },
        other => bail!("xtask/src/codegen/map_abi.rs knows no map of the type {other}"),
    })
}

fn entries(constant: &str) -> Result<u32> {
    Ok(match constant {
        "MAX_CLASSES" => abi::MAX_CLASSES,
        "MAX_NEXT_HOPS" => abi::MAX_NEXT_HOPS,
        "MAX_GROUPS" => abi::MAX_GROUPS,
        "MAX_PREFIXES_V4" => abi::MAX_PREFIXES_V4,
        "MAX_PREFIXES_V6" => abi::MAX_PREFIXES_V6,
        "MAX_SOURCES" => abi::MAX_SOURCES,
        "Verdict::COUNT" => Verdict::COUNT,
        "IngressVerdict::COUNT" => IngressVerdict::COUNT,
        other => bail!("xtask/src/codegen/map_abi.rs knows no {other}"),
    })
}

fn type_section(text: &mut String, layout: &Layout, source: &str) -> Result<()> {
    let Layout { name, size, .. } = layout;
    let declarations = source::declarations(source);
    let starts = [format!("pub struct {name} {{"), format!("pub struct {name}(")];
    let declared = find(&declarations, |line| {
        starts.iter().any(|start| line.starts_with(start))
    })?;
    write!(text, "\n### {name}, {size} bytes\n\n{}\n", declared.docs)?;

    if !layout.fields.is_empty() {
        text.push_str("\n| offset | bytes | field | type | |\n|---|---|---|---|---|\n");
        let fields = source::declarations(source::body(source, &format!("pub struct {name}"))?);
        for field in &layout.fields {
            let start = format!("pub {}: ", field.name);
            let declared = find(&fields, |line| line.starts_with(&start))?;
            let kind = declared.line[start.len()..].trim_end_matches(',');
            writeln!(
                text,
                "| {} | {} | `{}` | `{kind}` | {} |",
                field.offset, field.size, field.name, declared.docs
            )?;
        }
    }
    if *name == "PrefixTarget" {
        return target(text, source);
    }
    let Ok(own) = source::body(source, &format!("impl {name}")) else {
        return Ok(());
    };
    let own = source::declarations(own);
    let constants: Vec<_> = own
        .iter()
        .filter_map(|found| Some((source::constant(found.line)?, &found.docs)))
        .collect();
    if !constants.is_empty() {
        text.push_str("\n| constant | value | |\n|---|---|---|\n");
    }
    for ((constant, value), docs) in constants {
        writeln!(text, "| `{name}::{constant}` | `{value}` | {docs} |")?;
    }
    Ok(())
}

/// The word's kinds, with the bits that each one sets.
fn target(text: &mut String, source: &str) -> Result<()> {
    let variants = source::declarations(source::body(source, "pub enum TargetKind")?);
    let kinds = [
        ("Empty", TargetKind::Empty),
        ("NextHop", TargetKind::NextHop(0)),
        ("Group", TargetKind::Group(0)),
        ("Local", TargetKind::Local),
    ];
    ensure!(kinds.len() == variants.len(), "a kind of target is not described");
    let slot =
        PrefixTarget::new(TargetKind::NextHop(u32::MAX)).0 & !PrefixTarget::new(TargetKind::NextHop(0)).0;
    writeln!(text, "\nThe slot is in the bits `{slot:#010x}` of the word.\n")?;
    text.push_str("| word | kind | |\n|---|---|---|\n");
    for (name, kind) in kinds {
        let declared = find(&variants, |line| {
            line.trim_end_matches(',').split('(').next() == Some(name)
        })?;
        let word = PrefixTarget::new(kind).0;
        let with_slot = if declared.line.contains('(') {
            " + slot"
        } else {
            ""
        };
        writeln!(text, "| `{word:#010x}`{with_slot} | {name} | {} |", declared.docs)?;
    }
    Ok(())
}

/// The carry map, which no program uses and no version changes.
fn carry_map(text: &mut String) {
    let (directory, name, entries) = (abi::carry::DIRECTORY, abi::carry::NAME, abi::carry::MAX_ENTRIES);
    let _ = write!(
        text,
        "\n## The carry map\n\nThe map `adit/{directory}/{name}` is a `BPF_MAP_TYPE_HASH` with at most {entries} entries. Its \
         key is `CarryKey`; its value has 32 bytes, whose type depends on the kind in the key. It contains data that no \
         kernel object can hold: the last configured endpoint of each WireGuard peer. No program reads it, and no version \
         of the ABI changes it.\n"
    );
}

fn verdicts(text: &mut String) {
    let egress = Verdict::ALL
        .iter()
        .map(|verdict| (verdict.index(), verdict.name(), verdict.explanation()));
    let ingress = IngressVerdict::ALL
        .iter()
        .map(|verdict| (verdict.index(), verdict.name(), verdict.explanation()));
    text.push_str("\n## Verdicts\n");
    verdict_table(text, abi::names::EGRESS_COUNTERS, egress);
    verdict_table(text, abi::names::INGRESS_COUNTERS, ingress);
}

fn verdict_table(
    text: &mut String,
    map: &str,
    verdicts: impl Iterator<Item = (u32, &'static str, &'static str)>,
) {
    let _ = write!(
        text,
        "\nSlots of `{map}`:\n\n| slot | verdict | |\n|---|---|---|\n"
    );
    for (index, name, explanation) in verdicts {
        let _ = writeln!(text, "| {index} | `{name}` | {explanation} |");
    }
}

fn find<'a>(all: &'a [Declared<'a>], wanted: impl Fn(&str) -> bool) -> Result<&'a Declared<'a>> {
    let found = all.iter().find(|declared| wanted(declared.line));
    found.context("the source does not declare what is compiled")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_are_read_as_rustfmt_writes_them() {
        let text = "\n#[map(name = \"a\")]\nstatic A: LpmTrie<[u8; 4], PrefixTarget> = LpmTrie::with_max_entries(MAX_PREFIXES_V4, 0);\n\
            \n#[map(name = \"b\")]\n#[used]\nstatic B: Array<NodeLabel> =\n    Array::with_max_entries(MAX_GROUPS, 0);\n";
        let maps = declared_maps(text).unwrap();
        assert_eq!(
            (maps[1].name, maps[1].kind, maps[1].entries),
            ("b", "Array<NodeLabel>", "MAX_GROUPS")
        );
        assert_eq!(
            kind(maps[0].kind).unwrap(),
            ("`BPF_MAP_TYPE_LPM_TRIE`", "`PrefixKeyV4`", "PrefixTarget")
        );
        assert!(declared_maps("\n#[map(name = \"c\")]\nstatic C: Odd;\n").is_err());
        assert!(kind("HashMap<u32, u32>").is_err() && entries("MAX_ODD").is_err());
    }

    #[test]
    fn a_type_that_is_not_listed_is_an_error() {
        let sources = Sources {
            layout: [(
                "new.rs".to_owned(),
                "pub struct Class {\n}\npub struct Fresh(u32);\n".to_owned(),
            )]
            .into(),
            maps: String::new(),
        };
        let error = sources
            .check_all_described(&layout::all())
            .unwrap_err()
            .to_string();
        assert!(error.contains("layout/new.rs declares Fresh"));
    }
}
