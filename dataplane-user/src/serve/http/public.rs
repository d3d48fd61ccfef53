//! The part of a status that everybody on this machine may see.

use std::collections::BTreeSet;

use crate::resource::Severity;
use crate::status::Status;

/// Replaces texts that may name a key or an address.
const ELSEWHERE: &str = "see `adit status`";

/// Removes keys, endpoints and addresses of the underlay, and texts that may name one.
pub(super) fn leave_out_details(status: &mut Status) {
    for peer in &mut status.peers {
        (peer.remote, peer.local) = (None, None);
        if let Some(path) = &mut peer.path {
            path.gateway = None;
        }
        if let Some(link) = &mut peer.wireguard {
            (link.own_key, link.public_key) = (None, None);
            if let Some(session) = &mut link.session {
                session.endpoint = None;
            }
        }
    }
    if let Some(error) = &mut status.source.error {
        ELSEWHERE.clone_into(error);
    }
    status.repairs.recent.clear();
    for refused in &mut status.refused {
        ELSEWHERE.clone_into(&mut refused.reason);
    }
    for problem in &mut status.problems {
        problem.subject.clear();
        ELSEWHERE.clone_into(&mut problem.message);
        problem.remedy.clear();
    }
}

/// The reasons of the errors that prevent the node from being ready, each once.
pub(super) fn reasons(status: &Status) -> Vec<&str> {
    let errors = status
        .problems
        .iter()
        .filter(|problem| problem.severity == Severity::Error);
    let reasons: BTreeSet<&str> = errors.map(|problem| problem.reason.as_str()).collect();
    reasons.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;
    use crate::net::{Encapsulation, LinkName, NodeName, PublicKey};
    use crate::resource::{Dataplane, Problem, Reason};
    use crate::status::{
        PathStatus, PeerStatus, RefusedStatus, RepairStatus, SessionStatus, WireGuardStatus,
    };

    #[test]
    fn keys_and_addresses_are_removed() {
        const SECRET: &str = "not-for-everybody";
        let text = || SECRET.to_owned();
        let address = IpAddr::from([192, 0, 2, 77]);
        let key = PublicKey::from_bytes([7; 32]);
        let session = SessionStatus {
            endpoint: Some(text()),
            endpoint_age_s: None,
            established: true,
            handshake_age_s: Some(1),
            received_bytes: 2,
            sent_bytes: 3,
        };
        let peer = PeerStatus {
            node: NodeName::new("b").unwrap(),
            network: "pods".to_owned(),
            encapsulation: Encapsulation::WireGuard,
            remote: Some(address),
            local: Some(address),
            mtu: 1440,
            wireguard: Some(WireGuardStatus {
                device: LinkName::constant("adit-wg0"),
                own_key: Some(key),
                public_key: Some(key),
                session: Some(session),
            }),
            withdrawn: false,
            dataplane: Dataplane::Ebpf,
            path: Some(PathStatus {
                device: Some("adit-wg0".to_owned()),
                gateway: Some(address),
                usable: true,
                packets: 4,
                bytes: 5,
            }),
            received: None,
        };
        let mut status = Status {
            peers: vec![peer],
            refused: vec![RefusedStatus {
                from: "a".to_owned(),
                to: "b".to_owned(),
                family: "ipv6".to_owned(),
                reason: text(),
            }],
            ..Status::default()
        };
        status.source.error = Some(text());
        status.repairs.recent = vec![RepairStatus {
            kind: "peer".to_owned(),
            object: text(),
            found: text(),
        }];
        let problem = Problem::error(Reason::Conflict, text(), text(), text());
        status.set_problems(&[problem]);
        let secrets = [text(), address.to_string(), key.to_string()];
        let json = serde_json::to_string(&status).unwrap();
        assert!(secrets.iter().all(|secret| json.contains(secret)), "{json}");
        leave_out_details(&mut status);
        let json = serde_json::to_string(&status).unwrap();
        assert!(!secrets.iter().any(|secret| json.contains(secret)), "{json}");
        assert!(
            json.contains("Conflict") && json.contains("\"established\":true"),
            "{json}"
        );
        assert_eq!(reasons(&status), ["Conflict"]);
    }
}
