//! `adit route list`.

use std::collections::BTreeSet;
use std::path::PathBuf;

use anyhow::anyhow;
use clap::Args;
use serde::Serialize;

use crate::cli::exit::Failure;
use crate::cli::output::{self, Format};
use crate::cli::places::Manifests;
use crate::kernel::{Kernel, LinuxKernel, Wanted};
use crate::model::{Hop, MAIN_TABLE, Owner, Route, RouteKey, RouteKind};
use crate::plan::route_keys;
use crate::resource::Intent;
use crate::resource::netlink::RouteAction;
use crate::source;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Manifest files and directories, for the names of peers
    #[arg(short = 'f', long = "file", value_name = "PATH", num_args = 1..)]
    paths: Vec<PathBuf>,
    /// Which node this is [default: the hostname]
    #[arg(long, value_name = "NAME", env = "ADIT_NODE")]
    node: Option<String>,
    /// Output format
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

/// A route as it is shown.
#[derive(Debug, Serialize)]
struct Row {
    /// The namespace; `None`: the own one.
    namespace: Option<String>,
    prefix: String,
    /// Next hops, or what it does instead.
    next_hops: Vec<String>,
    /// The peers that manifests name for these.
    peers: BTreeSet<String>,
    metric: u32,
    /// In bytes.
    mtu: Option<u32>,
    table: u32,
    scope: Option<&'static str>,
}

/// The peers that the manifests name for next hops.
struct Peers(Vec<(RouteKey, Hop, String)>);

pub(super) async fn run(arguments: &Arguments) -> Result<(), Failure> {
    let (wanted, peers) = declared(arguments)?;
    let mut kernel = LinuxKernel::without_bpf()?;
    kernel.look_for(&wanted).await?;
    let state = kernel.observe().await?;
    let elsewhere = state
        .namespaces
        .iter()
        .map(|(name, state)| (Some(name.to_string()), state));
    let mut rows = Vec::new();
    for (namespace, state) in [(None, &state)].into_iter().chain(elsewhere) {
        let ours = state
            .routes
            .iter()
            .filter(|(_, route)| route.owner == Owner::Ours);
        rows.extend(ours.map(|(key, route)| row(namespace.clone(), key, route, &peers)));
    }
    match arguments.output {
        Format::Json => output::json(&rows)?,
        Format::Text => print(&rows),
    }
    Ok(())
}

fn declared(arguments: &Arguments) -> Result<(Wanted, Peers), Failure> {
    if arguments.paths.is_empty() {
        return Ok((Wanted::default(), Peers(Vec::new())));
    }
    let manifests = Manifests::new(arguments.paths.clone(), arguments.node.clone());
    let resources = source::load(&manifests.paths)?;
    let intent = Intent::new(resources, manifests.node()?).map_err(|problem| anyhow!("{problem}"))?;
    let objects = &intent.resources().netlink;
    let node = &intent.node().name;
    let mut peers = Vec::new();
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
            .filter_map(|hop| Some((hop.hop.clone(), hop.peer.clone()?)));
        peers.extend(named.map(|(hop, peer)| (route.key(), hop, peer)));
    }
    let wanted = Wanted {
        namespaces: objects.namespaces(node),
        routes: route_keys(&intent),
    };
    Ok((wanted, Peers(peers)))
}

fn row(namespace: Option<String>, key: &RouteKey, route: &Route, peers: &Peers) -> Row {
    let paths = route.kind.paths();
    let next_hops = match &paths {
        Some(paths) if paths.hops.len() > 1 => {
            let weighted = |hop: &Hop| format!("{hop} weight {}", hop.weight);
            paths.hops.iter().map(weighted).collect()
        }
        Some(paths) => paths.hops.iter().map(ToString::to_string).collect(),
        None => vec![route.kind.to_string()],
    };
    let leads_to = |wanted: &Hop| {
        let hops = paths.iter().flat_map(|paths| &paths.hops);
        hops.clone().any(|hop| {
            hop.gateway == wanted.gateway
                && hop.encap == wanted.encap
                && (wanted.link.is_none() || hop.link == wanted.link)
        })
    };
    let named = peers.0.iter().filter(|(of, hop, _)| of == key && leads_to(hop));
    Row {
        namespace,
        prefix: key.prefix.to_string(),
        next_hops,
        peers: named.map(|(.., peer)| peer.clone()).collect(),
        metric: key.metric,
        mtu: paths.as_ref().and_then(|paths| paths.mtu),
        table: key.table,
        scope: match &route.kind {
            RouteKind::Other(_) => None,
            _ => Some(paths.as_ref().map_or("global", |paths| paths.scope.name())),
        },
    }
}

fn print(rows: &[Row]) {
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
    output::table(header, &cells.collect::<Vec<_>>());
}

fn dash(text: String) -> String {
    if text.is_empty() { "-".to_owned() } else { text }
}
