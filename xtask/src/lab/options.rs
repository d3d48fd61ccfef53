//! The options of `cargo xtask lab`. The lab itself, a program of the tests, gets them as JSON and includes this file as
//! a module, too.
use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};

/// How many nodes advertise the shared prefix, starting with the first.
pub const ADVERTISERS: usize = 2;

/// The hosts, the links between them, and the output of the lab.
#[derive(Debug, Clone, clap::Args, Serialize, Deserialize)]
pub struct Options {
    /// Number of hosts
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u8).range(2..=26))]
    pub nodes: u8,
    /// Encapsulations, one round each; a link that cannot transport IPv6 is not tested with IPv6
    #[arg(
        long,
        value_enum,
        value_name = "LIST",
        value_delimiter = ',',
        default_value = "geneve,vxlan"
    )]
    pub encapsulation: Vec<Encapsulation>,
    /// Let each node ask for another encapsulation of the list; runs as many rounds as it takes to use each of them
    #[arg(long)]
    pub mixed: bool,
    /// How the nodes forward packets
    #[arg(long, value_enum, default_value = "ebpf")]
    pub dataplane: Dataplane,
    /// Let the first two nodes advertise the same prefix, to which all others send; both must answer
    ///
    /// Nodes whose link to one of the two has no encapsulation do not send: there the underlay chooses.
    #[arg(long)]
    pub shared_prefix: bool,
    /// Address families of the underlay
    #[arg(long, value_enum, default_value = "ipv4")]
    pub underlay: Underlay,
    /// Print one JSON object per line: for each pair, family and kind of traffic, then a summary
    #[arg(long)]
    pub json: bool,
    /// Leave the lab running at the end, and print commands to look around
    #[arg(long)]
    pub hold: bool,
    /// Kill the agent of the first host and break one thing there: the lab must fail
    #[arg(long, value_enum)]
    pub sabotage: Option<Sabotage>,
    /// Whether the output is a terminal whose user wants colours.
    #[arg(skip)]
    pub colour: bool,
}

impl Options {
    /// Fails if the options contradict each other.
    pub fn check(&self) -> Result<()> {
        if self.shared_prefix && usize::from(self.nodes) <= ADVERTISERS {
            bail!(
                "--shared-prefix needs --nodes 3 or more: two nodes advertise the prefix, and the others send"
            );
        }
        if self.dataplane != Dataplane::Ebpf && (self.shared_prefix || self.sabotage.is_some()) {
            bail!("--shared-prefix and --sabotage test the BPF programs: use them with --dataplane ebpf");
        }
        let mut ranked = Encapsulation::BY_RANK.into_iter();
        let first = match self.mixed {
            true => ranked.find(|one| self.encapsulation.contains(one)),
            false => self.encapsulation.first().copied(),
        };
        if self.sabotage == Some(Sabotage::Vni) && !first.is_some_and(Encapsulation::has_vni) {
            bail!(
                "--sabotage vni needs geneve or vxlan as the first encapsulation, because the others have no VNI"
            );
        }
        Ok(())
    }
}

/// How packets cross the underlay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum, Serialize, Deserialize)]
pub enum Encapsulation {
    /// GENEVE (RFC 8926)
    Geneve,
    /// VXLAN (RFC 7348)
    Vxlan,
    /// IP in IP: over IPv4 for IPv4 packets only (RFC 2003), over IPv6 for both families (RFC 2473)
    Ipip,
    /// WireGuard, encrypted
    Wireguard,
    /// No encapsulation: the underlay has routes for the overlay; no IPv6 over IPv4
    #[value(name = "none")]
    Plain,
}

impl Encapsulation {
    /// In descending order of precedence: the first that one of both ends names is used.
    pub const BY_RANK: [Self; 5] = [
        Self::Wireguard,
        Self::Geneve,
        Self::Vxlan,
        Self::Ipip,
        Self::Plain,
    ];

    /// Whether the packets have a VNI.
    pub fn has_vni(self) -> bool {
        matches!(self, Self::Geneve | Self::Vxlan)
    }
}

/// How nodes forward packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
pub enum Dataplane {
    /// By BPF programs
    Ebpf,
    /// By routes of the kernel
    Routes,
    /// By BPF programs on every other node, starting with the first, and by routes on the rest
    Mixed,
}

/// The families of the underlay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
pub enum Underlay {
    /// IPv4 only
    Ipv4,
    /// IPv6 only
    Ipv6,
    /// Both, IPv4 preferred; with three or more hosts, the last one has IPv6 only
    Dual,
}

/// What to break.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
pub enum Sabotage {
    /// Detach the BPF program from adit0
    Detach,
    /// Change the VNI in a map of the program (GENEVE and VXLAN only)
    Vni,
    /// Delete the prefixes of the peers from the maps of the program
    Map,
}
