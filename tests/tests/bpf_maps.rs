//! The BPF adapter's maps: what is written is observed, across restarts, crashes and full tables. Needs root.

mod bpf_maps {
    mod damage;
    mod refusals;
    mod slots;
    mod states;
    mod values;
}
