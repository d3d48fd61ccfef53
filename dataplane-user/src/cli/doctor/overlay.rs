//! Requirements of the manifests, and the path to each peer.

use std::collections::{BTreeMap, BTreeSet};

use super::finding::Finding;
use crate::model::devices;
use crate::model::facts::NodeFacts;
use crate::net::Encapsulation;
use crate::net::{Family, LinkName};
use crate::plan::{network_links, plan};
use crate::resource::{Dataplane, Intent, Severity};

/// Requirements of the manifests; without manifests, the usual requirements of an agent.
#[derive(Clone, Debug, Default)]
pub(super) struct Requirements {
    /// The encapsulations of the links of this node; `None`: unknown.
    pub(super) encapsulations: Option<BTreeSet<Encapsulation>>,
    /// Whether a network of this node needs BPF programs; `None`: unknown.
    pub(super) programs: Option<bool>,
    /// Families of the prefixes that this node advertises.
    pub(super) advertised: BTreeSet<Family>,
    /// Underlay devices that send and receive packets without encapsulation.
    pub(super) unencapsulated: BTreeSet<LinkName>,
    /// Devices of `firewall.returnPath`: they send answers even if the main table chooses another device.
    pub(super) return_path: BTreeSet<LinkName>,
    /// UDP ports and their encapsulations.
    pub(super) ports: BTreeMap<u16, &'static str>,
    /// The names of the devices of this namespace; `None`: unknown.
    pub(super) names: Option<BTreeSet<LinkName>>,
    /// UDP ports of Adit's WireGuard devices, with the names of the devices.
    pub(super) wireguard: BTreeMap<u16, LinkName>,
    /// The path to each peer, and the problems of the plan.
    pub(super) findings: Vec<Finding>,
}

/// Default ports of tunnels.
const USUAL_PORTS: [(u16, &str); 2] = [(6081, "geneve"), (4789, "vxlan")];

impl Requirements {
    pub(super) fn of(intent: &Intent, facts: &NodeFacts) -> Requirements {
        let links = network_links(intent, facts);
        let mut requirements = Requirements {
            encapsulations: Some(BTreeSet::new()),
            programs: Some(links.iter().any(|link| link.dataplane == Dataplane::Ebpf)),
            return_path: intent.node().return_path.clone(),
            ..Requirements::default()
        };
        requirements.advertised = intent
            .node()
            .prefixes
            .iter()
            .map(|p| Family::of(p.cidr.addr()))
            .collect();
        for link in &links {
            for peer in &link.peers {
                requirements
                    .encapsulations
                    .get_or_insert_default()
                    .insert(peer.encapsulation);
                requirements
                    .unencapsulated
                    .extend(peer.neighbour.as_ref().map(|neighbour| neighbour.link.clone()));
                let ports = link.network.ports;
                match peer.encapsulation {
                    Encapsulation::Geneve => requirements.ports.insert(ports.geneve, "geneve"),
                    Encapsulation::Vxlan => requirements.ports.insert(ports.vxlan, "vxlan"),
                    _ => None,
                };
                if let Some(link) = &peer.wireguard {
                    requirements.wireguard.insert(link.port, link.device());
                }
                if let Some(path) = facts.paths.get(&peer.destination()) {
                    let evidence = format!(
                        "{} at {}: through {}, underlay MTU {}, overlay MTU {}",
                        peer.node.name,
                        peer.destination(),
                        path.link,
                        path.mtu,
                        peer.mtu()
                    );
                    requirements.findings.push(Finding::ok("peer", evidence));
                }
            }
        }
        let (desired, problems) = plan(intent, facts);
        requirements.names = Some(desired.links.into_keys().collect());
        for problem in problems {
            let evidence = format!(
                "{}: {} ({})",
                problem.subject,
                problem.message,
                problem.reason.name()
            );
            requirements.findings.push(match problem.severity {
                Severity::Warning => Finding::warning("manifests", evidence, problem.remedy),
                Severity::Error => Finding::error("manifests", evidence, problem.remedy),
            });
        }
        requirements
    }

    /// Whether an encapsulation is needed; `None`: unknown.
    pub(super) fn needs(&self, encapsulation: Encapsulation) -> Option<bool> {
        self.encapsulations
            .as_ref()
            .map(|all| all.contains(&encapsulation))
    }

    /// Whether a device of this name is needed; without manifests, whether networks may need one.
    pub(super) fn needs_name(&self, name: &LinkName) -> bool {
        match &self.names {
            Some(names) => names.contains(name),
            None => devices::is_ever_needed(name),
        }
    }

    /// The ports of the desired tunnels.
    pub(super) fn ports(&self) -> BTreeMap<u16, &'static str> {
        match self.encapsulations {
            Some(_) => self.ports.clone(),
            None => USUAL_PORTS.into(),
        }
    }
}
