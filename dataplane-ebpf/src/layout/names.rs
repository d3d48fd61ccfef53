//! Names of the maps and programs, as the kernel and `bpftool` show them (at most 15 bytes). The pins have
//! the same names.

use super::Class;

/// IPv4 prefixes: LPM trie, [`super::PrefixKeyV4`] to [`super::PrefixTarget`].
pub const PREFIXES_V4: &str = "adit_prefixes4";
/// IPv6 prefixes: LPM trie, [`super::PrefixKeyV6`] to [`super::PrefixTarget`].
pub const PREFIXES_V6: &str = "adit_prefixes6";
/// Classes: array of [`super::Class`].
pub const CLASSES: &str = "adit_classes";
/// Next hops: array of [`super::NextHop`].
pub const NEXT_HOPS: &str = "adit_next_hops";
/// States of the next hops, with the same slots: array of [`super::NextHopState`].
pub const NEXT_HOP_STATES: &str = "adit_nh_states";
/// Names of the nodes of the next hops, with the same slots: array of [`super::NodeLabel`]. The programs
/// don't read it.
pub const NEXT_HOP_LABELS: &str = "adit_nh_labels";
/// Packets sent to each next hop, with the same slots: per-CPU array of [`super::Counters`].
pub const NEXT_HOP_COUNTERS: &str = "adit_nh_count";
/// Groups: array of [`super::Group`].
pub const GROUPS: &str = "adit_groups";
/// Packets received from each known source: per-CPU hash of [`super::SourceKey`] to [`super::Counters`],
/// without preallocation.
pub const SOURCES: &str = "adit_sources";
/// Packets of the egress program by `Verdict`: per-CPU array of [`super::Counters`].
pub const EGRESS_COUNTERS: &str = "adit_egress_cnt";
/// Packets of the ingress programs by `IngressVerdict`: per-CPU array of [`super::Counters`].
pub const INGRESS_COUNTERS: &str = "adit_ingres_cnt";

/// All pinned maps, in the order in which `adit map dump` prints them.
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

/// The program on the egress hook of `adit0`.
pub const EGRESS_PROGRAM: &str = "adit_egress";
/// The programs on the ingress hooks of tunnel devices without encryption, by encapsulation: a packet does
/// not tell by which device it arrived.
pub const INGRESS_PROGRAMS: [(u8, &str); 4] = [
    (Class::GENEVE, "adit_in_geneve"),
    (Class::VXLAN, "adit_in_vxlan"),
    (Class::IPIP, "adit_in_ipip"),
    (Class::IP6TNL, "adit_in_ip6tnl"),
];
/// The read-only global variable (u8) that switches on the logging of the programs if it is not 0.
pub const LOG_ENABLED: &str = "LOG_ENABLED";
