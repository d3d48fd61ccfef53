//! Changes of routes.

use std::fmt;

use ipnet::IpNet;

use super::{Route, RouteKey};
use crate::model::change::{Operation, Verb};
use crate::model::order::{Around, Condition, Needs, NextHopObjectRef, Slot, Stage};
use crate::model::{Object, nexthop};
use crate::net::Family;

/// The key of a route and the operation on the route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteChange(pub RouteKey, pub RouteOperation);

/// The operation on a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RouteOperation {
    /// Added with the mark of Adit; fails if a route with this key exists.
    Create(Route),
    /// Replaced by this route.
    Replace(Route),
    /// Deleted; this is the route as observed.
    Delete(Route),
}

impl Operation for RouteChange {
    fn object(&self) -> Object {
        Object::Route(self.0)
    }

    fn verb(&self) -> Verb {
        match self.1 {
            RouteOperation::Create(_) => Verb::Add,
            RouteOperation::Replace(_) => Verb::Set,
            RouteOperation::Delete(_) => Verb::Delete,
        }
    }

    fn stage(&self) -> Stage {
        match &self.1 {
            RouteOperation::Create(route) | RouteOperation::Replace(route) if route.refuses() => {
                Stage::Backstops
            }
            RouteOperation::Create(_) | RouteOperation::Replace(_) => Stage::Anchors,
            RouteOperation::Delete(route) if route.refuses() => Stage::DeleteBackstops,
            RouteOperation::Delete(_) => Stage::DeleteAnchors,
        }
    }

    /// Routes to next-hop objects are created with the most specific first, and routes are deleted with the
    /// most specific last, so that no route takes packets of another one.
    fn rank(&self) -> u8 {
        let length = self.0.prefix.prefix_len();
        match &self.1 {
            RouteOperation::Create(route) | RouteOperation::Replace(route)
                if route.next_hop_object().is_some() =>
            {
                u8::MAX - length
            }
            RouteOperation::Delete(route) if !route.refuses() => length,
            _ => 0,
        }
    }

    fn needs<'a>(&'a self, around: Around<'a>, needs: &mut Needs<'a>) {
        let RouteChange(key, operation) = self;
        match operation {
            RouteOperation::Create(route) | RouteOperation::Replace(route) => {
                require(key, route, around, needs);
                needs.provides(Condition::Table(Family::of_prefix(key.prefix), key.table));
                if route.refuses() {
                    needs.provides(Condition::Backstop(key.table, key.prefix));
                } else {
                    led(key.prefix, around, needs);
                }
                if route.is_connected() {
                    needs.provides(Condition::Connected(key.prefix));
                }
                if let Some(former) = around.observed.routes.get(key) {
                    release(key, former, needs);
                }
            }
            RouteOperation::Delete(route) => {
                needs.requires(Condition::RulesCreated);
                needs.requires(Condition::RulesDeleted);
                needs.provides(Condition::FirewallUnneeded);
                release(key, route, needs);
                if route.refuses() {
                    return needs.requires(Condition::BackstopUnused(key.table, key.prefix));
                }
                needs.provides(Condition::BackstopUnused(key.table, key.prefix));
                require_led(key.prefix, around, needs);
                // If a less specific route can't be deleted, it must not get the packets of more specific
                // ones.
                for wider in around.nets.left.beyond(key.prefix) {
                    needs.requires(Condition::FormerPathDeleted(wider));
                }
                needs.provides(Condition::FormerPathDeleted(key.prefix));
            }
        }
    }
}

/// What a route requires: its devices, source, next hops and backstop.
fn require<'a>(key: &RouteKey, route: &'a Route, around: Around<'a>, needs: &mut Needs<'a>) {
    for link in route.links() {
        needs.requires(Condition::Up(link));
    }
    if let Some(source) = route.source() {
        needs.requires(Condition::Address(source));
    }
    if key.prefix.addr().is_ipv4() && route.next_hop_object().is_none() {
        route
            .links()
            .for_each(|link| needs.requires(Condition::RoutesFlushed(link)));
    }
    needs.requires(Condition::SlotFree(Slot::Subnet(key.prefix)));
    if let Some(former) = around
        .before
        .routes
        .get(key)
        .filter(|_| !around.observed.routes.contains_key(key))
    {
        // The former route is deleted together with a device that is recreated.
        for link in former.links() {
            needs.requires(Condition::SlotFree(Slot::Name(link)));
        }
    }
    if !route.refuses() {
        needs.requires(Condition::Backstop(key.table, key.prefix));
    }
    for gateway in route.gateways() {
        for net in around.nets.connected.around(IpNet::from(gateway)) {
            needs.requires(Condition::Connected(net));
        }
    }
    let Some(object) = route.next_hop_object() else {
        return;
    };
    needs.requires(Condition::NextHopObject(object.into()));
    for hop in object.hops() {
        nexthop::require_hop(hop, needs);
        needs.requires(Condition::NextHopObject(NextHopObjectRef::Hop(hop)));
        if hop.is_wireguard() {
            needs.requires(Condition::Allowed(&hop.link, key.prefix));
        }
    }
    // Otherwise it would take packets of more specific prefixes that are still forwarded by other means.
    needs.requires(Condition::MovedWithin(key.prefix));
}

/// The conditions that hold once a route or a map entry forwards packets to a prefix.
pub(crate) fn led<'a>(prefix: IpNet, around: Around<'a>, needs: &mut Needs<'a>) {
    needs.provides(Condition::AllOnDesiredPaths);
    needs.provides(Condition::OnDesiredPath(prefix));
    for wider in around.nets.left.beyond(prefix) {
        needs.provides(Condition::OnDesiredPathsWithin(wider));
    }
    if around.nets.left.contains(&prefix) {
        for wider in around.nets.by_objects.beyond(prefix) {
            needs.provides(Condition::MovedWithin(wider));
        }
    }
}

/// What the deletion of a route or a map entry of a prefix requires: everything that replaces it exists.
pub(crate) fn require_led<'a>(prefix: IpNet, around: Around<'a>, needs: &mut Needs<'a>) {
    needs.requires(Condition::RulesCreated);
    needs.requires(Condition::RulesDeleted);
    needs.requires(Condition::OnDesiredPathsWithin(prefix));
    for wider in around.nets.led.around(prefix) {
        needs.requires(Condition::OnDesiredPath(wider));
    }
}

/// The conditions that hold once a route is deleted or replaced.
fn release<'a>(key: &RouteKey, route: &'a Route, needs: &mut Needs<'a>) {
    for link in route.links() {
        needs.provides(Condition::AllowedUnused(link, key.prefix));
    }
    if let Some(source) = route.source() {
        needs.provides(Condition::AddressUnused(source));
    }
    if let Some(object) = route.next_hop_object() {
        return needs.provides(Condition::NextHopObjectUnused(object.into()));
    }
    for link in route.links() {
        needs.provides(Condition::LinkUnused(link));
        needs.provides(Condition::Unrouted(link));
    }
}

impl fmt::Display for RouteChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (verb, route) = match &self.1 {
            RouteOperation::Create(route) => ("add", route),
            RouteOperation::Replace(route) => ("replace", route),
            RouteOperation::Delete(route) => ("delete", route),
        };
        write!(f, "{verb} route {} {}", self.0, route.kind)
    }
}
