//! Routes.

use ipnet::IpNet;

use super::nexthops;
use super::order::{Around, Condition, Needs, Slot, Target};
use crate::model::change::{NetlinkChange, RouteOperation};
use crate::model::{ChangeSet, Conflict, KernelState, Object, Owner, Route, RouteKey};

pub(super) fn diff(observed: &KernelState, target: &KernelState, set: &mut ChangeSet) {
    for (key, wanted) in &target.routes {
        let operation = match observed.routes.get(key) {
            None => RouteOperation::Create(wanted.clone()),
            Some(found) if found.owner != Owner::Ours => {
                set.conflicts.push(Conflict {
                    object: Object::Route(*key).into(),
                    found: found.kind.to_string(),
                    holder: None,
                });
                continue;
            }
            Some(found) if wanted.kind.is_met_by(&found.kind) => continue,
            Some(_) => RouteOperation::Replace(wanted.clone()),
        };
        set.push(NetlinkChange::Route(*key, operation));
    }
    for (key, found) in &observed.routes {
        if found.owner == Owner::Ours && !target.routes.contains_key(key) {
            set.push(NetlinkChange::Route(*key, RouteOperation::Delete(found.clone())));
        }
    }
}

pub(super) fn needs<'a>(
    key: &'a RouteKey,
    operation: &'a RouteOperation,
    around: Around<'a>,
    needs: &mut Needs<'a>,
) {
    match operation {
        RouteOperation::Create(route) | RouteOperation::Replace(route) => {
            require(key, route, around, needs);
            needs.provides(Condition::Table(key.table));
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
            needs.requires(Condition::RulesMade);
            needs.requires(Condition::RulesGone);
            needs.provides(Condition::Unguarded);
            release(key, route, needs);
            if route.refuses() {
                return needs.requires(Condition::BackstopUnused(key.table, key.prefix));
            }
            needs.provides(Condition::BackstopUnused(key.table, key.prefix));
            require_led(key.prefix, around, needs);
            // One that can't be deleted gets no packets of more specific ones.
            for wider in around.nets.left.beyond(key.prefix) {
                needs.requires(Condition::Left(wider));
            }
            needs.provides(Condition::Left(key.prefix));
        }
    }
}

/// What a route leads to, and what must stand with it.
fn require<'a>(key: &RouteKey, route: &'a Route, around: Around<'a>, needs: &mut Needs<'a>) {
    for link in route.links() {
        needs.requires(Condition::Up(link));
    }
    if let Some(source) = route.source() {
        needs.requires(Condition::Address(source));
    }
    if key.prefix.addr().is_ipv4() && route.target().is_none() {
        route
            .links()
            .for_each(|link| needs.requires(Condition::Flushed(link)));
    }
    needs.requires(Condition::Vacant(Slot::Subnet(key.prefix)));
    if let Some(former) = around
        .before
        .routes
        .get(key)
        .filter(|_| !around.observed.routes.contains_key(key))
    {
        // It goes with a device that is recreated.
        for link in former.links() {
            needs.requires(Condition::Vacant(Slot::Name(link)));
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
    let Some(target) = route.target() else {
        return;
    };
    needs.requires(Condition::NextHopObject(target.into()));
    for hop in target.hops() {
        nexthops::require_hop(hop, needs);
        needs.requires(Condition::NextHopObject(Target::Hop(hop)));
        if hop.is_wireguard() {
            needs.requires(Condition::Allowed(&hop.link, key.prefix));
        }
    }
    // It would take the packets of more specific ones that are still led by other means.
    needs.requires(Condition::MovedWithin(key.prefix));
}

/// A route or a prefix of the maps leads packets now.
pub(super) fn led<'a>(prefix: IpNet, around: Around<'a>, needs: &mut Needs<'a>) {
    needs.provides(Condition::AllLed);
    needs.provides(Condition::Led(prefix));
    for wider in around.nets.left.beyond(prefix) {
        needs.provides(Condition::LedWithin(wider));
    }
    if around.nets.left.contains(&prefix) {
        for wider in around.nets.by_objects.beyond(prefix) {
            needs.provides(Condition::MovedWithin(wider));
        }
    }
}

/// What led packets to a prefix goes once whatever shall lead some of them does.
pub(super) fn require_led<'a>(prefix: IpNet, around: Around<'a>, needs: &mut Needs<'a>) {
    needs.requires(Condition::RulesMade);
    needs.requires(Condition::RulesGone);
    needs.requires(Condition::LedWithin(prefix));
    for wider in around.nets.led.around(prefix) {
        needs.requires(Condition::Led(wider));
    }
}

/// What a route needs no more.
fn release<'a>(key: &RouteKey, route: &'a Route, needs: &mut Needs<'a>) {
    for link in route.links() {
        needs.provides(Condition::AllowedUnused(link, key.prefix));
    }
    if let Some(source) = route.source() {
        needs.provides(Condition::AddressUnused(source));
    }
    if let Some(target) = route.target() {
        return needs.provides(Condition::NextHopObjectUnused(target.into()));
    }
    for link in route.links() {
        needs.provides(Condition::LinkUnused(link));
        needs.provides(Condition::Unrouted(link));
    }
}
