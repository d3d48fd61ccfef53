//! Parses the output of `nft -j list table` (libnftables-json(5)) into the same form from which tables are
//! rendered.
//!
//! nft sorts sets in its own order, prints a set of one element as the element, and adjacent prefixes as
//! ranges. Handles and counters do not matter for what a rule does.

mod marks;

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::{IpNet, IpSubnets, Ipv4Subnets, Ipv6Subnets};
use serde_json::Value;

use crate::model::Firewall;
use crate::model::firewall::{Action, Chain, Match, Rule, Side, Transport, aggregate, unquoted};
use crate::net::{Family, LinkName};

use super::render::{TABLE, family_name, transport_name};

/// Parses a listing of the table of Adit.
///
/// # Errors
/// When it is not JSON as nft prints it.
pub(super) fn firewall(json: &[u8]) -> Result<Firewall, String> {
    let mut firewall = Firewall::managed();
    for object in objects(json)? {
        let Some((kind, value)) = object.as_object().and_then(|object| object.iter().next()) else {
            return Err(format!("an object without kind: {object}"));
        };
        match kind.as_str() {
            "metainfo" | "table" => {}
            "chain" => match chain(value) {
                Some(chain) => {
                    firewall.chains.entry(chain).or_default();
                }
                None => {
                    firewall.strange.insert(without_handle(kind, value));
                }
            },
            "rule" => {
                // A rule of an unexpected chain is deleted with that chain.
                if let Some(rules) = named(&value["chain"]).and_then(|chain| firewall.chains.get_mut(&chain))
                {
                    rules.push(rule(value));
                }
            }
            _ => {
                firewall.strange.insert(without_handle(kind, value));
            }
        }
    }
    Ok(firewall)
}

/// Parses a listing of chains. Returns the chains not managed by Adit that have the forward hook and drop
/// what they don't accept.
///
/// # Errors
/// When it is not JSON as nft prints it.
pub(super) fn dropping_forward_chains(json: &[u8]) -> Result<Vec<String>, String> {
    let chains = objects(json)?;
    let chains = chains.iter().filter_map(|object| object.get("chain"));
    let dropping = chains.filter(|chain| chain["hook"] == "forward" && chain["policy"] == "drop");
    let word = |chain: &Value, field: &str| chain[field].as_str().unwrap_or_default().to_owned();
    let named = dropping.map(|chain| {
        let (name, family, table) = (word(chain, "name"), word(chain, "family"), word(chain, "table"));
        format!("{name} of table {family} {table}")
    });
    Ok(named.collect())
}

fn objects(json: &[u8]) -> Result<Vec<Value>, String> {
    let mut listing: Value = serde_json::from_slice(json).map_err(|error| error.to_string())?;
    match listing["nftables"].take() {
        Value::Array(objects) => Ok(objects),
        _ => Err("a listing without `nftables`".to_owned()),
    }
}

fn without_handle(kind: &str, value: &Value) -> String {
    let mut value = value.clone();
    if let Some(fields) = value.as_object_mut() {
        fields.remove("handle");
    }
    format!("{kind} {value}")
}

fn named(name: &Value) -> Option<Chain> {
    let name = name.as_str()?;
    Chain::ALL.into_iter().find(|chain| chain.place().name == name)
}

/// The chain of Adit, if it has the expected hook.
fn chain(value: &Value) -> Option<Chain> {
    let chain = named(&value["name"])?;
    let place = chain.place();
    let is_expected = value["table"] == TABLE
        && value["type"] == place.kind
        && value["hook"] == place.hook
        && value["prio"] == place.priority
        && value["policy"] == "accept";
    is_expected.then_some(chain)
}

fn rule(value: &Value) -> Rule {
    let expressions = value["expr"].as_array().map(Vec::as_slice).unwrap_or_default();
    let counter = |value: &&Value| value.get("counter").is_none();
    let uncounted: Vec<&Value> = expressions.iter().filter(counter).collect();
    let counted = uncounted.len() < expressions.len();
    let Some((last, matches)) = uncounted.split_last() else {
        return Rule {
            matches: Vec::new(),
            action: Action::Strange(value["expr"].to_string()),
        };
    };
    let strange =
        |value: &Value| Action::Strange(format!("{value}{}", if counted { " counted" } else { "" }));
    let action = match action(last) {
        // Only drops have a counter.
        Some(action) if counted == (action == Action::Drop) => action,
        _ => strange(last),
    };
    Rule {
        matches: matches.iter().map(|one| expression(one)).collect(),
        action,
    }
}

fn action(value: &Value) -> Option<Action> {
    let plain = [
        ("accept", Action::Accept),
        ("drop", Action::Drop),
        ("return", Action::Return),
        ("masquerade", Action::Masquerade),
        ("notrack", Action::Notrack),
    ];
    for (word, action) in plain {
        // Adit does not use other options, such as ports or flags of `masquerade`.
        if value.get(word).is_some_and(Value::is_null) {
            return Some(action);
        }
    }
    let mangle = value.get("mangle")?;
    if let Some(action) = marks::action(mangle) {
        return Some(action);
    }
    let option = &mangle["key"]["tcp option"];
    let clamps =
        option["name"] == "maxseg" && option["field"] == "size" && mangle["value"]["rt"]["key"] == "mtu";
    clamps.then_some(Action::ClampMss)
}

fn expression(value: &Value) -> Match {
    let known = value.get("match").and_then(|found| {
        let (left, right) = (&found["left"], &found["right"]);
        if let Some(one) = marks::connection(found) {
            return Some(one);
        }
        let within = match found["op"].as_str()? {
            "==" => true,
            "!=" => false,
            // A test of flags, which newer versions of nft print differently.
            _ => return None,
        };
        if let Some(address) = address(left, within, right) {
            return Some(address);
        }
        if left["meta"]["key"] == "iifname" {
            let links = names(right)?;
            return Some(if within {
                Match::In(links)
            } else {
                Match::NotIn(links)
            });
        }
        if !within {
            return None;
        }
        meta(left, right)
            .or_else(|| port(left, right))
            .or_else(|| fib(left, right))
            .or_else(|| syn(left, right))
    });
    known.unwrap_or_else(|| Match::Strange(value.to_string()))
}

fn meta(left: &Value, right: &Value) -> Option<Match> {
    match left["meta"]["key"].as_str()? {
        "oifname" => Some(Match::Out(names(right)?)),
        "nfproto" => {
            let family = Family::BOTH
                .into_iter()
                .find(|family| right == family_name(*family));
            family.map(Match::Family)
        }
        _ => None,
    }
}

fn address(left: &Value, within: bool, right: &Value) -> Option<Match> {
    let payload = &left["payload"];
    if !matches!(payload["protocol"].as_str()?, "ip" | "ip6") {
        return None;
    }
    let side = match payload["field"].as_str()? {
        "saddr" => Side::Source,
        "daddr" => Side::Destination,
        _ => return None,
    };
    let prefixes: Option<Vec<Vec<IpNet>>> = elements(right).into_iter().map(prefixes).collect();
    Some(Match::Address {
        side,
        within,
        prefixes: aggregate(prefixes?.into_iter().flatten()),
    })
}

/// An element of a set of addresses: an address, a prefix or a range.
fn prefixes(element: &Value) -> Option<Vec<IpNet>> {
    let address = |value: &Value| value.as_str()?.parse::<IpAddr>().ok();
    if let Some(address) = address(element) {
        return Some(vec![address.into()]);
    }
    if let Some(prefix) = element.get("prefix") {
        let length = u8::try_from(prefix["len"].as_u64()?).ok()?;
        return Some(vec![IpNet::new(address(&prefix["addr"])?, length).ok()?]);
    }
    let [first, last] = element.get("range")?.as_array()?.as_slice() else {
        return None;
    };
    let subnets = match (address(first)?, address(last)?) {
        (IpAddr::V4(first), IpAddr::V4(last)) => IpSubnets::V4(Ipv4Subnets::new(first, last, 0)),
        (IpAddr::V6(first), IpAddr::V6(last)) => IpSubnets::V6(Ipv6Subnets::new(first, last, 0)),
        _ => return None,
    };
    Some(subnets.collect())
}

fn port(left: &Value, right: &Value) -> Option<Match> {
    let payload = &left["payload"];
    let protocol = payload["protocol"].as_str()?;
    let transport = [Transport::Tcp, Transport::Udp]
        .into_iter()
        .find(|transport| transport_name(*transport) == protocol)?;
    let side = match payload["field"].as_str()? {
        "sport" => Side::Source,
        "dport" => Side::Destination,
        _ => return None,
    };
    let port = |value: &Value| u16::try_from(value.as_u64()?).ok();
    let ports: Option<BTreeSet<u16>> = elements(right).into_iter().map(port).collect();
    Some(Match::Port(transport, side, ports?))
}

/// A match on the route of an address.
fn fib(left: &Value, right: &Value) -> Option<Match> {
    let fib = &left["fib"];
    let flags = strings(&fib["flags"])?;
    let of = |expected: &[&str]| flags == expected.iter().copied().collect();
    match fib["result"].as_str()? {
        "type" if of(&["daddr"]) => {
            let types = strings(right)? == BTreeSet::from(["local", "broadcast", "multicast"]);
            types.then_some(Match::NotUnicast)
        }
        "oifname" if of(&["saddr"]) => Some(Match::SourceRoutedBy(names(right)?)),
        // nft 1.1.2 and newer print "check".
        "oif" | "check" if of(&["saddr", "iif"]) => (*right == false).then_some(Match::NoRouteBack),
        _ => None,
    }
}

/// One device or a set of them; `None` if there is a wildcard.
fn names(value: &Value) -> Option<BTreeSet<LinkName>> {
    let in_set = value.get("set").is_some();
    let names = strings(value)?.into_iter();
    names.map(|name| unquoted(name, in_set)).collect()
}

fn syn(left: &Value, right: &Value) -> Option<Match> {
    let [payload, mask] = left.get("&")?.as_array()?.as_slice() else {
        return None;
    };
    let payload = &payload["payload"];
    let of_flags = payload["protocol"] == "tcp" && payload["field"] == "flags";
    // A list, or the operands of "|" in newer versions.
    let mask = strings(mask.get("|").unwrap_or(mask))? == BTreeSet::from(["syn", "rst"]);
    (of_flags && mask && right == "syn").then_some(Match::Syn)
}

/// The elements of a set or a list; any other value is its own only element.
fn elements(value: &Value) -> Vec<&Value> {
    let list = value.get("set").unwrap_or(value);
    match list.as_array() {
        Some(elements) => elements.iter().collect(),
        None => vec![list],
    }
}

fn strings(value: &Value) -> Option<BTreeSet<&str>> {
    elements(value).into_iter().map(Value::as_str).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(objects: &str) -> Firewall {
        firewall(format!("{{\"nftables\": [{objects}]}}").as_bytes()).unwrap()
    }

    const CHAIN: &str = r#"{"chain": {"family": "inet", "table": "adit", "name": "forward", "handle": 1, "type": "filter",
        "hook": "forward", "prio": 0, "policy": "accept"}}"#;

    fn rule(expressions: &str) -> Rule {
        let rule = format!(
            r#"{{"rule": {{"table": "adit", "chain": "forward", "handle": 7, "expr": [{expressions}]}}}}"#
        );
        let firewall = read(&format!("{CHAIN}, {rule}"));
        assert!(firewall.strange.is_empty());
        firewall.chains[&Chain::Forward][0].clone()
    }

    #[test]
    fn newer_keywords_for_flags_mean_the_same() {
        let flags = r#"{"payload": {"protocol": "tcp", "field": "flags"}}"#;
        for mask in [r#"["syn", "rst"]"#, r#"{"|": ["syn", "rst"]}"#] {
            let text = format!(
                r#"{{"match": {{"op": "==", "left": {{"&": [{flags}, {mask}]}}, "right": "syn"}}}}, {{"accept": null}}"#
            );
            assert_eq!(rule(&text).matches, [Match::Syn]);
        }
    }

    #[test]
    fn newer_keywords_for_a_missing_route_mean_the_same() {
        for result in ["oif", "check"] {
            let text = format!(
                r#"{{"match": {{"op": "==", "left": {{"fib": {{"result": "{result}", "flags": ["saddr", "iif"]}}}}, "right": false}}}}, {{"accept": null}}"#
            );
            assert_eq!(rule(&text).matches, [Match::NoRouteBack]);
        }
    }

    #[test]
    fn unmanaged_expressions_are_strange() {
        for expressions in [
            r#"{"match": {"op": "==", "left": {"meta": {"key": "mark"}}, "right": 1}}, {"accept": null}"#,
            r#"{"match": {"op": "!=", "left": {"meta": {"key": "oifname"}}, "right": "a"}}, {"accept": null}"#,
            r#"{"match": {"op": "==", "left": {"meta": {"key": "iifname"}}, "right": "eth*"}}, {"accept": null}"#,
            r#"{"match": {"op": "==", "left": {"fib": {"result": "oif", "flags": ["saddr"]}}, "right": false}}, {"accept": null}"#,
            r#"{"match": {"op": "==", "left": {"fib": {"result": "oif", "flags": ["saddr", "iif"]}}, "right": true}}, {"accept": null}"#,
            r#"{"match": {"op": "==", "left": {"payload": {"protocol": "ip", "field": "saddr"}}, "right": "@set"}}, {"accept": null}"#,
        ] {
            let rule = rule(expressions);
            assert!(matches!(&rule.matches[..], [Match::Strange(_)]), "{rule:?}");
        }
        for action in [
            r#"{"masquerade": {"flags": "random"}}"#,
            r#"{"jump": {"target": "theirs"}}"#,
            r#"{"drop": null}"#,
            r#"{"counter": {"packets": 1, "bytes": 2}}, {"accept": null}"#,
            r#"{"counter": {"packets": 1, "bytes": 2}}"#,
        ] {
            assert!(matches!(rule(action).action, Action::Strange(_)), "{action}");
        }
        let counted = r#"{"counter": {"packets": 1, "bytes": 2}}, {"drop": null}"#;
        assert_eq!(rule(counted).action, Action::Drop);
        let elsewhere = CHAIN.replace("accept", "drop");
        let found = read(&elsewhere);
        assert_eq!((found.chains.len(), found.strange.len()), (0, 1));
        let other = found.strange.first().unwrap();
        assert!(!other.contains("handle"), "{other}");
        assert_eq!(
            dropping_forward_chains(format!("{{\"nftables\": [{elsewhere}, {CHAIN}]}}").as_bytes()),
            Ok(vec!["forward of table inet adit".to_owned()])
        );
    }

    #[test]
    fn ranges_become_prefixes() {
        let range = r#"{"range": ["fd00:1::", "fd00:2:ffff:ffff:ffff:ffff:ffff:ffff"]}"#;
        let range: Value = serde_json::from_str(range).unwrap();
        let expected = ["fd00:1::/32", "fd00:2::/32"].map(|text| text.parse().unwrap());
        assert_eq!(prefixes(&range), Some(expected.to_vec()));
    }
}
