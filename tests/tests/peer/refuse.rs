//! Refused commands: they exit with a code and the reason, and write nothing.

use std::fs;
use std::process::Command;

use adit_tests::agent::{Printed, binary};
use serde_json::Value;

use crate::{Hub, PRIVATE, PUBLIC, Print, SUBNET, key, peer, run};

/// Runs `adit peer` without the interface, and asserts this error and that nothing is written.
fn refused(hub: &Hub, words: &[&str], code: i32, says: &str) {
    let before = Print::of(&hub.path);
    let printed = hub.adit(words);
    assert_eq!(printed.code, code, "{words:?}: {printed:?}");
    assert!(printed.stderr.contains(says), "{words:?}: {printed:?}");
    assert!(!printed.stderr.contains(&PRIVATE[..20]), "{printed:?}");
    assert_eq!(printed.stdout, "");
    assert_eq!(Print::of(&hub.path), before);
    assert!(!hub.beside(".bak").exists(), "{words:?}");
}

#[test]
fn wrong_arguments_are_refused() {
    let hub = Hub::with("");
    let good = key(1).to_string();
    let of_31_bytes = format!("{}==", "A".repeat(42));
    for bad in [
        &of_31_bytes,
        "bad",
        "",
        &format!("!{}", &good[1..]),
        &PRIVATE[..43],
    ] {
        refused(&hub, &Hub::add_words("a", bad), 2, "--public-key: a key ");
    }
    let long = "x".repeat(129);
    for (bad, why) in [
        ("a\n[Peer]", "contains a line break"),
        ("a#b", "contains `#`"),
        ("a]", "contains `]`"),
        ("", "is empty"),
        (" ", "white space"),
        (&long, "at most 128 bytes"),
    ] {
        refused(&hub, &Hub::add_words(bad, &good), 2, why);
        refused(&hub, &["rename", "a", bad], 2, why);
    }
    for (bad, why) in [
        (
            "10.42.0.1/24",
            "--subnet: `10.42.0.1/24` has host bits set; write `10.42.0.0/24`",
        ),
        ("10.42.0.0", "--subnet: `10.42.0.0` is not a subnet"),
    ] {
        refused(
            &hub,
            &["add", "a", "--public-key", &good, "--subnet", bad],
            2,
            why,
        );
    }
    refused(&hub, &["add", "a", "--subnet", SUBNET], 2, "--public-key");
    assert!(
        !hub.beside(".lock").exists(),
        "it is looked at before the file is"
    );
}

#[test]
fn changes_that_contradict_the_file_are_refused() {
    let hub = Hub::with(&(peer("a", 1, "10.42.0.2") + &peer("b", 2, "10.42.0.3")));
    let [first, second, third] = [1, 2, 3].map(|number| key(number).to_string());
    refused(
        &hub,
        &Hub::add_words("c", &second),
        8,
        &format!("{second} is the key of `b` already"),
    );
    refused(
        &hub,
        &Hub::add_words("a", &second),
        8,
        &format!("{second} is the key of `b` already"),
    );
    refused(
        &hub,
        &Hub::add_words("c", PUBLIC),
        8,
        "is the key of the hub itself",
    );
    for (subnet, why) in [
        ("10.43.0.0/24", "`10.42.0.1/24` is not in the subnet 10.43.0.0/24"),
        ("fd42::/64", "`10.42.0.1/24` is not in the subnet fd42::/64"),
        ("10.42.0.0/30", "no address of 10.42.0.0/30 is free"),
    ] {
        refused(
            &hub,
            &["add", "c", "--public-key", &third, "--subnet", subnet],
            8,
            why,
        );
    }
    refused(
        &hub,
        &["rename", "a", "b"],
        8,
        &format!("`b` is the DeviceID of peer {second} already"),
    );
    refused(
        &hub,
        &["rename", "other", "y"],
        3,
        "no peer has the DeviceID `other`; known: a, b",
    );
    refused(
        &hub,
        &["remove", "other"],
        3,
        "no peer has the DeviceID `other`; known: a, b",
    );

    let saved = Hub::with("SaveConfig = true\n");
    for words in [
        &Hub::add_words("a", &first)[..],
        &["remove", "a"],
        &["rename", "a", "b"],
    ] {
        refused(
            &saved,
            words,
            8,
            "line 5 has `SaveConfig = true`: `wg-quick down` would overwrite",
        );
    }
    assert_eq!(saved.list().len(), 0, "it can be read");
}

#[test]
fn a_pool_ends_with_its_last_address() {
    let hub = Hub::with("");
    fn words<'a>(id: &'a str, key: &'a str) -> [&'a str; 6] {
        ["add", id, "--public-key", key, "--subnet", "10.42.0.0/29"]
    }
    for number in 1..=5 {
        let printed = hub.adit(&words(&format!("d{number}"), &key(number).to_string()));
        assert_eq!(printed.code, 0, "{printed:?}");
    }
    let given = hub.list();
    assert_eq!(
        given.last().unwrap()["assigned_ip"],
        "10.42.0.6",
        "7 is the broadcast address"
    );
    fs::remove_file(hub.beside(".bak")).unwrap();
    let sixth = key(6).to_string();
    refused(
        &hub,
        &words("d6", &sixth),
        8,
        "no address of 10.42.0.0/29 is free",
    );
}

#[test]
fn missing_and_wrong_files_are_refused() {
    let missing = Hub::with("");
    fs::remove_file(&missing.path).unwrap();
    let first = key(1).to_string();
    for words in [
        &Hub::add_words("a", &first)[..],
        &["remove", "a"],
        &["list"],
        &["rename", "a", "b"],
    ] {
        let Printed { code, stderr, .. } = missing.adit(words);
        assert_eq!(code, 3, "{stderr}");
        assert!(stderr.contains("wg0.conf: No such file or directory"), "{stderr}");
    }
    let directory = missing.path.parent().unwrap();
    assert_eq!(fs::read_dir(directory).unwrap().count(), 0, "nothing is made");

    let wrong = Hub::new(&format!("[Interface]\nPrivatKey = {PRIVATE}\n"));
    refused(
        &wrong,
        &Hub::add_words("a", &first),
        1,
        "wg0.conf:2: unknown key `PrivatKey`; did you mean `PrivateKey`?",
    );
    // That WireGuard gives the prefix to the last of two is no reason to keep it.
    let shared = Hub::with(&(peer("a", 1, "10.42.0.2") + &peer("b", 2, "10.42.0.2")));
    let listed = shared.adit(&["list"]);
    assert!(
        listed.code == 0 && listed.stderr.contains("10.42.0.2/32"),
        "{listed:?}"
    );
    assert_eq!(shared.list()[0]["assigned_ip"], Value::Null);
    let removed = shared.adit(&["remove", "b"]);
    assert_eq!(removed.code, 0, "{removed:?}");
    assert_eq!(shared.list()[0]["assigned_ip"], "10.42.0.2");

    let hub = Hub::with("");
    let odd = hub.path.with_file_name("a name that is too long.conf");
    fs::rename(&hub.path, &odd).unwrap();
    let hub = Hub { path: odd, ..hub };
    let printed = run(&mut hub.command(&Hub::add_words("a", &first)));
    assert_eq!(printed.code, 8, "{printed:?}");
    assert!(
        printed.stderr.contains("change only the file with --skip-sync"),
        "{printed:?}"
    );
    assert_eq!(hub.add("a", 1)["status"], "added");
}

#[test]
fn a_fifo_instead_of_a_file_is_refused_at_once() {
    let hub = Hub::with("");
    fs::remove_file(&hub.path).unwrap();
    nix::unistd::mkfifo(&hub.path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let file = hub.path.to_str().unwrap();
    for words in [
        &["peer", "list", "--config", file][..],
        &[
            "peer",
            "add",
            "a",
            "--public-key",
            PUBLIC,
            "--subnet",
            SUBNET,
            "--config",
            file,
        ],
        &["wg", "up", file],
        &["wg", "import", file, "--node", "a"],
    ] {
        let printed = run(Command::new(binary()).args(words));
        assert_ne!(printed.code, 0, "{words:?}");
        let is_told = printed.stderr.contains(file) && printed.stderr.contains("FIFO");
        assert!(is_told, "{words:?}: {printed:?}");
    }
}
