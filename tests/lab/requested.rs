//! The encapsulations that the manifests of each round ask for, and the links that follow from them.
use super::options::{Encapsulation, Options};

/// The VNI of the first round. Each round has another one, so that packets of stale state are noticed.
const FIRST_VNI: u32 = 0x0a_d117;
const VNI_STEP: u32 = 0x01_0000;

/// The encapsulations in the manifests of a round; `None` is `auto`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Requested {
    /// The name of the round in messages.
    pub(crate) name: String,
    pub(crate) network: Option<Encapsulation>,
    /// In the order of the nodes.
    pub(crate) nodes: Vec<Option<Encapsulation>>,
    pub(crate) vni: u32,
}

impl Requested {
    /// The encapsulation that two nodes, by their indexes, must agree on: the first of `BY_RANK` that one of them or the
    /// network names, so WireGuard if anyone asks for it. If none is named it is GENEVE, because the underlay addresses
    /// of the lab are not public.
    pub(crate) fn agreed(&self, ends: [usize; 2]) -> Encapsulation {
        let named = ends.map(|end| self.nodes[end]);
        let is_named = |one: &Encapsulation| named.contains(&Some(*one)) || self.network == Some(*one);
        let found = Encapsulation::BY_RANK.into_iter().find(is_named);
        found.unwrap_or(Encapsulation::Geneve)
    }

    /// The value of the field `encapsulation` in manifests.
    pub(crate) fn name_of(wish: Option<Encapsulation>) -> &'static str {
        wish.map_or("auto", Encapsulation::name)
    }
}

/// All rounds that the options ask for.
pub(crate) fn rounds(options: &Options) -> Vec<Requested> {
    let nodes = usize::from(options.nodes);
    match options.mixed {
        true => mixed(&options.encapsulation, nodes),
        false => uniform(&options.encapsulation, nodes),
    }
}

/// A round for each encapsulation, with the encapsulation in the network.
pub(crate) fn uniform(list: &[Encapsulation], nodes: usize) -> Vec<Requested> {
    let rounds = list.iter().map(|encapsulation| Requested {
        name: encapsulation.name().to_owned(),
        network: Some(*encapsulation),
        nodes: vec![None; nodes],
        vni: 0,
    });
    numbered(rounds.collect())
}

/// Rounds in which each node names another encapsulation, so that the links of a round differ and each encapsulation is
/// used. The last one of a round is used by no link, so the next round starts with it. At the end are two nodes that
/// name none.
pub(crate) fn mixed(list: &[Encapsulation], nodes: usize) -> Vec<Requested> {
    let listed = Encapsulation::BY_RANK
        .into_iter()
        .filter(|one| list.contains(one));
    let all: Vec<Option<Encapsulation>> = listed.map(Some).chain([None, None]).collect();
    let mut rounds = Vec::new();
    let mut start = 0;
    while start + 1 < all.len() {
        let mut requested: Vec<_> = all.iter().skip(start).take(nodes).copied().collect();
        requested.resize(nodes, None);
        let names: Vec<&str> = requested.iter().map(|wish| Requested::name_of(*wish)).collect();
        rounds.push(Requested {
            name: format!("mixed ({})", names.join(", ")),
            network: None,
            nodes: requested,
            vni: 0,
        });
        start += nodes - 1;
    }
    numbered(rounds)
}

fn numbered(mut rounds: Vec<Requested>) -> Vec<Requested> {
    let mut vni = FIRST_VNI;
    for round in &mut rounds {
        round.vni = vni;
        vni += VNI_STEP;
    }
    rounds
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn agreed(rounds: &[Requested]) -> Vec<Vec<Encapsulation>> {
        let links = |round: &Requested| {
            let count = round.nodes.len();
            let ends = (0..count).flat_map(|from| (from + 1..count).map(move |to| [from, to]));
            ends.map(|ends| round.agreed(ends)).collect()
        };
        rounds.iter().map(links).collect()
    }

    #[test]
    fn a_uniform_round_has_one_encapsulation_and_its_own_vni() {
        use Encapsulation::{Plain, Vxlan};
        let rounds = uniform(&[Vxlan, Plain], 2);
        assert_eq!(agreed(&rounds), [[Vxlan], [Plain]]);
        assert_ne!(rounds[0].vni, rounds[1].vni);
    }

    #[test]
    fn mixed_rounds_use_each_encapsulation_and_several_per_round() {
        use Encapsulation::{Geneve, Ipip, Plain, Vxlan, Wireguard};
        let list = [Geneve, Vxlan, Ipip, Wireguard, Plain];
        let rounds = mixed(&list, 3);
        let expected = [
            [Wireguard, Wireguard, Geneve],
            [Vxlan, Vxlan, Ipip],
            [Plain, Plain, Geneve],
        ];
        assert_eq!(agreed(&rounds), expected);
        assert_eq!(rounds[2].name, "mixed (none, auto, auto)");
        for nodes in 2..9 {
            let used: BTreeSet<_> = agreed(&mixed(&list, nodes)).concat().into_iter().collect();
            assert_eq!(used.len(), 5, "with {nodes} nodes");
        }
    }

    #[test]
    fn wireguard_is_used_if_anyone_asks_for_it() {
        use Encapsulation::{Geneve, Vxlan, Wireguard};
        let mut round = uniform(&[Wireguard], 2).remove(0);
        round.nodes = vec![Some(Geneve), Some(Vxlan)];
        assert_eq!(round.agreed([0, 1]), Wireguard);
        round.network = Some(Vxlan);
        assert_eq!(round.agreed([1, 0]), Geneve);
        round.nodes[0] = Some(Wireguard);
        assert_eq!(round.agreed([0, 1]), Wireguard);
    }
}
