//! What the lines of a document mean.

use std::collections::BTreeMap;
use std::ops::Range;
use std::str;

use ipnet::IpNet;

use super::document::Content;
use super::error::Problem;
use super::{Config, Document, Interface, Peer, SectionKind, value};
use crate::net::key::{PresharedKey, PublicKey};
use crate::resource::wireguard::{Overlap, overlap};
use crate::source::hint;

const INTERFACE_KEYS: [&str; 12] = [
    "PrivateKey",
    "ListenPort",
    "FwMark",
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
/// Those that a section may have more than once, and that may have no value.
const LISTS: [&str; 7] = [
    "Address",
    "DNS",
    "PreUp",
    "PostUp",
    "PreDown",
    "PostDown",
    "AllowedIPs",
];

pub(super) fn config(document: &Document) -> Result<Config, Problem> {
    before_sections(document)?;
    let mut interface: Option<(usize, Interface)> = None;
    let mut peers = Vec::new();
    for section in document.sections() {
        let line = section.lines.start + 1;
        match section.kind {
            SectionKind::Interface => {
                if let Some((first, _)) = interface {
                    let text = format!("a second [Interface]; the first one is on line {first}");
                    return Err(Problem::new(line, text));
                }
                let mut read = Interface::default();
                each_entry(document, &section.lines, &INTERFACE_KEYS, |entry| {
                    read.take(entry)
                })?;
                interface = Some((line, read));
            }
            SectionKind::Peer => peers.push(Placed::read(document, &section.lines)?),
            SectionKind::Unknown => {
                let text = "an unknown section; known: [Interface], [Peer]";
                return Err(Problem::new(line, text));
            }
        }
    }
    distinct(&peers)?;
    Ok(Config {
        interface: interface.map(|(_, interface)| interface).unwrap_or_default(),
        peers: peers.into_iter().map(|placed| placed.peer).collect(),
    })
}

fn before_sections(document: &Document) -> Result<(), Problem> {
    for (index, line) in document.lines().iter().enumerate() {
        let text = match &line.content {
            Content::Blank => continue,
            Content::Header(_) => break,
            Content::Entry { key, .. } => format!(
                "{} stands before any section; begin with [Interface] or [Peer]",
                shown(&document.bytes()[key.clone()]).map_or("an entry".to_owned(), |key| format!("`{key}`"))
            ),
            Content::Other(_) => "text before any section; begin with [Interface] or [Peer]".to_owned(),
        };
        return Err(Problem::new(index + 1, text));
    }
    Ok(())
}

/// An entry with a key that is known where it stands.
struct Entry<'a> {
    line: usize,
    key: &'static str,
    value: &'a str,
}

/// Hands on each entry of a section, in order.
fn each_entry<'a>(
    document: &'a Document,
    lines: &Range<usize>,
    known: &[&'static str],
    mut take: impl FnMut(&Entry<'a>) -> Result<(), String>,
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
            return Err(problem(format!("`{name}` is not UTF-8")));
        };
        if !LISTS.contains(&name) {
            if let Some(first) = seen.insert(name, line) {
                return Err(problem(format!(
                    "`{name}` for the second time; line {first} has it, too"
                )));
            }
            if value.is_empty() {
                return Err(problem(format!("`{name}` has no value")));
            }
        }
        let entry = Entry {
            line,
            key: name,
            value,
        };
        take(&entry).map_err(|text| problem(format!("{name}: {text}")))?;
    }
    Ok(())
}

impl Interface {
    fn take(&mut self, entry: &Entry<'_>) -> Result<(), String> {
        let text = entry.value;
        match entry.key {
            "PrivateKey" => self.private_key = Some(value::key(text)?),
            "ListenPort" => self.listen_port = Some(value::port(text)?),
            "FwMark" => self.fwmark = value::fwmark(text)?,
            "Address" => self.addresses.extend(value::addresses(text)?),
            "DNS" => {
                let (servers, search) = value::dns(text)?;
                self.dns.extend(servers);
                self.dns_search.extend(search);
            }
            "MTU" => self.mtu = Some(value::mtu(text)?),
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
}

/// A peer with the lines that its errors name.
struct Placed {
    peer: Peer,
    key_line: usize,
    /// One for each of its allowed IPs.
    lines: Vec<usize>,
}

impl Placed {
    fn read(document: &Document, lines: &Range<usize>) -> Result<Placed, Problem> {
        let mut public_key = None;
        let mut peer = Peer::new(PublicKey::from_bytes([0; 32]));
        let mut prefix_lines = Vec::new();
        each_entry(document, lines, &PEER_KEYS, |entry| {
            let text = entry.value;
            match entry.key {
                "PublicKey" => public_key = Some((entry.line, value::key(text)?)),
                "PresharedKey" => {
                    let key = value::key::<PresharedKey>(text)?;
                    peer.preshared_key = (!key.is_zero()).then_some(key);
                }
                "AllowedIPs" => {
                    for prefix in value::allowed_ips(text)? {
                        if !peer.allowed_ips.contains(&prefix) {
                            peer.allowed_ips.push(prefix);
                            prefix_lines.push(entry.line);
                        }
                    }
                }
                "Endpoint" => peer.endpoint = Some(value::endpoint(text)?),
                _ => peer.persistent_keepalive = value::keepalive(text)?,
            }
            Ok(())
        })?;
        let Some((key_line, public_key)) = public_key else {
            return Err(Problem::new(lines.start + 1, "this [Peer] has no `PublicKey`"));
        };
        peer.public_key = public_key;
        Ok(Placed {
            peer,
            key_line,
            lines: prefix_lines,
        })
    }
}

/// No key is that of two peers, and no prefix lies in another peer's, but for default routes.
fn distinct(peers: &[Placed]) -> Result<(), Problem> {
    let mut keys = BTreeMap::new();
    for placed in peers {
        let key = placed.peer.public_key;
        if let Some(first) = keys.insert(key, placed.key_line) {
            let text = format!("{key} is the `PublicKey` of two peers; line {first} has it, too");
            return Err(Problem::new(placed.key_line, text));
        }
    }
    let prefixes = peers.iter().enumerate().flat_map(|(index, placed)| {
        let prefixes = placed.peer.allowed_ips.iter();
        prefixes.map(move |prefix| (*prefix, index))
    });
    let Some(Overlap { outer, inner }) = overlap(prefixes) else {
        return Ok(());
    };
    // The later one in the file is the slip.
    let line = |(prefix, index): (IpNet, usize)| {
        let placed = &peers[index];
        let mut both = placed.peer.allowed_ips.iter().zip(&placed.lines);
        let found = both.find(|(own, _)| **own == prefix);
        found.map_or(placed.key_line, |(_, line)| *line)
    };
    let (first, second) = if line(outer) <= line(inner) {
        (outer, inner)
    } else {
        (inner, outer)
    };
    let key = |(_, index): (IpNet, usize)| peers[index].peer.public_key;
    let text = format!(
        "AllowedIPs: {} of peer {} overlaps with {} of peer {} on line {}; what is in both can lead to one of them",
        second.0,
        key(second),
        first.0,
        key(first),
        line(first)
    );
    Err(Problem::new(line(second), text))
}

fn canonical(key: &[u8], known: &[&'static str]) -> Option<&'static str> {
    let mut known = known.iter().copied();
    known.find(|name| name.as_bytes().eq_ignore_ascii_case(key))
}

fn unknown(document: &Document, key: &Range<usize>, known: &[&'static str]) -> String {
    let bytes = &document.bytes()[key.clone()];
    for (section, keys) in [("Interface", &INTERFACE_KEYS[..]), ("Peer", &PEER_KEYS)] {
        if let Some(name) = canonical(bytes, keys) {
            return format!("`{name}` belongs into [{section}]");
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

/// For a line that begins as an entry and goes on without `=`; one that comes later may be the padding of base64.
fn without_equals(text: &[u8], known: &[&'static str]) -> Option<String> {
    let mut words = text.split(u8::is_ascii_whitespace);
    let name = canonical(words.next()?, known)?;
    Some(format!("no `=` after `{name}`"))
}

/// A key as errors show it, unless it may be a part of a secret.
fn shown(key: &[u8]) -> Option<&str> {
    const LONGEST: usize = 19;
    let letters = key.iter().all(u8::is_ascii_alphabetic);
    let key = (letters && (1..=LONGEST).contains(&key.len())).then_some(key)?;
    str::from_utf8(key).ok()
}
