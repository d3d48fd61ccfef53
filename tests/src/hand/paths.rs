//! Operations on the paths of networks without BPF programs: next-hop objects, their neighbours, the rules that lead to
//! tables, and the routes there.

use dataplane_user::kernel::netlink::Netlink;
use dataplane_user::model::{
    KernelState, MAIN_TABLE, NextHopObject, Owner, Route, RouteHop, RouteKey, RouteKind,
};
use dataplane_user::net::Family;
use tokio::runtime;

use super::{Act, Operation};
use crate::Agent;

/// An operation on a next-hop object whose id is known only later: `{id}` is its id, `{first}` the id of its first member.
#[derive(Clone, Debug)]
pub(super) struct NextHopObjectCommand {
    object: NextHopObject,
    arguments: String,
}

impl NextHopObjectCommand {
    /// The arguments of `ip`.
    pub(super) fn arguments(&self, agent: &Agent<'_>) -> String {
        let all = agent.host().netns.ip("-d nexthop show proto 173");
        let first = self.object.hops().next().expect("one at least");
        let first = id(&all, &NextHopObject::Hop(first.clone()));
        let arguments = self.arguments.replace("{first}", &first.to_string());
        arguments.replace("{id}", &id(&all, &self.object).to_string())
    }
}

/// All operations that are possible now.
pub(super) fn on_paths(agent: &Agent<'_>) -> Vec<Operation> {
    let state = observe(agent);
    let mut all = Vec::new();
    for object in &state.next_hop_objects {
        all.extend(on_next_hop_object(object));
    }
    for ((link, address), neighbour) in &state.neighbours {
        if neighbour.owner != Owner::Adit {
            continue;
        }
        let object = format!("neighbour {address} dev {link}");
        let lines = [
            format!("neighbour delete {address} dev {link}"),
            format!(
                "neighbour replace {address} lladdr 06:00:00:00:00:02 nud permanent protocol 173 dev {link}"
            ),
        ];
        all.extend(lines.map(|line| Operation::ip(line, "neighbour", object.clone())));
    }
    for rule in &state.rules {
        let family = if rule.family == Family::Ipv6 { "-6 " } else { "" };
        let words = format!(
            "{family}rule delete priority {} lookup {}",
            rule.priority, rule.table
        );
        all.push(Operation {
            what: format!("ip {words}"),
            kind: "rule",
            object: format!("rule {rule}"),
            evented: true,
            act: Act::Run("ip", words),
        });
    }
    for (key, route) in &state.routes {
        all.extend(on_route(key, route));
    }
    all
}

fn on_next_hop_object(object: &NextHopObject) -> Vec<Operation> {
    let mut all = vec!["nexthop delete id {id}".to_owned()];
    match object {
        NextHopObject::Group(group) if group.members.len() > 1 && !group.resilient => {
            all.push("nexthop replace id {id} group {first} proto 173".to_owned());
        }
        NextHopObject::Hop(hop) if hop.encapsulation.is_some() && hop.gateway.is_some() => {
            let path = format!("via fe80::dead dev {} onlink", hop.link);
            all.push(format!("nexthop replace id {{id}} {path} proto 173"));
        }
        _ => {}
    }
    let operations = all
        .into_iter()
        .map(|arguments| on_object(object, arguments, "nexthop"));
    operations.collect()
}

/// An operation by the id of an object; the repair is of the object.
fn on_object(object: &NextHopObject, arguments: String, kind: &'static str) -> Operation {
    let name = format!("nexthop {object}");
    Operation {
        what: format!("ip {arguments}, of {name}"),
        kind,
        object: name,
        evented: true,
        act: Act::NextHopObject(NextHopObjectCommand {
            object: object.clone(),
            arguments,
        }),
    }
}

/// Operations on routes to next-hop objects in any table, and on other routes in a separate table.
fn on_route(key: &RouteKey, route: &Route) -> Vec<Operation> {
    let RouteKey {
        table,
        prefix,
        metric,
        ..
    } = key;
    let name = format!("route {key}");
    let position = format!("{prefix} metric {metric} table {table}");
    let one = |lines: String| Operation::ip(lines, "route", name.clone());
    match &route.kind {
        RouteKind::NextHop { object, .. } => {
            // This removes the source and the MTU.
            let replace = format!("route replace {position} nhid {{id}} proto 173");
            let replace = Operation {
                object: name.clone(),
                ..on_object(object, replace, "route")
            };
            vec![one(format!("route delete {position}")), replace]
        }
        RouteKind::Throw => vec![one(format!("route delete throw {position}"))],
        RouteKind::Unreachable if *table != MAIN_TABLE => {
            vec![one(format!("route delete unreachable {position}"))]
        }
        _ => Vec::new(),
    }
}

/// The state of the kernel, as an agent observes it.
fn observe(agent: &Agent<'_>) -> KernelState {
    agent.host().netns.enter(|| {
        let runtime = runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(async {
            let mut state = KernelState::default();
            let mut netlink = Netlink::open().expect("there is netlink");
            netlink.observe(&mut state).await.expect("it can be read");
            state
        })
    })
}

/// The id of an object, found in the list that `ip` prints.
fn id(all: &str, object: &NextHopObject) -> u32 {
    let found = match object {
        NextHopObject::Hop(hop) => all.lines().find(|line| is_hop(line, hop)),
        NextHopObject::Group(group) => {
            let hops = group
                .members
                .iter()
                .map(|(hop, _)| NextHopObject::Hop(hop.clone()));
            let wanted = sorted(hops.map(|hop| id(all, &hop)));
            let is_it = |members: &str| {
                let ids = members.split('/').filter_map(|member| member.split(',').next());
                sorted(ids.map(number)) == wanted
            };
            all.lines().find(|line| after(line, "group").is_some_and(is_it))
        }
        NextHopObject::Other(text) => panic!("{text} is nothing that an agent makes"),
    };
    let found = found.unwrap_or_else(|| panic!("{object} is not in\n{all}"));
    number(after(found, "id").expect("each has one"))
}

fn is_hop(line: &str, hop: &RouteHop) -> bool {
    let remote = hop.encapsulation.map(|header| header.remote.to_string());
    after(line, "dev") == Some(hop.link.as_str())
        && after(line, "via") == hop.gateway.map(|gateway| gateway.to_string()).as_deref()
        && after(line, "dst") == remote.as_deref()
}

/// The word after the first occurrence of another word.
fn after<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    let mut words = line.split_whitespace().skip_while(|word| *word != name);
    words.nth(1)
}

fn number(word: &str) -> u32 {
    word.parse().expect("ids are numbers")
}

fn sorted(ids: impl Iterator<Item = u32>) -> Vec<u32> {
    let mut ids = ids.collect::<Vec<_>>();
    ids.sort_unstable();
    ids
}
