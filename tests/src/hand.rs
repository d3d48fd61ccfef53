//! Operations that damage the objects of an agent on a host, each with the repair that must follow.

mod paths;

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use aya::maps::lpm_trie::Key;
use aya::maps::{LpmTrie, Map, MapData};
use dataplane_ebpf::layout::{ABI_VERSION, names};
use dataplane_user::kernel::bpf::Mechanism;
use dataplane_user::status::Status;
use ipnet::Ipv4Net;
use serde_json::Value;

use self::paths::{NextHopObjectCommand, on_paths};
use crate::{Agent, NetNs, snapshot};

/// An operation on an object of the agent.
#[derive(Clone, Debug)]
pub struct Operation {
    /// The operation as text, such as `ip link delete adit0`.
    pub what: String,
    /// The kind of the repair that must follow.
    pub kind: &'static str,
    /// The object of that repair.
    pub object: String,
    /// Whether the kernel sends an event; otherwise a full reconciliation finds the change.
    pub evented: bool,
    act: Act,
}

#[derive(Clone, Debug)]
enum Act {
    /// Lines for `ip -batch`.
    Ip(String),
    /// The same in a named namespace.
    Elsewhere(String, String),
    /// A program and its arguments.
    Run(&'static str, String),
    /// A setting below /proc/sys and its value.
    Sysctl(String, &'static str),
    /// Deletes the pin that keeps the link of a program.
    Unpin(PathBuf),
    /// An operation on a next-hop object.
    NextHopObject(NextHopObjectCommand),
    /// Deletes a prefix from the map.
    DeletePrefix(PathBuf, Ipv4Net),
}

impl Operation {
    pub(crate) fn ip(lines: String, kind: &'static str, object: String) -> Operation {
        Operation {
            what: format!("ip {}", lines.replace('\n', "; ip ")),
            kind,
            object,
            evented: true,
            act: Act::Ip(lines),
        }
    }

    pub(crate) fn elsewhere(there: &str, lines: String, kind: &'static str, object: String) -> Operation {
        Operation {
            what: format!("ip -n {there} {lines}"),
            act: Act::Elsewhere(there.to_owned(), lines.clone()),
            ..Operation::ip(lines, kind, object)
        }
    }

    /// Executes the operation.
    ///
    /// # Panics
    /// If it fails.
    pub fn act(&self, agent: &Agent<'_>) {
        let netns = &agent.host().netns;
        match &self.act {
            Act::Ip(lines) => netns.ip_batch(lines),
            Act::Elsewhere(there, lines) => NetNs::named(there).ip_batch(lines),
            Act::Run(program, arguments) => drop(snapshot::run(netns, program, arguments)),
            Act::Sysctl(name, value) => netns.sysctl(name, value),
            Act::Unpin(pin) => fs::remove_file(pin).expect("the pin is there"),
            Act::NextHopObject(command) => netns.ip_batch(&command.arguments(agent)),
            Act::DeletePrefix(pin, prefix) => delete_prefix(pin.clone(), *prefix),
        }
    }
}

/// All operations on the objects of networks that an agent has now, and on all routes, always in the same order.
///
/// # Panics
/// If they cannot be read.
#[must_use]
pub fn operations(agent: &Agent<'_>) -> Vec<Operation> {
    let mut all = Vec::new();
    for link in networks(agent, "-d -j link show group 173") {
        all.extend(on_link(&link));
    }
    for link in networks(agent, "-j address show group 173") {
        all.extend(on_addresses(&link));
    }
    for family in ["", "-6 "] {
        let routes = json(agent, &format!("{family}-d -j route show table main proto 173"));
        for route in routes.as_array().expect("a list") {
            all.extend(on_route(route));
        }
    }
    all.push(Operation::ip(
        "route add 203.0.113.0/24 dev lo proto 173".to_owned(),
        "route",
        "route 203.0.113.0/24 metric 0".to_owned(),
    ));
    for verb in ["delete", "flush"] {
        let arguments = format!("{verb} table inet adit");
        all.push(Operation {
            what: format!("nft {arguments}"),
            kind: "nftables",
            object: "nft table inet adit".to_owned(),
            evented: true,
            act: Act::Run("nft", arguments),
        });
    }
    all.extend(on_paths(agent));
    all.extend(on_programs(agent));
    all.extend(on_prefixes(agent));
    all.extend(on_peers(agent));
    all
}

fn on_link(link: &Value) -> Vec<Operation> {
    let name = text(&link["ifname"]);
    let object = format!("link {name}");
    let is_anchor = name == "adit0";
    let is_ethernet = link["link_type"] == "ether";
    let mut lines = vec![
        format!("link delete {name}"),
        // Linux 6.1 renames only devices that are down.
        format!("link set {name} down\nlink set {name} name renamed"),
        format!("link set {name} down"),
        format!("link set {name} mtu 1291"),
        format!("link set {name} mtu 1000"),
    ];
    if is_ethernet && !is_anchor {
        lines.push(format!("link set {name} address 06:00:00:00:00:01"));
    }
    if is_ethernet {
        lines.push(format!("link set {name} arp on"));
    }
    let mut all = lines
        .into_iter()
        .map(|lines| Operation::ip(lines, "link", object.clone()))
        .collect::<Vec<_>>();
    if !is_anchor {
        let path = format!("net/ipv4/conf/{name}/rp_filter");
        all.push(Operation {
            what: format!("sysctl {path}=1"),
            kind: "sysctl",
            object: format!("rp_filter of {name}"),
            evented: true,
            act: Act::Sysctl(path, "1"),
        });
    }
    all
}

fn on_addresses(link: &Value) -> Vec<Operation> {
    let name = text(&link["ifname"]);
    let addresses = link["addr_info"].as_array().into_iter().flatten();
    addresses
        .map(|address| {
            let prefix = format!("{}/{}", text(&address["local"]), address["prefixlen"]);
            let object = format!("address {prefix} dev {name}");
            Operation::ip(format!("address delete {prefix} dev {name}"), "address", object)
        })
        .collect()
}

fn on_route(route: &Value) -> Vec<Operation> {
    if route.get("nhid").is_some() {
        return Vec::new();
    }
    let prefix = text(&route["dst"]);
    let metric = &route["metric"];
    let object = format!("route {prefix} metric {metric}");
    let one = |lines: String| Operation::ip(lines, "route", object.clone());
    if route["type"] == "unreachable" {
        let delete = format!("route delete unreachable {prefix} metric {metric}");
        return vec![one(delete)];
    }
    let way = format!(
        "{prefix} via {} dev {} onlink metric {metric}",
        text(&route["gateway"]),
        text(&route["dev"])
    );
    vec![
        one(format!("route delete {prefix} metric {metric}")),
        // Without a source, and with a smaller MTU.
        one(format!("route replace {way} proto 173 mtu 1290")),
    ]
}

fn on_programs(agent: &Agent<'_>) -> Vec<Operation> {
    let mechanism = Mechanism::probe().expect("root may ask");
    let mut devices = vec![("adit0".to_owned(), "egress")];
    for link in networks(agent, "-d -j link show group 173") {
        let kind = link["linkinfo"]["info_kind"].as_str();
        if kind != Some("dummy") && kind != Some("wireguard") {
            devices.push((text(&link["ifname"]).to_owned(), "ingress"));
        }
    }
    let directory = agent.pins().join(format!("v{ABI_VERSION}")).join("links");
    devices
        .into_iter()
        .map(|(device, side)| {
            let pin = directory.join(format!("{device}-{side}"));
            let (what, evented, act) = match mechanism {
                Mechanism::Tcx => (format!("rm {}", pin.display()), false, Act::Unpin(pin)),
                Mechanism::Clsact => {
                    let arguments = format!("filter delete dev {device} {side}");
                    (format!("tc {arguments}"), true, Act::Run("tc", arguments))
                }
            };
            Operation {
                what,
                kind: "program",
                object: format!("the {side} program of {device}"),
                evented,
                act,
            }
        })
        .collect()
}

fn on_prefixes(agent: &Agent<'_>) -> Vec<Operation> {
    let pin = agent
        .pins()
        .join(format!("v{ABI_VERSION}"))
        .join("maps")
        .join(names::PREFIXES_V4);
    let dump = agent.json(&["map", "dump"]);
    let prefixes = dump["prefixes"].as_array().into_iter().flatten();
    let prefixes = prefixes.filter_map(|entry| text(&entry["prefix"]).parse::<Ipv4Net>().ok());
    prefixes
        .map(|prefix| Operation {
            what: format!("delete {prefix} from the map"),
            kind: "map",
            object: format!("prefix {prefix}"),
            evented: false,
            act: Act::DeletePrefix(pin.clone(), prefix),
        })
        .collect()
}

fn on_peers(agent: &Agent<'_>) -> Vec<Operation> {
    let output = agent
        .host()
        .netns
        .enter(|| Command::new("wg").args(["show", "all", "peers"]).output());
    let output = output.expect("wg is installed");
    let listed = String::from_utf8_lossy(&output.stdout).into_owned();
    let peers = listed.lines().filter_map(|line| line.split_once('\t'));
    peers
        .map(|(device, key)| {
            let arguments = format!("set {device} peer {key} remove");
            Operation {
                what: format!("wg {arguments}"),
                kind: "wireguard",
                object: format!("wireguard {device}"),
                evented: false,
                act: Act::Run("wg", arguments),
            }
        })
        .collect()
}

/// The number of repairs in a status, and the kind, object and finding of the last one.
#[must_use]
pub fn last_repair(status: &Status) -> (u64, Option<(String, String, String)>) {
    let last = status.repairs.recent.last();
    let last = last.map(|last| (last.kind.clone(), last.object.clone(), last.found.clone()));
    (status.repairs.total, last)
}

fn delete_prefix(pin: PathBuf, prefix: Ipv4Net) {
    let map = Map::LpmTrie(MapData::from_pin(pin).expect("the map is pinned"));
    let mut prefixes = LpmTrie::<_, [u8; 4], u32>::try_from(map).expect("its layout is known");
    let key = Key::new(u32::from(prefix.prefix_len()), prefix.network().octets());
    prefixes.remove(&key).expect("the prefix is there");
}

/// The devices of networks among those that `ip` prints; declared devices have other names.
fn networks(agent: &Agent<'_>, arguments: &str) -> Vec<Value> {
    let shown = json(agent, arguments);
    let links = shown.as_array().expect("a list").iter();
    links
        .filter(|link| text(&link["ifname"]).starts_with("adit"))
        .cloned()
        .collect()
}

fn json(agent: &Agent<'_>, arguments: &str) -> Value {
    let printed = agent.host().netns.ip(arguments);
    // ip may print nothing for an empty list.
    let printed = if printed.trim().is_empty() { "[]" } else { &printed };
    let mut list: Value = serde_json::from_str(printed).expect("ip prints JSON");
    // For a device that does not match, ip prints an empty object.
    if let Some(list) = list.as_array_mut() {
        list.retain(|entry| entry.as_object().is_some_and(|entry| !entry.is_empty()));
    }
    list
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
