//! Tests that user-mode Linux cannot run, because they need several CPUs, the JIT, BTF and the kernel binary of Debian:
//! the tests about loaded programs and restarts run once more, every encapsulation transports traffic, and packets are
//! looked up on two CPUs while the maps are written.
#[path = "../bpf_attach.rs"]
mod bpf_attach;
mod cpus;
#[path = "../restart.rs"]
mod restart;

use std::fs;
use std::path::Path;

use adit_tests::pair::pair;
use dataplane_user::net::Family;
use dataplane_user::resource::Dataplane;

#[test]
fn the_machine_has_several_cpus_the_jit_and_btf() {
    let jit = fs::read_to_string("/proc/sys/net/core/bpf_jit_enable").unwrap_or_default();
    if std::env::var_os("ADIT_VM").is_none_or(|vm| vm != "1") && jit.trim() != "1" {
        println!("skipped: this kernel has no JIT for BPF");
        return;
    }
    assert_eq!(jit.trim(), "1", "the JIT");
    assert!(cpus::count() > 1, "several CPUs");
    assert!(Path::new("/sys/kernel/btf/vmlinux").exists(), "BTF");
}

#[test]
fn geneve_transports_traffic() {
    pair("geneve", Family::Ipv4, [Dataplane::Ebpf; 2]);
}

#[test]
fn vxlan_transports_traffic() {
    pair("vxlan", Family::Ipv6, [Dataplane::Ebpf; 2]);
}

#[test]
fn ipip_transports_traffic() {
    pair("ipip", Family::Ipv4, [Dataplane::Ebpf; 2]);
}

#[test]
fn wireguard_transports_traffic() {
    pair("wireguard", Family::Ipv6, [Dataplane::Ebpf; 2]);
}

#[test]
fn none_transports_traffic() {
    pair("none", Family::Ipv4, [Dataplane::Ebpf; 2]);
}
