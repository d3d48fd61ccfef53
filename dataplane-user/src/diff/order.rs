//! The only place that knows the order of changes, and what must not happen after a failure.
//!
//! Put before delete; what refers comes after what it refers to; a tunnel device has its ingress program before it is
//! up, and is up before a next hop sends to it; a backstop stands before its anchor and falls after it.

use crate::model::change::DeleteLinkReason;
use crate::model::{Change, RouteKind};

/// Steps of a change set, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Unreachable routes: from here on nothing leaks.
    Backstops,
    /// Devices that are made anew go. Traffic through them stops until the classes point at the new ones.
    RecreateLinks,
    /// Devices are made, down, and mended.
    Links,
    /// Settings and addresses of devices.
    LinkSettings,
    /// Programs on devices that have none.
    Attach,
    /// Devices come up.
    LinksUp,
    /// Classes, then next hops, then groups, then prefixes.
    Classes,
    /// See [`Stage::Classes`].
    NextHops,
    /// See [`Stage::Classes`].
    Groups,
    /// See [`Stage::Classes`].
    Prefixes,
    /// Programs are replaced once the maps that the new ones read are full.
    ReplacePrograms,
    /// Routes that lead to the program.
    Anchors,
    /// Routes that lead to the program go.
    DeleteAnchors,
    /// Unreachable routes go.
    DeleteBackstops,
    /// Prefixes go.
    DeletePrefixes,
    /// What prefixes no longer point at.
    FreeGroups,
    /// What groups and prefixes no longer point at.
    FreeNextHops,
    /// What next hops no longer point at.
    FreeClasses,
    /// Programs leave devices.
    Detach,
    /// Addresses go.
    DeleteAddresses,
    /// Devices go.
    DeleteLinks,
}

impl Stage {
    /// The stage of a change.
    #[must_use]
    pub fn of(change: &Change) -> Stage {
        let is_backstop = |kind: &RouteKind| *kind == RouteKind::Unreachable;
        match change {
            Change::CreateRoute(_, route) | Change::ReplaceRoute(_, route) if is_backstop(&route.kind) => {
                Stage::Backstops
            }
            Change::CreateRoute(..) | Change::ReplaceRoute(..) => Stage::Anchors,
            Change::DeleteRoute(_, route) if is_backstop(&route.kind) => Stage::DeleteBackstops,
            Change::DeleteRoute(..) => Stage::DeleteAnchors,
            Change::DeleteLink(_, DeleteLinkReason::Recreate { .. }) => Stage::RecreateLinks,
            Change::DeleteLink(_, DeleteLinkReason::Unneeded) => Stage::DeleteLinks,
            Change::CreateLink(..) | Change::ModifyLink(..) => Stage::Links,
            Change::SetSysctl(..) | Change::CreateAddress(..) | Change::ReplaceAddress(..) => {
                Stage::LinkSettings
            }
            Change::Attach(..) => Stage::Attach,
            Change::SetLinkUp(..) => Stage::LinksUp,
            Change::PutClass(..) => Stage::Classes,
            Change::PutNextHop(..) => Stage::NextHops,
            Change::PutGroup(..) => Stage::Groups,
            Change::PutPrefix(..) => Stage::Prefixes,
            Change::ReplaceProgram(..) => Stage::ReplacePrograms,
            Change::DeletePrefix(..) => Stage::DeletePrefixes,
            Change::DeleteGroup(..) => Stage::FreeGroups,
            Change::DeleteNextHop(..) => Stage::FreeNextHops,
            Change::DeleteClass(..) => Stage::FreeClasses,
            Change::Detach(..) => Stage::Detach,
            Change::DeleteAddress(..) => Stage::DeleteAddresses,
        }
    }

    /// Whether a failed change of stage `failed` forbids this stage: it would take away what the old state, which
    /// still stands there, needs.
    #[must_use]
    pub fn is_forbidden_after(self, failed: Stage) -> bool {
        match self {
            // The old target of a prefix may still be in use.
            Stage::FreeGroups | Stage::FreeNextHops | Stage::FreeClasses => {
                (Stage::Classes..=Stage::Prefixes).contains(&failed)
                    || (Stage::DeletePrefixes..self).contains(&failed)
            }
            // The old classes may still send to it.
            Stage::DeleteLinks => {
                (Stage::Links..=Stage::Prefixes).contains(&failed)
                    || (Stage::DeletePrefixes..=Stage::FreeClasses).contains(&failed)
            }
            // The old anchors may still name it as their source.
            Stage::DeleteAddresses => matches!(failed, Stage::Anchors | Stage::DeleteAnchors),
            // While an anchor stands, its backstop does.
            Stage::DeleteBackstops => failed == Stage::DeleteAnchors,
            // A device comes up only with its program.
            Stage::LinksUp => failed == Stage::Attach,
            _ => false,
        }
    }
}

/// Sorts changes into stages; the order within a stage stays.
pub fn sort(changes: &mut [Change]) {
    changes.sort_by_key(Stage::of);
}
