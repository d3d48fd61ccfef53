//! `adit wg up`, `down`, `import` and `export`, compared with the real `wg-quick` and `wg`.

mod wg_quick {
    mod default_route;
    mod interrupted;
    mod undone;
}

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use adit_tests::agent::is_settled;
use adit_tests::named::{eventually, said};
use adit_tests::{Agent, NetNs, Topology, require_module, require_program, snapshot};
use dataplane_user::net::{Family, PresharedKey, PrivateKey};

fn key(number: u8) -> PrivateKey {
    PrivateKey::from_random(&[number; 32])
}

fn ready() -> bool {
    require_module("wireguard") && require_program("wg-quick") && require_program("nft")
}

/// A file `wg0.conf` in a separate directory, readable only by its owner.
struct Conf {
    directory: tempfile::TempDir,
}

impl Conf {
    fn new(text: &str) -> Conf {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let conf = Conf { directory };
        conf.write(text);
        conf
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("wg0.conf")
    }

    fn write(&self, text: &str) {
        fs::write(self.path(), text).expect("the temporary directory is writable");
        fs::set_permissions(self.path(), fs::Permissions::from_mode(0o600))
            .expect("the temporary file exists");
    }

    fn text(&self) -> String {
        fs::read_to_string(self.path()).expect("the temporary file exists")
    }
}

/// Runs a program in a namespace.
fn run(netns: &NetNs, program: &Path, words: &[&str]) -> Output {
    let output = netns.enter(|| Command::new(program).args(words).output());
    output.unwrap_or_else(|error| panic!("{}: {error}", program.display()))
}

fn adit(netns: &NetNs, words: &[&str]) -> Output {
    run(netns, &adit_tests::agent::binary(), words)
}

fn wg_quick(netns: &NetNs, words: &[&str]) -> Output {
    run(netns, Path::new("wg-quick"), words)
}

/// The compared state of an interface, sorted and without device indexes.
fn look(netns: &NetNs) -> String {
    let ip = |words: &str| snapshot::run(netns, "ip", words);
    let link = ip("-d link show wg0");
    let link = link.split_once(": ").map_or("", |(_, rest)| rest);
    let addresses = ip("address show wg0");
    let addresses = addresses.split_once(": ").map_or("", |(_, rest)| rest);
    let routes = [ip("route show table all"), ip("-6 route show table all")].concat();
    let mut routes = routes
        .lines()
        .filter(|line| line.contains("wg0"))
        .collect::<Vec<_>>();
    routes.sort_unstable();
    let conf = snapshot::run(netns, "wg", "showconf wg0");
    // The order of allowed IPs is the one of their addition, which does not matter.
    let prefixes = |line: &str| match line.strip_prefix("AllowedIPs = ") {
        Some(list) => {
            let mut list = list.split(", ").collect::<Vec<_>>();
            list.sort_unstable();
            format!("AllowedIPs = {}", list.join(", "))
        }
        None => line.to_owned(),
    };
    let conf = conf.lines().filter(|line| !line.starts_with("ListenPort"));
    let mut conf = conf.map(prefixes).collect::<Vec<_>>();
    conf.sort_unstable();
    format!(
        "{link}\n{addresses}\n{}\n{}{}\n{}",
        routes.join("\n"),
        ip("rule show"),
        ip("-6 rule show"),
        conf.join("\n")
    )
}

/// Prints the lines that only one of two texts has.
#[track_caller]
fn assert_same(ours: &str, theirs: &str, of: &str) {
    let only = |one: &str, other: &str| {
        let lines = one.lines().filter(|line| !other.contains(line));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    assert!(
        ours == theirs,
        "{of}: only ours {:#?}, only theirs {:#?}",
        only(ours, theirs),
        only(theirs, ours)
    );
}

/// The whole state of a namespace except counters.
fn all(netns: &NetNs) -> String {
    let ip = |words: &str| snapshot::run(netns, "ip", words);
    let state = [
        "link show",
        "address show",
        "route show table all",
        "-6 route show table all",
        "rule show",
        "-6 rule show",
    ]
    .map(ip)
    .concat();
    state + &snapshot::run(netns, "nft", "list tables")
}

const PEERS: &str = "
[Peer]
PublicKey = AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=
Endpoint = 192.0.2.17:51820
";

#[test]
fn up_and_down_do_what_wg_quick_does() {
    if !ready() {
        return;
    }
    let private = key(1).to_base64();
    let psk = PresharedKey::from_bytes(&[9; 32]).to_base64();
    let head = format!("[Interface]\nPrivateKey = {}\n", private.as_str());
    let confs = [
        format!(
            "{head}Address = 10.70.0.1/24, fd70::1/64\n{PEERS}AllowedIPs = 10.70.0.2/32, 10.71.0.0/16, fd70::2/128, fd71::/48\n"
        ),
        // Keys in any case, untidy, and without masks.
        format!(
            "[interface]\nprivatekey={}\nADDRESS = 10.70.0.1 # a comment\nListenPort=51821\nFwMark = 0x7\nMTU = 1300\n{PEERS}ALLOWEDIPS = 10.72.3.4/16,fd72::/48\nPersistentKeepalive = 25\nPresharedKey = {}\n",
            private.as_str(),
            psk.as_str()
        ),
        format!(
            "{head}Address = 10.70.0.1/24\nAddress = fe80::7/64\nTable = 77\n{PEERS}AllowedIPs = 0.0.0.0/0, ::/0, 10.73.0.0/16\n"
        ),
        format!("{head}Address = 10.70.0.1/32\nTable = off\n{PEERS}AllowedIPs = 10.74.0.0/16\n"),
        format!("{head}Address = 10.70.0.1/24, fd70::1/64\n{PEERS}AllowedIPs = 0.0.0.0/0, ::/0\n"),
        format!("{head}{PEERS}AllowedIPs = ::/0\n"),
    ];
    for text in confs {
        let conf = Conf::new(&text);
        let path = conf.path();
        let path = path.to_str().unwrap();
        let (one, other) = (Topology::<1>::new(), Topology::<1>::new());
        let (theirs, ours) = (&one.hosts[0].netns, &other.hosts[0].netns);
        let before = all(ours);
        said(&wg_quick(theirs, &["up", path]));
        said(&adit(ours, &["wg", "up", path]));
        assert_same(&look(ours), &look(theirs), &text);
        let again = adit(ours, &["wg", "up", path]);
        assert_eq!(again.status.code(), Some(8), "{again:?}");
        said(&adit(ours, &["wg", "down", path]));
        assert_eq!(all(ours), before, "{text}");
        // Each tool removes what the other one created.
        said(&adit(theirs, &["wg", "down", path]));
        let left = all(theirs);
        assert!(
            !left.contains("wg0") && !left.contains("suppress_prefixlength"),
            "{left}"
        );
        said(&adit(ours, &["wg", "up", path]));
        said(&wg_quick(ours, &["down", path]));
        assert_eq!(all(ours), before, "{text}");
    }
}

#[test]
fn two_hosts_with_typical_files_reach_each_other() {
    if !ready() {
        return;
    }
    let topology = Topology::<2>::new();
    let [a, b] = &topology.hosts;
    let text = |own: u8, other: u8, remote: std::net::IpAddr| {
        format!(
            "[Interface]\nAddress = 10.0.0.{own}\nPrivateKey = {}\nListenPort = 51820\n\n[Peer]\nPublicKey = {}\nEndPoint = {remote}:51820\nAllowedIPs = 10.0.0.{other}/32\n",
            key(own).to_base64().as_str(),
            key(other).public_key()
        )
    };
    let confs = [
        (a, Conf::new(&text(1, 2, b.underlay(Family::Ipv4)))),
        (b, Conf::new(&text(2, 1, a.underlay(Family::Ipv4)))),
    ];
    for (host, conf) in &confs {
        said(&adit(&host.netns, &["wg", "up", conf.path().to_str().unwrap()]));
    }
    let ping = || {
        run(&a.netns, Path::new("ping"), &["-c1", "-W1", "10.0.0.2"])
            .status
            .success()
    };
    assert!(eventually(ping));
    // The age of a handshake may grow by a second between the two.
    let pair = || {
        let ours = said(&adit(&a.netns, &["wg", "show"]));
        (ours, said(&run(&a.netns, Path::new("wg"), &["show"])))
    };
    let is_same = || {
        let (ours, theirs) = pair();
        ours == theirs
    };
    assert!(eventually(is_same), "{:#?}", pair());
    let shown = pair().0;
    assert!(
        shown.contains("private key: (hidden)") && shown.contains("latest handshake"),
        "{shown}"
    );
    // By its name, without a file.
    said(&adit(&a.netns, &["wg", "down", "wg0"]));
    assert!(!snapshot::run(&a.netns, "ip", "link").contains("wg0"));
    let gone = adit(&a.netns, &["wg", "down", "wg0"]);
    assert_eq!(gone.status.code(), Some(3), "{gone:?}");
}

#[test]
fn commands_run_only_if_asked_for_and_failures_are_undone() {
    if !ready() {
        return;
    }
    let topology = Topology::<1>::new();
    let netns = &topology.hosts[0].netns;
    let head = format!(
        "[Interface]\nPrivateKey = {}\nAddress = 10.70.0.1/24\n",
        key(1).to_base64().as_str()
    );
    let traces = tempfile::tempdir().unwrap();
    let trace = traces.path().join("trace");
    let hook = |word: &str| format!("{word} = echo {word} %i $INTERFACE >> {}\n", trace.display());
    let hooks = ["PreUp", "PostUp", "PreDown", "PostDown"].map(hook).concat();
    let conf = Conf::new(&format!("{head}{hooks}"));
    let path = conf.path();
    let path = path.to_str().unwrap();
    let up = adit(netns, &["wg", "up", path]);
    assert!(
        String::from_utf8_lossy(&up.stderr).contains("PostUp skipped; --allow-hooks"),
        "{up:?}"
    );
    said(&up);
    said(&adit(netns, &["wg", "down", path]));
    assert!(!trace.exists());
    said(&adit(netns, &["wg", "up", path, "--allow-hooks"]));
    said(&adit(netns, &["wg", "down", path, "--allow-hooks"]));
    let ran = fs::read_to_string(&trace).unwrap();
    assert_eq!(
        ran,
        "PreUp wg0 wg0\nPostUp wg0 wg0\nPreDown wg0 wg0\nPostDown wg0 wg0\n"
    );

    // A command that fails, a route that exists already, and an invalid file leave nothing behind.
    netns.ip("route add 10.75.0.0/16 dev lo");
    let before = all(netns);
    for text in [
        format!("{head}PostUp = exit 3\n{PEERS}AllowedIPs = 0.0.0.0/0\n"),
        format!("{head}{PEERS}AllowedIPs = 0.0.0.0/0, 10.75.0.0/16\n"),
        format!("{head}{PEERS}AllowedIPs = 10.0.0.0/33\n"),
        format!("{head}{PEERS}Endpoint = no-such-name.invalid:1\n"),
        format!("{head}{PEERS}Endpoint = [fe80::1%eth9]:1\n"),
        format!("{head}Address = 10.70.0.1/24\n"),
    ] {
        conf.write(&text);
        let up = adit(netns, &["wg", "up", path, "--allow-hooks"]);
        assert_eq!(up.status.code(), Some(1), "{text}: {up:?}");
        assert_eq!(all(netns), before, "{text}");
        let said = String::from_utf8_lossy(&up.stderr).into_owned();
        assert!(!said.contains(key(1).to_base64().as_str()), "{said}");
    }
    let missing = adit(netns, &["wg", "up", "/nowhere/wg0.conf"]);
    assert_eq!(missing.status.code(), Some(3), "{missing:?}");
}

#[test]
fn a_name_in_use_is_told_with_the_remedy_that_fits() {
    if !ready() {
        return;
    }
    let topology = Topology::<1>::new();
    let netns = &topology.hosts[0].netns;
    let conf = Conf::new(&format!(
        "[Interface]\nPrivateKey = {}\nAddress = 10.70.0.1/24\n",
        key(1).to_base64().as_str()
    ));
    let path = conf.path();
    let refused = |remedy: &str, other: &str| {
        let before = all(netns);
        let up = adit(netns, &["wg", "up", path.to_str().unwrap()]);
        assert_eq!(up.status.code(), Some(8), "{up:?}");
        let text = String::from_utf8_lossy(&up.stderr).into_owned();
        assert!(text.contains(remedy) && !text.contains(other), "{text}");
        assert_eq!(all(netns), before);
    };
    for (create, remedy, other) in [
        ("link add wg0 type wireguard", "adit wg down wg0", "rename"),
        ("link add wg0 type dummy", "rename the file", "wg down"),
        ("link add wg0 group 173 type wireguard", "manifest", "wg down"),
    ] {
        netns.ip(create);
        refused(remedy, other);
        netns.ip("link delete wg0");
    }
    netns.ip("link add other type dummy");
    netns.ip("link property add dev other altname wg0");
    refused("ip link property del dev other altname wg0", "wg down");
}

#[test]
fn the_state_of_an_interface_is_saved_if_the_file_asks_for_it() {
    if !ready() {
        return;
    }
    let topology = Topology::<1>::new();
    let netns = &topology.hosts[0].netns;
    let conf = Conf::new(&format!(
        "[Interface]\nPrivateKey = {}\nAddress = 10.70.0.1/24\nSaveConfig = true\nPostUp = true\n{PEERS}AllowedIPs = 10.71.0.0/16\n",
        key(1).to_base64().as_str()
    ));
    let path = conf.path();
    let path = path.to_str().unwrap();
    said(&adit(netns, &["wg", "up", path]));
    let newcomer = key(5).public_key();
    snapshot::run(
        netns,
        "wg",
        &format!("set wg0 peer {newcomer} allowed-ips 10.72.0.0/16"),
    );
    netns.ip("address add 10.73.0.1/32 dev wg0");
    let was = look(netns);
    said(&adit(netns, &["wg", "down", path]));
    let text = conf.text();
    for wanted in [
        &newcomer.to_string(),
        "10.72.0.0/16",
        "Address = 10.73.0.1/32",
        "SaveConfig = true",
        "PostUp = true",
    ] {
        assert!(text.contains(wanted), "{wanted}: {text}");
    }
    assert_eq!(
        fs::metadata(conf.path()).unwrap().permissions().mode() & 0o777,
        0o600
    );
    said(&wg_quick(netns, &["up", path]));
    let routes = |text: &str| text.replace("10.72.0.0/16 dev wg0 scope link \n", "");
    assert_eq!(routes(&look(netns)), routes(&was));
}

#[test]
fn an_imported_file_is_managed_by_the_agent_and_exported_again() {
    if !ready() {
        return;
    }
    let psk = PresharedKey::from_bytes(&[9; 32]).to_base64();
    let own = key(1).to_base64();
    let conf = Conf::new(&format!(
        "[Interface]\nPrivateKey = {}\nListenPort = 51820\nAddress = 10.70.0.1/24, fd70::1/64\nMTU = 1380\n{PEERS}AllowedIPs = 10.71.0.0/16, fd71::/48\nPresharedKey = {}\nPersistentKeepalive = 25\n",
        own.as_str(),
        psk.as_str()
    ));
    let path = conf.path();
    let path = path.to_str().unwrap();
    let (one, other) = (Topology::<1>::new(), Topology::<1>::new());
    let (host, netns) = (&one.hosts[0], &one.hosts[0].netns);
    let mut agent = Agent::new(host, "");
    let state = agent.state_directory();
    let state = state.to_str().unwrap();
    let words = ["--state-dir", state, "wg", "import", path, "--node", "a"];
    let printed = adit(netns, &words);
    assert!(
        String::from_utf8_lossy(&printed.stderr).contains("--write-keys"),
        "{printed:?}"
    );
    let words = [&words[..], &["--write-keys"]].concat();
    let manifest = said(&adit(netns, &words));
    assert_eq!(manifest, said(&printed));
    assert_eq!(manifest, said(&adit(netns, &words)), "again, with the same keys");
    for secret in [own.as_str(), psk.as_str()] {
        assert!(!manifest.contains(secret), "{manifest}");
    }
    agent.write(&manifest);
    agent.start();
    agent.ready();
    let refused = adit(netns, &["wg", "down", path]);
    assert_eq!(refused.status.code(), Some(8), "the agent keeps it: {refused:?}");

    let beside = &other.hosts[0].netns;
    said(&wg_quick(beside, &["up", path]));
    let conf_of = |netns: &NetNs| {
        let text = snapshot::run(netns, "wg", "showconf wg0");
        let mut lines = text.lines().map(str::to_owned).collect::<Vec<_>>();
        lines.sort();
        lines
    };
    assert_eq!(conf_of(netns), conf_of(beside));
    // Each exports a file that creates the same interface.
    let hidden = adit(netns, &["wg", "export", "wg0"]);
    assert_eq!(hidden.status.code(), Some(2), "{hidden:?}");
    let was = look(beside);
    for from in [netns, beside] {
        let exported = said(&adit(from, &["wg", "export", "wg0", "--show-keys"]));
        said(&adit(beside, &["wg", "down", "wg0"]));
        conf.write(&exported);
        said(&wg_quick(beside, &["up", path]));
        assert_eq!(look(beside), was, "{exported}");
    }
}

#[test]
fn a_link_local_endpoint_keeps_its_device_in_every_format() {
    if !ready() {
        return;
    }
    let topology = Topology::<1>::new();
    let (host, netns) = (&topology.hosts[0], &topology.hosts[0].netns);
    let endpoint = "[fe80::9%u0]:51820";
    let conf = Conf::new(&format!(
        "[Interface]\nPrivateKey = {}\nSaveConfig = true\n{}AllowedIPs = 10.71.0.0/16\n",
        key(1).to_base64().as_str(),
        PEERS.replace("192.0.2.17:51820", endpoint)
    ));
    let path = conf.path();
    let path = path.to_str().unwrap();
    let has_endpoint = || snapshot::run(netns, "wg", "show wg0 endpoints").contains(endpoint);
    said(&adit(netns, &["wg", "up", path]));
    assert!(has_endpoint());
    let exported = said(&adit(netns, &["wg", "export", "wg0", "--show-keys"]));
    assert!(
        exported.contains(&format!("Endpoint = {endpoint}\n")),
        "{exported}"
    );
    said(&adit(netns, &["wg", "down", path]));
    assert!(
        conf.text().contains(&format!("Endpoint = {endpoint}\n")),
        "{}",
        conf.text()
    );

    let mut agent = Agent::new(host, "");
    let state = agent.state_directory();
    let words = [
        "--state-dir",
        state.to_str().unwrap(),
        "wg",
        "import",
        path,
        "--node",
        "a",
        "--write-keys",
    ];
    let manifest = said(&adit(netns, &words));
    agent.write(&manifest);
    agent.start();
    agent.ready();
    assert!(has_endpoint());
    is_settled(&agent);
}
