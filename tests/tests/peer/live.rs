//! The interface of a file: changes of the file are applied to it, and nothing else.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use adit_tests::agent::{PATIENCE, Printed};
use adit_tests::{NetNs, require_module, require_program};
use dataplane_user::net::PublicKey;
use dataplane_user::resource::wireguard::Peer;
use dataplane_user::wg_quick::Config;

use crate::{Hub, PRIVATE, PUBLIC, Print, answer, key, peer, run};

/// The file of a hub, and its interface in a namespace.
pub(crate) struct Up {
    pub(crate) hub: Hub,
    pub(crate) netns: NetNs,
}

impl Up {
    pub(crate) fn new(hub: Hub) -> Up {
        let netns = NetNs::new();
        netns.ip("link add wg0 type wireguard");
        netns.ip("link set wg0 up");
        let up = Up { hub, netns };
        up.set_whole_file();
        up
    }

    /// Applies the file to the interface, except the keys that only `wg-quick` reads.
    fn set_whole_file(&self) {
        let text = self.hub.text();
        let is_of_wg = |line: &&str| !line.starts_with("Address");
        let stripped = text.lines().filter(is_of_wg).map(|line| format!("{line}\n"));
        let file = self.hub.beside(".stripped");
        fs::write(&file, stripped.collect::<String>()).unwrap();
        self.wg(&["setconf", "wg0", file.to_str().unwrap()]);
    }

    pub(crate) fn adit(&self, words: &[&str]) -> Printed {
        self.netns.enter(|| run(&mut self.hub.command(words)))
    }

    pub(crate) fn add(&self, id: &str, number: u32) -> Printed {
        self.adit(&Hub::add_words(id, &key(number).to_string()))
    }

    pub(crate) fn wg(&self, words: &[&str]) -> String {
        let printed = self.netns.enter(|| run(Command::new("wg").args(words)));
        assert_eq!(printed.code, 0, "wg {words:?}: {printed:?}");
        printed.stdout
    }

    /// The output of `wg show wg0 dump` by the keys of the peers; the interface itself has the empty key.
    pub(crate) fn dump(&self) -> BTreeMap<String, String> {
        let dump = self.wg(&["show", "wg0", "dump"]);
        let lines = dump.lines().enumerate();
        let by_key = lines.map(|(index, line)| match index {
            0 => (String::new(), line.to_owned()),
            _ => (line.split('\t').next().unwrap().to_owned(), line.to_owned()),
        });
        by_key.collect()
    }

    /// Asserts that `wg showconf` and the file have the same peers.
    pub(crate) fn agrees(&self) {
        let shown = self.wg(&["showconf", "wg0"]);
        assert_eq!(peers(shown.as_bytes()), peers(&fs::read(&self.hub.path).unwrap()));
    }
}

fn peers(file: &[u8]) -> BTreeMap<PublicKey, Peer> {
    let config = Config::parse(Path::new("wg0.conf"), file).unwrap();
    let peers = config.peers.into_iter();
    peers.map(|peer| (peer.public_key, peer)).collect()
}

pub(crate) fn can_run() -> bool {
    require_module("wireguard") && require_program("wg")
}

#[test]
fn the_interface_matches_the_file() {
    if !can_run() {
        return;
    }
    let up = Up::new(Hub::with(&format!(
        "{}PersistentKeepalive = 25\nPresharedKey = {PRIVATE}\n",
        peer("old", 9, "10.42.0.9")
    )));
    up.agrees();
    let before = up.dump();
    assert_eq!(answer(&up.add("a", 1))["status"], "added");
    up.agrees();
    let mut after = up.dump();
    assert!(after.remove(&key(1).to_string()).is_some(), "{after:?}");
    assert_eq!(after, before);

    assert_eq!(answer(&up.add("a", 2))["status"], "reconfigured");
    up.agrees();
    assert!(up.dump().contains_key(&key(2).to_string()) && !up.dump().contains_key(&key(1).to_string()));
    assert_eq!(answer(&up.add("old", 8))["assigned_ip"], "10.42.0.9");
    up.agrees();
    assert_eq!(up.adit(&["rename", "a", "b"]).code, 0);
    up.agrees();

    let print = Print::of(&up.hub.path);
    assert_eq!(answer(&up.add("b", 2))["status"], "already-present");
    up.wg(&["set", "wg0", "peer", &key(2).to_string(), "remove"]);
    assert_eq!(answer(&up.add("b", 2))["status"], "already-present");
    assert_eq!(Print::of(&up.hub.path), print);
    up.agrees();

    let now = up.dump();
    up.set_whole_file();
    assert_eq!(up.dump(), now, "the whole file says the same");
    assert_eq!(up.adit(&["remove", "b"]).code, 0);
    up.agrees();
    assert_eq!(up.dump().len(), 2);
}

/// A client that has communicated with the hub and is silent now.
fn talk(up: &Up) -> NetNs {
    let device = NetNs::new();
    let path = device.path();
    up.netns.ip(&format!(
        "link add u0 type veth peer name u0 netns {}",
        path.display()
    ));
    for (netns, number) in [(&up.netns, 1), (&device, 2)] {
        netns.ip(&format!("address add 192.0.2.{number}/24 dev u0"));
        netns.ip("link set u0 up");
    }
    up.netns.ip("address add 10.42.0.1/16 dev wg0");
    device.ip("link add wg0 type wireguard");
    let directory = tempfile::tempdir().unwrap();
    let conf = directory.path().join("wg0.conf");
    // Bob's private key, of RFC 7748.
    let text = format!(
        "[Interface]\nPrivateKey = XasIfmJKikt54X+Lg4AO5m87sSkmGLb9HC+LJ/+I4Os=\n[Peer]\nPublicKey = {PUBLIC}\n\
         Endpoint = 192.0.2.1:51820\nAllowedIPs = 10.42.0.0/16\n"
    );
    fs::write(&conf, text).unwrap();
    let set = run_in(&device, Command::new("wg").args(["setconf", "wg0"]).arg(&conf));
    assert_eq!(set.code, 0, "{set:?}");
    device.ip("address add 10.42.255.2/16 dev wg0");
    device.ip("link set wg0 up");
    let pinged = run_in(
        &device,
        Command::new("ping").args(["-c", "1", "-W", "30", "10.42.0.1"]),
    );
    assert_eq!(pinged.code, 0, "{pinged:?}");
    // A keepalive answers 10 s later (KEEPALIVE_TIMEOUT); after that, nobody sends anything.
    let received = || {
        up.wg(&["show", "wg0", "transfer"])
            .lines()
            .find(|line| line.starts_with(BOB))
            .unwrap()
            .to_owned()
    };
    let (first, deadline) = (received(), Instant::now() + PATIENCE);
    while received() == first {
        assert!(Instant::now() < deadline, "it never falls silent");
        thread::sleep(Duration::from_millis(100));
    }
    device
}

// RFC 7748, section 6.1: Bob's public key.
const BOB: &str = "3p7bfXt9wbTTW2HC7OQ1Nz+DQ8hbeGdNrfx+FG+IK08=";

fn run_in(netns: &NetNs, command: &mut Command) -> Printed {
    netns.enter(|| run(command))
}

#[test]
fn adding_one_of_thousands_of_clients_does_not_touch_the_others() {
    const PEERS: u32 = 5000;
    if !can_run() {
        return;
    }
    let many = (0..PEERS).map(|number| {
        let [.., high, low] = (number + 2).to_be_bytes();
        peer(
            &format!("device-{number}"),
            number,
            &format!("10.42.{high}.{low}"),
        )
    });
    let talker = format!("\n# DeviceID:bob\n[Peer]\nPublicKey = {BOB}\nAllowedIPs = 10.42.255.2/32\n");
    let up = Up::new(Hub::with(&(many.collect::<String>() + &talker)));
    let _device = talk(&up);
    let before = up.dump();
    assert_eq!(before.len(), 5002);
    let bob = before[BOB].split('\t').collect::<Vec<_>>();
    assert!(
        bob[2].starts_with("192.0.2.2:") && bob[4..7].iter().all(|figure| *figure != "0"),
        "{bob:?}"
    );

    let id = "one-more";
    let one_more = key(PEERS).to_string();
    let words = [
        "add",
        id,
        "--public-key",
        &one_more,
        "--subnet",
        "10.42.0.0/16",
        "-o",
        "json",
    ];
    let began = Instant::now();
    let added = answer(&up.adit(&words));
    println!("one more than {} peers in {:?}", PEERS + 1, began.elapsed());
    assert_eq!(
        (&added["status"], &added["assigned_ip"]),
        (&"added".into(), &"10.42.19.138".into())
    );
    let mut after = up.dump();
    let line = after.remove(&one_more).unwrap();
    assert!(line.contains("\t10.42.19.138/32\t"), "{line}");
    assert!(after == before, "somebody else was touched");
    assert_eq!(up.adit(&["remove", id]).code, 0);
    assert!(up.dump() == before, "somebody else was touched");
}

#[test]
fn a_change_that_the_interface_refuses_is_not_in_the_file() {
    if !can_run() {
        return;
    }
    let unknown = "Endpoint = host.invalid:51820\n";
    let up = Up::new(Hub::with(&peer("a", 1, "10.42.0.2")));
    // The file has Alice's key and the interface Bob's, so Bob cannot be a peer of the interface.
    let other = up.hub.beside(".key");
    fs::write(&other, "XasIfmJKikt54X+Lg4AO5m87sSkmGLb9HC+LJ/+I4Os=\n").unwrap();
    up.wg(&["set", "wg0", "private-key", other.to_str().unwrap()]);
    // Somebody added a prefix that the file does not have.
    up.wg(&[
        "set",
        "wg0",
        "peer",
        &key(7).to_string(),
        "allowed-ips",
        "10.42.0.3/32,10.42.0.4/32",
    ]);
    let (file, dump) = (up.hub.text(), up.dump());

    let printed = up.adit(&Hub::add_words("bob", BOB));
    assert_eq!(printed.code, 1, "{printed:?}");
    assert!(
        printed
            .stderr
            .contains(&format!("wg0 did not accept the peer {BOB}"))
            && printed.stderr.contains("; the file is unchanged"),
        "{printed:?}"
    );
    assert_eq!((up.hub.text(), up.dump()), (file.clone(), dump.clone()));
    let printed = up.adit(&Hub::add_words("a", BOB));
    assert_eq!(printed.code, 1, "{printed:?}");
    assert_eq!(
        (up.hub.text(), up.dump()),
        (file.clone(), dump),
        "the old key is back"
    );

    fs::write(&up.hub.path, file + unknown).unwrap();
    let (file, dump) = (up.hub.text(), up.dump());
    let printed = up.add("a", 2);
    assert_eq!(printed.code, 1, "{printed:?}");
    assert!(
        printed
            .stderr
            .contains("can't resolve the endpoint `host.invalid`"),
        "{printed:?}"
    );
    assert_eq!((up.hub.text(), up.dump()), (file, dump));
}

#[test]
fn a_missing_interface_leaves_the_file_unchanged() {
    if !can_run() {
        return;
    }
    let up = Up::new(Hub::with(&peer("a", 1, "10.42.0.2")));
    up.netns.ip("link delete wg0");
    let print = Print::of(&up.hub.path);
    for words in [&Hub::add_words("b", &key(2).to_string())[..], &["remove", "a"]] {
        let printed = up.adit(words);
        assert_eq!(printed.code, 1, "{printed:?}");
        for says in [
            "wg0 does not exist or is not a WireGuard interface",
            "No such device",
            "`adit wg up wg0`",
        ] {
            assert!(printed.stderr.contains(says), "{printed:?}");
        }
        assert_eq!(Print::of(&up.hub.path), print);
    }
    assert_eq!(answer(&up.add("a", 1))["status"], "already-present");
    up.netns.ip("link add wg0 type bridge");
    let printed = up.add("b", 2);
    assert!(
        printed.code == 1 && printed.stderr.contains("is not a WireGuard interface"),
        "{printed:?}"
    );
    assert_eq!(Print::of(&up.hub.path), print);
}
