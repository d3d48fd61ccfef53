//! Keys that can't be read now.

use crate::plan::facts::KeyFile;
use crate::plan::{NetworkLink, NodeFacts, OwnKey};
use crate::resource::wireguard::KeySource;
use crate::resource::{Intent, Problem, Reason};

/// A problem for each key that can't be read now, and for the node's own one that was never read, where a link needs it.
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
                format!("{what} can't be read, and what was read last stays in use: {why}"),
                "make it readable again before the agent is restarted".to_owned(),
            )
        })
        .collect::<Vec<_>>();
    let is_needed = || {
        let mut peers = networks.iter().flat_map(|network| &network.peers);
        peers.any(|peer| peer.wireguard.is_some())
    };
    if let OwnKey::Unusable(why) = &facts.wireguard.own_key
        && is_needed()
    {
        problems.push(Problem::error(
            Reason::KeyUnreadable,
            own(intent),
            format!("the node's private key can't be read: {why}; devices that have a key keep it, others get none"),
            "make it readable for its owner alone".to_owned(),
        ));
    }
    problems
}

fn own(intent: &Intent) -> String {
    format!("TunnelNode/{}", intent.node().name)
}

/// What needs a key.
fn subjects(intent: &Intent, key: &KeyFile) -> Vec<String> {
    match key {
        KeyFile::Private(KeySource::Node | KeySource::Next) => vec![own(intent)],
        KeyFile::Private(source) => {
            let interfaces = intent.resources().netlink.wireguard(&intent.node().name);
            let with_it = interfaces.filter(|(_, placed)| placed.object.key == *source);
            with_it
                .map(|(name, _)| format!("WireGuardInterface/{name}"))
                .collect()
        }
        KeyFile::Preshared(file) => vec![format!("preshared key {file}")],
    }
}
