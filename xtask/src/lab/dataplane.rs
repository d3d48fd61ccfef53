//! What carries the packets that nodes send.

/// What carries the packets that nodes send.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Dataplane {
    /// The BPF programs.
    Ebpf,
    /// The kernel's own routes.
    Routes,
    /// The one or the other, by turns: the first node has the programs.
    Mixed,
}

impl Dataplane {
    /// As the command line has it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Ebpf => "ebpf",
            Self::Routes => "routes",
            Self::Mixed => "mixed",
        }
    }

    /// Whether the node of this place sends by routes.
    pub(super) fn is_by_routes(self, place: usize) -> bool {
        match self {
            Self::Ebpf => false,
            Self::Routes => true,
            Self::Mixed => place % 2 == 1,
        }
    }
}
