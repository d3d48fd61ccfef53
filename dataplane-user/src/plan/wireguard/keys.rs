//! Keys that can't be read now.

use std::collections::BTreeSet;

use super::preshared_key_file;
use crate::model::facts::KeyFile;
use crate::model::facts::{NodeFacts, OwnKey, SharedKey};
use crate::net::KeySource;
use crate::plan::NetworkLink;
use crate::resource::{Intent, Problem, Reason};

/// A problem for each key that can't be read now, and for each that was never read and that a link or a
/// device needs.
pub(in crate::plan) fn problems(
    intent: &Intent,
    facts: &NodeFacts,
    networks: &[NetworkLink<'_>],
) -> Vec<Problem> {
    let unreadable = facts.wireguard.unreadable.iter();
    let mut problems = unreadable
        .flat_map(|(key, why)| {
            subjects(intent, key)
                .into_iter()
                .map(move |subject| (subject, key, why))
        })
        .map(|(subject, key, why)| {
            let what = match key {
                KeyFile::Private(source) => format!("the private key ({source})"),
                KeyFile::Preshared(file) => format!("the preshared key ({file})"),
            };
            Problem::warning(
                Reason::KeyUnreadable,
                subject,
                format!("{what} can't be read, so the key that was read last stays in use: {why}"),
                "make the file readable again before the agent restarts".to_owned(),
            )
        })
        .collect::<Vec<_>>();
    let is_needed = || {
        let mut peers = networks.iter().flat_map(|network| &network.peers);
        peers.any(|peer| peer.wireguard.is_some())
    };
    let unread = |subject: String, what: &str, why: &str, until_then: &str| {
        Problem::error(
            Reason::KeyUnreadable,
            subject,
            format!("{what} can't be read: {why}; {until_then}"),
            "make sure that the key is a regular file that only its owner can read".to_owned(),
        )
    };
    let end = intent.node().wireguard.as_ref();
    let declared = end.map(|end| OwnKey::Known(end.public_key));
    // The next key may be the declared key by now.
    let needs_next = end.is_some_and(|end| end.next_public_key.is_some())
        || Some(&facts.wireguard.own_key) != declared.as_ref();
    let own_keys = [
        ("the node's private key", &facts.wireguard.own_key, true),
        (
            "the node's next private key",
            &facts.wireguard.next_key,
            needs_next,
        ),
    ];
    for (what, key, is_asked_for) in own_keys {
        if let OwnKey::Unusable(why) = key
            && is_asked_for
            && is_needed()
        {
            let until_then = "devices that have a key keep it, new devices get none";
            problems.push(unread(own(intent), what, why, until_then));
        }
    }
    let needed = preshared_key_files(intent, networks);
    for (file, key) in &facts.wireguard.preshared_keys {
        if let SharedKey::Unreadable(why) = key
            && needed.contains(file.as_str())
        {
            let subject = format!("preshared key {file}");
            let until_then = "existing peers keep their preshared key, new peers are not created";
            problems.push(unread(subject, "the preshared key", why, until_then));
        }
    }
    problems
}

/// The files with preshared keys that links and declared devices of this node need.
fn preshared_key_files<'a>(intent: &'a Intent, networks: &'a [NetworkLink<'_>]) -> BTreeSet<&'a str> {
    let peers = networks.iter().flat_map(|network| &network.peers);
    let peers = peers.filter(|peer| peer.wireguard.is_some());
    let of_pairs = peers.filter_map(|peer| preshared_key_file(intent.node(), peer.node));
    let declared = intent.resources().netlink.wireguard(&intent.node().name);
    let declared = declared.flat_map(|(_, placed)| &placed.object.peers);
    let of_devices = declared.filter_map(|peer| peer.preshared_key_file());
    of_pairs.chain(of_devices).map(String::as_str).collect()
}

fn own(intent: &Intent) -> String {
    format!("TunnelNode/{}", intent.node().name)
}

/// The subjects that need a key.
fn subjects(intent: &Intent, key: &KeyFile) -> Vec<String> {
    match key {
        KeyFile::Private(KeySource::Node | KeySource::Next) => vec![own(intent)],
        KeyFile::Private(source) => {
            let interfaces = intent.resources().netlink.wireguard(&intent.node().name);
            let with_it = interfaces.filter(|(_, placed)| placed.object.key.as_ref() == Some(source));
            with_it
                .map(|(name, _)| format!("WireGuardInterface/{name}"))
                .collect()
        }
        KeyFile::Preshared(file) => vec![format!("preshared key {file}")],
    }
}
