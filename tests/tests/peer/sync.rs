//! Differences between the interface and the file are found and corrected.

use std::fs;

use adit_tests::agent::Printed;
use dataplane_user::net::PublicKey;
use serde_json::{Value, json};

use crate::live::{Up, can_run};
use crate::{Hub, PRIVATE, PUBLIC, Print, answer, key, peer};

/// A file whose hub has no subnet.
fn without_subnet(more: &str) -> Hub {
    Hub::new(&format!(
        "[Interface]\nPrivateKey = {PRIVATE}\nAddress = 10.42.0.1/32\nListenPort = 51820\n{more}"
    ))
}

fn routes(up: &Up) -> Vec<String> {
    let all = up.netns.ip("route show dev wg0");
    all.lines()
        .map(|line| line.split_whitespace().next().unwrap().to_owned())
        .collect()
}

fn alone(up: &Up, words: &[&str]) {
    let printed = up.hub.adit(words);
    assert_eq!(printed.code, 0, "{printed:?}");
}

fn sync(up: &Up) -> Value {
    answer(&up.adit(&["sync", "-o", "json"]))["changes"].clone()
}

fn has(up: &Up, key: &PublicKey) -> bool {
    up.dump().contains_key(&key.to_string())
}

#[test]
fn the_next_run_finishes_a_removal_without_the_interface() {
    if !can_run() {
        return;
    }
    let devices = peer("a", 1, "10.42.0.2") + &peer("b", 2, "10.42.0.3");
    let up = Up::new(Hub::with(&devices));
    alone(&up, &["remove", "a"]);
    assert!(has(&up, &key(1)));
    let printed = up.adit(&["remove", "x"]);
    assert_eq!(printed.code, 3, "{printed:?}");
    assert!(
        printed.stderr.contains("`adit peer sync` removes it"),
        "{printed:?}"
    );
    let printed = up.adit(&["remove", "a"]);
    assert_eq!(
        (printed.code, &*printed.stdout),
        (0, "a removed; 10.42.0.2 is free again.\n")
    );
    assert!(!has(&up, &key(1)));
    up.agrees();
    assert_eq!(up.adit(&["remove", "a"]).code, 3);

    // Another key, which the interface does not have.
    let new = key(3).to_string();
    alone(&up, &Hub::add_words("b", &new));
    assert_eq!(answer(&up.add("b", 3))["status"], "already-present");
    assert!(has(&up, &key(3)) && !has(&up, &key(2)), "{:?}", up.dump());
    up.agrees();
}

#[test]
fn sync_makes_the_interface_equal_to_its_file_and_then_changes_nothing() {
    if !can_run() {
        return;
    }
    let keepalive = "PersistentKeepalive = 25\n";
    let up = Up::new(Hub::with(&format!(
        "{}{keepalive}{}{}",
        peer("stays", 1, "10.42.0.2"),
        peer("goes", 2, "10.42.0.3"),
        peer("changes", 3, "10.42.0.4")
    )));
    up.netns.ip("address add 10.42.0.1/24 dev wg0");
    assert_eq!(sync(&up), json!([]));
    let printed = up.adit(&["sync"]);
    assert_eq!(printed.stdout, "The interface matches the file.\n");

    alone(&up, &["remove", "goes"]);
    alone(&up, &Hub::add_words("new", &key(4).to_string()));
    let text = up.hub.text();
    let changed = format!(
        "{}{keepalive}PresharedKey = {PRIVATE}\n",
        peer("changes", 3, "10.42.0.4")
    );
    fs::write(
        &up.hub.path,
        text.replace(&peer("changes", 3, "10.42.0.4"), &changed),
    )
    .unwrap();
    // A peer of somebody else, and settings that the file lacks.
    let stranger = key(9).to_string();
    up.wg(&["set", "wg0", "peer", &stranger, "allowed-ips", "10.42.0.3/32"]);
    up.wg(&["set", "wg0", "fwmark", "7"]);
    let stays = up.dump()[&key(1).to_string()].clone();
    let print = Print::of(&up.hub.path);
    let changes = sync(&up);
    up.agrees();
    assert_eq!(up.dump()[&key(1).to_string()], stays);
    assert!(up.dump()[""].ends_with("\t51820\t0x7"), "{:?}", up.dump()[""]);
    let told = changes.as_array().unwrap();
    for (wanted, of) in [
        ("remove", key(2)),
        ("remove", key(9)),
        ("allowed-ips 10.42.0.3/32", key(4)),
    ] {
        let line = |line: &&Value| line.as_str().unwrap().contains(&of.to_string());
        let line = told
            .iter()
            .find(line)
            .unwrap_or_else(|| panic!("{of}: {changes}"));
        assert!(line.as_str().unwrap().contains(wanted), "{changes}");
    }
    let text = changes.to_string();
    assert!(
        text.contains("preshared-key (hidden)") && !text.contains(PRIVATE),
        "{text}"
    );
    assert!(!text.contains(&key(1).to_string()), "{text}");
    assert_eq!(sync(&up), json!([]), "again");
    assert_eq!(Print::of(&up.hub.path), print);

    // Key and port, too.
    up.wg(&["set", "wg0", "listen-port", "4711"]);
    let other = up.hub.beside(".key");
    fs::write(&other, "XasIfmJKikt54X+Lg4AO5m87sSkmGLb9HC+LJ/+I4Os=\n").unwrap();
    up.wg(&["set", "wg0", "private-key", other.to_str().unwrap()]);
    let changes = sync(&up).to_string();
    assert!(
        changes.contains("listen-port 51820") && changes.contains("private key of"),
        "{changes}"
    );
    assert_eq!(up.dump()[""].split('\t').nth(1).unwrap(), PUBLIC);
    assert_eq!(sync(&up), json!([]));
}

#[test]
fn sync_changes_nothing_if_it_cannot_change_everything() {
    if !can_run() {
        return;
    }
    let up = Up::new(Hub::with(&peer("a", 1, "10.42.0.2")));
    // Bob's key is that of the interface, and in the file that of a client.
    let bob = "3p7bfXt9wbTTW2HC7OQ1Nz+DQ8hbeGdNrfx+FG+IK08=";
    let text =
        format!("[Interface]\nListenPort = 51820\n\n[Peer]\nPublicKey = {bob}\nAllowedIPs = 10.42.0.2/32\n");
    let other = up.hub.beside(".key");
    fs::write(&other, "XasIfmJKikt54X+Lg4AO5m87sSkmGLb9HC+LJ/+I4Os=\n").unwrap();
    up.wg(&["set", "wg0", "private-key", other.to_str().unwrap()]);
    fs::write(&up.hub.path, text).unwrap();
    let before = up.dump();
    let printed = up.adit(&["sync"]);
    assert_eq!(printed.code, 1, "{printed:?}");
    assert!(printed.stderr.contains("did not accept the peer"), "{printed:?}");
    assert_eq!(up.dump(), before);
    up.netns.ip("link delete wg0");
    let printed = up.adit(&["sync"]);
    assert!(
        printed.code == 1 && printed.stderr.contains("`adit wg up wg0`"),
        "{printed:?}"
    );
}

#[test]
fn a_client_has_a_route_unless_another_covers_it_and_loses_it_when_removed() {
    if !can_run() {
        return;
    }
    let site = "AllowedIPs = 192.168.5.0/24, fd05::/48\n";
    let up = Up::new(without_subnet(&(peer("site", 1, "10.42.0.2") + site)));
    up.netns.ip("address add 10.42.0.1/32 dev wg0");
    assert_eq!(
        sync(&up).as_array().unwrap().len(),
        3,
        "as `wg-quick up` adds them"
    );
    assert_eq!(routes(&up), ["10.42.0.2", "192.168.5.0/24"]);
    assert!(up.netns.ip("-6 route show dev wg0").contains("fd05::/48"));
    let words = |id, number: u32| {
        let printed: Printed = up.adit(&[
            "add",
            id,
            "--public-key",
            &key(number).to_string(),
            "--subnet",
            "10.42.0.0/24",
            "-o",
            "json",
        ]);
        answer(&printed)["status"].clone()
    };
    assert_eq!(words("phone", 2), "added");
    assert_eq!(routes(&up), ["10.42.0.2", "10.42.0.3", "192.168.5.0/24"]);
    assert_eq!(words("phone", 3), "reconfigured");
    assert_eq!(routes(&up), ["10.42.0.2", "10.42.0.3", "192.168.5.0/24"]);
    up.netns.ip("route delete 10.42.0.3 dev wg0");
    assert_eq!(words("phone", 3), "already-present");
    assert_eq!(routes(&up), ["10.42.0.2", "10.42.0.3", "192.168.5.0/24"]);

    // Routes of an administrator and of another program stay.
    up.netns.ip("route add 10.99.0.0/16 dev wg0");
    up.netns.ip("route add 10.42.0.3 dev wg0 metric 7 proto 42");
    for id in ["phone", "site"] {
        assert_eq!(up.adit(&["remove", id]).code, 0);
    }
    assert_eq!(routes(&up), ["10.42.0.3", "10.99.0.0/16"]);
    assert!(!up.netns.ip("-6 route show dev wg0").contains("fd05::/48"));

    // If somebody else has the route, nothing changes.
    up.netns.ip("route add 10.42.0.2 dev lo");
    let (print, dump) = (Print::of(&up.hub.path), up.dump());
    let printed = up.add("tablet", 4);
    assert_eq!(printed.code, 1, "{printed:?}");
    assert!(printed.stderr.contains("not created by Adit"), "{printed:?}");
    assert_eq!((Print::of(&up.hub.path).bytes, up.dump()), (print.bytes, dump));
    assert_eq!(routes(&up), ["10.42.0.3", "10.99.0.0/16"]);
}

#[test]
fn an_interface_managed_by_an_agent_is_not_changed() {
    if !can_run() {
        return;
    }
    let up = Up::new(Hub::with(&peer("a", 1, "10.42.0.2")));
    up.netns.ip("link set wg0 group 173");
    let (print, dump) = (Print::of(&up.hub.path), up.dump());
    let same = key(1).to_string();
    let new = key(2).to_string();
    for words in [
        &Hub::add_words("b", &new)[..],
        &Hub::add_words("a", &same),
        &Hub::add_words("a", &new),
        &["remove", "a"],
        &["sync"],
    ] {
        let printed = up.adit(words);
        assert_eq!(printed.code, 8, "{words:?}: {printed:?}");
        assert!(
            printed.stderr.contains("the agent manages wg0")
                && printed
                    .stderr
                    .contains("`spec.peers` of the WireGuardInterface manifest"),
            "{printed:?}"
        );
        assert_eq!(
            (Print::of(&up.hub.path), up.dump()),
            (print.clone(), dump.clone())
        );
    }
    alone(&up, &["remove", "a"]);
}
