//! The envelope of every manifest: `apiVersion`, `kind`, `metadata`, `spec`.

use super::error::Positioned;
use super::network::DeclaredNetwork;
use super::node::DeclaredNode;
use super::reader::{Fields, Read, Value};
use super::suggest::nearest;
use super::{netlink, network, node};
use crate::net::{NetworkName, NodeName};
use crate::resource::WireGuardInterface;
use crate::resource::netlink::{Namespaced, NetlinkInterface, NetlinkRoute, NetlinkRule};
use crate::resource::wireguard::plan::Expanded;

const API_VERSION: &str = "adit.dev/v1alpha1";

/// The fields of `metadata`, with those that the Kubernetes API server adds: the output of
/// `kubectl get -o yaml` is accepted.
const METADATA: [&str; 14] = [
    "name",
    "namespace",
    "labels",
    "annotations",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "finalizers",
    "ownerReferences",
    "managedFields",
    "selfLink",
];

/// The kinds of resources.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    TunnelNetwork,
    TunnelNode,
    WireGuardInterface,
    WireGuardNetworkPlan,
    NetlinkInterface,
    NetlinkRoute,
    NetlinkRule,
}

impl Kind {
    const ALL: [Kind; 7] = [
        Kind::TunnelNetwork,
        Kind::TunnelNode,
        Kind::WireGuardInterface,
        Kind::WireGuardNetworkPlan,
        Kind::NetlinkInterface,
        Kind::NetlinkRoute,
        Kind::NetlinkRule,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Kind::TunnelNetwork => "TunnelNetwork",
            Kind::TunnelNode => "TunnelNode",
            Kind::WireGuardInterface => "WireGuardInterface",
            Kind::WireGuardNetworkPlan => "WireGuardNetworkPlan",
            Kind::NetlinkInterface => "NetlinkInterface",
            Kind::NetlinkRoute => "NetlinkRoute",
            Kind::NetlinkRule => "NetlinkRule",
        }
    }
}

/// The kind and name of a manifest and, if it is valid, its body.
#[derive(Debug)]
pub(super) struct Document {
    pub(super) kind: Kind,
    pub(super) name: Positioned<String>,
    /// `None`: rejected, and its errors are reported.
    pub(super) body: Option<Body>,
}

/// The object that a manifest declares.
#[derive(Debug)]
pub(super) enum Body {
    Network(DeclaredNetwork),
    Node(DeclaredNode),
    WireGuard(Namespaced<WireGuardInterface>),
    /// The devices that the plan expands to, on all nodes.
    Plan(Expanded),
    Interface(Namespaced<NetlinkInterface>),
    Route(Namespaced<NetlinkRoute>),
    Rule(Namespaced<NetlinkRule>),
}

/// Reads one document: one manifest, or a `List` of them as kubectl prints it.
pub(super) fn read(value: &Value<'_>, documents: &mut Vec<Document>) -> Read<()> {
    let fields = value.open_map()?;
    let is = |field: &str, text| fields.get(field).is_some_and(|value| value.is(text));
    if !(is("apiVersion", "v1") && is("kind", "List")) {
        documents.push(manifest(value, &fields)?);
        return Ok(());
    }
    let fields = value.keys(&["apiVersion", "kind", "metadata", "items"])?;
    let items = fields.required_key("items", "a list of manifests", |items| {
        items.list("a list of manifests")
    })?;
    // A rejected item is in the report. The other items are read nevertheless.
    let read = items.iter().map(|item| read(item, documents)).collect::<Vec<_>>();
    read.into_iter().collect()
}

fn manifest(value: &Value<'_>, fields: &Fields<'_>) -> Read<Document> {
    let version = fields.required_key("apiVersion", &format!("`{API_VERSION}`"), api_version);
    let kind = fields.required_key("kind", "the kind of the resource", kind);
    // Without version and kind the other fields can't be checked.
    version?;
    let kind = kind?;
    let fields = value.keys(&["apiVersion", "kind", "metadata", "spec", "status"])?;
    let name = fields.required_key("metadata", "`metadata.name`", metadata);
    let spec = fields.required_key("spec", "the fields of the resource", |spec| Ok(spec.clone()));
    // A spec without a name is read nevertheless, so that its errors are reported in the same run.
    let text = name.as_ref().map_or("unnamed", |name| name.value.as_str());
    let body = spec.and_then(|spec| match kind {
        Kind::TunnelNetwork => {
            let name = NetworkName::new(text).map_err(|error| value.reject(error.to_string()))?;
            network::read(name, &spec).map(Body::Network)
        }
        Kind::TunnelNode => {
            let name = NodeName::new(text).map_err(|error| value.reject(error.to_string()))?;
            node::read(name, &spec).map(Body::Node)
        }
        Kind::WireGuardInterface => netlink::wireguard::read(text, &spec).map(Body::WireGuard),
        Kind::WireGuardNetworkPlan => netlink::plan::read(text, &spec).map(Body::Plan),
        Kind::NetlinkInterface => netlink::interface::read(text, &spec).map(Body::Interface),
        Kind::NetlinkRoute => netlink::route::read(&spec).map(Body::Route),
        Kind::NetlinkRule => netlink::rule::read(&spec).map(Body::Rule),
    });
    Ok(Document {
        kind,
        name: name?,
        body: body.ok(),
    })
}

fn api_version(value: &Value<'_>) -> Read<()> {
    let text = value.text()?;
    if text == API_VERSION {
        return Ok(());
    }
    Err(value.reject(format!("unknown version `{text}`; expected `{API_VERSION}`")))
}

fn kind(value: &Value<'_>) -> Read<Kind> {
    let text = value.text()?;
    let known = Kind::ALL.into_iter().find(|kind| kind.name() == text);
    known.ok_or_else(|| {
        let names = Kind::ALL.map(Kind::name);
        let near = match nearest(text, &names) {
            Some(near) => format!("did you mean `{near}`? "),
            None => String::new(),
        };
        value.reject(format!(
            "unknown kind `{text}`; {near}known: {}",
            names.join(", ")
        ))
    })
}

fn metadata(value: &Value<'_>) -> Read<Positioned<String>> {
    let fields = value.keys(&METADATA)?;
    let name = fields.required_key("name", "the name of the resource", |name| {
        // Names of nodes, networks and objects follow the same rule.
        let text = name.parse(|text| NodeName::new(text).map_err(|error| error.to_string()))?;
        Ok(name.locate(text.to_string()))
    });
    for field in ["labels", "annotations"] {
        let texts = fields.optional(field, |value| {
            let texts = value.open_map()?;
            let read = texts.all().map(|text| text.text()).collect::<Vec<_>>();
            read.into_iter().collect::<Read<Vec<_>>>()
        });
        texts?;
    }
    name
}
