//! What the lab is asked for: the options of `cargo xtask lab`. The lab itself, a program of the tests, gets them as JSON and has
//! this file as a module, too.
use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};

/// How many nodes carry the shared prefix, from the first on.
pub const CARRIERS: usize = 2;

/// Who is joined to whom, and how.
#[derive(Debug, Clone, clap::Args, Serialize, Deserialize)]
pub struct Options {
    /// How many hosts.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u8).range(2..=26))]
    pub nodes: u8,
    /// The encapsulations, one after another; links that can't carry IPv6 are not tried with it.
    #[arg(
        long,
        value_enum,
        value_name = "LIST",
        value_delimiter = ',',
        default_value = "geneve,vxlan"
    )]
    pub encapsulation: Vec<Encapsulation>,
    /// Each node asks for another one of them, so that links differ: as many rounds as it takes until each is used.
    #[arg(long)]
    pub mixed: bool,
    /// What carries the packets that nodes send.
    #[arg(long, value_enum, default_value = "ebpf")]
    pub dataplane: Dataplane,
    /// The first two nodes carry a common prefix as well, with a pod's address that both have; all others send to it.
    /// Not where a link to either has no encapsulation: there the underlay chooses.
    #[arg(long)]
    pub shared_prefix: bool,
    /// The address families of the underlay.
    #[arg(long, value_enum, default_value = "ipv4")]
    pub underlay: Underlay,
    /// Print one JSON object a line: each way, family and kind of traffic, then a summary.
    #[arg(long)]
    pub json: bool,
    /// Leave it up when done, and say how to look around.
    #[arg(long)]
    pub hold: bool,
    /// With the first encapsulation, kill the first host's agent and break one thing there: this has to fail.
    #[arg(long, value_enum)]
    pub sabotage: Option<Sabotage>,
    /// The output ends on a terminal whose user wants colours.
    #[arg(skip)]
    pub colour: bool,
}

impl Options {
    /// Fails with the reason if this can't be had.
    pub fn check(&self) -> Result<()> {
        if self.shared_prefix && usize::from(self.nodes) <= CARRIERS {
            bail!("--shared-prefix needs --nodes 3 or more: two carry it, the others send");
        }
        if self.dataplane != Dataplane::Ebpf && (self.shared_prefix || self.sabotage.is_some()) {
            bail!("--shared-prefix and --sabotage are about the programs: they need --dataplane ebpf");
        }
        let mut ranked = Encapsulation::BY_RANK.into_iter();
        let first = match self.mixed {
            true => ranked.find(|one| self.encapsulation.contains(one)),
            false => self.encapsulation.first().copied(),
        };
        if self.sabotage == Some(Sabotage::Vni) && !first.is_some_and(Encapsulation::has_vni) {
            bail!("--sabotage vni needs geneve or vxlan as the first encapsulation: others have no VNI");
        }
        Ok(())
    }
}

/// How packets cross the underlay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum, Serialize, Deserialize)]
pub enum Encapsulation {
    /// GENEVE, RFC 8926.
    Geneve,
    /// VXLAN, RFC 7348.
    Vxlan,
    /// IP in IP: RFC 2003 over IPv4, with IPv4 inside only, RFC 2473 over IPv6.
    Ipip,
    /// WireGuard: what is inside can't be seen.
    Wireguard,
    /// None: overlay packets as they are, which the underlay has routes for. No IPv6 over IPv4.
    #[value(name = "none")]
    Plain,
}

impl Encapsulation {
    /// In the order in which one prevails over the next where two ends name different ones.
    pub const BY_RANK: [Self; 5] = [
        Self::Wireguard,
        Self::Geneve,
        Self::Vxlan,
        Self::Ipip,
        Self::Plain,
    ];

    /// Whether its packets bear a VNI.
    pub fn has_vni(self) -> bool {
        matches!(self, Self::Geneve | Self::Vxlan)
    }
}

/// What carries the packets that nodes send.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
pub enum Dataplane {
    /// The BPF programs.
    Ebpf,
    /// The kernel's own routes.
    Routes,
    /// The one or the other, by turns: the first node has the programs.
    Mixed,
}

/// The families of the underlay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
pub enum Underlay {
    /// IPv4 alone.
    Ipv4,
    /// IPv6 alone.
    Ipv6,
    /// Both, IPv4 preferred; the last of three or more hosts is a member by IPv6 only.
    Dual,
}

/// What to break.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
pub enum Sabotage {
    /// Take the program off adit0.
    Detach,
    /// Change the VNI in the program's map: GENEVE and VXLAN only, other packets bear none.
    Vni,
    /// Delete the peers' prefixes from the program's maps.
    Map,
}
