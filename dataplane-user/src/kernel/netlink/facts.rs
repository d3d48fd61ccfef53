//! What the plan must know: the addresses of this namespace and the ways to the peers.

use std::collections::BTreeSet;
use std::net::IpAddr;

use tokio::time::Instant;

use super::message::Failure;
use super::route::Way;
use super::{Netlink, address, route};
use crate::kernel::KernelError;
use crate::plan::NodeFacts;
use crate::plan::facts::UnderlayPath;

impl Netlink {
    /// Gathers the addresses of all devices, and the device, gateway and MTU by which each of these addresses is reached.
    ///
    /// # Errors
    /// When something can't be read; an address that the kernel has no way to is no error.
    pub async fn facts(&mut self, peers: &BTreeSet<IpAddr>) -> Result<NodeFacts, KernelError> {
        let began = Instant::now();
        // Devices' MTUs must be of now.
        let links = self.read_links().await?;
        let addresses = self
            .socket
            .dump(&address::dump(), address::read)
            .await
            .map_err(|failure| failure.into_error("list the addresses"))?;
        let mut facts = NodeFacts {
            local_addresses: addresses.iter().map(|address| address.prefix.addr()).collect(),
            ..NodeFacts::default()
        };

        let requests: Vec<_> = peers.iter().map(|peer| route::get(*peer)).collect();
        let answers = self.socket.exchange(&requests).await;
        for (peer, answer) in peers.iter().zip(answers) {
            let context = || format!("look up the way to {peer}");
            let bodies = match answer {
                Ok(bodies) => bodies,
                Err(failure) if is_no_way(&failure) => continue,
                Err(failure) => return Err(failure.into_error(context())),
            };
            let Some(body) = bodies.first() else {
                continue;
            };
            let path =
                route::read_path(body).map_err(|error| Failure::malformed(&error).into_error(context()))?;
            if let Some(path) = path.and_then(|way| self.path(&way)) {
                facts.paths.insert(*peer, path);
            }
        }
        let underlay = facts.paths.values().map(|path| path.link.clone()).collect();
        self.interest()
            .gathered(&links, &underlay, (peers, &facts.local_addresses), began);
        Ok(facts)
    }

    fn path(&self, way: &Way) -> Option<UnderlayPath> {
        let link = self.links.name(way.index)?;
        let device = self.links.get(link)?;
        Some(UnderlayPath {
            link: link.clone(),
            gateway: way.gateway,
            mtu: way.mtu.unwrap_or(device.mtu),
        })
    }
}

/// Whether a refusal says that there is no way, rather than that asking failed.
fn is_no_way(failure: &Failure) -> bool {
    match failure {
        Failure::Refused { errno, .. } => ![libc::ENOBUFS, libc::ENOMEM, libc::EINTR].contains(errno),
        Failure::Lost(_) => false,
    }
}
