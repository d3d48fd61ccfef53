//! What is particular to BPF: the programs, the maps, and the kernel's packet.

mod egress;
mod ingress;
mod log;
mod maps;
mod skb;
