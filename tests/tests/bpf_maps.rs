//! The BPF adapter's maps: what is written is observed, across restarts, crashes and full tables. Needs root.
#![expect(clippy::unwrap_used, reason = "helpers fail the test as its own body does")]

mod bpf_maps {
    mod damage;
    mod refusals;
    mod slots;
    mod states;
    mod values;
}
