//! The status of the agent: built after each reconciliation, served on the socket, printed by `adit status`.

mod serde_words;
mod setters;

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::as_text;
use crate::kernel::nft::Count;
use crate::model::firewall::DropReason;
use crate::net::{Encapsulation, LinkName, NodeName, PublicKey};
use crate::resource::{Dataplane, Severity};

/// The status, as `adit status -o json` prints it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The version of the agent.
    pub version: String,
    /// The release of the kernel.
    pub kernel: String,
    /// The name of this node.
    pub node: String,
    /// Whether manifests were ever accepted, the node is converged, and no problem has severity `error`.
    pub ready: bool,
    /// The source of the manifests, and the result of the last load.
    pub source: SourceStatus,
    /// The last reconciliation.
    #[serde(rename = "pass")]
    pub reconciliation: ReconciliationStatus,
    /// Whether every WireGuard peer has a session now; `None` without such peers, or if the devices were not
    /// read.
    #[serde(default)]
    pub peers_established: Option<bool>,
    /// Devices recreated since the agent started; traffic through them was interrupted meanwhile.
    pub recreated: usize,
    /// Repairs since the agent started.
    #[serde(default)]
    pub repairs: RepairsStatus,
    /// Packets that rules of the nft table have dropped since the agent started, by reason: `cleartext`,
    /// `port`. Read when the status is requested; empty if they can't be read.
    #[serde(default, with = "serde_words::dropped")]
    pub dropped: BTreeMap<DropReason, Count>,
    /// The networks that this node is a member of.
    pub networks: Vec<NetworkStatus>,
    /// The peers that this node has links to.
    pub peers: Vec<PeerStatus>,
    /// The peers that `NetlinkRoute` manifests name.
    #[serde(default)]
    pub declared_peers: Vec<DeclaredPeerStatus>,
    /// Pairs of nodes that can't communicate in a family, with the reason.
    pub refused: Vec<RefusedStatus>,
    /// Problems, each with a remedy.
    pub problems: Vec<ProblemStatus>,
    /// Other facts that an operator should know.
    #[serde(default)]
    pub notes: Vec<String>,
}

/// A peer that a `NetlinkRoute` manifest names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeclaredPeerStatus {
    /// Its id.
    pub id: String,
    /// Whether an operator withdrew it: its routes are removed, unless they are immune.
    pub withdrawn: bool,
}

/// The source of the manifests, and the result of the last load.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceStatus {
    /// Files and directories.
    pub paths: Vec<String>,
    /// Whether a complete, valid set was ever loaded.
    pub synced: bool,
    /// Why the newest version is rejected; the previous one stays in use.
    pub error: Option<String>,
}

/// The result of a reconciliation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReconciliationStatus {
    /// The number of the reconciliation that ended last; the first one is 1.
    pub number: u64,
    /// The number of the reconciliation that began last: greater than `number` while one is running.
    /// Reconciliations with greater numbers see everything that happened before the status was requested.
    #[serde(default)]
    pub begun: u64,
    /// Changes that were made.
    pub changed: usize,
    /// Changes that failed.
    pub failed: usize,
    /// Changes that were skipped after failures.
    pub skipped: usize,
    /// Changes that are still to be made.
    pub residual: usize,
    /// Devices that were recreated.
    pub recreated: usize,
    /// The duration in microseconds.
    pub duration_us: u64,
    /// Seconds since it ended, when the status is requested; `None` if none has ended yet.
    #[serde(default)]
    pub ended_ago_s: Option<u64>,
}

/// Managed objects that something else changed and that the agent restored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepairsStatus {
    /// The number of repairs.
    pub total: u64,
    /// The same by kind of object.
    pub kinds: BTreeMap<String, u64>,
    /// The last repairs, oldest first.
    pub recent: Vec<RepairStatus>,
}

/// A repair.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepairStatus {
    /// The kind of object, such as `link`.
    pub kind: String,
    /// The object: `link adit0`.
    pub object: String,
    /// The difference that was found, such as `was gone`.
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
    /// Its underlay address; `None` where it is not shown, as over HTTP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote: Option<IpAddr>,
    /// The underlay address of this node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local: Option<IpAddr>,
    /// The link's MTU in bytes.
    pub mtu: u32,
    /// The WireGuard part of the link; `None` for other encapsulations.
    #[serde(default)]
    pub wireguard: Option<WireGuardStatus>,
    /// Whether an operator withdrew it: nothing is sent to it.
    #[serde(default)]
    pub withdrawn: bool,
    /// `ebpf` or `routes`: the dataplane that sends packets to it.
    #[serde(default = "serde_words::ebpf", with = "serde_words::DataplaneWord")]
    pub dataplane: Dataplane,
    /// The path to the peer: with dataplane `routes` as observed by the last reconciliation, otherwise as
    /// read from the maps when the status is requested. `None` if there is no path, or the maps can't be
    /// read.
    #[serde(default, rename = "way")]
    pub path: Option<PathStatus>,
    /// Packets received from the peer, read from the maps when the status is requested. `None` if they can't
    /// be read, and for links whose packets no program sees: WireGuard links and links without encapsulation.
    /// Networks that share a tunnel without VNI (IPIP) share the counters.
    #[serde(default)]
    pub received: Option<Count>,
}

/// The WireGuard part of a link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WireGuardStatus {
    /// The device that sends the packets; it has the same name on both ends, except during a key rotation.
    #[serde(with = "as_text")]
    pub device: LinkName,
    /// The public key of this node on it; `None` where it is not shown, as over HTTP.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "as_text::optional")]
    pub own_key: Option<PublicKey>,
    /// The public key of the peer.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "as_text::optional")]
    pub public_key: Option<PublicKey>,
    /// The session, read from the device when the status is requested; `None` if it can't be read or has no
    /// such peer.
    #[serde(default)]
    pub session: Option<SessionStatus>,
}

/// The session of a WireGuard peer, as reported by the kernel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionStatus {
    /// The source of the last packet from the peer, or the configured endpoint; `None` without either.
    pub endpoint: Option<String>,
    /// Seconds since the agent first saw that endpoint; it reads the device on each request. `None` without
    /// endpoint.
    #[serde(default)]
    pub endpoint_age_s: Option<u64>,
    /// Whether there is a session: a handshake in the last three minutes. Idle peers have none.
    pub established: bool,
    /// Seconds since the last handshake; `None` if there was none.
    pub handshake_age_s: Option<u64>,
    /// Bytes received, with WireGuard headers.
    pub received_bytes: u64,
    /// Bytes sent, with WireGuard headers.
    pub sent_bytes: u64,
}

/// The path to a peer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathStatus {
    /// The device that sends the packets; `None` if it is gone.
    pub device: Option<String>,
    /// The gateway of packets without encapsulation.
    #[serde(default)]
    pub gateway: Option<IpAddr>,
    /// Whether packets are sent to the peer; `false` if it is marked as down.
    pub usable: bool,
    /// Packets sent to it.
    pub packets: u64,
    /// Their bytes, without outer headers.
    pub bytes: u64,
}

/// Two nodes that can't communicate in one family.
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

/// A problem.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProblemStatus {
    /// `error` or `warning`.
    #[serde(with = "serde_words::SeverityWord")]
    pub severity: Severity,
    /// A stable word, such as `Conflict`. It is text, so that the status of a newer agent with more reasons
    /// can be read.
    pub reason: String,
    /// The object that it is about; empty where it is not shown, as over HTTP.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub subject: String,
    /// The description.
    pub message: String,
    /// The remedy.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub remedy: String,
}
