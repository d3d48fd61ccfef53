//! Known sources: where each peer's tunnel packets come from.

use crate::model::{KernelState, Source};

use super::NetworkLink;

/// One a peer and network, whether or not any prefix leads to the peer: it sends to us as it likes.
pub(super) fn plan(networks: &[NetworkLink<'_>], target: &mut KernelState) {
    for links in networks {
        let sources = links.peers.iter().filter_map(|peer| {
            let tunnel = peer.tunnel();
            tunnel.takes_tunnel_key().then(|| Source {
                address: peer.remote,
                tunnel,
                vni: if tunnel.carries_ethernet() {
                    links.network.vni
                } else {
                    0
                },
            })
        });
        target.sources.extend(sources);
    }
}
