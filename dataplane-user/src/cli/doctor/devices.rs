//! Devices that Adit does not manage: those that conflict with Adit, and those of other overlays.

use super::finding::Finding;
use super::overlay::Requirements;
use crate::model::{KernelState, Owner};

/// Names of devices of other overlays: a prefix and the product.
const OVERLAYS: [(&str, &str); 6] = [
    ("flannel.", "flannel"),
    ("cilium_", "Cilium"),
    ("vxlan.calico", "Calico"),
    ("weave", "Weave"),
    ("kube-bridge", "kube-router"),
    ("antrea-gw", "Antrea"),
];

pub(super) fn judge(state: &KernelState, requirements: &Requirements) -> Vec<Finding> {
    let mut findings = Vec::new();
    let ports = requirements.ports();
    for (name, link) in state.links.iter().filter(|(_, link)| link.owner != Owner::Adit) {
        let text = link.kind.to_string();
        if requirements.needs_name(name) {
            findings.push(Finding::error(
                "device",
                format!("conflict: {name} exists already and was not created by Adit"),
                format!("rename it, or delete it with `ip link delete {name}`"),
            ));
        }
        if let Some(port) = link.kind.udp_port()
            && ports.contains_key(&port)
        {
            findings.push(Finding::error(
                "tunnel",
                format!("{name} ({text}) uses UDP port {port}, which Adit needs for its tunnels"),
                format!("delete {name}, or set another port in the manifest of the network (spec.ports)"),
            ));
        }
        if text.starts_with("ipip external") || text.starts_with("ip6tnl external") {
            findings.push(Finding::warning(
                "tunnel",
                format!("{name} ({text}) is flow-based, and a namespace can have only one such device"),
                format!("use another encapsulation than ipip, or delete {name}"),
            ));
        }
        let overlay = OVERLAYS
            .iter()
            .find(|(prefix, _)| name.as_str().starts_with(prefix));
        if let Some((_, system)) = overlay {
            findings.push(Finding::warning(
                "overlay",
                format!("{name} seems to be a device of {system}"),
                format!("make sure that {system} and Adit use different prefixes and ports"),
            ));
        }
    }
    for (name, device) in &state.altnames {
        if requirements.needs_name(name) {
            findings.push(Finding::error(
                "device",
                format!("conflict: {name} is an alternative name of the device {device}"),
                format!("remove it with `ip link property del dev {device} altname {name}`"),
            ));
        }
    }
    if findings.is_empty() {
        findings.push(Finding::ok("device", "no other tunnel conflicts with Adit"));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::super::finding::tests::level;
    use super::*;
    use crate::model::{Link, LinkKind};
    use crate::net::LinkName;

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
        let state = KernelState {
            links: [(LinkName::constant(name), link)].into(),
            ..KernelState::default()
        };
        judge(&state, &Requirements::default())
    }

    #[test]
    fn our_own_devices_are_fine() {
        let findings = with(
            "adit-vxlan",
            LinkKind::Vxlan {
                port: 4789,
                source_ports: None,
            },
            Owner::Adit,
        );
        assert_eq!(level(&findings, "device"), Level::Ok);
    }

    #[test]
    fn unmanaged_tunnels_on_ports_of_adit_are_found() {
        let external = with("tun", LinkKind::Geneve { port: 6081 }, Owner::Other);
        assert_eq!(level(&external, "tunnel"), Level::Error);
        let classic = LinkKind::Other("vxlan dstport 4789 id 42 learning".to_owned());
        assert_eq!(level(&with("v", classic, Owner::Other), "tunnel"), Level::Error);
        let elsewhere = LinkKind::Other("vxlan dstport 8472 id 1".to_owned());
        let flannel = with("flannel.1", elsewhere, Owner::Other);
        assert_eq!(level(&flannel, "overlay"), Level::Warning);
        assert_eq!(flannel.len(), 1);
    }

    #[test]
    fn a_stranger_with_our_name_is_found() {
        let findings = with("adit0", LinkKind::Dummy, Owner::Other);
        assert_eq!(level(&findings, "device"), Level::Error);
        let harmless = with("adit-test", LinkKind::Dummy, Owner::Other);
        assert_eq!(level(&harmless, "device"), Level::Ok);
        let name = LinkName::constant("adit-geneve");
        let state = KernelState {
            altnames: [(name.clone(), LinkName::constant("eth0"))].into(),
            ..KernelState::default()
        };
        let device = |requirements| level(&judge(&state, &requirements), "device");
        assert_eq!(device(Requirements::default()), Level::Error);
        let names = Some([LinkName::constant("adit0")].into());
        let unneeded = Requirements {
            names,
            ..Requirements::default()
        };
        assert_eq!(device(unneeded), Level::Ok);
    }
}
