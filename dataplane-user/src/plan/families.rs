//! Skips objects whose address family the kernel or a device lacks, with one warning per device or cause. All
//! other objects are planned as usual.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use super::mtu::IPV6_MINIMUM;
use crate::model::facts::{Ipv6, NodeFacts};
use crate::model::{KernelState, MAIN_TABLE, NextHopObject, Route};
use crate::net::{Family, LinkName, Namespace};
use crate::resource::{Problem, Reason};

/// Removes from the desired state the objects that need an address family, or policy rules and tables of a
/// family, which the kernel lacks.
pub(super) fn skip(facts: &NodeFacts, desired: &mut KernelState, problems: &mut Vec<Problem>) {
    let mut skipped = Skipped::default();
    skipped.from(None, &facts.ipv6, &facts.without_rules, desired);
    let everywhere = if facts.ipv6 == Ipv6::Absent {
        Ipv6::Absent
    } else {
        Ipv6::default()
    };
    for (namespace, desired) in &mut desired.namespaces {
        let ipv6 = facts.ipv6_in.get(namespace).unwrap_or(&everywhere);
        skipped.from(Some(namespace), ipv6, &facts.without_rules, desired);
    }
    problems.extend(skipped.problems());
}

/// Why objects are skipped.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Cause {
    /// The kernel has no IPv6.
    NoIpv6,
    /// IPv6 is disabled on a device.
    DisabledOn(Option<Namespace>, LinkName),
    /// The MTU of a device is too small for IPv6.
    SmallMtu(Option<Namespace>, LinkName, u32),
    /// IPv4 routes have IPv6 gateways on a device without IPv6.
    Neighbours(Option<Namespace>, LinkName),
    /// The kernel has neither policy rules nor additional routing tables of a family.
    NoRules(Family),
}

/// How many objects of each kind are skipped.
#[derive(Debug, Default)]
struct Counts {
    addresses: usize,
    neighbours: usize,
    routes: usize,
    rules: usize,
}

#[derive(Debug, Default)]
struct Skipped(BTreeMap<Cause, Counts>);

impl Skipped {
    fn from(
        &mut self,
        namespace: Option<&Namespace>,
        ipv6: &Ipv6,
        without_rules: &BTreeSet<Family>,
        desired: &mut KernelState,
    ) {
        let mtus = desired.links.iter();
        let mtus = mtus.filter_map(|(name, link)| Some((name.clone(), link.mtu?)));
        let small = mtus.filter(|(_, mtu)| *mtu < IPV6_MINIMUM);
        let small = small.collect::<BTreeMap<_, _>>();
        let on = |link: &LinkName| match ipv6 {
            Ipv6::Absent => Err(Cause::NoIpv6),
            _ if small.contains_key(link) => {
                Err(Cause::SmallMtu(namespace.cloned(), link.clone(), small[link]))
            }
            ipv6 if ipv6.is_on(link) => Ok(()),
            _ => Err(Cause::DisabledOn(namespace.cloned(), link.clone())),
        };
        let address = |link: &LinkName, address: IpAddr| match address {
            IpAddr::V4(_) => Ok(()),
            IpAddr::V6(_) => on(link),
        };
        desired.addresses.retain(|(link, prefix), _| {
            self.keeps(address(link, prefix.addr()), |counts| &mut counts.addresses)
        });
        desired.neighbours.retain(|(link, neighbour), _| {
            self.keeps(address(link, *neighbour), |counts| &mut counts.neighbours)
        });
        desired.routes.retain(|key, route| {
            let family = Family::of_prefix(key.prefix);
            let fits = match family {
                Family::Ipv6 if *ipv6 == Ipv6::Absent => Err(Cause::NoIpv6),
                family if key.table != MAIN_TABLE && without_rules.contains(&family) => {
                    Err(Cause::NoRules(family))
                }
                Family::Ipv6 => route.links().try_for_each(on),
                Family::Ipv4 => {
                    let missing = ipv6_gateways(route).find(|link| on(link).is_err());
                    missing.map_or(Ok(()), |link| {
                        Err(Cause::Neighbours(namespace.cloned(), link.clone()))
                    })
                }
            };
            self.keeps(fits, |counts| &mut counts.routes)
        });
        desired.rules.retain(|rule| {
            let fits = match rule.family {
                Family::Ipv6 if *ipv6 == Ipv6::Absent => Err(Cause::NoIpv6),
                family if without_rules.contains(&family) => Err(Cause::NoRules(family)),
                _ => Ok(()),
            };
            self.keeps(fits, |counts| &mut counts.rules)
        });
        if *ipv6 == Ipv6::Absent {
            for link in desired.links.values_mut() {
                link.generates_addresses = false;
            }
        }
        forget_targets(desired, on);
    }

    fn keeps(&mut self, fits: Result<(), Cause>, count: impl Fn(&mut Counts) -> &mut usize) -> bool {
        match fits {
            Ok(()) => true,
            Err(cause) => {
                *count(self.0.entry(cause).or_default()) += 1;
                false
            }
        }
    }

    fn problems(self) -> impl Iterator<Item = Problem> {
        self.0.into_iter().map(|(cause, counts)| {
            let remedy = match &cause {
                Cause::NoIpv6 => {
                    "boot a kernel with CONFIG_IPV6 and without ipv6.disable=1, or remove IPv6 from the manifests"
                        .to_owned()
                }
                Cause::DisabledOn(_, link) => {
                    format!("run `sysctl -w net.ipv6.conf.{link}.disable_ipv6=0`, or remove IPv6 from the manifests")
                }
                Cause::SmallMtu(..) => {
                    format!("set an MTU of at least {IPV6_MINIMUM}, or remove IPv6 from the manifests")
                }
                Cause::Neighbours(..) => {
                    "use dataplane ebpf, or encapsulation ipip or wireguard, which need no IPv6".to_owned()
                }
                Cause::NoRules(_) => {
                    "boot a kernel with CONFIG_IP_MULTIPLE_TABLES and CONFIG_IPV6_MULTIPLE_TABLES".to_owned()
                }
            };
            let message = format!("{cause}: skipped {counts}");
            Problem::warning(Reason::NoFamily, cause.subject(), message, remedy)
        })
    }
}

impl Cause {
    fn subject(&self) -> String {
        match self {
            Cause::NoIpv6 => "IPv6".to_owned(),
            Cause::DisabledOn(namespace, link)
            | Cause::SmallMtu(namespace, link, _)
            | Cause::Neighbours(namespace, link) => {
                let namespace = namespace.as_ref().map(|namespace| format!("{namespace}: "));
                format!("{}link {link}", namespace.unwrap_or_default())
            }
            Cause::NoRules(family) => format!("{} rules", family_name(*family)),
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cause::NoIpv6 => f.write_str("this kernel has no IPv6"),
            Cause::DisabledOn(_, link) => write!(f, "IPv6 is disabled on {link} (disable_ipv6 is 1)"),
            Cause::SmallMtu(_, link, mtu) => {
                write!(
                    f,
                    "{link} has an MTU of {mtu}, but IPv6 needs at least {IPV6_MINIMUM}"
                )
            }
            Cause::Neighbours(_, link) => {
                write!(
                    f,
                    "{link} has no IPv6, but IPv4 routes through it have IPv6 gateways"
                )
            }
            Cause::NoRules(family) => {
                let family = family_name(*family);
                write!(
                    f,
                    "this kernel has no {family} policy rules and no {family} routing tables except the main one"
                )
            }
        }
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kinds = [
            (self.addresses, "address", "addresses"),
            (self.neighbours, "neighbour", "neighbours"),
            (self.routes, "route", "routes"),
            (self.rules, "rule", "rules"),
        ];
        let parts = kinds.iter().filter(|(count, ..)| *count > 0);
        let parts =
            parts.map(|(count, one, many)| format!("{count} {}", if *count == 1 { one } else { many }));
        f.write_str(&parts.collect::<Vec<_>>().join(", "))
    }
}

/// Removes the next-hop objects that have an IPv6 gateway on a device without IPv6: no remaining route uses
/// them.
fn forget_targets(desired: &mut KernelState, on: impl Fn(&LinkName) -> Result<(), Cause>) {
    let needs_ipv6 = |one: &NextHopObject| {
        let mut hops = one.hops();
        hops.any(|hop| hop.gateway.is_some_and(|gateway| gateway.is_ipv6()) && on(&hop.link).is_err())
    };
    desired.next_hop_objects.retain(|one| !needs_ipv6(one));
}

/// The devices on which an IPv4 route has an IPv6 gateway.
fn ipv6_gateways(route: &Route) -> impl Iterator<Item = &LinkName> {
    let paths = route.kind.paths();
    let by_paths = paths.is_some_and(|paths| {
        let mut hops = paths.hops.iter();
        hops.any(|hop| hop.gateway.is_some_and(|gateway| gateway.is_ipv6()))
    });
    let by_object = route.next_hop_object().is_some_and(|object| {
        let mut hops = object.hops();
        hops.any(|hop| hop.gateway.is_some_and(|gateway| gateway.is_ipv6()))
    });
    route.links().filter(move |_| by_paths || by_object)
}

fn family_name(family: Family) -> &'static str {
    match family {
        Family::Ipv4 => "IPv4",
        Family::Ipv6 => "IPv6",
    }
}
