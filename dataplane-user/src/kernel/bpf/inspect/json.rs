//! The JSON of the content of maps, for types of the model, which do not use serde.

use std::net::IpAddr;

use dataplane_ebpf::layout::{Counters, NextHopState};
use serde::ser::SerializeStruct as _;
use serde::{Serialize, Serializer};

use super::{LookupResult, LookupTarget};
use crate::as_text;
use crate::model::{Class, Group, NextHop, NodeLabel, Source, TunnelKind};
use crate::net::MacAddr;

#[derive(Serialize)]
#[serde(remote = "Counters")]
pub(super) struct CountersJson {
    packets: u64,
    bytes: u64,
}

#[derive(Serialize)]
#[serde(remote = "NextHop")]
pub(super) struct NextHopJson {
    #[serde(serialize_with = "as_text::serialize")]
    node: NodeLabel,
    #[serde(flatten, with = "ClassJson")]
    class: Class,
    remote: IpAddr,
    local: IpAddr,
    gateway: Option<IpAddr>,
    #[serde(serialize_with = "as_text::optional::serialize")]
    destination_mac: Option<MacAddr>,
}

#[derive(Serialize)]
#[serde(remote = "Class")]
struct ClassJson {
    #[serde(rename = "encapsulation", serialize_with = "as_text::serialize")]
    tunnel: TunnelKind,
    vni: u32,
}

#[derive(Serialize)]
#[serde(remote = "Source")]
pub(super) struct SourceJson {
    address: IpAddr,
    #[serde(rename = "encapsulation", serialize_with = "as_text::serialize")]
    tunnel: TunnelKind,
    vni: u32,
}

pub(super) fn state<S: Serializer>(state: &NextHopState, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(match *state {
        NextHopState::USABLE => "usable",
        _ => "down",
    })
}

pub(super) fn members<S: Serializer>(group: &Group, serializer: S) -> Result<S::Ok, S::Error> {
    let members = group.members.iter();
    serializer.collect_seq(members.map(|(next_hop, weight)| format!("{next_hop} weight {weight}")))
}

impl Serialize for LookupResult {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let slots = match &self.target {
            LookupTarget::Group { slots, .. } => Some(slots),
            _ => None,
        };
        let mut fields = serializer.serialize_struct("LookupResult", 5)?;
        fields.serialize_field("address", &self.address)?;
        fields.serialize_field("prefix", &self.prefix.map(|prefix| prefix.to_string()))?;
        fields.serialize_field("target", self.target.name())?;
        fields.serialize_field("group", &slots)?;
        fields.serialize_field("next_hops", self.target.next_hops())?;
        fields.end()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::kernel::bpf::{Dump, GroupEntry, NextHopEntry, PrefixEntry, SourceEntry, VerdictCount};
    use crate::model::PrefixTarget;
    use crate::net::NodeName;

    const NEXT_HOP: &str = concat!(
        r#"{"slot":3,"node":"b","encapsulation":"geneve","vni":7,"remote":"192.0.2.1","local":"192.0.2.2","#,
        r#""gateway":null,"destination_mac":"02:00:00:00:00:01","state":"usable","weight":WEIGHT,"packets":1,"bytes":2}"#
    );
    const COUNTERS: Counters = Counters { packets: 1, bytes: 2 };

    fn next_hop() -> Arc<NextHop> {
        Arc::new(NextHop {
            node: NodeLabel::of(&NodeName::new("b").unwrap()),
            remote: [192, 0, 2, 1].into(),
            local: [192, 0, 2, 2].into(),
            destination_mac: Some(MacAddr([2, 0, 0, 0, 0, 1])),
            gateway: None,
            class: Class {
                tunnel: TunnelKind::Geneve,
                unit: 0,
                vni: 7,
                source_mac: None,
                ttl: 64,
                dscp: None,
                dont_fragment: true,
                zero_checksum: false,
                underlay: None,
            },
        })
    }

    fn entry(weight: Option<u8>) -> NextHopEntry {
        NextHopEntry {
            slot: 3,
            next_hop: next_hop(),
            state: NextHopState::USABLE,
            weight,
            counters: COUNTERS,
        }
    }

    fn json(value: &impl Serialize) -> String {
        serde_json::to_string(value).unwrap()
    }

    /// Scripts read it, so keys, values and their order must not change.
    #[test]
    fn a_dump_has_the_keys_that_it_always_had() {
        let dump = Dump {
            prefixes: vec![PrefixEntry {
                prefix: "10.0.0.0/8".parse().unwrap(),
                target: Some(PrefixTarget::Local),
            }],
            groups: vec![GroupEntry {
                slots: vec![1],
                group: Arc::new(Group {
                    members: vec![(next_hop(), 9)],
                }),
            }],
            next_hops: vec![entry(None)],
            sources: vec![SourceEntry {
                source: Source {
                    address: [192, 0, 2, 1].into(),
                    tunnel: TunnelKind::Ip6tnl,
                    vni: 0,
                },
                node: Some("b".to_owned()),
                counters: COUNTERS,
            }],
            ..Dump::default()
        };
        let expected = [
            r#"{"prefixes":[{"prefix":"10.0.0.0/8","target":"this node"}],"#,
            r#""groups":[{"slots":[1],"members":["b by geneve 192.0.2.1 vni 7 weight 9"]}],"#,
            &format!(r#""next_hops":[{}],"#, NEXT_HOP.replace("WEIGHT", "null")),
            r#""classes":[],"sources":[{"address":"192.0.2.1","encapsulation":"ip6tnl","vni":0,"node":"b","#,
            r#""packets":1,"bytes":2}],"unreadable_slots":0}"#,
        ];
        assert_eq!(json(&dump), expected.concat());
        let count = VerdictCount {
            name: "forwarded",
            explanation: "so",
            counters: COUNTERS,
        };
        assert_eq!(
            json(&count),
            r#"{"verdict":"forwarded","explanation":"so","packets":1,"bytes":2}"#
        );
    }

    #[test]
    fn a_lookup_has_the_keys_that_it_always_had() {
        let shown = |target: LookupTarget| {
            json(&LookupResult {
                address: [10, 0, 0, 1].into(),
                prefix: Some("10.0.0.0/8".parse().unwrap()),
                target,
            })
        };
        let expected = |rest: &str| format!(r#"{{"address":"10.0.0.1","prefix":"10.0.0.0/8",{rest}}}"#);
        assert_eq!(
            shown(LookupTarget::Local),
            expected(r#""target":"local","group":null,"next_hops":[]"#)
        );
        let group = LookupTarget::Group {
            slots: vec![1, 2],
            members: vec![entry(Some(9))],
        };
        let members = NEXT_HOP.replace("WEIGHT", "9");
        assert_eq!(
            shown(group),
            expected(&format!(
                r#""target":"group","group":[1,2],"next_hops":[{members}]"#
            ))
        );
    }
}
