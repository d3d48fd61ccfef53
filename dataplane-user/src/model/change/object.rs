//! What changes, repairs, conflicts and problems are about.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use crate::model::{Class, Group, Hook, NextHop, RouteKey, RouteTarget, Rule, Source, Sysctl};
use crate::net::{LinkName, Namespace};

/// An object of kernel state: what it is called, whatever it is like now.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Object {
    /// A device.
    Link(LinkName),
    /// An address on a device.
    Address(LinkName, IpNet),
    /// A default destination of a VXLAN device.
    Flood(LinkName, IpAddr),
    /// A neighbour on a device.
    Neighbour(LinkName, IpAddr),
    /// A next-hop object.
    NextHopObject(RouteTarget),
    /// A route.
    Route(RouteKey),
    /// A policy rule.
    Rule(Box<Rule>),
    /// A setting of a device.
    Sysctl(LinkName, Sysctl),
    /// A WireGuard device's key, port, mark and peers.
    WireGuard(LinkName),
    /// The nft table.
    Firewall,
    /// Our program on a device.
    Program(LinkName, Hook),
    /// What an older version of the map ABI has left.
    Version(u32),
    /// A class.
    Class(Class),
    /// A next hop.
    NextHop(Arc<NextHop>),
    /// A group of next hops.
    Group(Arc<Group>),
    /// A prefix.
    Prefix(IpNet),
    /// A known source.
    Source(Source),
}

/// An object, and where it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Located {
    /// The network namespace; `None`: the agent's own.
    pub namespace: Option<Namespace>,
    /// The object.
    pub object: Object,
}

/// What kind of object something is; its names are stable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ObjectKind {
    /// A device.
    Link,
    /// An address on one.
    Address,
    /// A default destination of a VXLAN device.
    Flood,
    /// A neighbour on a device.
    Neighbour,
    /// A next-hop object.
    NextHopObject,
    /// A route.
    Route,
    /// A policy rule.
    Rule,
    /// A setting of a device.
    Sysctl,
    /// A WireGuard device's key, port, mark and peers.
    WireGuard,
    /// The nft table.
    Firewall,
    /// A program on a device.
    Program,
    /// What an older version of the map ABI has left.
    Version,
    /// A class.
    Class,
    /// A next hop.
    NextHop,
    /// A group of next hops.
    Group,
    /// A prefix.
    Prefix,
    /// A known source.
    Source,
}

impl ObjectKind {
    /// The name that `adit plan -o json` has for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            ObjectKind::Link => "link",
            ObjectKind::Address => "address",
            ObjectKind::Flood => "default_destination",
            ObjectKind::Neighbour => "neighbour",
            ObjectKind::NextHopObject => "nexthop",
            ObjectKind::Route => "route",
            ObjectKind::Rule => "rule",
            ObjectKind::Sysctl => "sysctl",
            ObjectKind::WireGuard => "wireguard",
            ObjectKind::Firewall => "firewall",
            ObjectKind::Program => "program",
            ObjectKind::Version => "version",
            ObjectKind::Class => "class",
            ObjectKind::NextHop => "next_hop",
            ObjectKind::Group => "group",
            ObjectKind::Prefix => "prefix",
            ObjectKind::Source => "source",
        }
    }
}

impl Object {
    /// Its kind.
    #[must_use]
    pub fn kind(&self) -> ObjectKind {
        match self {
            Object::Link(_) => ObjectKind::Link,
            Object::Address(..) => ObjectKind::Address,
            Object::Flood(..) => ObjectKind::Flood,
            Object::Neighbour(..) => ObjectKind::Neighbour,
            Object::NextHopObject(_) => ObjectKind::NextHopObject,
            Object::Route(_) => ObjectKind::Route,
            Object::Rule(_) => ObjectKind::Rule,
            Object::Sysctl(..) => ObjectKind::Sysctl,
            Object::WireGuard(_) => ObjectKind::WireGuard,
            Object::Firewall => ObjectKind::Firewall,
            Object::Program(..) => ObjectKind::Program,
            Object::Version(_) => ObjectKind::Version,
            Object::Class(_) => ObjectKind::Class,
            Object::NextHop(_) => ObjectKind::NextHop,
            Object::Group(_) => ObjectKind::Group,
            Object::Prefix(_) => ObjectKind::Prefix,
            Object::Source(_) => ObjectKind::Source,
        }
    }

    /// Where it is.
    #[must_use]
    pub fn at(self, namespace: Option<Namespace>) -> Located {
        Located {
            namespace,
            object: self,
        }
    }
}

impl From<Object> for Located {
    /// In the agent's own namespace.
    fn from(object: Object) -> Located {
        object.at(None)
    }
}

impl fmt::Display for Located {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(namespace) = &self.namespace {
            write!(f, "{namespace}: ")?;
        }
        self.object.fmt(f)
    }
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Object::Link(name) => write!(f, "link {name}"),
            Object::Address(link, address) => write!(f, "address {address} dev {link}"),
            Object::Flood(link, to) => write!(f, "default destination {to} of {link}"),
            Object::Neighbour(link, address) => write!(f, "neighbour {address} dev {link}"),
            Object::NextHopObject(target) => write!(f, "nexthop {target}"),
            Object::Route(key) => write!(f, "route {key}"),
            Object::Rule(rule) => write!(f, "rule {rule}"),
            Object::Sysctl(link, sysctl) => write!(f, "{sysctl} of {link}"),
            Object::WireGuard(link) => write!(f, "wireguard {link}"),
            Object::Firewall => f.write_str("nft table inet adit"),
            Object::Program(link, hook) => write!(f, "the {hook} program of {link}"),
            Object::Version(version) => write!(f, "maps of version {version}"),
            Object::Class(class) => write!(f, "class {class}"),
            Object::NextHop(next_hop) => write!(f, "next hop {next_hop}"),
            Object::Group(group) => write!(f, "group of {group}"),
            Object::Prefix(prefix) => write!(f, "prefix {prefix}"),
            Object::Source(source) => write!(f, "source {source}"),
        }
    }
}
