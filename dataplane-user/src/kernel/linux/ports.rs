//! Finds what uses a UDP port that a device could not get.

use std::collections::BTreeMap;
use std::path::Path;

use super::LinuxKernel;
use crate::kernel::udp_sockets;
use crate::model::change::{LinkChange, LinkOperation, NetlinkChange, WireGuardChange};
use crate::model::wireguard::DeviceChange;
use crate::model::{Action, Change, Link, LinkKind};
use crate::net::LinkName;

impl LinuxKernel {
    /// Names the device or process that uses the UDP port which a device could not get; `None` if it is
    /// unknown.
    pub(super) async fn port_user(&mut self, change: &Change) -> Option<String> {
        let links = self.netlink.all_links().await.ok()?;
        let ports = self.udp_ports(&links).await;
        let (own, port) = match &change.action {
            Action::WireGuard(WireGuardChange {
                link,
                change: DeviceChange::SetListenPort(port),
            }) => (link, *port),
            // Other namespaces have their own ports.
            Action::Netlink(NetlinkChange::Link(LinkChange(link, LinkOperation::SetUp)))
                if change.namespace.is_none() =>
            {
                (link, *ports.get(link)?)
            }
            _ => return None,
        };
        let is_own = |name: &LinkName| change.namespace.is_none() && name == own;
        let has_it =
            |(name, link): &(&LinkName, &Link)| !is_own(name) && link.up && ports.get(*name) == Some(&port);
        let device = links.iter().find(has_it);
        let holder = match device {
            Some((name, link)) => format!("device {name} ({})", link.kind),
            None => udp_sockets::sockets(Path::new("/"))
                .iter()
                .find(|socket| socket.port == port)?
                .holder(),
        };
        Some(format!("UDP port {port} is used by {holder}"))
    }

    /// The UDP ports of all tunnel devices of this namespace.
    async fn udp_ports(&mut self, links: &BTreeMap<LinkName, Link>) -> BTreeMap<LinkName, u16> {
        let mut ports = BTreeMap::new();
        for (name, link) in links {
            let port = match link.kind {
                LinkKind::WireGuard => {
                    let reading = self.wireguard.get_device(name).await;
                    reading.ok().map(|reading| reading.device.listen_port)
                }
                _ => link.kind.udp_port(),
            };
            ports.extend(port.map(|port| (name.clone(), port)));
        }
        ports
    }
}
