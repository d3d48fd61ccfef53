//! The hub clients in a file, and the file with a client added, changed or removed. Nothing is written here.

mod edit;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::Range;
use std::path::{Path, PathBuf};

use ipnet::IpNet;

use super::{DeviceId, HubError, pool};
use crate::net::key::PublicKey;
use crate::resource::wireguard::Peer;
use crate::source::hint;
use crate::wg_quick::{Config, Document, Section, SectionKind};

/// The text before an id.
const LABEL: &str = "DeviceID:";

/// A file and its hub clients.
#[derive(Debug)]
pub(super) struct Roster {
    path: PathBuf,
    document: Document,
    config: Config,
    /// The label of each peer of the file; `None`: the peer has no id.
    labels: Vec<Option<Label>>,
}

/// The line above a `[Peer]` with the id of the client. Only comments may be between the two.
#[derive(Clone, Debug)]
struct Label {
    id: String,
    /// The line, from 0.
    line: usize,
    /// The range of the id in the file.
    text: Range<usize>,
}

/// A hub client, as a peer of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// The id; `None`: there is no id above the `[Peer]`.
    pub device_id: Option<String>,
    /// The public key.
    pub public_key: PublicKey,
    /// The address: the first allowed IP that is a single address.
    pub assigned_ip: Option<IpAddr>,
    /// All allowed IPs.
    pub allowed_ips: Vec<IpNet>,
}

/// The change of a file that adds a client.
#[derive(Debug)]
pub(super) enum Change {
    /// No change is needed.
    None,
    /// The file with another key for a peer.
    Key(Document),
    /// The file with one more peer.
    Peer(Document),
}

impl Roster {
    pub(super) fn new(path: &Path, bytes: Vec<u8>) -> Result<Roster, HubError> {
        let document = Document::new(bytes);
        let config = Config::of(path, &document)?;
        let labels = document.peers().map(|section| Label::above(&document, section));
        let roster = Roster {
            path: path.to_owned(),
            config,
            labels: labels.collect(),
            document,
        };
        let mut lines = BTreeMap::new();
        for label in roster.labels.iter().flatten() {
            if let Some(first) = lines.insert(&label.id, label.line + 1) {
                let (id, second) = (&label.id, label.line + 1);
                let why = format!(
                    "two peers have the DeviceID `{id}`, on lines {first} and {second}: change one of them"
                );
                return Err(roster.refused(why));
            }
        }
        Ok(roster)
    }

    pub(super) fn bytes(&self) -> &[u8] {
        self.document.bytes()
    }

    pub(super) fn config(&self) -> &Config {
        &self.config
    }

    pub(super) fn members(&self) -> Vec<Member> {
        let ids = self.labels.iter().map(Option::as_ref);
        let peers = self.config.peers.iter().zip(ids);
        let member = |(peer, label): (&Peer, Option<&Label>)| Member {
            device_id: label.map(|label| label.id.clone()),
            public_key: peer.public_key,
            assigned_ip: addresses(peer).next(),
            allowed_ips: peer.allowed_ips.clone(),
        };
        peers.map(member).collect()
    }

    /// Rejects a file that `wg-quick down` overwrites with the state of the interface, which has no ids.
    pub(super) fn refuse_save_config(&self) -> Result<(), HubError> {
        if !self.config.interface.save_config {
            return Ok(());
        }
        let mut sections = self.document.sections().iter();
        let section = sections.find(|section| section.kind == SectionKind::Interface);
        let line = section.and_then(|section| self.document.entry(section, "SaveConfig"));
        let line = line.map(|(line, _)| line + 1).unwrap_or_default();
        Err(self.refused(format!(
            "line {line} has `SaveConfig = true`: `wg-quick down` would overwrite the file and lose all ids in it; \
             remove that line first"
        )))
    }

    /// The address of a client, and the change of the file that adds it.
    pub(super) fn add(
        &self,
        id: &DeviceId,
        key: PublicKey,
        subnet: IpNet,
    ) -> Result<(IpAddr, Change), HubError> {
        self.refuse_foreign_subnet(subnet)?;
        let Some(index) = self.find(id.as_str()) else {
            self.refuse_used_key(key)?;
            let address = self.free_address(subnet)?;
            return Ok((
                address,
                Change::Peer(edit::with_peer(&self.document, id, key, address)),
            ));
        };
        let peer = &self.config.peers[index];
        let address = addresses(peer).find(|address| subnet.contains(address));
        let Some(address) = address else {
            let has = peer
                .allowed_ips
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join(", ");
            let why = format!(
                "`{id}` has no address in {subnet}: its AllowedIPs are `{has}`; remove it first, or choose another subnet"
            );
            return Err(self.refused(why));
        };
        if peer.public_key == key {
            return Ok((address, Change::None));
        }
        self.refuse_used_key(key)?;
        let document = edit::with_key(&self.document, self.section(index), key);
        Ok((address, Change::Key(document)))
    }

    /// The client with this id, and the file without it.
    pub(super) fn remove(&self, id: &str) -> Result<(Member, Document), HubError> {
        let index = self.find(id).ok_or_else(|| self.unknown(id))?;
        let member = self.members().swap_remove(index);
        let label = self.labels[index].as_ref().expect("it was found by its label");
        let document = edit::without_peer(&self.document, self.section(index), label.line);
        Ok((member, document))
    }

    /// The file with another id for a client; `None`: the id is the same.
    pub(super) fn rename(&self, old: &str, new: &DeviceId) -> Result<Option<Document>, HubError> {
        let index = self.find(old).ok_or_else(|| self.unknown(old))?;
        if old == new.as_str() {
            return Ok(None);
        }
        if let Some(other) = self.find(new.as_str()) {
            let key = self.config.peers[other].public_key;
            return Err(self.refused(format!(
                "`{new}` is the DeviceID of peer {key} already; choose another id"
            )));
        }
        let label = self.labels[index].as_ref().expect("it was found by its label");
        Ok(Some(
            self.document
                .replaced(label.text.clone(), new.as_str().as_bytes()),
        ))
    }

    fn find(&self, id: &str) -> Option<usize> {
        let is = |label: &Option<Label>| label.as_ref().is_some_and(|label| label.id == id);
        self.labels.iter().position(is)
    }

    fn section(&self, peer: usize) -> &Section {
        self.document.peers().nth(peer).expect("each peer has a section")
    }

    fn free_address(&self, subnet: IpNet) -> Result<IpAddr, HubError> {
        let own = &self.config.interface.addresses;
        let hub = match own.is_empty() {
            true => vec![pool::first(subnet)],
            false => own.iter().map(IpNet::addr).collect(),
        };
        let peers = self.config.peers.iter().flat_map(|peer| &peer.allowed_ips);
        // A larger prefix does not use up the subnet, because the route of a single address is more specific.
        let used = peers.filter(|prefix| prefix.prefix_len() > subnet.prefix_len());
        let used = used.copied().chain(hub.into_iter().map(IpNet::from));
        pool::lowest_free(subnet, used).ok_or_else(|| {
            self.refused(format!(
                "no address of {subnet} is free: remove a peer with `adit peer remove`, or choose a larger subnet"
            ))
        })
    }

    fn refuse_foreign_subnet(&self, subnet: IpNet) -> Result<(), HubError> {
        let own = &self.config.interface.addresses;
        if own.is_empty() || own.iter().any(|address| subnet.contains(&address.addr())) {
            return Ok(());
        }
        let own = own.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        Err(self.refused(format!(
            "hub address `{own}` is not in the subnet {subnet}; choose a subnet that contains it"
        )))
    }

    fn refuse_used_key(&self, key: PublicKey) -> Result<(), HubError> {
        let own = self.config.interface.private_key.as_ref();
        if own.is_some_and(|own| own.public_key() == key) {
            return Err(self.refused(format!(
                "{key} is the key of the hub itself; give the key of the client"
            )));
        }
        let Some(index) = self.config.peers.iter().position(|peer| peer.public_key == key) else {
            return Ok(());
        };
        let line = self.section(index).lines.start + 1;
        Err(self.refused(match &self.labels[index] {
            Some(label) => {
                format!("{key} is the key of `{}` already: remove that client first, or rename it", label.id)
            }
            None => format!(
                "{key} is the key of the [Peer] on line {line}, which has no id: write `# {LABEL}<id>` on the line above \
                 it"
            ),
        }))
    }

    fn unknown(&self, id: &str) -> HubError {
        let known = self.labels.iter().flatten().map(|label| label.id.as_str());
        HubError::Unknown {
            path: self.path.clone(),
            id: id.to_owned(),
            hint: hint(id, known),
        }
    }

    fn refused(&self, why: String) -> HubError {
        HubError::Refused {
            path: self.path.clone(),
            why,
        }
    }
}

impl Label {
    fn above(document: &Document, section: &Section) -> Option<Label> {
        let above = (0..section.lines.start).rev();
        let mut comments = above.map_while(|line| Some((line, document.comment(line)?)));
        comments.find_map(|(line, comment)| {
            let label = &document.bytes()[comment.clone()];
            let id = label.strip_prefix(LABEL.as_bytes())?.trim_ascii_start();
            let text = str::from_utf8(id).ok().filter(|id| !id.is_empty())?;
            Some(Label {
                id: text.to_owned(),
                line,
                text: comment.end - id.len()..comment.end,
            })
        })
    }
}

/// The allowed IPs that are single addresses.
fn addresses(peer: &Peer) -> impl Iterator<Item = IpAddr> {
    let single = peer
        .allowed_ips
        .iter()
        .filter(|prefix| prefix.prefix_len() == prefix.max_prefix_len());
    single.map(IpNet::addr)
}
