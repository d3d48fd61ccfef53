//! Peers that an operator withdraws and restores: written down first, then the loop is woken to act on it.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, watch};

use crate::net::NodeName;
use crate::reconcile::Event;
use crate::source::{hint, withdrawn};
use crate::status::Status;

/// What became of the wish to withdraw or restore a peer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Withdrawal {
    /// A pass has acted on it, or it was so already.
    Done,
    /// No peer has this name; the end of a sentence that says which was meant.
    Unknown(String),
    /// It can't be written down.
    Failed(String),
}

/// Who withdraws peers. Clones act alike.
#[derive(Clone, Debug)]
pub struct Withdrawals {
    /// The state directory, where it is written down.
    pub state_directory: PathBuf,
    /// Wakes the loop.
    pub events: mpsc::Sender<Event>,
}

impl Withdrawals {
    /// Withdraws a peer, or restores it, and waits until a pass has acted on it.
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
        let known = status
            .borrow()
            .peers
            .iter()
            .map(|peer| peer.node.clone())
            .collect::<Vec<_>>();
        // One that left the manifests since can be restored.
        let remembered = NodeName::new(peer).ok().filter(|name| names.contains(name));
        let name = match NodeName::new(peer) {
            Ok(name) if known.iter().any(|known| known == peer) || remembered.is_some() => name,
            _ => return Withdrawal::Unknown(hint(peer, known.iter().map(String::as_str))),
        };
        let changes = if withdraw {
            names.insert(name)
        } else {
            names.remove(&name)
        };
        if changes && let Err(error) = withdrawn::store(&self.state_directory, &names) {
            return Withdrawal::Failed(error.to_string());
        }
        let acted = |status: &Status| {
            let mut links = status.peers.iter().filter(|link| link.node == peer);
            links.all(|link| link.withdrawn == withdraw)
        };
        if (changes || !acted(&status.borrow())) && self.events.send(Event::Resync).await.is_err() {
            return Withdrawal::Failed("the agent is stopping; its next start acts on it".to_owned());
        }
        match status.wait_for(acted).await {
            Ok(_) => Withdrawal::Done,
            Err(_) => Withdrawal::Failed("the agent is stopping; its next start acts on it".to_owned()),
        }
    }
}
