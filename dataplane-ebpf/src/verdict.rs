//! Verdicts, the outcomes of the programs for a packet. Each verdict is a counter, and a program counts each
//! packet under exactly one verdict.

/// Declares a type of verdicts. Each variant has a name and an explanation; the first one has the index 0.
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
            /// The number of variants, which is the number of entries in the counter map.
            #[expect(clippy::cast_possible_truncation, reason = "a dozen or two")]
            pub const COUNT: u32 = $type::ALL.len() as u32;

            /// The index in the counter map.
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

            /// The stable name for metrics and output.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $($type::$variant => $name,)*
                }
            }

            /// One sentence for operators who look for a lost packet.
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
    /// The verdicts of the egress program. All except [`Verdict::Forwarded`] drop the packet.
    Verdict {
        Forwarded "forwarded" "The packet was redirected to the device of its next hop.",
        NotIp "not_ip" "The frame contains neither IPv4 nor IPv6.",
        Truncated "truncated" "The packet ends within its IP header.",
        BadHeader "bad_header" "The version or the length in the IP header is invalid.",
        HopLimit "hop_limit" "The TTL or hop limit of the packet is 0.",
        Looped "looped" "The packet arrived on the device that it leaves by, so forwarding it would be a loop.",
        Multicast "multicast" "The destination is multicast or the limited broadcast address, and no prefix covers it.",
        LinkLocal "link_local" "The destination is link-local, and no prefix covers it.",
        NoPrefix "no_prefix" "No prefix of the overlay covers the destination.",
        LocalPrefix "local_prefix" "The prefix belongs to this node, which has no local route to the destination.",
        NoGroup "no_group" "The prefix points to a group that does not exist.",
        NoNextHop "no_next_hop" "The prefix or its group points to a next hop that does not exist.",
        NoUsableNextHop "no_usable_next_hop" "Every next hop of the prefix is marked as down.",
        NoClass "no_class" "The class of the next hop, with its tunnel device, does not exist.",
        InnerFamily "inner_family" "The next hop can't transport IPv6: its tunnel is IPIP, or its neighbour without encapsulation has an IPv4 address.",
        TunnelKeyRejected "tunnel_key_rejected" "The kernel refused the tunnel key.",
        StoreFailed "store_failed" "The kernel could not write the inner Ethernet header.",
        RedirectFailed "redirect_failed" "The kernel refused the redirect.",
    }
}

verdicts! {
    /// The verdicts of the ingress programs on tunnel devices. These programs accept every packet, also from
    /// an unknown source: they only count it.
    IngressVerdict {
        AcceptedIpv4 "accepted_ipv4" "The packet is IPv4 and arrived through a tunnel from a known source.",
        AcceptedIpv6 "accepted_ipv6" "The packet is IPv6 and arrived through a tunnel from a known source.",
        NotIp "not_ip" "The packet is neither IPv4 nor IPv6.",
        BadHeader "bad_header" "The packet does not start with an IP header of the version that its protocol number states.",
        NoTunnelKey "no_tunnel_key" "The packet has no tunnel metadata, so it did not arrive through a tunnel.",
        UnknownSource "unknown_source" "No peer sends from the outer source address of the packet with this encapsulation and VNI; the packet is accepted nevertheless.",
    }
}
