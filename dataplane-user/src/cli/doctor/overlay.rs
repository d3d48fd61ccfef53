//! What the manifests ask of the machine, and the way to each peer.

use std::collections::{BTreeMap, BTreeSet};

use super::finding::Finding;
use crate::model::facts::NodeFacts;
use crate::net::Encapsulation;
use crate::net::{Family, LinkName};
use crate::plan::{network_links, plan};
use crate::resource::{Dataplane, Intent, Severity};

/// What the manifests ask of the machine; without manifests, what an agent usually needs.
#[derive(Clone, Debug, Default)]
pub(super) struct Wanted {
    /// The encapsulations of this node's links; `None`: not known.
    pub(super) encapsulations: Option<BTreeSet<Encapsulation>>,
    /// Whether a network of this node needs BPF programs; `None`: not known.
    pub(super) programs: Option<bool>,
    /// Families that this node carries prefixes of.
    pub(super) carried: BTreeSet<Family>,
    /// The underlay's devices that packets without encapsulation leave and come in by.
    pub(super) bare: BTreeSet<LinkName>,
    /// Devices that answers go back by, where the main table may lead elsewhere.
    pub(super) return_path: BTreeSet<LinkName>,
    /// UDP ports and what they are for.
    pub(super) ports: BTreeMap<u16, &'static str>,
    /// UDP ports of our WireGuard devices: a port tells nothing of a device, so each has its name.
    pub(super) wireguard: BTreeMap<u16, LinkName>,
    /// What the way to each peer is like, and what the plan complains of.
    pub(super) findings: Vec<Finding>,
}

/// The ports that tunnels have where no manifest says otherwise.
const USUAL_PORTS: [(u16, &str); 2] = [(6081, "geneve"), (4789, "vxlan")];

impl Wanted {
    pub(super) fn of(intent: &Intent, facts: &NodeFacts) -> Wanted {
        let links = network_links(intent, facts);
        let mut wanted = Wanted {
            encapsulations: Some(BTreeSet::new()),
            programs: Some(links.iter().any(|link| link.dataplane == Dataplane::Ebpf)),
            return_path: intent.node().return_path.clone(),
            ..Wanted::default()
        };
        wanted.carried = intent
            .node()
            .prefixes
            .iter()
            .map(|p| Family::of(p.cidr.addr()))
            .collect();
        for link in &links {
            for peer in &link.peers {
                wanted
                    .encapsulations
                    .get_or_insert_default()
                    .insert(peer.encapsulation);
                wanted
                    .bare
                    .extend(peer.neighbour.as_ref().map(|neighbour| neighbour.link.clone()));
                let ports = link.network.ports;
                match peer.encapsulation {
                    Encapsulation::Geneve => wanted.ports.insert(ports.geneve, "geneve"),
                    Encapsulation::Vxlan => wanted.ports.insert(ports.vxlan, "vxlan"),
                    _ => None,
                };
                if let Some(link) = &peer.wireguard {
                    wanted.wireguard.insert(link.port, link.device());
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
                    wanted.findings.push(Finding::ok("peer", evidence));
                }
            }
        }
        for problem in plan(intent, facts).1 {
            let evidence = format!(
                "{}: {} ({})",
                problem.subject,
                problem.message,
                problem.reason.name()
            );
            wanted.findings.push(match problem.severity {
                Severity::Warning => Finding::warning("manifests", evidence, problem.remedy),
                Severity::Error => Finding::error("manifests", evidence, problem.remedy),
            });
        }
        wanted
    }

    /// Whether a kind of device is needed; `None`: not known.
    pub(super) fn needs(&self, encapsulation: Encapsulation) -> Option<bool> {
        self.encapsulations
            .as_ref()
            .map(|all| all.contains(&encapsulation))
    }

    /// The ports that tunnels are to have.
    pub(super) fn ports(&self) -> BTreeMap<u16, &'static str> {
        match self.encapsulations {
            Some(_) => self.ports.clone(),
            None => USUAL_PORTS.into(),
        }
    }
}
