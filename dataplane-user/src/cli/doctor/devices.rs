//! Other people's devices: those that stand in our place, and other overlays.

use std::collections::BTreeMap;

use super::finding::Finding;
use super::overlay::Wanted;
use crate::model::{Link, Owner};
use crate::net::LinkName;

/// What other overlays call their devices.
const OVERLAYS: [(&str, &str); 6] = [
    ("flannel.", "flannel"),
    ("cilium_", "Cilium"),
    ("vxlan.calico", "Calico"),
    ("weave", "Weave"),
    ("kube-bridge", "kube-router"),
    ("antrea-gw", "Antrea"),
];

pub(super) fn judge(links: &BTreeMap<LinkName, Link>, wanted: &Wanted) -> Vec<Finding> {
    let mut findings = Vec::new();
    let ports = wanted.ports();
    for (name, link) in links.iter().filter(|(_, link)| link.owner != Owner::Ours) {
        let text = link.kind.to_string();
        if name.as_str().starts_with("adit") {
            findings.push(Finding::error(
                "device",
                format!("{name} bears one of our names, but not our mark"),
                format!("ip link delete {name}, or rename it"),
            ));
        }
        if let Some(port) = link.kind.udp_port()
            && ports.contains_key(&port)
        {
            findings.push(Finding::error(
                "tunnel",
                format!("{name} ({text}) has UDP port {port}, which our tunnels want"),
                format!("remove {name}, or give the network another port in its manifest (spec.ports)"),
            ));
        }
        if text.starts_with("ipip external") || text.starts_with("ip6tnl external") {
            findings.push(Finding::warning(
                "tunnel",
                format!("{name} ({text}) is flow-based, and a namespace can have only one"),
                "use another encapsulation than ipip, or remove it",
            ));
        }
        let overlay = OVERLAYS
            .iter()
            .find(|(prefix, _)| name.as_str().starts_with(prefix));
        if let Some((_, system)) = overlay {
            findings.push(Finding::warning(
                "overlay",
                format!("{name} looks like {system}'s"),
                format!("make sure that {system} and Adit have different prefixes and ports"),
            ));
        }
    }
    if findings.is_empty() {
        findings.push(Finding::ok("device", "no other tunnel stands in our way"));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::super::finding::tests::level;
    use super::*;
    use crate::model::LinkKind;

    fn with(name: &'static str, kind: LinkKind, owner: Owner) -> Vec<Finding> {
        let link = Link {
            owner,
            kind,
            mac: None,
            mtu: None,
            arp: true,
            generates_addresses: true,
            up: true,
        };
        judge(&[(LinkName::constant(name), link)].into(), &Wanted::default())
    }

    #[test]
    fn our_own_devices_are_fine() {
        let findings = with(
            "adit-vxlan",
            LinkKind::Vxlan {
                port: 4789,
                source_ports: None,
            },
            Owner::Ours,
        );
        assert_eq!(level(&findings, "device"), Level::Ok);
    }

    #[test]
    fn foreign_tunnels_on_our_ports_are_found() {
        let external = with("tun", LinkKind::Geneve { port: 6081 }, Owner::Foreign);
        assert_eq!(level(&external, "tunnel"), Level::Error);
        let classic = LinkKind::Other("vxlan dstport 4789 id 42 learning".to_owned());
        assert_eq!(level(&with("v", classic, Owner::Foreign), "tunnel"), Level::Error);
        let elsewhere = LinkKind::Other("vxlan dstport 8472 id 1".to_owned());
        let flannel = with("flannel.1", elsewhere, Owner::Foreign);
        assert_eq!(level(&flannel, "overlay"), Level::Warning);
        assert_eq!(flannel.len(), 1);
    }

    #[test]
    fn a_stranger_with_our_name_is_found() {
        let findings = with("adit0", LinkKind::Dummy, Owner::Foreign);
        assert_eq!(level(&findings, "device"), Level::Error);
    }
}
