//! Counters of changes, under the names that other agents use for such counters.
//!
//! [`Count::of`] alone decides which counter a change belongs to.

use std::collections::BTreeMap;

use prometheus::core::Collector;
use prometheus::proto::MetricFamily;
use prometheus::{Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, Opts};

use super::{DURATIONS, series};
use crate::apply::{ApplyReport, Outcome};
use crate::model::change::{
    AddressChange, AddressOperation, LinkChange, LinkOperation, NeighbourChange, NetlinkChange, ObjectKind,
    RouteChange, RouteOperation, Verb, Write,
};
use crate::model::order::Stage;
use crate::model::wireguard::DeviceChange;
use crate::model::{ANCHOR_METRIC, Action, BACKSTOP_METRIC, Change, Route, RouteKey, RouteKind};

/// The counter that a change belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Count {
    /// An operation on a device: one of [`OPERATIONS`].
    Interface(&'static str),
    /// Another kernel object of this kind was created, changed or deleted.
    Object(&'static str, Verb),
    /// A route was created or replaced, or deleted; the second field says what asked for it, one of
    /// [`SOURCES`].
    Route(Verb, &'static str),
    /// A WireGuard peer was added or removed, or the device changed otherwise.
    WireGuard(Verb),
    /// The nft table was created or replaced as a whole, or deleted.
    Firewall(Verb),
    /// Maps and programs have no counters here; metrics of the maps are read from the maps.
    Map,
}

const OPERATIONS: [&str; 9] = [
    "create",
    "modify",
    "up",
    "down",
    "delete",
    "address-add",
    "address-replace",
    "address-delete",
    "setting",
];
const SOURCES: [&str; 4] = ["anchor", "backstop", "overlay", "declared"];

/// Kinds of objects that are not counted as [`Count::Object`].
const COUNTED_OTHERWISE: [ObjectKind; 15] = [
    ObjectKind::Link,
    ObjectKind::Address,
    ObjectKind::Flood,
    ObjectKind::Route,
    ObjectKind::Sysctl,
    ObjectKind::WireGuard,
    ObjectKind::Firewall,
    ObjectKind::Program,
    ObjectKind::Pins,
    ObjectKind::Version,
    ObjectKind::Class,
    ObjectKind::NextHop,
    ObjectKind::Group,
    ObjectKind::Prefix,
    ObjectKind::Source,
];

/// The value of the label `operation`.
fn operation(verb: Verb) -> &'static str {
    match verb {
        Verb::Add => "create",
        Verb::Set => "modify",
        Verb::Delete => "delete",
    }
}

impl Count {
    fn of(change: &Change) -> Count {
        match &change.action {
            Action::Netlink(change) => Count::of_netlink(change),
            Action::Sysctl(_) => Count::Interface("setting"),
            Action::WireGuard(change) => Count::WireGuard(match change.change {
                DeviceChange::AddPeer(..) => Verb::Add,
                DeviceChange::RemovePeer(_) => Verb::Delete,
                DeviceChange::SetPrivateKey(_)
                | DeviceChange::SetListenPort(_)
                | DeviceChange::YieldListenPort(_)
                | DeviceChange::SetFwmark(_)
                | DeviceChange::UpdatePeer(..)
                | DeviceChange::RemoveAllowedIps(..) => Verb::Set,
            }),
            Action::Nft(_) => Count::Firewall(change.action.verb()),
            Action::Bpf(_) => Count::Map,
        }
    }

    fn of_netlink(change: &NetlinkChange) -> Count {
        match change {
            NetlinkChange::Link(LinkChange(_, operation)) => Count::Interface(match operation {
                LinkOperation::Create(_) => "create",
                LinkOperation::Modify(_) | LinkOperation::SetMaster(_) | LinkOperation::SetAlias(_) => {
                    "modify"
                }
                LinkOperation::SetUp => "up",
                LinkOperation::SetDown => "down",
                LinkOperation::Delete(_) => "delete",
            }),
            NetlinkChange::Flood(..) => Count::Interface("modify"),
            NetlinkChange::Address(AddressChange(_, _, operation)) => Count::Interface(match operation {
                AddressOperation::Create(_) => "address-add",
                AddressOperation::Replace(_) | AddressOperation::Move { .. } => "address-replace",
                AddressOperation::Delete { .. } => "address-delete",
            }),
            NetlinkChange::Route(RouteChange(key, operation)) => match operation {
                RouteOperation::Create(route) | RouteOperation::Replace(route) => {
                    Count::Route(Verb::Add, source(*key, route))
                }
                RouteOperation::Delete(route) => Count::Route(Verb::Delete, source(*key, route)),
            },
            NetlinkChange::Neighbour(NeighbourChange(_, _, Write::Put(_))) => {
                Count::Object("neighbour", Verb::Add)
            }
            change => {
                let operation = change.operation();
                Count::Object(operation.object().kind().name(), operation.verb())
            }
        }
    }
}

/// What asked for a route: one of [`SOURCES`].
fn source(key: RouteKey, route: &Route) -> &'static str {
    match key.metric {
        BACKSTOP_METRIC if route.kind == RouteKind::Unreachable => "backstop",
        _ if route.next_hop_object().is_some() => "overlay",
        ANCHOR_METRIC => "anchor",
        _ => "declared",
    }
}

/// Clones share their counts.
#[derive(Clone, Debug)]
pub(super) struct ChangeCounters {
    operations: IntCounterVec,
    operation_errors: IntCounterVec,
    routes_added: IntCounter,
    routes_removed: IntCounter,
    objects: IntCounterVec,
    object_errors: IntCounterVec,
    route_errors: IntCounter,
    route_duration: HistogramVec,
    peers_added: IntCounter,
    peers_removed: IntCounter,
    wireguard_errors: IntCounter,
    wireguard_duration: Histogram,
    rebuilds: IntCounter,
    firewall_errors: IntCounter,
    firewall_duration: Histogram,
}

impl Default for ChangeCounters {
    fn default() -> ChangeCounters {
        let counter = |name, help| series::valid(IntCounter::new(name, help));
        let operations =
            |name, help| series::valid(IntCounterVec::new(Opts::new(name, help), &["operation"]));
        let options = |name, help| HistogramOpts::new(name, help).buckets(DURATIONS.to_vec());
        let durations = |name, help| series::valid(Histogram::with_opts(options(name, help)));
        let route_duration = options(
            "adit_route_sync_duration_seconds",
            "Duration of changes of routes, by what asked for them.",
        );
        let counters = ChangeCounters {
            operations: operations(
                "adit_interface_operations_total",
                "Changes of devices and their addresses.",
            ),
            operation_errors: operations(
                "adit_interface_operation_errors_total",
                "Changes of devices and their addresses that the kernel refused.",
            ),
            routes_added: counter("adit_routes_added_total", "Routes created or replaced."),
            routes_removed: counter("adit_routes_removed_total", "Routes deleted."),
            objects: series::valid(IntCounterVec::new(
                Opts::new(
                    "adit_object_operations_total",
                    "Policy rules, next-hop objects and neighbours created, changed and deleted.",
                ),
                &["kind", "operation"],
            )),
            object_errors: series::valid(IntCounterVec::new(
                Opts::new(
                    "adit_object_operation_errors_total",
                    "Changes of policy rules, next-hop objects and neighbours that the kernel refused.",
                ),
                &["kind"],
            )),
            route_errors: counter(
                "adit_route_sync_errors_total",
                "Changes of routes that the kernel refused.",
            ),
            route_duration: series::valid(HistogramVec::new(route_duration, &["source"])),
            peers_added: counter("adit_wireguard_peers_added_total", "WireGuard peers added."),
            peers_removed: counter("adit_wireguard_peers_removed_total", "WireGuard peers removed."),
            wireguard_errors: counter(
                "adit_wireguard_configure_errors_total",
                "Changes of WireGuard devices that were refused.",
            ),
            wireguard_duration: durations(
                "adit_wireguard_configure_duration_seconds",
                "Duration of changes of WireGuard devices.",
            ),
            rebuilds: counter(
                "adit_masquerade_chain_rebuilds_total",
                "How often the nft table was created or replaced as a whole.",
            ),
            firewall_errors: counter(
                "adit_masquerade_sync_errors_total",
                "Changes of the nft table that were refused.",
            ),
            firewall_duration: durations(
                "adit_masquerade_sync_duration_seconds",
                "Duration of changes of the nft table.",
            ),
        };
        counters.create_series();
        counters
    }
}

impl ChangeCounters {
    /// Creates all series, so that the first increase counts in a rate.
    fn create_series(&self) {
        for operation in OPERATIONS {
            self.operations.with_label_values(&[operation]);
            self.operation_errors.with_label_values(&[operation]);
        }
        for kind in ObjectKind::ALL
            .iter()
            .filter(|kind| !COUNTED_OTHERWISE.contains(kind))
        {
            let kind = kind.name();
            self.object_errors.with_label_values(&[kind]);
            for verb in [Verb::Add, Verb::Set, Verb::Delete] {
                self.objects.with_label_values(&[kind, operation(verb)]);
            }
        }
        for source in SOURCES {
            self.route_duration.with_label_values(&[source]);
        }
    }

    /// Counts changes, made or refused.
    pub(super) fn applied(&self, report: &ApplyReport) {
        let mut stages: BTreeMap<Stage, Count> = BTreeMap::new();
        for (change, outcome) in &report.outcomes {
            let count = Count::of(change);
            stages.entry(change.stage()).or_insert(count);
            match outcome {
                Outcome::Done => self.done(count),
                Outcome::Failed(_) => self.refused(count),
                Outcome::Skipped { .. } => {}
            }
        }
        for (stage, duration) in &report.durations {
            let seconds = duration.as_secs_f64();
            match stages.get(stage) {
                Some(Count::Route(_, source)) => {
                    self.route_duration.with_label_values(&[source]).observe(seconds);
                }
                Some(Count::WireGuard(_)) => self.wireguard_duration.observe(seconds),
                Some(Count::Firewall(_)) => self.firewall_duration.observe(seconds),
                Some(Count::Interface(_) | Count::Object(..) | Count::Map) | None => {}
            }
        }
    }

    fn done(&self, count: Count) {
        match count {
            Count::Interface(operation) => self.operations.with_label_values(&[operation]).inc(),
            Count::Route(Verb::Add | Verb::Set, _) => self.routes_added.inc(),
            Count::Route(Verb::Delete, _) => self.routes_removed.inc(),
            Count::Object(kind, verb) => {
                self.objects.with_label_values(&[kind, operation(verb)]).inc();
            }
            Count::WireGuard(Verb::Add) => self.peers_added.inc(),
            Count::WireGuard(Verb::Delete) => self.peers_removed.inc(),
            Count::Firewall(Verb::Add | Verb::Set) => self.rebuilds.inc(),
            Count::WireGuard(Verb::Set) | Count::Firewall(Verb::Delete) | Count::Map => {}
        }
    }

    fn refused(&self, count: Count) {
        match count {
            Count::Interface(operation) => self.operation_errors.with_label_values(&[operation]).inc(),
            Count::Route(..) => self.route_errors.inc(),
            Count::Object(kind, _) => self.object_errors.with_label_values(&[kind]).inc(),
            Count::WireGuard(_) => self.wireguard_errors.inc(),
            Count::Firewall(_) => self.firewall_errors.inc(),
            Count::Map => {}
        }
    }

    pub(super) fn collect(&self) -> Vec<MetricFamily> {
        let all: [&dyn Collector; 15] = [
            &self.operations,
            &self.operation_errors,
            &self.routes_added,
            &self.routes_removed,
            &self.objects,
            &self.object_errors,
            &self.route_errors,
            &self.route_duration,
            &self.peers_added,
            &self.peers_removed,
            &self.wireguard_errors,
            &self.wireguard_duration,
            &self.rebuilds,
            &self.firewall_errors,
            &self.firewall_duration,
        ];
        all.into_iter().flat_map(Collector::collect).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::time::Duration;

    use super::*;
    use crate::kernel::KernelError;
    use crate::model::change::{DeleteLinkReason, NftChange, WireGuardChange};
    use crate::model::{Firewall, MAIN_TABLE, NextHopObject, Owner, RouteHop};
    use crate::net::{LinkName, PublicKey};

    fn changes() -> Vec<Change> {
        let link = LinkName::constant("adit0");
        let key = RouteKey::new(MAIN_TABLE, "10.0.0.0/8".parse().unwrap(), BACKSTOP_METRIC);
        let backstop = Route {
            owner: Owner::Adit,
            kind: RouteKind::Unreachable,
        };
        let peer = PublicKey::from_bytes([1; 32]);
        let wireguard = |change| {
            let link = link.clone();
            Change::from(WireGuardChange { link, change })
        };
        let delete = LinkOperation::Delete(DeleteLinkReason::Unneeded);
        vec![
            NetlinkChange::Route(RouteChange(key, RouteOperation::Create(backstop.clone()))).into(),
            NetlinkChange::Route(RouteChange(key, RouteOperation::Delete(backstop))).into(),
            NetlinkChange::Link(LinkChange(link.clone(), LinkOperation::SetUp)).into(),
            NetlinkChange::Link(LinkChange(link.clone(), delete)).into(),
            wireguard(DeviceChange::AddPeer(peer, Default::default())),
            wireguard(DeviceChange::SetListenPort(1)),
            wireguard(DeviceChange::RemovePeer(peer)),
            NftChange::Replace(Box::new(Firewall::not_managed())).into(),
            NftChange::Delete.into(),
        ]
    }

    /// The series that are not 0 after all changes had this outcome.
    fn series(outcome: impl Fn() -> Outcome) -> Vec<String> {
        let changes = changes();
        let mut stages: Vec<Stage> = changes.iter().map(Change::stage).collect();
        stages.sort_unstable();
        stages.dedup();
        let report = ApplyReport {
            durations: stages
                .into_iter()
                .map(|stage| (stage, Duration::from_secs(2)))
                .collect(),
            outcomes: changes.into_iter().map(|change| (change, outcome())).collect(),
        };
        let counters = ChangeCounters::default();
        counters.applied(&report);
        let text = prometheus::TextEncoder::new()
            .encode_to_string(&counters.collect())
            .unwrap();
        let lines = text
            .lines()
            .filter(|line| !line.starts_with('#') && !line.ends_with(" 0") && !line.contains("_bucket"));
        // The order of label values is that of a hash table.
        let mut lines: Vec<_> = lines.map(str::to_owned).collect();
        lines.sort_unstable();
        lines
    }

    #[test]
    fn routes_are_counted_by_their_purpose() {
        let key = |metric| RouteKey::new(MAIN_TABLE, "10.0.0.0/8".parse().unwrap(), metric);
        let hop = RouteHop {
            link: LinkName::constant("adit-wg0"),
            gateway: None,
            encapsulation: None,
        };
        let overlay = RouteKind::NextHop {
            object: NextHopObject::Hop(hop.into()),
            source: None,
            mtu: None,
        };
        let anchor = RouteKind::Gateway {
            gateway: [169, 254, 1, 1].into(),
            link: LinkName::constant("adit0"),
            source: None,
            mtu: None,
        };
        for (metric, kind, expected) in [
            (BACKSTOP_METRIC, RouteKind::Unreachable, "backstop"),
            (ANCHOR_METRIC, anchor, "anchor"),
            (ANCHOR_METRIC, overlay, "overlay"),
            (50, RouteKind::Unreachable, "declared"),
            (50, RouteKind::Blackhole, "declared"),
        ] {
            let owner = Owner::Adit;
            let found = source(key(metric), &Route { owner, kind });
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn changes_and_their_durations_are_counted() {
        let expected = [
            r#"adit_interface_operations_total{operation="delete"} 1"#,
            r#"adit_interface_operations_total{operation="up"} 1"#,
            "adit_masquerade_chain_rebuilds_total 1",
            "adit_masquerade_sync_duration_seconds_count 2",
            "adit_masquerade_sync_duration_seconds_sum 4",
            r#"adit_route_sync_duration_seconds_count{source="backstop"} 2"#,
            r#"adit_route_sync_duration_seconds_sum{source="backstop"} 4"#,
            "adit_routes_added_total 1",
            "adit_routes_removed_total 1",
            "adit_wireguard_configure_duration_seconds_count 2",
            "adit_wireguard_configure_duration_seconds_sum 4",
            "adit_wireguard_peers_added_total 1",
            "adit_wireguard_peers_removed_total 1",
        ];
        assert_eq!(series(|| Outcome::Done), expected);
    }

    #[test]
    fn refused_changes_count_only_as_errors() {
        let refused = || {
            Outcome::Failed(KernelError::new(
                "a change",
                io::Error::from_raw_os_error(libc::EPERM),
            ))
        };
        let mut found = series(refused);
        found.retain(|line| !line.contains("_duration_"));
        let expected = [
            r#"adit_interface_operation_errors_total{operation="delete"} 1"#,
            r#"adit_interface_operation_errors_total{operation="up"} 1"#,
            "adit_masquerade_sync_errors_total 2",
            "adit_route_sync_errors_total 2",
            "adit_wireguard_configure_errors_total 3",
        ];
        assert_eq!(found, expected);
        let mut skipped = series(|| Outcome::Skipped { failed: 0 });
        skipped.retain(|line| !line.contains("_duration_"));
        assert_eq!(skipped, [""; 0]);
    }
}
