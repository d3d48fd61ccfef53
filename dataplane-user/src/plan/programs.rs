//! Networks on a machine without BPF programs.

use std::borrow::Cow;

use super::NetworkLink;
use crate::model::facts::NodeFacts;
use crate::resource::{Dataplane, Intent, Problem, Reason};

/// The networks whose packets can be forwarded. A problem names the others, which need BPF programs that are
/// not available.
pub(super) fn able<'n, 'a>(
    intent: &Intent,
    networks: &'n [NetworkLink<'a>],
    facts: &NodeFacts,
    problems: &mut Vec<Problem>,
) -> Cow<'n, [NetworkLink<'a>]> {
    let Some(why) = &facts.without_programs else {
        return Cow::Borrowed(networks);
    };
    let unable = networks.iter().filter(|links| needs(links));
    let names = unable
        .map(|links| links.network.name.as_str())
        .collect::<Vec<_>>();
    if !names.is_empty() {
        problems.push(Problem::error(
            Reason::Waiting,
            format!("TunnelNode/{}", intent.node().name),
            format!(
                "TunnelNetwork/{} needs BPF programs, which are not available: {why}",
                names.join(", TunnelNetwork/")
            ),
            "mount a BPF file system, or name a directory in one with --bpffs; until then this node refuses packets \
             of these networks"
                .to_owned(),
        ));
    }
    Cow::Owned(networks.iter().filter(|links| !needs(links)).cloned().collect())
}

/// Whether programs are attached. If they are available, they also count received packets of networks that
/// need none.
pub(super) fn are_planned(networks: &[NetworkLink<'_>], facts: &NodeFacts) -> bool {
    facts.without_programs.is_none() || networks.iter().any(needs)
}

fn needs(links: &NetworkLink<'_>) -> bool {
    links.dataplane == Dataplane::Ebpf
}
