//! The status as text for people.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::time::Duration;

use super::super::output::{Paint, columns};
use crate::model::firewall::DropReason;
use crate::resource::{Dataplane, Severity};
use crate::status::{PeerStatus, ProblemStatus, Status, WireGuardStatus};

/// The status in lines: the node, its networks, its peers, and its problems.
pub(super) fn render(status: &Status, wide: bool, paint: Paint) -> String {
    let mut text = String::new();
    let mut line = |line: String| {
        text.push_str(&line);
        text.push('\n');
    };
    let ready = if status.ready {
        paint.good("ready")
    } else {
        paint.bad("not ready")
    };
    line(format!(
        "node {}: {ready} (adit {}, Linux {})",
        paint.strong(&status.node),
        status.version,
        status.kernel
    ));
    line(source(status, paint));
    line(reconciliation(status));
    if let Some(repairs) = repairs(status) {
        line(repairs);
    }
    if let Some(dropped) = dropped(status) {
        line(dropped);
    }
    for network in &status.networks {
        line(format!(
            "network {}: {}, VNI {}, MTU {}",
            paint.strong(&network.name),
            network.prefixes.join(" "),
            network.vni,
            network.mtu
        ));
    }
    for note in &status.notes {
        line(format!("note: {note}"));
    }
    if status.peers.is_empty() {
        line("no peers".to_owned());
    } else {
        line(String::new());
        let rows = status.peers.iter().map(|peer| row(peer, wide, paint));
        let rows = rows.collect::<Vec<_>>();
        text.push_str(&columns(&header(wide), rows.iter().map(Vec::as_slice)));
    }
    for found in &status.problems {
        text.push_str(&problem(found, paint));
    }
    text
}

fn source(status: &Status, paint: Paint) -> String {
    let source = &status.source;
    let state = match (source.synced, &source.error) {
        (true, None) => "loaded".to_owned(),
        (true, Some(_)) => paint.doubtful("newest version rejected; keeping the previous version"),
        (false, _) => paint.bad("not loaded"),
    };
    format!("manifests {}: {state}", source.paths.join(" "))
}

fn reconciliation(status: &Status) -> String {
    let last = &status.reconciliation;
    let mut text = format!("reconciliation {}: {} changed", last.number, last.changed);
    let counts = [
        (last.failed, "failed"),
        (last.skipped, "skipped"),
        (last.recreated, "devices recreated"),
    ];
    for (count, what) in counts.into_iter().filter(|(count, _)| *count > 0) {
        let _infallible = write!(text, ", {count} {what}");
    }
    let took = Duration::from_micros(last.duration_us).as_secs_f64() * 1e3;
    let _infallible = write!(text, ", {} not converged, in {took:.1} ms", last.residual);
    if let Some(seconds) = last.ended_ago_s {
        let _infallible = write!(text, ", {seconds} s ago");
    }
    text
}

/// The repairs of outside changes, if there were any.
fn repairs(status: &Status) -> Option<String> {
    let repairs = &status.repairs;
    let last = repairs.recent.last()?;
    let kinds = repairs
        .kinds
        .iter()
        .map(|(kind, number)| format!("{kind} {number}"));
    Some(format!(
        "repaired {} {} ({}); last: {} {}",
        repairs.total,
        if repairs.total == 1 { "time" } else { "times" },
        kinds.collect::<Vec<_>>().join(", "),
        last.object,
        last.found
    ))
}

/// The packets that the rules of the nft table have dropped, if any.
fn dropped(status: &Status) -> Option<String> {
    let dropped = status.dropped.iter().filter(|(_, count)| count.packets > 0);
    let reasons = dropped.map(|(reason, count)| {
        let what = match reason {
            DropReason::Cleartext => "cleartext packets with overlay sources",
            DropReason::Port => "packets to tunnel ports from addresses that no peer has",
        };
        format!("{} {what} ({})", count.packets, bytes(count.bytes))
    });
    let reasons = reasons.collect::<Vec<_>>();
    (!reasons.is_empty()).then(|| format!("nft table inet adit dropped {}", reasons.join(", ")))
}

fn header(wide: bool) -> Vec<String> {
    let narrow = [
        "PEER",
        "NETWORK",
        "LINK",
        "ENCAPSULATION",
        "REMOTE",
        "MTU",
        "STATE",
        "PACKETS",
        "BYTES",
    ];
    let mut header = narrow.map(str::to_owned).to_vec();
    if wide {
        header.insert(5, "LOCAL".to_owned());
        header.extend(["RECEIVED", "RECEIVED-BYTES", "ENDPOINT"].map(str::to_owned));
    }
    header
}

fn row(peer: &PeerStatus, wide: bool, paint: Paint) -> Vec<String> {
    let unknown = || "-".to_owned();
    let path = peer.path.as_ref();
    let counted = path.filter(|_| peer.dataplane != Dataplane::Routes);
    let state = match path {
        _ if peer.withdrawn => paint.bad("withdrawn"),
        None => paint.doubtful("no path"),
        Some(path) if path.device.is_none() => paint.bad("no device"),
        Some(path) if !path.usable => paint.bad("down"),
        Some(_) => match &peer.wireguard {
            None => paint.good("usable"),
            Some(link) => session(link, paint),
        },
    };
    let address = |address: Option<IpAddr>| address.map(|address| address.to_string()).unwrap_or_default();
    let mut row = vec![
        peer.node.to_string(),
        peer.network.clone(),
        path.and_then(|path| path.device.clone()).unwrap_or_else(unknown),
        peer.encapsulation.to_string(),
        match path.and_then(|path| path.gateway) {
            Some(gateway) if wide => format!("{} via {gateway}", address(peer.remote)),
            _ => address(peer.remote),
        },
        peer.mtu.to_string(),
        state,
        counted.map_or_else(unknown, |path| path.packets.to_string()),
        counted.map_or_else(unknown, |path| {
            if wide {
                path.bytes.to_string()
            } else {
                bytes(path.bytes)
            }
        }),
    ];
    if wide {
        row.insert(5, address(peer.local));
        let session = peer.wireguard.as_ref().and_then(|link| link.session.as_ref());
        let received = peer.received.as_ref();
        row.push(received.map_or_else(unknown, |received| received.packets.to_string()));
        // WireGuard does not count packets, and its byte counts include its headers.
        let bytes = received
            .map(|received| received.bytes)
            .or(session.map(|session| session.received_bytes));
        row.push(bytes.map_or_else(unknown, |bytes| bytes.to_string()));
        row.push(
            session
                .and_then(|session| session.endpoint.clone())
                .unwrap_or_else(unknown),
        );
    }
    row
}

/// The state of a usable WireGuard link: it has a session, or the next packet starts a handshake.
fn session(link: &WireGuardStatus, paint: Paint) -> String {
    match &link.session {
        None => paint.bad("not set up"),
        Some(session) => match session.handshake_age_s {
            Some(age) if session.established => paint.good(&format!("session, {age} s old")),
            Some(age) => format!("idle for {}", minutes(age)),
            None => paint.doubtful("no handshake yet"),
        },
    }
}

/// Seconds as minutes, hours or days.
fn minutes(seconds: u64) -> String {
    match seconds {
        0..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}

fn problem(problem: &ProblemStatus, paint: Paint) -> String {
    let severity = problem.severity.name();
    let severity = match problem.severity {
        Severity::Error => paint.bad(severity),
        Severity::Warning => paint.doubtful(severity),
    };
    format!(
        "\n{severity}: {} ({})\n  {}\n  {} {}\n",
        problem.subject,
        problem.reason,
        problem.message.replace('\n', "\n  "),
        paint.strong("remedy:"),
        problem.remedy
    )
}

/// Bytes in the unit that leaves up to four digits before the point.
fn bytes(count: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if count < 10_240 {
        return format!("{count} B");
    }
    let mut unit = 0;
    // Tenths, so that no float is needed.
    let mut tenths = u128::from(count) * 10 / 1024;
    while tenths >= 102_400 && unit + 1 < UNITS.len() {
        tenths /= 1024;
        unit += 1;
    }
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::super::super::output;
    use super::*;
    use crate::kernel::nft::Count;
    use crate::net::{Encapsulation, LinkName, NodeName};
    use crate::status::{NetworkStatus, PathStatus, SessionStatus};

    fn peer(node: &str, path: Option<PathStatus>) -> PeerStatus {
        PeerStatus {
            node: NodeName::new(node).unwrap(),
            network: "pods".to_owned(),
            encapsulation: Encapsulation::Geneve,
            remote: Some([192, 0, 2, 1].into()),
            local: Some([192, 0, 2, 2].into()),
            mtu: 1450,
            wireguard: None,
            withdrawn: false,
            dataplane: Dataplane::Ebpf,
            received: path.as_ref().map(|_| Count {
                packets: 34,
                bytes: 5600,
            }),
            path,
        }
    }

    fn status() -> Status {
        let path = PathStatus {
            device: Some("adit-geneve".to_owned()),
            gateway: None,
            usable: true,
            packets: 12,
            bytes: 1_500_000,
        };
        Status {
            node: "a".to_owned(),
            version: "1".to_owned(),
            kernel: "6.12".to_owned(),
            networks: vec![NetworkStatus {
                name: "pods".to_owned(),
                prefixes: vec!["10.0.0.0/8".to_owned()],
                mtu: 1450,
                vni: 7,
            }],
            peers: vec![peer("b", Some(path)), peer("c", None)],
            problems: vec![ProblemStatus {
                severity: Severity::Error,
                reason: "Conflict".to_owned(),
                subject: "link adit0".to_owned(),
                message: "one\ntwo".to_owned(),
                remedy: "rename it".to_owned(),
            }],
            ..Status::default()
        }
    }

    #[test]
    fn a_person_sees_peers_and_remedies() {
        let expected = "\
node a: not ready (adit 1, Linux 6.12)
manifests : not loaded
reconciliation 0: 0 changed, 0 not converged, in 0.0 ms
network pods: 10.0.0.0/8, VNI 7, MTU 1450

PEER  NETWORK  LINK         ENCAPSULATION  REMOTE     MTU   STATE    PACKETS  BYTES
b     pods     adit-geneve  geneve         192.0.2.1  1450  usable   12       1464.8 KiB
c     pods     -            geneve         192.0.2.1  1450  no path  -        -

error: link adit0 (Conflict)
  one
  two
  remedy: rename it
";
        assert_eq!(render(&status(), false, Paint::NEVER), expected);
    }

    #[test]
    fn drops_are_reported_once_there_are_any() {
        let shown = |cleartext, port| {
            let count = |packets| Count {
                packets,
                bytes: packets * 100,
            };
            let dropped = [
                (DropReason::Cleartext, count(cleartext)),
                (DropReason::Port, count(port)),
            ];
            let status = Status {
                dropped: dropped.into(),
                ..status()
            };
            super::dropped(&status)
        };
        assert_eq!(shown(0, 0), None);
        let text = shown(3, 0).unwrap();
        assert!(
            text.contains("3 cleartext packets") && text.contains("300 B") && !text.contains("port"),
            "{text}"
        );
        assert!(shown(3, 4).unwrap().contains("4 packets to tunnel ports"));
    }

    #[test]
    fn notes_and_the_age_of_the_last_reconciliation_are_shown() {
        let mut status = status();
        status.reconciliation.ended_ago_s = Some(7);
        status.notes = vec!["one thing".to_owned()];
        let text = render(&status, false, Paint::NEVER);
        assert!(text.contains(" in 0.0 ms, 7 s ago\n"), "{text}");
        assert!(text.contains("\nnote: one thing\n"), "{text}");
    }

    #[test]
    fn wide_shows_local_addresses_and_exact_counts() {
        let text = render(&status(), true, Paint::NEVER);
        assert!(
            text.contains(
                "192.0.2.1  192.0.2.2  1450  usable   12       1500000  34        5600            -\n"
            ),
            "{text}"
        );
    }

    #[test]
    fn a_wireguard_link_tells_of_its_session() {
        let shown = |age: Option<u64>| {
            let session = SessionStatus {
                endpoint: Some("192.0.2.9:7".to_owned()),
                endpoint_age_s: Some(7),
                established: age.is_some_and(|age| age < 180),
                handshake_age_s: age,
                received_bytes: 1,
                sent_bytes: 1,
            };
            let link = WireGuardStatus {
                device: LinkName::constant("adit-wg0"),
                own_key: None,
                public_key: None,
                session: Some(session),
            };
            super::session(&link, Paint::NEVER)
        };
        let ages = [None, Some(12), Some(180), Some(7200), Some(1_000_000)];
        let expected = [
            "no handshake yet",
            "session, 12 s old",
            "idle for 3 min",
            "idle for 2 h",
            "idle for 11 d",
        ];
        assert_eq!(ages.map(shown), expected);
    }

    #[test]
    fn colours_change_no_text() {
        let painted = render(&status(), false, Paint::ALWAYS);
        let mut plain = output::shown(&painted, Paint::ALWAYS);
        assert!(plain.contains("\x1b[31mnot ready\x1b[0m"));
        for code in ["0", "1", "31", "32", "33"] {
            plain = plain.replace(&format!("\x1b[{code}m"), "");
        }
        assert_eq!(plain, render(&status(), false, Paint::NEVER));
    }

    #[test]
    fn bytes_stay_short() {
        let shown = [0, 10_239, 10_240, 1_500_000, 20 << 20, u64::MAX].map(bytes);
        assert_eq!(
            shown[..5],
            ["0 B", "10239 B", "10.0 KiB", "1464.8 KiB", "20.0 MiB"]
        );
        assert!(shown[5].ends_with(" TiB"));
    }
}
