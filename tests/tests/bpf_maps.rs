//! The maps of the BPF adapter: written state is observed, across restarts, crashes and full maps. Needs root.
#![expect(clippy::unwrap_used, reason = "helpers fail the test as its own body does")]

mod bpf_maps {
    mod damage;
    mod refusals;
    mod slots;
    mod states;
    mod values;
}
