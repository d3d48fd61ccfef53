//! Known sources: the outer sources of the tunnel packets of each peer.

use crate::model::{KernelState, Source};

use super::NetworkLink;

/// One source per peer and network, even if no prefix leads to the peer: it may send to this node anyway.
pub(super) fn plan(networks: &[NetworkLink<'_>], desired: &mut KernelState) {
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
        desired.sources.extend(sources);
    }
}
