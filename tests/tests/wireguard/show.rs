//! `adit wg show` compared with `wg show`: byte for byte the same, except for secrets.

use std::collections::BTreeMap;
use std::fs;
use std::net::UdpSocket;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use adit_tests::agent::{PATIENCE, binary};
use adit_tests::{NetNs, require_module, require_program};
use dataplane_user::kernel::wireguard::generate;
use dataplane_user::net::{PresharedKey, PrivateKey};
use serde_json::Value;

const FIELDS: [&str; 12] = [
    "public-key",
    "private-key",
    "listen-port",
    "fwmark",
    "peers",
    "preshared-keys",
    "endpoints",
    "allowed-ips",
    "latest-handshakes",
    "transfer",
    "persistent-keepalive",
    "dump",
];

/// Two namespaces that communicate. `hub` has three unmanaged devices: `wg0` has peers of all kinds, `bare` only a private
/// key, `empty` nothing.
struct Scene {
    hub: NetNs,
    /// A namespace with two devices that completed a handshake with `wg0`.
    spokes: NetNs,
    private: Vec<PrivateKey>,
    preshared: PresharedKey,
}

fn possible() -> bool {
    require_module("wireguard") && require_program("wg")
}

/// Runs `wg` in a namespace.
fn set(netns: &NetNs, words: &str) {
    let output = run(netns, "wg", words);
    assert!(output.status.success(), "wg {words}: {output:?}");
}

fn run(netns: &NetNs, program: &str, words: &str) -> Output {
    let program = if program == "adit" {
        binary().into_os_string()
    } else {
        program.into()
    };
    let mut command = Command::new(program);
    // Only the verbose output of `wg` hides keys by this variable; `adit wg show` must ignore it.
    command
        .args(words.split_whitespace())
        .env("WG_HIDE_KEYS", "never");
    netns.enter(|| command.output()).unwrap()
}

fn printed(netns: &NetNs, program: &str, words: &str) -> String {
    let output = run(netns, program, words);
    assert!(output.status.success(), "{program} {words}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The output of `wg`. For endpoints of all interfaces, wireguard-tools 1.0.20210914 prints the interface only before the
/// first one, which contradicts its manual; later versions print it as for all other fields.
fn theirs(netns: &NetNs, words: &str) -> String {
    if words != "show all endpoints" {
        return printed(netns, "wg", words);
    }
    let interfaces = printed(netns, "wg", "show interfaces");
    let lines = interfaces.split_whitespace().map(|name| {
        let lines = printed(netns, "wg", &format!("show {name} endpoints"));
        lines
            .lines()
            .map(|line| format!("{name}\t{line}\n"))
            .collect::<String>()
    });
    lines.collect()
}

/// The output of both, when it is stable: ages and counters change between two calls.
fn both(netns: &NetNs, words: &str, ours: &str) -> (String, String) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let before = theirs(netns, words);
        let adit = printed(netns, "adit", ours);
        // The clock that wg uses for ages is a tick late (time(2)).
        std::thread::sleep(Duration::from_millis(20));
        if before == theirs(netns, words) {
            return (before, adit);
        }
        assert!(Instant::now() < deadline, "`wg {words}` is never stable");
    }
}

impl Scene {
    fn new() -> Scene {
        let (hub, spokes) = (NetNs::new(), NetNs::new());
        hub.ip(&format!(
            "link add u0 type veth peer name u0 netns {}",
            spokes.path().display()
        ));
        for (netns, last) in [(&hub, 1), (&spokes, 2)] {
            netns.ip(&format!("address add 192.0.2.{last}/24 dev u0"));
            netns.ip(&format!("address add 2001:db8::{last}/64 dev u0 nodad"));
            netns.ip(&format!("address add fe80::{last}/64 dev u0 nodad"));
            netns.ip("link set u0 up");
        }
        let private: Vec<PrivateKey> = (0..6).map(|_| generate::private_key().unwrap()).collect();
        let public: Vec<_> = private.iter().map(PrivateKey::public_key).collect();
        let preshared = generate::preshared_key().unwrap();
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = directory.path().join(name);
            fs::write(&path, text).unwrap();
            path.display().to_string()
        };
        let keys: Vec<String> = private
            .iter()
            .enumerate()
            .map(|(number, key)| file(&number.to_string(), &key.to_base64()))
            .collect();
        let psk = file("psk", &preshared.to_base64());

        for name in ["wg0", "bare", "empty"] {
            hub.ip(&format!("link add {name} type wireguard"));
        }
        for name in ["wg4", "wg6"] {
            spokes.ip(&format!("link add {name} type wireguard"));
        }
        set(&hub, &format!("set bare private-key {}", keys[1]));
        set(
            &hub,
            &format!("set wg0 private-key {} listen-port 51820 fwmark 0xad17", keys[0]),
        );
        // The first peers never complete a handshake, so the verbose output has them last.
        for peer in [
            format!(
                "{} endpoint [fe80::2%u0]:7 persistent-keepalive 90 allowed-ips ::1.2.3.4/128,fd00:9::/48",
                public[4]
            ),
            format!("{} preshared-key {psk}", public[5]),
            format!(
                "{} allowed-ips 10.0.0.4/32,fd00::4/128,10.4.0.0/16 preshared-key {psk} persistent-keepalive 25",
                public[2]
            ),
            format!("{} allowed-ips 10.0.0.6/32", public[3]),
        ] {
            set(&hub, &format!("set wg0 peer {peer}"));
        }
        for (name, key, secret, endpoint) in [
            (
                "wg4",
                &keys[2],
                format!("preshared-key {psk} "),
                "192.0.2.1:51820",
            ),
            ("wg6", &keys[3], String::new(), "[2001:db8::1]:51820"),
        ] {
            let peer = format!(
                "peer {} {secret}endpoint {endpoint} allowed-ips 10.0.0.0/24",
                public[0]
            );
            set(&spokes, &format!("set {name} private-key {key} {peer}"));
        }
        for (netns, name, address) in [
            (&hub, "wg0", "10.0.0.1/24"),
            (&spokes, "wg4", "10.0.0.4/32"),
            (&spokes, "wg6", "10.0.0.6/32"),
        ] {
            netns.ip(&format!("link set {name} up"));
            netns.ip(&format!("address add {address} dev {name}"));
        }
        let scene = Scene {
            hub,
            spokes,
            private,
            preshared,
        };
        for (name, address) in [("wg4", "10.0.0.4"), ("wg6", "10.0.0.6")] {
            scene.shake_hands(name, address);
        }
        scene
    }

    /// Makes a spoke send until the hub has received something.
    fn shake_hands(&self, name: &str, address: &str) {
        let deadline = Instant::now() + PATIENCE;
        self.spokes
            .ip(&format!("route replace 10.0.0.1/32 dev {name} src {address}"));
        let key = printed(&self.spokes, "wg", &format!("show {name} public-key"));
        let heard = |field: &str, least: u64| {
            let shown = printed(&self.hub, "wg", &format!("show wg0 {field}"));
            let line = shown.lines().find(|line| line.starts_with(key.trim_end()));
            let value = line.and_then(|line| line.split('\t').nth(1)?.parse::<u64>().ok());
            value > Some(least)
        };
        while !(heard("latest-handshakes", 0) && heard("transfer", 1000)) {
            assert!(Instant::now() < deadline, "{name} never shook hands");
            self.spokes.enter(|| {
                let socket = UdpSocket::bind((address, 0)).unwrap();
                socket.send_to(&[0; 1000], "10.0.0.1:9").unwrap();
            });
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// All secrets, in base64.
    fn secrets(&self) -> Vec<String> {
        let preshared = self.preshared.to_base64().to_string();
        let private = self.private.iter().map(|key| key.to_base64().to_string());
        private.chain([preshared]).collect()
    }

    /// The output of `wg` without secrets.
    fn hide(&self, text: &str) -> String {
        let hide = |text: String, secret: &String| text.replace(secret.as_str(), "(hidden)");
        self.secrets().iter().fold(text.to_owned(), hide)
    }
}

#[test]
fn show_prints_the_same_as_wg_show() {
    if !possible() {
        return;
    }
    let scene = Scene::new();
    let whole = ["show", "show wg0", "show all", "show bare", "show empty"].map(str::to_owned);
    let fields = FIELDS
        .iter()
        .flat_map(|field| ["wg0", "all", "bare", "empty"].map(|name| format!("show {name} {field}")));
    let mut texts = BTreeMap::new();
    for words in whole
        .into_iter()
        .chain(fields)
        .chain(["show interfaces".to_owned()])
    {
        let (theirs, ours) = both(&scene.hub, &words, &format!("wg {words}"));
        assert_eq!(ours, scene.hide(&theirs), "{words}");
        let shown = format!("wg {words} --show-keys");
        let (theirs, ours) = both(&scene.hub, &words, &shown);
        assert_eq!(ours, theirs, "{words}");
        texts.insert(words, ours);
    }
    // The compared output is not trivial.
    let text = &texts["show wg0"];
    for part in [
        "  fwmark: 0xad17\n",
        "  endpoint: 192.0.2.2:",
        "  endpoint: [2001:db8::2]:",
        "  endpoint: [fe80::2%u0]:7\n",
        "  allowed ips: ::1.2.3.4/128, fd00:9::/48\n",
        "  allowed ips: 10.0.0.4/32, fd00::4/128, 10.4.0.0/16\n",
        "  allowed ips: (none)\n",
        "  latest handshake: ",
        " KiB received, ",
        "  persistent keepalive: every 1 minute, 30 seconds\n",
    ] {
        assert!(text.contains(part), "no {part:?} in\n{text}");
    }
    assert_eq!(text.matches("latest handshake").count(), 2, "{text}");
    assert_eq!(text.matches("preshared key: ").count(), 2, "{text}");
    let key = scene.private[3].public_key().to_string();
    assert!(text.find(&key) < text.find(&scene.private[2].public_key().to_string()));
    assert_eq!(texts["show interfaces"], "wg0 bare empty\n");
    assert_eq!(texts["show empty"], "interface: empty\n");
}

#[test]
fn no_secret_is_printed_unless_asked_for() {
    if !possible() {
        return;
    }
    let scene = Scene::new();
    let fields = FIELDS.map(|field| format!("wg show all {field}"));
    let others = ["wg show", "wg show wg0", "wg show -o json", "wg show wg0 -o json"].map(str::to_owned);
    let secrets = scene.secrets();
    for words in fields.iter().chain(&others) {
        let output = run(&scene.hub, "adit", words);
        assert!(output.status.success(), "{words}: {output:?}");
        let text = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
        for secret in &secrets {
            let found = text.iter().any(|text| text.contains(&secret[..42]));
            assert!(!found, "{words}: {text:?}");
        }
    }
    let json = |words: &str| -> Value { serde_json::from_str(&printed(&scene.hub, "adit", words)).unwrap() };
    let (hidden, shown) = (json("wg show -o json"), json("wg show -o json --show-keys"));
    assert_eq!(hidden["wg0"]["privateKey"], "(hidden)");
    assert_eq!(shown["wg0"]["privateKey"], secrets[0].as_str());
    assert_eq!(hidden["wg0"]["fwmark"], 0xad17);
    assert_eq!(hidden["wg0"]["listenPort"], 51820);
    assert_eq!(hidden["empty"], serde_json::json!({"peers": {}}));
    let key = scene.private[2].public_key().to_string();
    let (hidden, shown) = (&hidden["wg0"]["peers"][&key], &shown["wg0"]["peers"][&key]);
    assert_eq!(hidden["presharedKey"], "(hidden)");
    assert_eq!(shown["presharedKey"], scene.preshared.to_base64().as_str());
    assert_eq!(hidden["persistentKeepalive"], 25);
    assert!(hidden["latestHandshake"].as_u64() > Some(1_000_000_000));
    assert!(hidden["transferRx"].as_u64() > Some(1000));
    assert_eq!(hidden["allowedIps"].as_array().map(Vec::len), Some(3));
    assert!(hidden["endpoint"].as_str().unwrap().starts_with("192.0.2.2:"));
}

#[test]
fn an_unknown_interface_gives_exit_code_3_and_the_most_similar_name() {
    if !possible() {
        return;
    }
    let netns = NetNs::new();
    let fails = |words: &str| {
        let output = run(&netns, "adit", words);
        assert_eq!(output.stdout, b"", "{words}");
        let text = String::from_utf8(output.stderr).unwrap();
        (output.status.code().unwrap(), text)
    };
    assert_eq!(printed(&netns, "adit", "wg show"), "");
    assert_eq!(printed(&netns, "adit", "wg show interfaces"), "");
    let (code, text) = fails("wg show wg0");
    assert!(code == 3 && text.contains("none exist"), "{code}: {text}");
    netns.ip("link add wg-site type wireguard");
    for words in ["wg show wg-stie", "wg show wg-stie dump"] {
        let (code, text) = fails(words);
        assert!(
            code == 3 && text.contains("did you mean `wg-site`?"),
            "{code}: {text}"
        );
    }
    // Other devices and invalid names are no WireGuard interfaces.
    for name in ["lo", "a-name-that-is-too-long-for-a-device"] {
        let (code, text) = fails(&format!("wg show {name}"));
        assert!(code == 3 && text.contains("wg-site"), "{code}: {text}");
    }
    let (code, text) = fails("wg show wg-site peer");
    assert!(code == 2 && text.contains("peers"), "{code}: {text}");
    netns.ip("link property add dev wg-site altname other");
    assert_eq!(printed(&netns, "adit", "wg show other"), "interface: wg-site\n");
}
