//! Names of maps and programs, as the kernel and `bpftool` show them (at most 15 bytes), and of their pins.

use super::Class;

/// IPv4 prefixes: LPM trie, [`super::PrefixKeyV4`] to [`super::Target`].
pub const PREFIXES_V4: &str = "adit_prefixes4";
/// IPv6 prefixes: LPM trie, [`super::PrefixKeyV6`] to [`super::Target`].
pub const PREFIXES_V6: &str = "adit_prefixes6";
/// Classes: array of [`super::Class`].
pub const CLASSES: &str = "adit_classes";
/// Next hops: array of [`super::NextHop`].
pub const NEXT_HOPS: &str = "adit_next_hops";
/// States of the next hops, by the same slot: array of [`super::NextHopState`].
pub const NEXT_HOP_STATES: &str = "adit_nh_states";
/// Names of the next hops' nodes, by the same slot: array of [`super::NodeLabel`]. The programs don't read it.
pub const NEXT_HOP_LABELS: &str = "adit_nh_labels";
/// What went out by each next hop, by the same slot: per-CPU array of [`super::Counters`].
pub const NEXT_HOP_COUNTERS: &str = "adit_nh_count";
/// Groups: array of [`super::Group`].
pub const GROUPS: &str = "adit_groups";
/// What came in from each known source: per-CPU hash of [`super::SourceKey`] to [`super::Counters`], without
/// preallocation.
pub const SOURCES: &str = "adit_sources";
/// What the egress program decided, by `Verdict`: per-CPU array of [`super::Counters`].
pub const EGRESS_COUNTERS: &str = "adit_egress_cnt";
/// What the ingress programs saw, by `IngressVerdict`: per-CPU array of [`super::Counters`].
pub const INGRESS_COUNTERS: &str = "adit_ingres_cnt";

/// Every map that is pinned, in the order in which `adit map dump` shows them.
pub const PINNED_MAPS: [&str; 11] = [
    PREFIXES_V4,
    PREFIXES_V6,
    CLASSES,
    NEXT_HOPS,
    NEXT_HOP_STATES,
    NEXT_HOP_LABELS,
    NEXT_HOP_COUNTERS,
    GROUPS,
    SOURCES,
    EGRESS_COUNTERS,
    INGRESS_COUNTERS,
];

/// The program on `adit0`'s egress.
pub const EGRESS_PROGRAM: &str = "adit_egress";
/// The programs on the plain tunnel devices' ingress, by encapsulation: a packet does not say which device's it was.
pub const INGRESS_PROGRAMS: [(u8, &str); 4] = [
    (Class::GENEVE, "adit_in_geneve"),
    (Class::VXLAN, "adit_in_vxlan"),
    (Class::IPIP, "adit_in_ipip"),
    (Class::IP6TNL, "adit_in_ip6tnl"),
];
/// The read-only global (u8) that switches the programs' logging on when it is not 0.
pub const LOG_ENABLED: &str = "LOG_ENABLED";
