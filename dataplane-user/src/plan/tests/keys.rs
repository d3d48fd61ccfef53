//! WireGuard keys that can't be read when an agent starts: existing devices and peers stay in the plan.

use super::loops::{known, plan_of, with_keys};
use super::*;
use crate::model::facts::{OwnKey, SharedKey};
use crate::model::wireguard::Preshared;
use crate::net::Encapsulation;

const FILE: &str = "/etc/adit/preshared";

/// Three nodes with WireGuard between them; `change` is for the first one.
fn planned_with(
    change: impl FnOnce(&mut crate::resource::WireGuardPeer),
    know: impl FnOnce(&mut NodeFacts),
) -> (KernelState, Vec<Problem>) {
    let mut resources = with_keys(Encapsulation::WireGuard);
    let node = resources.nodes.values_mut().next().unwrap();
    change(node.wireguard.as_mut().unwrap());
    let mut facts = known(&[(2, 1500), (3, 1500)]);
    know(&mut facts);
    plan_of(&resources, &facts)
}

fn unusable() -> OwnKey {
    OwnKey::Unusable("why".to_owned())
}

#[test]
fn a_next_key_that_cannot_be_read_keeps_second_devices_and_may_be_the_own_one() {
    let next = key(11).public_key();
    let own = |desired: &KernelState, device| {
        let device = desired.wireguard.get(&LinkName::constant(device))?;
        device.public_key
    };
    let (desired, problems) = planned_with(
        |end| end.next_public_key = Some(next),
        |facts| facts.wireguard.next_key = unusable(),
    );
    assert_eq!(own(&desired, "adit-wg128"), Some(next));
    assert!(
        reasons(&problems).contains(&Reason::KeyUnreadable),
        "{problems:?}"
    );

    let (desired, problems) = planned_with(
        |end| end.public_key = next,
        |facts| facts.wireguard.next_key = unusable(),
    );
    assert_eq!(own(&desired, "adit-wg0"), Some(next));
    assert_eq!(reasons(&problems), [Reason::KeyUnreadable]);

    // Without a key rotation the next key is not needed; and a missing key is not an unreadable one.
    let (_, problems) = planned_with(|_| {}, |facts| facts.wireguard.next_key = unusable());
    assert_eq!(problems, []);
    let (desired, problems) = planned_with(|end| end.public_key = next, |_| {});
    assert!(desired.wireguard.is_empty());
    assert!(reasons(&problems).contains(&Reason::KeyMismatch), "{problems:?}");
}

#[test]
fn only_a_preshared_key_that_is_missing_takes_a_peer_out_of_the_plan() {
    let with = |key: SharedKey| {
        planned_with(
            |end| end.preshared_key_file = Some(FILE.to_owned()),
            |facts| drop(facts.wireguard.preshared_keys.insert(FILE.to_owned(), key)),
        )
    };
    let peers = |desired: &KernelState| {
        let peers = desired
            .wireguard
            .values()
            .flat_map(|device| device.peers.values());
        peers.map(|peer| peer.preshared_key.clone()).collect::<Vec<_>>()
    };
    let (desired, problems) = with(SharedKey::Unreadable("why".to_owned()));
    assert_eq!(peers(&desired), [Preshared::Unreadable, Preshared::Unreadable]);
    assert_eq!(reasons(&problems), [Reason::KeyUnreadable]);
    assert_eq!(problems[0].severity, Severity::Error);
    let (desired, problems) = with(SharedKey::Missing("why".to_owned()));
    assert_eq!(peers(&desired), []);
    // For each peer and family.
    assert_eq!(reasons(&problems), [Reason::Incomplete; 4]);
}
