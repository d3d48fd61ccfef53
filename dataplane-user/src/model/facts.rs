//! Facts about the machine that the plan needs; gathered by the kernel adapters.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;

use super::{LOCAL_TABLE, MAIN_TABLE, RouteKey};
use crate::net::{Family, KeySource, LinkName, Namespace, PeerId, PresharedKey, PublicKey};

/// Facts about the machine that the plan needs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeFacts {
    /// The addresses of this namespace, on all devices.
    pub local_addresses: BTreeSet<IpAddr>,
    /// The underlay path to each underlay address of a peer; absent if the kernel has no route.
    pub paths: BTreeMap<IpAddr, UnderlayPath>,
    /// The routes that the kernel finds for the lookups of [`plan::lookups`](crate::plan::lookups()); absent
    /// if it finds none.
    pub routes: BTreeMap<Lookup, FoundRoute>,
    /// The devices through which the gateways of [`plan::gateways`](crate::plan::gateways()) are on the link,
    /// by namespace (`None`: this one); absent while there is none.
    pub gateways: BTreeMap<Option<Namespace>, BTreeMap<Gateway, LinkName>>,
    /// The subnets of the addresses in this namespace, with their devices; without overlay devices of Adit,
    /// and without devices that are down.
    pub subnets: BTreeSet<(LinkName, IpNet)>,
    /// The devices of `routes` with a strict `rp_filter`, their own or the one of `all`.
    pub strict: BTreeSet<LinkName>,
    /// The peers that an operator withdrew: no packets are sent to them.
    pub withdrawn: BTreeSet<PeerId>,
    /// Why the list of withdrawn peers can't be read now.
    pub withdrawn_unread: Option<Unread>,
    /// The namespaces that manifests name, and whether they exist.
    pub namespaces: BTreeMap<Namespace, Presence>,
    /// Why no kernel events are received from other namespaces; `None`: they are received, or not subscribed
    /// to.
    pub unheard_namespaces: Option<String>,
    /// Whether devices in this namespace have IPv6.
    pub ipv6: Ipv6,
    /// Whether devices in other namespaces have IPv6; in a namespace that is not listed all have it.
    pub ipv6_in: BTreeMap<Namespace, Ipv6>,
    /// The families for which this kernel has neither policy rules nor routing tables except the main one.
    pub without_rules: BTreeSet<Family>,
    /// The return paths through the existing devices of `returnPath`.
    pub return_paths: BTreeMap<LinkName, ReturnPath>,
    /// Whether the nft table can be created.
    pub nft: Nft,
    /// Why BPF programs and maps are not available; `None`: they are, or it was not checked.
    pub without_programs: Option<String>,
    /// Facts for WireGuard; only if a manifest uses WireGuard.
    pub wireguard: WireGuardFacts,
}

impl NodeFacts {
    /// Whether an operator withdrew a peer, or a group of peers that contains it.
    #[must_use]
    pub fn is_withdrawn(&self, peer: &str) -> bool {
        PeerId::covering(&self.withdrawn, peer).is_some()
    }
}

/// A list that can't be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unread {
    /// Why.
    pub why: String,
    /// Whether this process has read the list before, so that the facts have that list.
    pub known: bool,
}

/// The result of the search for a namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Presence {
    /// It is the agent's own namespace.
    Own,
    /// It exists; for several names of one namespace this is the first of them.
    There(Namespace),
    /// It does not exist now; the reason.
    Absent(String),
    /// It is unknown whether it exists, or it can't be entered; the reason.
    Unknown(String),
    /// This process has no permission to enter it.
    Denied,
}

impl Presence {
    /// Why the objects in it are unknown; `None` if they are known or it does not exist.
    #[must_use]
    pub fn unknown(&self) -> Option<String> {
        match self {
            Presence::There(_) | Presence::Absent(_) => None,
            Presence::Own => Some("it is the agent's own namespace".to_owned()),
            Presence::Unknown(why) => Some(why.clone()),
            Presence::Denied => Some("this process has no permission to enter it".to_owned()),
        }
    }
}

/// The devices of a namespace on which IPv6 is available.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ipv6 {
    /// The kernel has no IPv6: it was built without it, or booted with `ipv6.disable=1`.
    Absent,
    /// All devices except these, whose `disable_ipv6` is 1.
    OnAllBut(BTreeSet<LinkName>),
    /// IPv6 is disabled on `lo`, and on all other devices except these.
    OffAllBut(BTreeSet<LinkName>),
}

impl Default for Ipv6 {
    fn default() -> Ipv6 {
        Ipv6::OnAllBut(BTreeSet::new())
    }
}

impl Ipv6 {
    /// Whether a device has IPv6, or will have it once it exists.
    #[must_use]
    pub fn is_on(&self, link: &LinkName) -> bool {
        match self {
            Ipv6::Absent => false,
            Ipv6::OnAllBut(others) => !others.contains(link),
            Ipv6::OffAllBut(others) => others.contains(link),
        }
    }
}

/// Whether the nft table can be created.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Nft {
    /// The program `nft` is missing.
    #[default]
    NoProgram,
    /// The kernel has no nf_tables.
    NoTables,
    /// Everything except masquerading of IPv6, which the kernel has refused.
    WithoutIpv6Nat,
    /// Everything, as far as known.
    Usable,
}

impl Nft {
    /// Whether a table can be created at all.
    #[must_use]
    pub fn is_usable(self) -> bool {
        matches!(self, Nft::WithoutIpv6Nat | Nft::Usable)
    }
}

/// Facts for WireGuard links that the kernel does not report.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WireGuardFacts {
    /// This node's key.
    pub own_key: OwnKey,
    /// The next key of this node.
    pub next_key: OwnKey,
    /// The sessions that are up, as far as a key rotation needs them.
    pub sessions: BTreeSet<Session>,
    /// Peers on the second devices of a finished key rotation, until these devices were quiet for a while.
    pub lingering: BTreeSet<(LinkName, PublicKey)>,
    /// What the kernel reports about those devices; [`WireGuardFacts::sessions`] is derived from it.
    pub seen: Vec<SeenPeer>,
    /// The keys of declared devices.
    pub keys: BTreeMap<KeySource, OwnKey>,
    /// The preshared keys in the files that manifests name.
    pub preshared_keys: BTreeMap<String, SharedKey>,
    /// Keys that were read before and can't be read now, and why. The other fields have the keys that were
    /// read last.
    pub unreadable: BTreeMap<KeyFile, String>,
    /// The addresses of the endpoint names in manifests, the one that was used last first; absent while a
    /// name does not resolve.
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

/// A WireGuard key of this node; the private key itself is not stored here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum OwnKey {
    /// There is no key.
    #[default]
    Missing,
    /// The file holds no key, or can't be read; the reason, without any key material.
    Unusable(String),
    /// The public key that belongs to the private one.
    Known(PublicKey),
}

/// The preshared key in a file that manifests name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SharedKey {
    /// The file does not exist; the error of the system.
    Missing(String),
    /// The file can't be read, or holds no key, and was not read before; the reason, without any key
    /// material.
    Unreadable(String),
    /// The key, as it was read last.
    Known(PresharedKey),
}

/// The underlay path to a peer (`ip route get`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnderlayPath {
    /// The device through which packets leave.
    pub link: LinkName,
    /// The gateway, of either family (an IPv4 route may have an IPv6 gateway); `None`: the address is
    /// on-link.
    pub gateway: Option<IpAddr>,
    /// The path MTU in bytes: the MTU of the route if it has one, else of the device.
    pub mtu: u32,
}

/// A gateway of routes in a table. The kernel looks for its device among the routes of that table first, and then
/// as for a packet (`fib_check_nh`, net/ipv4/fib_semantics.c).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Gateway {
    /// The table; [`MAIN_TABLE`]: the lookup for a packet.
    pub table: u32,
    /// The address.
    pub address: IpAddr,
}

/// A route lookup: a packet whose route is requested from the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Lookup {
    /// The destination of the packet.
    pub destination: IpAddr,
    /// The mark of the packet, which policy rules may match; 0: none.
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
    /// The devices through which it leads.
    pub links: BTreeSet<LinkName>,
}

impl FoundRoute {
    /// Whether the kernel still finds this route if a route with another key exists, too, whose prefix
    /// contains the destination. If the table of the found route is neither the local table nor the table of
    /// the other route, it is assumed to be looked up before the main table; if that is wrong, the kernel
    /// finds the other route once it exists.
    #[must_use]
    pub fn beats(&self, other: &RouteKey) -> bool {
        if self.key.table == other.table {
            let rank = |key: &RouteKey| (u8::MAX - key.prefix.prefix_len(), key.metric);
            return rank(&self.key) < rank(other);
        }
        // A separate table has a rule before the one for the main table.
        self.key.table == LOCAL_TABLE || other.table == MAIN_TABLE
    }
}

/// How answers can be sent back through a device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReturnPath {
    /// Whether the device has IPv6 at all; the kernel accepts no IPv6 routes through a device without it.
    pub ipv6: bool,
    /// The gateways of the default routes through it in the main table, of the same family or IPv6 for IPv4;
    /// none for a family without such a route or without a gateway.
    pub gateways: BTreeMap<Family, IpAddr>,
    /// The subnets of its addresses, whose hosts need no gateway, including link-local ones.
    pub on_link: BTreeSet<IpNet>,
}

/// A session that is up: a handshake with these keys was seen recently on a device.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Session {
    /// The device.
    pub device: LinkName,
    /// The public key of this node on the device.
    pub own: PublicKey,
    /// The public key of the peer.
    pub peer: PublicKey,
}

/// The state of a peer on a device that takes part in a key rotation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenPeer {
    /// The device and the keys.
    pub session: Session,
    /// The time of the last handshake, since 1970; `None`: never.
    pub handshake: Option<Duration>,
    /// Bytes received from it.
    pub received: u64,
}
