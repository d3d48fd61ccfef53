//! What the plan must know of the machine; gathered by the kernel adapters.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;

use super::{LOCAL_TABLE, MAIN_TABLE, RouteKey};
use crate::net::{Family, KeySource, LinkName, Namespace, PeerId, PresharedKey, PublicKey};

/// What the plan must know of the machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeFacts {
    /// The addresses of this namespace, on all devices.
    pub local_addresses: BTreeSet<IpAddr>,
    /// How the kernel routes to each peer's underlay address; absent where it has no route.
    pub paths: BTreeMap<IpAddr, UnderlayPath>,
    /// The routes that the kernel finds for what [`plan::lookups`](crate::plan::lookups()) asks; absent where it finds none.
    pub routes: BTreeMap<Lookup, FoundRoute>,
    /// The subnets that this namespace has addresses in, with their devices; none of Adit's overlay devices, and none of
    /// devices that are down.
    pub subnets: BTreeSet<(LinkName, IpNet)>,
    /// The devices of those routes that have a strict `rp_filter`, their own or that of `all`.
    pub strict: BTreeSet<LinkName>,
    /// The peers that an operator withdrew: nothing is to be sent to them.
    pub withdrawn: BTreeSet<PeerId>,
    /// Where the namespaces are that manifests speak of.
    pub namespaces: BTreeMap<Namespace, Presence>,
    /// Why the kernel's events from other namespaces are not heard; `None`: they are, or nobody listens.
    pub unheard_namespaces: Option<String>,
    /// IPv6 on the devices here.
    pub ipv6: Ipv6,
    /// IPv6 on the devices in other namespaces; on all, where a namespace is not among these.
    pub ipv6_in: BTreeMap<Namespace, Ipv6>,
    /// The families for which this kernel has neither policy rules nor tables beside the main one.
    pub without_rules: BTreeSet<Family>,
    /// The ways back by those devices of `returnPath` that are there.
    pub return_paths: BTreeMap<LinkName, ReturnWay>,
    /// Whether the nft table can be had.
    pub nft: Nft,
    /// Why there can be no BPF programs and maps; `None`: there can, or nobody asked.
    pub without_programs: Option<String>,
    /// What WireGuard links need; only where a manifest speaks of WireGuard.
    pub wireguard: WireGuardFacts,
}

impl NodeFacts {
    /// Whether an operator withdrew a peer, or all below something that it lies below.
    #[must_use]
    pub fn is_withdrawn(&self, peer: &str) -> bool {
        PeerId::covering(&self.withdrawn, peer).is_some()
    }
}

/// What became of the search for a namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Presence {
    /// It is the agent's own.
    Own,
    /// It is there; several names of one namespace lead to the first of them.
    There(Namespace),
    /// It is not there now; why.
    Absent(String),
    /// Whether it is there can't be told, or it can't be entered; why.
    Unknown(String),
    /// This process may not enter it.
    Denied,
}

impl Presence {
    /// Why nothing is known of what is there; `None` where it is, or there is nothing.
    #[must_use]
    pub fn unknown(&self) -> Option<String> {
        match self {
            Presence::There(_) | Presence::Absent(_) => None,
            Presence::Own => Some("it is the agent's own namespace".to_owned()),
            Presence::Unknown(why) => Some(why.clone()),
            Presence::Denied => Some("this process may not enter it".to_owned()),
        }
    }
}

/// On which devices of a namespace IPv6 can be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ipv6 {
    /// The kernel has none: it was built without, or booted with `ipv6.disable=1`.
    Absent,
    /// All but these, whose `disable_ipv6` is 1.
    OnAllBut(BTreeSet<LinkName>),
    /// It is disabled on `lo`, and on all others but these.
    OffAllBut(BTreeSet<LinkName>),
}

impl Default for Ipv6 {
    fn default() -> Ipv6 {
        Ipv6::OnAllBut(BTreeSet::new())
    }
}

impl Ipv6 {
    /// Whether a device has IPv6, or gets it where it is not there yet.
    #[must_use]
    pub fn is_on(&self, link: &LinkName) -> bool {
        match self {
            Ipv6::Absent => false,
            Ipv6::OnAllBut(others) => !others.contains(link),
            Ipv6::OffAllBut(others) => others.contains(link),
        }
    }
}

/// Whether the nft table can be had.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Nft {
    /// There is no program `nft`.
    #[default]
    NoProgram,
    /// The kernel has no nf_tables.
    NoTables,
    /// All but masquerading of IPv6, which the kernel has refused.
    WithoutIpv6Nat,
    /// As far as is known, all of it.
    Usable,
}

impl Nft {
    /// Whether a table can be had at all.
    #[must_use]
    pub fn is_usable(self) -> bool {
        matches!(self, Nft::WithoutIpv6Nat | Nft::Usable)
    }
}

/// What WireGuard links need and no kernel tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WireGuardFacts {
    /// This node's key.
    pub own_key: OwnKey,
    /// The key that this node changes to.
    pub next_key: OwnKey,
    /// Sessions that are up, as far as a rotation must know them.
    pub sessions: BTreeSet<Session>,
    /// Peers on devices of a rotation that is over, until those were quiet for a while.
    pub lingering: BTreeSet<(LinkName, PublicKey)>,
    /// What the kernel says of those devices; [`WireGuardFacts::sessions`] is made of it.
    pub seen: Vec<SeenPeer>,
    /// The keys of declared devices.
    pub keys: BTreeMap<KeySource, OwnKey>,
    /// The keys in the files that the manifests name.
    pub preshared_keys: BTreeMap<String, SharedKey>,
    /// Keys that were read before and can't be read now, and why. What was read last is in the other fields.
    pub unreadable: BTreeMap<KeyFile, String>,
    /// The addresses of the names that the manifests name, the one that was used last first; absent while a name has
    /// none.
    pub names: BTreeMap<String, Vec<IpAddr>>,
}

/// A key that is read from a file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum KeyFile {
    /// A private key.
    Private(KeySource),
    /// A preshared key, in the file of this path.
    Preshared(String),
}

/// This node's WireGuard key; the private one stays where it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum OwnKey {
    /// There is none.
    #[default]
    Missing,
    /// There is something that is none, or can't be read; why, without anything of it.
    Unusable(String),
    /// The public key that belongs to it.
    Known(PublicKey),
}

/// The preshared key in a file that manifests name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SharedKey {
    /// There is no such file; why, in the system's words.
    Missing(String),
    /// There is one that can't be read, or holds no key, and has not been read before; why, without anything of it.
    Unreadable(String),
    /// The key, as it was read last.
    Known(PresharedKey),
}

/// The underlay's way to a peer (`ip route get`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnderlayPath {
    /// The device that packets leave by.
    pub link: LinkName,
    /// The neighbour on it that packets go to, of either family (an IPv4 route may have an IPv6 gateway); `None`: the
    /// address is on-link.
    pub gateway: Option<IpAddr>,
    /// The path's MTU in bytes: the route's where it has one, else the device's.
    pub mtu: u32,
}

/// A question for the kernel: which route a packet takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Lookup {
    /// Where the packet goes.
    pub destination: IpAddr,
    /// Its mark, which rules may ask for; 0: none.
    pub mark: u32,
}

impl Lookup {
    /// The lookup for a packet without mark.
    #[must_use]
    pub fn unmarked(destination: IpAddr) -> Lookup {
        Lookup { destination, mark: 0 }
    }
}

/// The route that the kernel finds for a packet (`ip route get fibmatch`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundRoute {
    /// Its table, prefix and metric.
    pub key: RouteKey,
    /// The devices that it leads by.
    pub links: BTreeSet<LinkName>,
}

impl FoundRoute {
    /// Whether the kernel still finds this route where one of this key stands too, which holds the packet's destination. A
    /// found route's table that is neither of both is taken to be asked before: where it is not, the kernel finds the other
    /// one as soon as that stands.
    #[must_use]
    pub fn beats(&self, other: &RouteKey) -> bool {
        if self.key.table == other.table {
            let rank = |key: &RouteKey| (u8::MAX - key.prefix.prefix_len(), key.metric);
            return rank(&self.key) < rank(other);
        }
        // A table of its own has a rule before the main one's.
        self.key.table == LOCAL_TABLE || other.table == MAIN_TABLE
    }
}

/// How answers can go back by a device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReturnWay {
    /// Whether it has IPv6 at all; the kernel makes no such routes by a device without.
    pub ipv6: bool,
    /// The gateways of the main table's default routes by it, of the prefix's family or IPv6 for IPv4; none for a family
    /// without such a route or with one that has no gateway.
    pub gateways: BTreeMap<Family, IpAddr>,
    /// The subnets of its addresses, whose hosts no gateway is needed for; link-local ones too.
    pub on_link: BTreeSet<IpNet>,
}

/// A session that is up: by these keys a handshake was seen on a device not long ago.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Session {
    /// The device.
    pub device: LinkName,
    /// Its key.
    pub own: PublicKey,
    /// The peer's.
    pub peer: PublicKey,
}

/// What a device of a rotation, or the one beside it, says of a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenPeer {
    /// The device and the keys.
    pub session: Session,
    /// When the last handshake was, since 1970; `None`: never.
    pub handshake: Option<Duration>,
    /// Bytes received from it.
    pub received: u64,
}
