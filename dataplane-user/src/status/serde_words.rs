//! Serialization of values in the status whose types do not use serde.

use serde::{Deserialize, Serialize};

use crate::resource::{Dataplane, Severity};

#[derive(Serialize, Deserialize)]
#[serde(remote = "Dataplane", rename_all = "lowercase")]
pub(super) enum DataplaneWord {
    Ebpf,
    Routes,
}

/// The dataplane of all agents whose status does not name one.
pub(super) fn ebpf() -> Dataplane {
    Dataplane::Ebpf
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Severity", rename_all = "lowercase")]
pub(super) enum SeverityWord {
    Warning,
    Error,
}

/// Counts by reason. Reasons that only another version knows are skipped.
pub(super) mod dropped {
    use std::collections::BTreeMap;

    use serde::{Deserialize as _, Deserializer, Serializer};

    use crate::kernel::nft::Count;
    use crate::model::firewall::DropReason;

    pub(in super::super) fn serialize<S: Serializer>(
        dropped: &BTreeMap<DropReason, Count>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_map(dropped.iter().map(|(reason, count)| (reason.name(), count)))
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<BTreeMap<DropReason, Count>, D::Error> {
        let mut read = BTreeMap::<String, Count>::deserialize(deserializer)?;
        let known = DropReason::ALL.into_iter();
        let known = known.filter_map(|reason| Some((reason, read.remove(reason.name())?)));
        Ok(known.collect())
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use crate::kernel::nft::Count;
    use crate::model::firewall::DropReason;
    use crate::net::{Encapsulation, LinkName, NodeName, PublicKey};
    use crate::resource::{Dataplane, Severity};
    use crate::status::{PeerStatus, ProblemStatus, Status, WireGuardStatus};

    /// Scripts read it: keys, values and their order must not change.
    #[test]
    fn a_peer_is_written_and_read_with_stable_keys() {
        let address = |last| Some(IpAddr::from([192, 0, 2, last]));
        let mut peer = PeerStatus {
            node: NodeName::new("b").unwrap(),
            network: "pods".to_owned(),
            encapsulation: Encapsulation::WireGuard,
            remote: address(1),
            local: address(2),
            mtu: 1420,
            wireguard: Some(WireGuardStatus {
                device: LinkName::constant("adit-wg0"),
                own_key: Some(PublicKey::from_bytes([0; 32])),
                public_key: None,
                session: None,
            }),
            withdrawn: false,
            dataplane: Dataplane::Routes,
            path: None,
            received: None,
        };
        let expected = [
            r#"{"node":"b","network":"pods","encapsulation":"wireguard","remote":"192.0.2.1","local":"192.0.2.2","#,
            r#""mtu":1420,"wireguard":{"device":"adit-wg0","own_key":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=","#,
            r#""session":null},"withdrawn":false,"dataplane":"routes","way":null,"received":null}"#,
        ];
        let json = serde_json::to_string(&peer).unwrap();
        assert_eq!(json, expected.concat());
        assert_eq!(serde_json::from_str::<PeerStatus>(&json).unwrap(), peer);
        // The form of older agents: without addresses over HTTP, and without dataplane.
        let json = json
            .replace(r#""remote":"192.0.2.1","local":"192.0.2.2","#, "")
            .replace(r#""dataplane":"routes","#, "");
        (peer.remote, peer.local, peer.dataplane) = (None, None, Dataplane::Ebpf);
        assert_eq!(serde_json::from_str::<PeerStatus>(&json).unwrap(), peer);
    }

    #[test]
    fn names_are_those_of_the_types_and_newer_ones_are_skipped() {
        for severity in [Severity::Warning, Severity::Error] {
            let problem = ProblemStatus {
                severity,
                reason: "Conflict".to_owned(),
                subject: String::new(),
                message: String::new(),
                remedy: String::new(),
            };
            let json = serde_json::to_value(&problem).unwrap();
            assert_eq!(json["severity"], severity.name());
        }
        let count = Count { packets: 1, bytes: 2 };
        let status = Status {
            dropped: DropReason::ALL.map(|reason| (reason, count)).into(),
            ..Status::default()
        };
        let mut json = serde_json::to_value(&status).unwrap();
        assert_eq!(
            json["dropped"],
            serde_json::json!({"cleartext": count, "port": count})
        );
        json["dropped"]["later"] = serde_json::json!(count);
        assert_eq!(serde_json::from_value::<Status>(json).unwrap(), status);
    }
}
