//! The BPF object: the sizes and layouts of its programs and maps, as the kernel reports them.

use adit_tests::bpf::{Programs, all, skipped};
use dataplane_ebpf::layout::{
    MAX_CLASSES, MAX_GROUPS, MAX_NEXT_HOPS, MAX_PREFIXES_V4, MAX_PREFIXES_V6, MAX_SOURCES, names,
};
use dataplane_ebpf::verdict::{IngressVerdict, Verdict};

#[test]
fn loads_within_bounds() {
    if skipped() {
        return;
    }
    for log in [false, true] {
        let mut programs = Programs::load(log).unwrap();
        for name in all() {
            let info = programs.info(name).unwrap();
            let (verified, translated) = (info.verified_instruction_count(), info.size_translated());
            println!(
                "{name}, log {log}: {verified:?} instructions verified, {translated:?} bytes translated"
            );
            // A fifth of what the kernel walks at most, so that a new kernel's verifier may be worse at it.
            assert!(verified.is_none_or(|verified| verified < 200_000));
            // The packet path alone: what logging adds is cut out when it is off.
            assert!(log || translated.is_none_or(|bytes| bytes < 2_000 * 8));
        }
    }
}

#[test]
fn maps_have_the_layout() {
    if skipped() {
        return;
    }
    const NO_PREALLOC: u32 = 1;
    let programs = Programs::load(false).unwrap();
    for (name, key, value, entries, flags) in [
        (names::PREFIXES_V4, 8, 4, MAX_PREFIXES_V4, NO_PREALLOC),
        (names::PREFIXES_V6, 20, 4, MAX_PREFIXES_V6, NO_PREALLOC),
        (names::CLASSES, 4, 32, MAX_CLASSES, 0),
        (names::NEXT_HOPS, 4, 64, MAX_NEXT_HOPS, 0),
        (names::NEXT_HOP_STATES, 4, 4, MAX_NEXT_HOPS, 0),
        (names::NEXT_HOP_LABELS, 4, 64, MAX_NEXT_HOPS, 0),
        (names::NEXT_HOP_COUNTERS, 4, 16, MAX_NEXT_HOPS, 0),
        (names::GROUPS, 4, 64, MAX_GROUPS, 0),
        (names::SOURCES, 24, 16, MAX_SOURCES, NO_PREALLOC),
        (names::EGRESS_COUNTERS, 4, 16, Verdict::COUNT, 0),
        (names::INGRESS_COUNTERS, 4, 16, IngressVerdict::COUNT, 0),
    ] {
        assert!(names::PINNED_MAPS.contains(&name));
        let info = programs
            .map_info(name)
            .unwrap()
            .unwrap_or_else(|| panic!("the object has no {name}"));
        let seen = (
            info.key_size(),
            info.value_size(),
            info.max_entries(),
            info.map_flags(),
        );
        assert_eq!(seen, (key, value, entries, flags), "{name}");
        assert_eq!(info.name_as_str(), Some(name));
    }
}
