//! One outside change of a random network is one repair of the right kind, however many changes it takes.

use adit_tests::random::{self, Damage, THIS_NODE};
use adit_tests::situation::{Situation, situations, with_underlay};
use dataplane_user::diff::diff;
use dataplane_user::diff::repairs::{Earlier, States, repairs};
use dataplane_user::model::{KernelState, ObjectKind};
use dataplane_user::net::NodeName;
use dataplane_user::plan::plan;
use dataplane_user::resource::{Dataplane, Intent};
use proptest::prelude::*;
use proptest::sample::Index;

fn desired(situation: Situation) -> KernelState {
    let node = NodeName::new(THIS_NODE).expect("valid");
    let facts = situation.facts(&node, 1500);
    let mut resources = situation.resources;
    // Otherwise there would be few of these objects.
    for network in resources.networks.values_mut() {
        network.dataplane = Dataplane::Routes;
    }
    let intent = Intent::new(resources, node).expect("it is there");
    plan(&intent, &facts).0
}

/// An outside change, and the kind of its repair.
fn deeds() -> impl Strategy<Value = (Damage, ObjectKind)> {
    let index = any::<Index>;
    prop_oneof![
        index().prop_map(|index| (Damage::DeleteLink(index), ObjectKind::Link)),
        index().prop_map(|index| (Damage::LinkDown(index), ObjectKind::Link)),
        index().prop_map(|index| (Damage::DeleteAddress(index), ObjectKind::Address)),
        index().prop_map(|index| (Damage::DeleteRoute(index), ObjectKind::Route)),
        index().prop_map(|index| (Damage::TypeOfService(index), ObjectKind::Route)),
        index().prop_map(|index| (Damage::DeleteRule(index), ObjectKind::Rule)),
        index().prop_map(|index| (Damage::DeleteHop(index), ObjectKind::NextHopObject)),
        index().prop_map(|index| (Damage::DeleteGroup(index), ObjectKind::NextHopObject)),
        index().prop_map(|index| (Damage::Neighbour(index, false), ObjectKind::Neighbour)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn one_outside_change_is_one_repair(situation in situations(), (deed, kind) in deeds()) {
        let desired = desired(situation);
        let mut found = desired.clone();
        random::damage(&mut found, &deed);
        let (reached, found) = (with_underlay(desired.clone()), with_underlay(found));
        let changes = diff(&found, &desired).changes;
        let repairs = repairs(&changes, States { reached: &desired, observed: &found, desired: &desired }, &Earlier::default());
        let told = repairs.iter().map(|repair| (repair.kind(), repair.to_string())).collect::<Vec<_>>();
        if found == reached {
            prop_assert_eq!(told, []);
            return Ok(());
        }
        prop_assert_eq!(repairs.len(), 1, "{:?}: {:#?}", deed, told);
        prop_assert_eq!(repairs[0].kind(), kind.into(), "{:?}: {:#?}", deed, told);
        prop_assert_eq!(repairs[0].changes.len(), changes.len(), "{:?}: {:#?}", deed, changes);
    }

    #[test]
    fn a_changed_manifest_is_no_repair(old in situations(), new in situations()) {
        let (before, desired) = (desired(old), desired(new));
        let observed = with_underlay(before.clone());
        let changes = diff(&observed, &desired).changes;
        let told = repairs(&changes, States { reached: &before, observed: &observed, desired: &desired }, &Earlier::default());
        prop_assert!(told.is_empty(), "{told:#?}");
    }
}
