//! Withdraws and restores peers for an operator: stores the list of withdrawn peers first, then wakes the
//! loop.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, watch};

use crate::event::Event;
use crate::net::PeerId;
use crate::source::{hint, withdrawn};
use crate::status::Status;

/// The result of a request to withdraw or restore a peer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Withdrawal {
    /// A reconciliation has acted on it, or nothing had to change.
    Done,
    /// No peer has this name; with a hint to the name that was meant, to be appended to the message.
    Unknown(String),
    /// The request failed; why.
    Failed(String),
}

/// Withdraws and restores peers. Clones do the same.
#[derive(Clone, Debug)]
pub struct Withdrawals {
    /// The state directory, which has the list of withdrawn peers.
    pub state_directory: PathBuf,
    /// Wakes the loop.
    pub events: mpsc::Sender<Event>,
}

impl Withdrawals {
    /// Withdraws or restores a peer, and waits until a reconciliation has acted on it.
    pub(crate) async fn set(
        &self,
        peer: &str,
        withdraw: bool,
        mut status: watch::Receiver<Status>,
    ) -> Withdrawal {
        let mut names = match withdrawn::load(&self.state_directory) {
            Ok(names) => names,
            Err(error) => return Withdrawal::Failed(error.to_string()),
        };
        let known = known(&status.borrow());
        let name = match PeerId::new(peer) {
            // A withdrawn peer that is not in the manifests any more can be restored.
            Ok(name) if names.contains(&name) || known.iter().any(|id| is_below(id, peer)) => name,
            _ => return Withdrawal::Unknown(hint(peer, known.iter().map(String::as_str))),
        };
        let changes = if withdraw {
            names.insert(name)
        } else {
            names.remove(&name)
        };
        if !withdraw && let Some(above) = PeerId::covering(&names, peer) {
            return Withdrawal::Failed(format!(
                "`{above}` is withdrawn, and with it every peer below it; restore `{above}` instead"
            ));
        }
        if changes && let Err(error) = withdrawn::store(&self.state_directory, &names) {
            return Withdrawal::Failed(error.to_string());
        }
        let as_written = |id: &str, withdrawn: bool| {
            !is_below(id, peer) || withdrawn == PeerId::covering(&names, id).is_some()
        };
        let acted = |status: &Status| {
            let mut links = status.peers.iter();
            let mut declared = status.declared_peers.iter();
            links.all(|link| as_written(link.node.as_str(), link.withdrawn))
                && declared.all(|peer| as_written(&peer.id, peer.withdrawn))
        };
        if (changes || !acted(&status.borrow())) && self.events.send(Event::Resync).await.is_err() {
            return Withdrawal::Failed(
                "the agent is stopping; the change takes effect at its next start".to_owned(),
            );
        }
        match status.wait_for(acted).await {
            Ok(_) => Withdrawal::Done,
            Err(_) => Withdrawal::Failed(
                "the agent is stopping; the change takes effect at its next start".to_owned(),
            ),
        }
    }
}

/// The ids of all peers with links or declared routes.
fn known(status: &Status) -> Vec<String> {
    let links = status.peers.iter().map(|peer| peer.node.as_str());
    let declared = status.declared_peers.iter().map(|peer| peer.id.as_str());
    links.chain(declared).map(str::to_owned).collect()
}

/// Whether an id is `above`, or below it.
fn is_below(id: &str, above: &str) -> bool {
    let rest = id.strip_prefix(above);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}
