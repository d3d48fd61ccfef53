//! What became of a packet: each variant is a counter, and each packet counts in exactly one of a program's.

/// Declares a verdict: the variants are counted from 0 on, each with its name and its explanation.
macro_rules! verdicts {
    ($(#[$doc:meta])* $type:ident { $($variant:ident $name:literal $explanation:literal,)* }) => {
        $(#[$doc])*
        #[repr(u32)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $type {
            $(#[doc = $explanation] $variant,)*
        }

        impl $type {
            /// Every variant, in the order of the counters.
            pub const ALL: &'static [$type] = &[$($type::$variant,)*];
            /// How many there are: the counter map's entries.
            #[expect(clippy::cast_possible_truncation, reason = "a dozen or two")]
            pub const COUNT: u32 = $type::ALL.len() as u32;

            /// The counter's index.
            #[must_use]
            #[inline(always)]
            pub const fn index(self) -> u32 {
                self as u32
            }

            /// The verdict that has this index.
            #[must_use]
            pub fn from_index(index: u32) -> Option<$type> {
                $type::ALL.get(usize::try_from(index).ok()?).copied()
            }

            /// A stable name for metrics and output.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $($type::$variant => $name,)*
                }
            }

            /// One sentence for whoever looks for a lost packet.
            #[must_use]
            pub const fn explanation(self) -> &'static str {
                match self {
                    $($type::$variant => $explanation,)*
                }
            }
        }
    };
}

verdicts! {
    /// What the egress program did with a packet. All but [`Verdict::Forwarded`] are drops.
    Verdict {
        Forwarded "forwarded" "The packet was handed to the next hop's device.",
        NotIp "not_ip" "The frame carries neither IPv4 nor IPv6.",
        Truncated "truncated" "The packet ends before its IP header does.",
        BadHeader "bad_header" "The IP header's version or length is wrong.",
        HopLimit "hop_limit" "The packet's TTL or hop limit is 0.",
        Looped "looped" "The packet came back from this very device, whose rule for unreachable answers is missing.",
        Multicast "multicast" "The destination is multicast or the limited broadcast, and no prefix covers it.",
        LinkLocal "link_local" "The destination is link-local, and no prefix covers it.",
        NoPrefix "no_prefix" "No prefix of the overlay covers the destination.",
        LocalPrefix "local_prefix" "The prefix is this node's own, which has no local route to the destination.",
        NoGroup "no_group" "The prefix points at a group that is not there.",
        NoNextHop "no_next_hop" "The prefix or the group points at a next hop that is not there.",
        NoUsableNextHop "no_usable_next_hop" "Every next hop of the prefix is marked as down.",
        NoClass "no_class" "The next hop's tunnel device is not known.",
        InnerFamily "inner_family" "The encapsulation can't carry the packet's family.",
        TunnelKeyRejected "tunnel_key_rejected" "The kernel refused the tunnel key.",
        StoreFailed "store_failed" "The inner Ethernet header could not be written.",
        RedirectFailed "redirect_failed" "The kernel refused the redirect.",
    }
}

verdicts! {
    /// What an ingress program saw on a tunnel device. It passes every packet, also one from an unknown source: that is
    /// counted, and nothing else follows from it.
    IngressVerdict {
        AcceptedIpv4 "accepted_ipv4" "The packet is IPv4 and came out of a tunnel.",
        AcceptedIpv6 "accepted_ipv6" "The packet is IPv6 and came out of a tunnel.",
        NotIp "not_ip" "The packet is neither IPv4 nor IPv6.",
        BadHeader "bad_header" "The packet does not start with the IP header that its protocol promises.",
        NoTunnelKey "no_tunnel_key" "The packet has no tunnel metadata, so it did not come out of a tunnel.",
        UnknownSource "unknown_source" "No peer sends from the packet's outer source address by this encapsulation and VNI; it is passed all the same.",
    }
}
