//! The BPF programs on the running kernel, packet by packet.

use adit_tests::bpf::Programs;
use dataplane_ebpf::layout::names;

#[test]
fn loads() {
    for log in [false, true] {
        let mut programs = Programs::load(log).unwrap();
        for name in [names::EGRESS_PROGRAM, names::INGRESS_PROGRAM] {
            let info = programs.info(name).unwrap();
            println!(
                "{name} log {log}: {:?} instructions verified, {:?} bytes translated, {} bytes of machine code",
                info.verified_instruction_count(),
                info.size_translated(),
                info.size_jitted()
            );
        }
        println!("{:?}", programs.map_names());
    }
}
