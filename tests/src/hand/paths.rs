//! Operations on the paths of networks without BPF programs: next-hop objects, their neighbours, the rules that lead to
//! tables, and the routes there.

use dataplane_user::kernel::netlink::Netlink;
use dataplane_user::model::{
    KernelState, MAIN_TABLE, Owner, Route, RouteHop, RouteKey, RouteKind, RouteTarget,
};
use dataplane_user::net::Family;
use tokio::runtime;

use super::{Act, Operation};
use crate::Agent;

/// An operation on a next-hop object whose id is known only later: `{id}` is its id, `{first}` the id of its first member.
#[derive(Clone, Debug)]
pub(super) struct Deed {
    target: RouteTarget,
    words: String,
}

impl Deed {
    /// The arguments of `ip`.
    pub(super) fn words(&self, agent: &Agent<'_>) -> String {
        let all = agent.host().netns.ip("-d nexthop show proto 173");
        let first = self.target.hops().next().expect("one at least");
        let first = id(&all, &RouteTarget::Hop(first.clone()));
        let words = self.words.replace("{first}", &first.to_string());
        words.replace("{id}", &id(&all, &self.target).to_string())
    }
}

/// All operations that are possible now.
pub(super) fn on_paths(agent: &Agent<'_>) -> Vec<Operation> {
    let state = observe(agent);
    let mut all = Vec::new();
    for target in &state.route_targets {
        all.extend(on_target(target));
    }
    for ((link, address), neighbour) in &state.neighbours {
        if neighbour.owner != Owner::Ours {
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

fn on_target(target: &RouteTarget) -> Vec<Operation> {
    let mut all = vec!["nexthop delete id {id}".to_owned()];
    match target {
        RouteTarget::Group(group) if group.members.len() > 1 && !group.resilient => {
            all.push("nexthop replace id {id} group {first} proto 173".to_owned());
        }
        RouteTarget::Hop(hop) if hop.encapsulation.is_some() && hop.gateway.is_some() => {
            let way = format!("via fe80::dead dev {} onlink", hop.link);
            all.push(format!("nexthop replace id {{id}} {way} proto 173"));
        }
        _ => {}
    }
    let operations = all.into_iter().map(|words| on_object(target, words, "nexthop"));
    operations.collect()
}

/// An operation by the id of an object; the repair is of the object.
fn on_object(target: &RouteTarget, words: String, kind: &'static str) -> Operation {
    let object = format!("nexthop {target}");
    Operation {
        what: format!("ip {words}, of {object}"),
        kind,
        object,
        evented: true,
        act: Act::Way(Deed {
            target: target.clone(),
            words,
        }),
    }
}

/// Operations on routes to next-hop objects in any table, and on other routes in a separate table.
fn on_route(key: &RouteKey, route: &Route) -> Vec<Operation> {
    let RouteKey {
        table,
        prefix,
        metric,
    } = key;
    let object = format!("route {key}");
    let place = format!("{prefix} metric {metric} table {table}");
    let one = |lines: String| Operation::ip(lines, "route", object.clone());
    match &route.kind {
        RouteKind::NextHop { target, .. } => {
            // This removes the source and the MTU.
            let replace = format!("route replace {place} nhid {{id}} proto 173");
            let replace = Operation {
                object: object.clone(),
                ..on_object(target, replace, "route")
            };
            vec![one(format!("route delete {place}")), replace]
        }
        RouteKind::Throw => vec![one(format!("route delete throw {place}"))],
        RouteKind::Unreachable if *table != MAIN_TABLE => {
            vec![one(format!("route delete unreachable {place}"))]
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
fn id(all: &str, target: &RouteTarget) -> u32 {
    let found = match target {
        RouteTarget::Hop(hop) => all.lines().find(|line| is_hop(line, hop)),
        RouteTarget::Group(group) => {
            let hops = group.members.iter().map(|(hop, _)| RouteTarget::Hop(hop.clone()));
            let wanted = sorted(hops.map(|hop| id(all, &hop)));
            let is_it = |members: &str| {
                let ids = members.split('/').filter_map(|member| member.split(',').next());
                sorted(ids.map(number)) == wanted
            };
            all.lines().find(|line| after(line, "group").is_some_and(is_it))
        }
        RouteTarget::Other(text) => panic!("{text} is nothing that an agent makes"),
    };
    let found = found.unwrap_or_else(|| panic!("{target} is not in\n{all}"));
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
