//! The changes of reconciliations since the desired state was last reached, so that later changes that follow
//! from them are part of them. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::roots::{self, Roots};
use super::{Repair, States, by_namespace, is_same, is_the_kernels};
use crate::model::{Action, Change, KernelState, Located};
use crate::net::Namespace;

/// Changes and repairs that are not complete yet.
#[derive(Debug, Default)]
pub struct Earlier {
    /// By namespace: the roots of manifest changes, and the roots of repairs.
    namespaces: BTreeMap<Option<Namespace>, (Roots, Roots)>,
    /// Repairs by the first object that they repair.
    repairs: BTreeMap<Located, EarlierRepair>,
    /// The key in `repairs` of each repaired object.
    of: BTreeMap<Located, Located>,
}

/// A repair of an earlier reconciliation.
#[derive(Debug)]
struct EarlierRepair {
    object: Located,
    found: String,
    subjects: Vec<Located>,
    /// Whether it was counted: all of its changes succeeded.
    counted: bool,
}

impl Earlier {
    /// Notes the changes of a reconciliation and the repairs among them.
    pub fn add(&mut self, changes: &[Change], states: States<'_>, repairs: &[Repair]) {
        for (namespace, changes) in by_namespace(changes) {
            let Scope { wanted, repaired, .. } = Scope::new(&changes, namespace, states, self);
            self.namespaces.insert(namespace.cloned(), (wanted, repaired));
        }
        for repair in repairs.iter().filter(|repair| !repair.follows) {
            let first = &repair.subjects[0];
            for subject in &repair.subjects {
                self.of.insert(subject.clone(), first.clone());
            }
            let known = EarlierRepair {
                object: repair.object.clone(),
                found: repair.found.clone(),
                subjects: repair.subjects.clone(),
                counted: false,
            };
            self.repairs.insert(first.clone(), known);
        }
    }

    /// Notes that a repair was completed and counted.
    pub fn counted(&mut self, repair: &Repair) {
        if let Some(known) = self.repairs.get_mut(&repair.subjects[0]) {
            known.counted = true;
        }
    }

    /// Forgets changes and repairs of which nothing is left among these changes: whatever happens to their
    /// objects from now on is a new repair.
    pub fn retain(&mut self, left: &[Change], states: States<'_>) {
        let mut left = by_namespace(left);
        let mut wanted = BTreeSet::new();
        let mut namespaces = std::mem::take(&mut self.namespaces);
        for (namespace, (declared, repaired)) in &mut namespaces {
            let changes = left.remove(&namespace.as_ref()).unwrap_or_default();
            let before = Earlier {
                namespaces: [(namespace.clone(), (declared.clone(), repaired.clone()))].into(),
                ..Earlier::default()
            };
            let scope = Scope::new(&changes, namespace.as_ref(), states, &before);
            let above = |roots: &Roots| {
                let subjects = changes.iter().map(|(_, change)| roots.subject(change));
                subjects.collect::<BTreeSet<_>>()
            };
            declared.retain(&above(&scope.wanted));
            let above = above(&scope.repaired);
            repaired.retain(&above);
            wanted.extend(above.into_iter().map(|subject| subject.at(namespace.clone())));
        }
        self.namespaces = namespaces;
        self.repairs
            .retain(|_, known| known.subjects.iter().any(|subject| wanted.contains(subject)));
        self.of.retain(|_, first| self.repairs.contains_key(first));
    }

    /// Joins repairs that only follow from earlier ones with those.
    pub(super) fn join(&self, found: &mut BTreeMap<Located, Repair>) {
        let following = found.iter().filter(|(_, repair)| repair.follows);
        let following = following.map(|(at, _)| at.clone()).collect::<Vec<_>>();
        for at in following {
            let known = self.of.get(&at).and_then(|first| self.repairs.get(first));
            let (Some(mut repair), known) = (found.remove(&at), known) else {
                continue;
            };
            let Some(known) = known else {
                repair.follows = false;
                found.insert(at, repair);
                continue;
            };
            repair.object = known.object.clone();
            (repair.found, repair.follows) = (known.found.clone(), known.counted);
            repair.subjects.clone_from(&known.subjects);
            match found.get_mut(&known.subjects[0]) {
                Some(whole) => whole.join(repair),
                None => drop(found.insert(known.subjects[0].clone(), repair)),
            }
        }
    }
}

/// The changes of one namespace: those that follow from manifest changes, and those that repair something.
pub(super) struct Scope<'a> {
    pub(super) namespace: Option<&'a Namespace>,
    pub(super) observed: &'a KernelState,
    reached: &'a KernelState,
    desired: &'a KernelState,
    wanted: Roots,
    pub(super) repaired: Roots,
}

impl<'a> Scope<'a> {
    pub(super) fn new(
        changes: &[(usize, &Action)],
        namespace: Option<&'a Namespace>,
        states: States<'a>,
        earlier: &Earlier,
    ) -> Scope<'a> {
        static NOTHING: std::sync::LazyLock<KernelState> = std::sync::LazyLock::new(KernelState::default);
        let at = |state: &'a KernelState| state.at(namespace).unwrap_or(&NOTHING);
        let (wanted, repaired) = earlier
            .namespaces
            .get(&namespace.cloned())
            .cloned()
            .unwrap_or_default();
        let mut scope = Scope {
            namespace,
            observed: at(states.observed),
            reached: at(states.reached),
            desired: at(states.desired),
            wanted,
            repaired,
        };
        let changes = changes.iter().map(|(_, change)| *change);
        let (mut stayed, wanted): (Vec<_>, Vec<_>) = changes.partition(|change| scope.stayed(change));
        scope.wanted = Roots::of(&wanted, scope.observed, scope.wanted);
        stayed.retain(|change| scope.follows_no_declared_change(change));
        scope.repaired = Roots::of(&stayed, scope.observed, scope.repaired);
        scope
    }

    /// Whether a change repairs what others changed. Changes that follow from a manifest change are no
    /// repairs.
    pub(super) fn has_drifted(&self, change: &Action) -> bool {
        self.stayed(change) && self.follows_no_declared_change(change)
    }

    fn follows_no_declared_change(&self, change: &Action) -> bool {
        self.wanted.subject(change) == roots::own(change)
    }

    /// Whether the desired state of the object of a change is the same as before.
    fn stayed(&self, change: &Action) -> bool {
        is_same(change, self.reached, self.desired) && !is_the_kernels(change, self.observed)
    }
}
