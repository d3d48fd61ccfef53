//! Will build the BPF object.
fn main() {}
