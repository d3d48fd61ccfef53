//! The types of the map ABI as the compiler lays them out.
use std::mem::{offset_of, size_of};

use dataplane_ebpf::layout::{
    CarryEndpoint, CarryKey, Class, Counters, Group, GroupMember, NextHop, NextHopState, NodeLabel,
    PrefixKeyV4, PrefixKeyV6, PrefixTarget, SourceKey,
};

/// A type that is stored in a map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Layout {
    /// Its name.
    pub(super) name: &'static str,
    /// The file that declares it.
    pub(super) file: &'static str,
    /// Bytes.
    pub(super) size: usize,
    /// Its fields; none for a type that wraps one value.
    pub(super) fields: Vec<Field>,
}

/// A field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Field {
    /// Its name.
    pub(super) name: &'static str,
    /// Bytes from the type's start.
    pub(super) offset: usize,
    /// Bytes.
    pub(super) size: usize,
}

/// Does not compile unless every field is named.
macro_rules! record {
    ($file:literal $type:ident { $($field:ident),* $(,)? }) => {{
        let $type { $($field),* } = $type::default();
        Layout {
            name: stringify!($type),
            file: $file,
            size: size_of::<$type>(),
            fields: vec![$(Field {
                name: stringify!($field),
                offset: offset_of!($type, $field),
                size: size_of_val(&$field),
            }),*],
        }
    }};
}

macro_rules! word {
    ($file:literal $type:ident) => {
        Layout {
            name: stringify!($type),
            file: $file,
            size: size_of::<$type>(),
            fields: Vec::new(),
        }
    };
}

/// All of them: keys, what they lead to, and the rest.
pub(super) fn all() -> Vec<Layout> {
    vec![
        record!("prefix.rs" PrefixKeyV4 { length, address }),
        record!("prefix.rs" PrefixKeyV6 { length, address }),
        word!("target.rs" PrefixTarget),
        record!("group.rs" Group { members, count, next, head, reserved }),
        record!("group.rs" GroupMember { next_hop, key, weight }),
        record!("next_hop.rs" NextHop {
            remote, local, destination_mac, flags, class, flow_label, gateway,
        }),
        word!("next_hop.rs" NextHopState),
        word!("next_hop.rs" NodeLabel),
        record!("class.rs" Class {
            ifindex, vni, source_mac, encapsulation, unit, ttl, tos, flags, underlay, reserved,
        }),
        record!("source.rs" SourceKey { address, vni, encapsulation, version, reserved }),
        record!("counters.rs" Counters { packets, bytes }),
        record!("carry.rs" CarryKey { kind, reserved, device, peer }),
        record!("carry.rs" CarryEndpoint { address, port, version, scope, reserved }),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_fill_their_type_without_a_gap() {
        for layout in all().into_iter().filter(|layout| !layout.fields.is_empty()) {
            let mut end = 0;
            for field in &layout.fields {
                assert_eq!(field.offset, end, "{}.{}", layout.name, field.name);
                end += field.size;
            }
            assert_eq!(end, layout.size, "{}", layout.name);
        }
    }
}
