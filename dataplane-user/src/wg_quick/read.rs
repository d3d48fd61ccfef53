//! Interprets the lines of a document.

mod peers;

use std::collections::BTreeMap;
use std::ops::Range;
use std::str;

use ipnet::IpNet;
use zeroize::Zeroizing;

use self::peers::WrittenPeer;
use super::document::{Content, is_space, squeezed};
use super::error::Problem;
use super::{Config, Document, Interface, Section, SectionKind, value};
use crate::source::hint;

/// The keys of [Interface] that `wg` reads. It ignores white space within keys and values.
const WG_KEYS: [&str; 3] = ["PrivateKey", "ListenPort", "FwMark"];
/// The keys of [Interface] that `wg-quick` reads.
const QUICK_KEYS: [&str; 9] = [
    "Address",
    "DNS",
    "MTU",
    "Table",
    "PreUp",
    "PostUp",
    "PreDown",
    "PostDown",
    "SaveConfig",
];
const PEER_KEYS: [&str; 5] = [
    "PublicKey",
    "PresharedKey",
    "AllowedIPs",
    "Endpoint",
    "PersistentKeepalive",
];
/// The keys that a section may contain several times.
const LISTS: [&str; 7] = [
    "Address",
    "DNS",
    "PreUp",
    "PostUp",
    "PreDown",
    "PostDown",
    "AllowedIPs",
];
/// The byte order marks of UTF-8, and of UTF-16 in both orders, which some editors write.
const BYTE_ORDER_MARKS: [&[u8]; 3] = [b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff"];

/// The configuration in a document, with warnings about content that is probably a mistake.
pub(super) fn config(document: &Document) -> Result<(Config, Vec<Problem>), Problem> {
    before_sections(document)?;
    let mut warnings = Vec::new();
    let mut interface = Interface::default();
    let mut first_line = None;
    let mut peers = Vec::new();
    for section in document.sections() {
        let line = section.lines.start + 1;
        match section.kind {
            SectionKind::Interface => {
                if let Some(first) = first_line {
                    let text =
                        format!("second [Interface] section, the first is on line {first}; both apply");
                    warnings.push(Problem::new(line, text));
                }
                first_line.get_or_insert(line);
                let known = interface_keys(document, section);
                each_entry(document, &section.lines, &known, &mut warnings, |entry| {
                    interface.set(entry)
                })?;
            }
            SectionKind::Peer => peers.push(WrittenPeer::read(document, &section.lines, &mut warnings)?),
            SectionKind::Unknown => {
                let text = "unknown section; known: [Interface], [Peer]";
                return Err(Problem::new(line, text));
            }
        }
    }
    let config = Config {
        interface,
        peers: peers::resolved(peers, &mut warnings),
        ..Config::default()
    };
    Ok((config, warnings))
}

fn before_sections(document: &Document) -> Result<(), Problem> {
    let mut marks = BYTE_ORDER_MARKS.iter();
    if marks.any(|mark| document.bytes().starts_with(mark)) {
        let text = "the file begins with a byte order mark (BOM), which the WireGuard tools reject; save it as UTF-8 without one";
        return Err(Problem::new(1, text));
    }
    for (index, line) in document.lines().iter().enumerate() {
        let text = match &line.content {
            Content::Blank => continue,
            Content::Header(_) => break,
            Content::Entry { key, .. } => format!(
                "{} is before the first section; write [Interface] or [Peer] above it",
                shown(&document.bytes()[key.clone()]).map_or("an entry".to_owned(), |key| format!("`{key}`"))
            ),
            Content::Other(_) => {
                "text before the first section; write [Interface] or [Peer] above it".to_owned()
            }
        };
        return Err(Problem::new(index + 1, text));
    }
    Ok(())
}

/// The known keys of an [Interface] section. `wg-quick` does not recognize a header that contains white
/// space, and then its keys are unknown keys for `wg`.
fn interface_keys(document: &Document, section: &Section) -> Vec<&'static str> {
    let header = &document.bytes()[document.line(section.lines.start)];
    let header = header.split(|byte| *byte == b'#').next().unwrap_or_default();
    let inner = header.trim_ascii().iter().any(is_space);
    let quick = QUICK_KEYS.iter().filter(|_| !inner);
    WG_KEYS.iter().chain(quick).copied().collect()
}

/// An entry with a key that is known in its section.
struct Entry<'a> {
    line: usize,
    key: &'static str,
    value: &'a str,
}

/// Calls `apply` for each entry of a section, in order.
fn each_entry(
    document: &Document,
    lines: &Range<usize>,
    known: &[&'static str],
    warnings: &mut Vec<Problem>,
    mut apply: impl FnMut(&Entry<'_>) -> Result<(), String>,
) -> Result<(), Problem> {
    let mut seen = BTreeMap::new();
    for index in lines.clone().skip(1) {
        let line = index + 1;
        let problem = |text: String| Problem::new(line, text);
        let (key, value) = match &document.lines()[index].content {
            Content::Blank | Content::Header(_) => continue,
            Content::Entry { key, value } => (key, value),
            Content::Other(text) => {
                let text = without_equals(&document.bytes()[text.clone()], known);
                return Err(problem(text.unwrap_or_else(|| {
                    "no `=` in this line; expected `Key = value`".to_owned()
                })));
            }
        };
        let Some(name) = canonical(&document.bytes()[key.clone()], known) else {
            return Err(problem(unknown(document, key, known)));
        };
        let Ok(value) = str::from_utf8(&document.bytes()[value.clone()]) else {
            return Err(problem(format!("the value of `{name}` is not UTF-8")));
        };
        let is_quick = QUICK_KEYS.contains(&name);
        // The value may be a key.
        let without_space = Zeroizing::new(match is_quick {
            true => String::new(),
            false => value
                .chars()
                .filter(|c| !c.is_ascii() || !is_space(&(*c as u8)))
                .collect::<String>(),
        });
        let value = if is_quick { value } else { &without_space };
        if !is_quick && value.is_empty() {
            return Err(problem(format!("`{name}` has no value")));
        }
        if !LISTS.contains(&name)
            && let Some(first) = seen.insert(name, line)
        {
            let text = format!("`{name}` is given twice, first on line {first}; the last one counts");
            warnings.push(problem(text));
        }
        let entry = Entry {
            line,
            key: name,
            value,
        };
        apply(&entry).map_err(|text| problem(format!("{name}: {text}")))?;
    }
    Ok(())
}

impl Interface {
    fn set(&mut self, entry: &Entry<'_>) -> Result<(), String> {
        let text = entry.value;
        match entry.key {
            "PrivateKey" => self.private_key = value::private_key(text)?,
            "ListenPort" => self.listen_port = Some(value::port(text)?),
            "FwMark" => self.fwmark = value::fwmark(text)?,
            "Address" => value::addresses(text)?
                .into_iter()
                .try_for_each(|address| self.add_address(address))?,
            "DNS" => {
                let (servers, search) = value::dns(text)?;
                self.dns.extend(servers);
                self.dns_search.extend(search);
            }
            "MTU" => self.mtu = value::mtu(text)?,
            "Table" => self.table = value::table(text)?,
            "SaveConfig" => self.save_config = value::boolean(text)?,
            hook => {
                let hooks = match hook {
                    "PreUp" => &mut self.hooks.pre_up,
                    "PostUp" => &mut self.hooks.post_up,
                    "PreDown" => &mut self.hooks.pre_down,
                    _ => &mut self.hooks.post_down,
                };
                hooks.extend((!text.is_empty()).then(|| text.to_owned()));
            }
        }
        Ok(())
    }

    /// The kernel refuses a duplicate address. With IPv4, only one with the same prefix length is a
    /// duplicate.
    fn add_address(&mut self, address: IpNet) -> Result<(), String> {
        let is_same =
            |known: &IpNet| known.addr() == address.addr() && (known.addr().is_ipv6() || *known == address);
        if self.addresses.iter().any(is_same) {
            return Err(format!("`{address}` is given twice; remove one of them"));
        }
        self.addresses.push(address);
        Ok(())
    }
}

fn canonical(key: &[u8], known: &[&'static str]) -> Option<&'static str> {
    let without_space = squeezed(key);
    let is = |name: &&str| {
        let key = if QUICK_KEYS.contains(name) {
            key
        } else {
            &without_space
        };
        name.as_bytes().eq_ignore_ascii_case(key)
    };
    known.iter().copied().find(is)
}

fn unknown(document: &Document, key: &Range<usize>, known: &[&'static str]) -> String {
    let bytes = &document.bytes()[key.clone()];
    for (section, keys) in [
        ("Interface", &WG_KEYS[..]),
        ("Interface", &QUICK_KEYS),
        ("Peer", &PEER_KEYS),
    ] {
        if let Some(name) = canonical(bytes, keys) {
            return format!("`{name}` belongs in [{section}]");
        }
    }
    if let Some(text) = without_equals(bytes, known) {
        return text;
    }
    let hint = hint(&String::from_utf8_lossy(bytes), known.iter().copied());
    match shown(bytes) {
        Some(key) => format!("unknown key `{key}`; {hint}"),
        None => format!("unknown key; {hint}"),
    }
}

/// The error for a line that begins with a known key but has no `=` after it. A later `=` may be the padding
/// of base64.
fn without_equals(text: &[u8], known: &[&'static str]) -> Option<String> {
    let mut words = text.split(u8::is_ascii_whitespace);
    let name = canonical(words.next()?, known)?;
    Some(format!("no `=` after `{name}`"))
}

/// A key as errors show it; `None` if it may be a part of a secret.
fn shown(key: &[u8]) -> Option<&str> {
    const LONGEST: usize = 19;
    let letters = key.iter().all(u8::is_ascii_alphabetic);
    let key = (letters && (1..=LONGEST).contains(&key.len())).then_some(key)?;
    str::from_utf8(key).ok()
}
