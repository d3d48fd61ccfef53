//! The parts that need BPF: the programs, the maps, and access to packets of the kernel.

mod egress;
mod ingress;
mod log;
mod maps;
mod skb;
