//! `adit route list`.

use std::collections::BTreeSet;
use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use crate::cli::directories::{Directories, Manifests};
use crate::cli::exit::Failure;
use crate::cli::output::{self, Format};
use crate::cli::privilege::{self, NET_ADMIN};
use crate::kernel::{Kernel, LinuxKernel, ObservationScope};
use crate::model::{Hop, MAIN_TABLE, NextHopObject, Owner, Route, RouteHop, RouteKey, RouteKind};
use crate::plan::{network_links, route_hop};
use crate::resource::netlink::RouteAction;
use crate::source::namespaces;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Manifest file or directory, or `-` for standard input, to show the names of peers; may be repeated
    #[arg(short = 'f', long = "file", value_name = "PATH", num_args = 1..)]
    paths: Vec<PathBuf>,
    /// Name of the TunnelNode of this machine [default: the hostname]
    #[arg(long, value_name = "NAME", env = "ADIT_NODE")]
    node: Option<String>,
    /// Show only routes of this table
    #[arg(long, value_name = "NUMBER")]
    table: Option<u32>,
    /// Show only routes with a next hop through this device
    #[arg(long, value_name = "NAME")]
    dev: Option<String>,
    /// Output format
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

impl Arguments {
    fn selects(&self, key: &RouteKey, route: &Route) -> bool {
        let leads_to = |dev: &String| route.links().any(|link| link.as_str() == dev);
        self.table.is_none_or(|table| key.table == table) && self.dev.as_ref().is_none_or(leads_to)
    }
}

/// A route as it is shown.
#[derive(Debug, Serialize)]
struct Row {
    /// The namespace; `None`: that of the agent.
    namespace: Option<String>,
    prefix: String,
    /// Next hops, or the type of a route without any, such as `unreachable`.
    next_hops: Vec<String>,
    /// The peers that manifests name for these next hops.
    peers: BTreeSet<String>,
    metric: u32,
    /// In bytes.
    mtu: Option<u32>,
    table: u32,
    scope: Option<&'static str>,
}

/// The peers that the manifests name for next hops.
#[derive(Debug, Default)]
struct Peers {
    /// By the next-hop objects of networks with dataplane `routes`.
    of_networks: Vec<(RouteHop, String)>,
    /// By the next hops of declared routes.
    declared: Vec<(RouteKey, Hop, String)>,
}

pub(super) async fn run(directories: &Directories, arguments: &Arguments) -> Result<(), Failure> {
    privilege::require(&[NET_ADMIN])?;
    let mut kernel = LinuxKernel::without_bpf()?;
    let peers = named_peers(directories, arguments, &mut kernel).await?;
    let state = kernel.observe().await?;
    for (namespace, why) in &state.unreadable {
        output::note(&format!("{namespace} can't be read: {why}"));
    }
    let elsewhere = state
        .namespaces
        .iter()
        .map(|(name, state)| (Some(name.to_string()), state));
    let mut rows = Vec::new();
    for (namespace, state) in [(None, &state)].into_iter().chain(elsewhere) {
        let managed = state
            .routes
            .iter()
            .filter(|(key, route)| route.owner == Owner::Adit && arguments.selects(key, route));
        rows.extend(managed.map(|(key, route)| row(namespace.clone(), key, route, &peers)));
    }
    output::show(&match arguments.output {
        Format::Json => output::json(&rows)?,
        Format::Text => text(&rows),
    })
}

/// Reads the manifests, if there are any, and looks for the namespaces that they name.
async fn named_peers(
    directories: &Directories,
    arguments: &Arguments,
    kernel: &mut LinuxKernel,
) -> Result<Peers, Failure> {
    if arguments.paths.is_empty() {
        let wanted = ObservationScope {
            remembered: namespaces::load(&directories.state_dir)?,
            ..ObservationScope::default()
        };
        kernel.open_namespaces(&wanted).await?;
        return Ok(Peers::default());
    }
    let manifests = Manifests::new(arguments.paths.clone(), arguments.node.clone());
    let intent = manifests.intent()?;
    let facts = directories.gatherer().gather(kernel, &intent).await?;
    let mut peers = Peers::default();
    for links in network_links(&intent, &facts) {
        let hops = links.peers.iter().filter_map(|peer| {
            let hop = route_hop(links.network, peer)?;
            Some((hop, peer.node.name.to_string()))
        });
        peers.of_networks.extend(hops);
    }
    let objects = &intent.resources().netlink;
    let node = &intent.node().name;
    let routes = objects
        .routes
        .values()
        .filter(|placed| placed.nodes.contains(node));
    for route in routes.map(|placed| &placed.object) {
        let RouteAction::Unicast(hops) = &route.action else {
            continue;
        };
        let named = hops
            .iter()
            .filter_map(|hop| Some((hop.hop.clone(), hop.peer.as_ref()?.to_string())));
        let named = named.map(|(hop, peer)| (route.key(), hop, peer));
        peers.declared.extend(named);
    }
    Ok(peers)
}

fn row(namespace: Option<String>, key: &RouteKey, route: &Route, peers: &Peers) -> Row {
    let paths = route.kind.paths();
    let scope = paths.as_ref().map_or("global", |paths| paths.scope.name());
    Row {
        namespace,
        prefix: key.prefix.to_string(),
        next_hops: next_hops(&route.kind),
        peers: peers.of(key, &route.kind),
        metric: key.metric,
        mtu: match &route.kind {
            RouteKind::NextHop { mtu, .. } => *mtu,
            _ => paths.as_ref().and_then(|paths| paths.mtu),
        },
        table: key.table,
        scope: (!matches!(route.kind, RouteKind::Other(_))).then_some(scope),
    }
}

fn next_hops(route: &RouteKind) -> Vec<String> {
    if let RouteKind::NextHop { object, .. } = route {
        return match object {
            NextHopObject::Group(group) => {
                let members = group.members.iter();
                members
                    .map(|(hop, weight)| format!("{hop} weight {weight}"))
                    .collect()
            }
            NextHopObject::Hop(_) | NextHopObject::Other(_) => vec![object.to_string()],
        };
    }
    match route.paths() {
        Some(paths) if paths.hops.len() > 1 => {
            let weighted = |hop: &Hop| format!("{hop} weight {}", hop.weight);
            paths.hops.iter().map(weighted).collect()
        }
        Some(paths) => paths.hops.iter().map(ToString::to_string).collect(),
        None => vec![route.to_string()],
    }
}

impl Peers {
    /// The peers of the next hops of a route.
    fn of(&self, key: &RouteKey, route: &RouteKind) -> BTreeSet<String> {
        if let RouteKind::NextHop { object, .. } = route {
            let leads_to = |member: &RouteHop| object.hops().any(|hop| **hop == *member);
            let named = self.of_networks.iter().filter(|(hop, _)| leads_to(hop));
            return named.map(|(_, peer)| peer.clone()).collect();
        }
        let hops = route.paths().map(|paths| paths.hops).unwrap_or_default();
        let leads_to = |member: &Hop| {
            hops.iter().any(|hop| {
                hop.gateway == member.gateway
                    && hop.encap == member.encap
                    && (member.link.is_none() || hop.link == member.link)
            })
        };
        let named = self.declared.iter();
        let named = named.filter(|(of, hop, _)| of == key && leads_to(hop));
        named.map(|(.., peer)| peer.clone()).collect()
    }
}

fn text(rows: &[Row]) -> String {
    let cells = rows.iter().map(|row| {
        let table = match row.table {
            MAIN_TABLE => "main".to_owned(),
            table => table.to_string(),
        };
        [
            row.prefix.clone(),
            row.next_hops.join(", "),
            dash(row.peers.iter().cloned().collect::<Vec<_>>().join(", ")),
            row.metric.to_string(),
            dash(row.mtu.map(|mtu| mtu.to_string()).unwrap_or_default()),
            table,
            row.scope.unwrap_or("-").to_owned(),
            dash(row.namespace.clone().unwrap_or_default()),
        ]
    });
    let header = [
        "PREFIX",
        "NEXT HOPS",
        "PEERS",
        "METRIC",
        "MTU",
        "TABLE",
        "SCOPE",
        "NAMESPACE",
    ];
    output::table(header, &cells.collect::<Vec<_>>())
}

fn dash(text: String) -> String {
    if text.is_empty() { "-".to_owned() } else { text }
}
