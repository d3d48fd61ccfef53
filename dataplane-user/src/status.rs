//! What the agent says of itself: built after each pass, served on its socket, printed by `adit status`.

mod words;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::apply::{ApplyReport, Outcome};
use crate::as_text;
use crate::drift::Repairs;
use crate::kernel::nft::Count;
use crate::model::facts::NodeFacts;
use crate::model::firewall::DropReason;
use crate::model::{KernelState, RouteTarget};
use crate::net::{Encapsulation, Family, LinkName, NodeName, PublicKey};
use crate::plan::{NetworkLink, route_hop};
use crate::resource::{Dataplane, Intent, Problem, Reason, Severity};

/// The agent's state, as `adit status -o json` prints it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The agent's version.
    pub version: String,
    /// The kernel's release.
    pub kernel: String,
    /// This node's name.
    pub node: String,
    /// Source synced, every change applied, nothing left to do, no problem of severity `error`.
    pub ready: bool,
    /// Where the manifests come from, and how the last load went.
    pub source: SourceStatus,
    /// The last pass.
    pub pass: PassStatus,
    /// Whether every WireGuard peer has a session now; `None`: there is no such peer, or the devices were not read.
    #[serde(default)]
    pub peers_established: Option<bool>,
    /// Devices that were made anew since the agent started; traffic through them stopped meanwhile.
    pub recreated: usize,
    /// What others changed of ours and was put right, since the agent started.
    #[serde(default)]
    pub repairs: RepairsStatus,
    /// What the rules of the nft table have dropped since the agent started, by reason: `cleartext`, `port`. Read when the
    /// status is asked for; empty where it can't be read.
    #[serde(default, with = "words::dropped")]
    pub dropped: BTreeMap<DropReason, Count>,
    /// The networks that this node is a member of.
    pub networks: Vec<NetworkStatus>,
    /// The peers that it has links to.
    pub peers: Vec<PeerStatus>,
    /// The peers that routes declared one by one lead to.
    #[serde(default)]
    pub declared_peers: Vec<DeclaredPeerStatus>,
    /// Pairs and families that can't talk, with the reason.
    pub refused: Vec<RefusedStatus>,
    /// What is wrong, and what to do.
    pub problems: Vec<ProblemStatus>,
    /// What else an operator should know.
    #[serde(default)]
    pub notes: Vec<String>,
}

/// A peer that routes declared one by one lead to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeclaredPeerStatus {
    /// Its id.
    pub id: String,
    /// Whether an operator withdrew it: routes lead there no more, unless they are immune.
    pub withdrawn: bool,
}

/// Where the manifests come from, and how the last load went.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceStatus {
    /// Files and directories.
    pub paths: Vec<String>,
    /// Whether a complete, valid set was ever loaded.
    pub synced: bool,
    /// Why the newest version was not taken; the one before goes on.
    pub error: Option<String>,
}

/// What a pass did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PassStatus {
    /// The number of the reconciliation that ended last; the first one is 1.
    pub number: u64,
    /// The number of the reconciliation that began last: greater than `number` while one is under way. All that happened
    /// before a status is asked for is seen by the reconciliations with greater numbers.
    #[serde(default)]
    pub begun: u64,
    /// Changes that were made in it.
    pub changed: usize,
    /// Changes that failed.
    pub failed: usize,
    /// Changes that were left out after failures.
    pub skipped: usize,
    /// Changes that are still to be made after it.
    pub residual: usize,
    /// Devices that it made anew.
    pub recreated: usize,
    /// Its length in microseconds.
    pub duration_us: u64,
    /// Seconds since it ended, at the time when the status is asked for; `None`: none has ended yet.
    #[serde(default)]
    pub ended_ago_s: Option<u64>,
}

/// What others changed of ours and was put right.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepairsStatus {
    /// How many times.
    pub total: u64,
    /// The same by kind of object.
    pub kinds: BTreeMap<String, u64>,
    /// The last ones, oldest first.
    pub recent: Vec<RepairStatus>,
}

/// Something that was put right.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepairStatus {
    /// The kind of object, such as `link`.
    pub kind: String,
    /// The object: `link adit0`.
    pub object: String,
    /// What was found: `was gone`.
    pub found: String,
}

/// A network, on this node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkStatus {
    /// Its name.
    pub name: String,
    /// Its prefixes.
    pub prefixes: Vec<String>,
    /// The overlay MTU of this node in bytes.
    pub mtu: u32,
    /// Its VNI.
    pub vni: u32,
}

/// A peer, in one network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerStatus {
    /// Its name.
    #[serde(with = "as_text")]
    pub node: NodeName,
    /// The network.
    pub network: String,
    /// The link's encapsulation.
    #[serde(with = "as_text")]
    pub encapsulation: Encapsulation,
    /// Its underlay address; `None` where it is not told, as over HTTP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote: Option<IpAddr>,
    /// This node's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local: Option<IpAddr>,
    /// The link's MTU in bytes.
    pub mtu: u32,
    /// What is WireGuard's of the link; `None` for other encapsulations.
    #[serde(default)]
    pub wireguard: Option<WireGuardStatus>,
    /// Whether an operator withdrew it: nothing is sent to it.
    #[serde(default)]
    pub withdrawn: bool,
    /// `ebpf` or `routes`: what carries the packets to it.
    #[serde(default = "words::ebpf", with = "words::DataplaneWord")]
    pub dataplane: Dataplane,
    /// By `routes` what the kernel held after the last pass; else what is read from the maps when the status is asked
    /// for. `None` where neither holds a way to the peer, or the maps can't be read.
    #[serde(default)]
    pub way: Option<PathStatus>,
    /// What came in from the peer, read from the maps when the status is asked for; `None` where they can't be read, and
    /// for links whose packets no program sees: those of WireGuard and those without encapsulation. Networks that share a
    /// tunnel without VNI (IPIP's) share the figures.
    #[serde(default)]
    pub received: Option<Count>,
}

/// What is WireGuard's of a link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WireGuardStatus {
    /// The device that packets take; the same on both ends, but while a key changes.
    #[serde(with = "as_text")]
    pub device: LinkName,
    /// This node's public key on it; `None` where it is not told, as over HTTP.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "as_text::optional")]
    pub own_key: Option<PublicKey>,
    /// The peer's public key.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "as_text::optional")]
    pub public_key: Option<PublicKey>,
    /// What is read from the device when the status is asked for; `None` where it can't be read or has no such peer.
    #[serde(default)]
    pub session: Option<SessionStatus>,
}

/// A WireGuard peer, as the kernel has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionStatus {
    /// Where the peer was heard last, or what was configured; `None`: neither.
    pub endpoint: Option<String>,
    /// Seconds since the agent, which looks when it is asked, saw that endpoint first; `None`: there is none.
    #[serde(default)]
    pub endpoint_age_s: Option<u64>,
    /// Whether there is a session: a handshake in the last three minutes. Peers that have nothing to say have none.
    pub established: bool,
    /// Seconds since the last handshake; `None`: there was none.
    pub handshake_age_s: Option<u64>,
    /// Bytes received, with WireGuard's headers.
    pub received_bytes: u64,
    /// Bytes sent, with WireGuard's headers.
    pub sent_bytes: u64,
}

/// The way to a peer, as the maps have it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathStatus {
    /// The device that its packets leave by; `None`: it is gone.
    pub device: Option<String>,
    /// The neighbour that packets without encapsulation go to.
    #[serde(default)]
    pub gateway: Option<IpAddr>,
    /// Whether packets are sent to the peer; `false`: it is marked as down.
    pub usable: bool,
    /// Packets sent to it.
    pub packets: u64,
    /// Their bytes, without the outer headers.
    pub bytes: u64,
}

/// A pair that can't talk in one family.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedStatus {
    /// This node.
    pub from: String,
    /// The peer.
    pub to: String,
    /// `ipv4` or `ipv6`, of the inner packets.
    pub family: String,
    /// Why.
    pub reason: String,
}

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProblemStatus {
    /// `error` or `warning`.
    #[serde(with = "words::SeverityWord")]
    pub severity: Severity,
    /// A stable word, such as `Conflict`; text, so that the status of an agent that knows further reasons can be read, too.
    pub reason: String,
    /// What it is about; empty where it is not told, as over HTTP.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub subject: String,
    /// What is wrong.
    pub message: String,
    /// What to do.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub remedy: String,
}

impl From<&Problem> for ProblemStatus {
    fn from(problem: &Problem) -> ProblemStatus {
        ProblemStatus {
            severity: problem.severity,
            reason: problem.reason.name().to_owned(),
            subject: problem.subject.clone(),
            message: problem.message.clone(),
            remedy: problem.remedy.clone(),
        }
    }
}

impl Status {
    /// Sets the problems, what they say of refused pairs, and with them whether the node is ready.
    pub fn set_problems(&mut self, problems: &[Problem]) {
        let mut problems = problems.iter().collect::<Vec<_>>();
        problems.sort();
        let worst = problems.iter().map(|problem| problem.severity).max();
        self.ready = self.source.synced && self.pass.residual == 0 && worst != Some(Severity::Error);
        self.problems = problems.iter().copied().map(ProblemStatus::from).collect();
        self.refused = problems
            .iter()
            .filter_map(|problem| {
                let refused = problem.refused.as_ref()?;
                Some(RefusedStatus {
                    from: refused.from.to_string(),
                    to: refused.to.to_string(),
                    family: family_name(refused.family).to_owned(),
                    reason: problem.message.clone(),
                })
            })
            .collect();
    }

    /// Sets which peers routes declared one by one lead to.
    pub fn set_declared_peers(&mut self, intent: &Intent, facts: &NodeFacts) {
        let peers = intent.resources().netlink.peers(&intent.node().name);
        self.declared_peers = peers
            .into_iter()
            .map(|id| DeclaredPeerStatus {
                id: id.to_string(),
                withdrawn: facts.is_withdrawn(id.as_str()),
            })
            .collect();
    }

    /// Sets what the plan says of networks and peers.
    pub fn set_links(&mut self, intent: &Intent, links: &[NetworkLink<'_>]) {
        self.node = intent.node().name.to_string();
        let unprotected = intent.unprotected_by_default();
        let unprotected = unprotected
            .map(|network| network.name.as_str())
            .collect::<Vec<_>>();
        self.notes = match unprotected.is_empty() {
            true => Vec::new(),
            false => vec![format!(
                "sourceProtection is enforce by default, which is not in force yet: packets from unknown sources are \
                 counted and accepted (network {})",
                unprotected.join(", ")
            )],
        };
        self.networks = links
            .iter()
            .map(|link| NetworkStatus {
                name: link.network.name.to_string(),
                prefixes: link.network.prefixes.iter().map(ToString::to_string).collect(),
                mtu: link.mtu(),
                vni: link.network.vni,
            })
            .collect();
        let peers = links
            .iter()
            .flat_map(|link| link.peers.iter().map(move |peer| (link, peer)));
        self.peers = peers
            .map(|(link, peer)| PeerStatus {
                node: peer.node.name.clone(),
                network: link.network.name.to_string(),
                encapsulation: peer.encapsulation,
                remote: Some(peer.remote),
                local: Some(peer.local),
                mtu: peer.mtu(),
                wireguard: peer.wireguard.as_ref().map(|link| WireGuardStatus {
                    device: link.device(),
                    own_key: Some(link.own_key),
                    public_key: Some(link.public_key),
                    session: None,
                }),
                withdrawn: peer.withdrawn,
                dataplane: link.dataplane,
                way: None,
                received: None,
            })
            .collect();
    }

    /// Sets the ways of peers that are reached by routes, as the kernel has them.
    pub fn set_routed_paths(&mut self, links: &[NetworkLink<'_>], observed: &KernelState) {
        let peers = links
            .iter()
            .flat_map(|link| link.peers.iter().map(move |peer| (link, peer)));
        for (status, (link, peer)) in self.peers.iter_mut().zip(peers) {
            if status.dataplane != Dataplane::Routes {
                continue;
            }
            let Some(hop) = route_hop(link.network, peer).map(Arc::new) else {
                continue;
            };
            let installed = observed
                .route_targets
                .contains(&RouteTarget::Hop(Arc::clone(&hop)));
            status.way = (installed || peer.withdrawn).then(|| PathStatus {
                device: Some(hop.link.to_string()),
                gateway: hop.gateway,
                usable: installed && !peer.withdrawn,
                packets: 0,
                bytes: 0,
            });
        }
    }

    /// Sets how long ago the last pass ended, and why the loop hangs, if it does: then nobody restores what changes.
    pub fn set_age(&mut self, ended_ago: Option<Duration>, hangs: Option<String>) {
        self.pass.ended_ago_s = ended_ago.map(|age| age.as_secs());
        if let Some(why) = hangs {
            self.ready = false;
            let remedy = "restart the agent; the dataplane goes on meanwhile";
            let problem = Problem::error(Reason::Hanging, "agent".to_owned(), why, remedy.to_owned());
            self.problems.push(ProblemStatus::from(&problem));
        }
    }

    /// Why the node is not ready, in a few words; `None` where it is.
    #[must_use]
    pub fn unready(&self) -> Option<String> {
        if self.ready {
            return None;
        }
        let errors = self.problems.iter();
        let errors = errors.filter(|p| p.severity == Severity::Error);
        let errors = errors
            .map(|p| format!("{}: {} ({})", p.subject, p.message, p.reason))
            .collect::<Vec<_>>();
        Some(match (errors.is_empty(), self.pass.number) {
            (false, _) => errors.join("\n"),
            (true, 0) => "it has not finished a pass".to_owned(),
            (true, _) => format!("{} changes are left to do", self.pass.residual),
        })
    }
}

fn family_name(family: Family) -> &'static str {
    match family {
        Family::Ipv4 => "ipv4",
        Family::Ipv6 => "ipv6",
    }
}

impl PassStatus {
    /// What changes came to, and how many are left.
    #[must_use]
    pub fn of(report: &ApplyReport, residual: usize) -> PassStatus {
        let skipped = |(_, outcome): &&(_, Outcome)| matches!(outcome, Outcome::Skipped { .. });
        PassStatus {
            changed: report.done(),
            failed: report.failures().count(),
            skipped: report.outcomes.iter().filter(skipped).count(),
            residual,
            recreated: report.recreated(),
            ..PassStatus::default()
        }
    }
}

impl From<&Repairs> for RepairsStatus {
    fn from(repairs: &Repairs) -> RepairsStatus {
        let kinds = repairs.counts.iter();
        let recent = repairs.recent.iter().map(|repair| RepairStatus {
            kind: repair.kind.name().to_owned(),
            object: repair.object.to_string(),
            found: repair.found.clone(),
        });
        RepairsStatus {
            total: repairs.counts.values().sum(),
            kinds: kinds
                .map(|(kind, number)| (kind.name().to_owned(), *number))
                .collect(),
            recent: recent.collect(),
        }
    }
}
