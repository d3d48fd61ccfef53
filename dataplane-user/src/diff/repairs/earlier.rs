//! What passes changed since the target was last reached, so that what follows from it and is seen later is part of it. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::roots::{self, Roots};
use super::{Repair, by_namespace, is_same, is_the_kernels};
use crate::model::{Action, Change, KernelState, Located};
use crate::net::Namespace;

/// What was changed and has not all returned yet.
#[derive(Debug, Default)]
pub struct Earlier {
    /// By namespace: what the manifests changed, and what was repaired.
    places: BTreeMap<Option<Namespace>, (Roots, Roots)>,
    /// By the first thing that it mends.
    repairs: BTreeMap<Located, Told>,
    /// The key there for each thing that is mended.
    of: BTreeMap<Located, Located>,
}

/// A repair of an earlier pass.
#[derive(Debug)]
struct Told {
    object: Located,
    found: String,
    subjects: Vec<Located>,
    /// Not one of which something failed.
    counted: bool,
}

impl Earlier {
    /// Takes note of the changes that a pass makes, and of the repairs among them.
    pub fn add(
        &mut self,
        changes: &[Change],
        observed: &KernelState,
        targets: (&KernelState, &KernelState),
        repairs: &[Repair],
    ) {
        for (namespace, changes) in by_namespace(changes) {
            let Place { wanted, mended, .. } = Place::new(&changes, namespace, observed, targets, self);
            self.places.insert(namespace.cloned(), (wanted, mended));
        }
        for repair in repairs.iter().filter(|repair| !repair.follows) {
            let first = &repair.subjects[0];
            for subject in &repair.subjects {
                self.of.insert(subject.clone(), first.clone());
            }
            let told = Told {
                object: repair.object.clone(),
                found: repair.found.clone(),
                subjects: repair.subjects.clone(),
                counted: false,
            };
            self.repairs.insert(first.clone(), told);
        }
    }

    /// A repair was made whole, and counted.
    pub fn counted(&mut self, repair: &Repair) {
        if let Some(told) = self.repairs.get_mut(&repair.subjects[0]) {
            told.counted = true;
        }
    }

    /// Forgets that of which nothing is left to be done among these changes: what happens to it from now on is something new.
    pub fn retain(&mut self, left: &[Change], observed: &KernelState, targets: (&KernelState, &KernelState)) {
        let mut left = by_namespace(left);
        let mut wanted = BTreeSet::new();
        let mut places = std::mem::take(&mut self.places);
        for (namespace, (by_wish, by_hand)) in &mut places {
            let changes = left.remove(&namespace.as_ref()).unwrap_or_default();
            let before = Earlier {
                places: [(namespace.clone(), (by_wish.clone(), by_hand.clone()))].into(),
                ..Earlier::default()
            };
            let place = Place::new(&changes, namespace.as_ref(), observed, targets, &before);
            let above = |roots: &Roots| {
                let subjects = changes.iter().map(|(_, change)| roots.subject(change));
                subjects.collect::<BTreeSet<_>>()
            };
            by_wish.retain(&above(&place.wanted));
            let above = above(&place.mended);
            by_hand.retain(&above);
            wanted.extend(above.into_iter().map(|subject| subject.at(namespace.clone())));
        }
        self.places = places;
        self.repairs
            .retain(|_, told| told.subjects.iter().any(|subject| wanted.contains(subject)));
        self.of.retain(|_, first| self.repairs.contains_key(first));
    }

    /// Makes what only follows from earlier repairs a part of those.
    pub(super) fn join(&self, found: &mut BTreeMap<Located, Repair>) {
        let following = found.iter().filter(|(_, repair)| repair.follows);
        let following = following.map(|(at, _)| at.clone()).collect::<Vec<_>>();
        for at in following {
            let told = self.of.get(&at).and_then(|first| self.repairs.get(first));
            let (Some(mut repair), told) = (found.remove(&at), told) else {
                continue;
            };
            let Some(told) = told else {
                repair.follows = false;
                found.insert(at, repair);
                continue;
            };
            repair.object = told.object.clone();
            (repair.found, repair.follows) = (told.found.clone(), told.counted);
            repair.subjects.clone_from(&told.subjects);
            match found.get_mut(&told.subjects[0]) {
                Some(whole) => whole.join(repair),
                None => drop(found.insert(told.subjects[0].clone(), repair)),
            }
        }
    }
}

/// The changes of one namespace: those that the manifests ask for, and those that repair something.
pub(super) struct Place<'a> {
    pub(super) namespace: Option<&'a Namespace>,
    pub(super) observed: &'a KernelState,
    targets: (&'a KernelState, &'a KernelState),
    wanted: Roots,
    pub(super) mended: Roots,
}

impl<'a> Place<'a> {
    pub(super) fn new(
        changes: &[(usize, &Action)],
        namespace: Option<&'a Namespace>,
        observed: &'a KernelState,
        (before, target): (&'a KernelState, &'a KernelState),
        earlier: &Earlier,
    ) -> Place<'a> {
        static NOTHING: std::sync::LazyLock<KernelState> = std::sync::LazyLock::new(KernelState::default);
        let at = |state: &'a KernelState| state.at(namespace).unwrap_or(&NOTHING);
        let (wanted, mended) = earlier
            .places
            .get(&namespace.cloned())
            .cloned()
            .unwrap_or_default();
        let mut place = Place {
            namespace,
            observed: at(observed),
            targets: (at(before), at(target)),
            wanted,
            mended,
        };
        let changes = changes.iter().map(|(_, change)| *change);
        let (mut stayed, wanted): (Vec<_>, Vec<_>) = changes.partition(|change| place.stayed(change));
        place.wanted = Roots::of(&wanted, place.observed, place.wanted);
        stayed.retain(|change| place.hangs_on_no_wish(change));
        place.mended = Roots::of(&stayed, place.observed, place.mended);
        place
    }

    /// Whether a change mends what others changed. What hangs on something that is wanted otherwise goes and returns with it.
    pub(super) fn has_drifted(&self, change: &Action) -> bool {
        self.stayed(change) && self.hangs_on_no_wish(change)
    }

    fn hangs_on_no_wish(&self, change: &Action) -> bool {
        self.wanted.subject(change) == roots::own(change)
    }

    /// Whether nobody wants what a change is about otherwise than before.
    fn stayed(&self, change: &Action) -> bool {
        let (before, target) = self.targets;
        is_same(change, before, target) && !is_the_kernels(change, self.observed)
    }
}
