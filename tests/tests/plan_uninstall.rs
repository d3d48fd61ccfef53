//! `adit plan` prints changes and makes none. `adit uninstall` removes everything that Adit manages, and nothing else.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{BufRead as _, Write as _};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::symlink;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::process::{Command, Output, Stdio};

use adit_tests::declared::of_node;
use adit_tests::{Agent, Bpffs, Overlay, Topology, agent, require, snapshot};
use serde_json::Value;

#[test]
fn plan_changes_nothing_and_uninstall_leaves_nothing() {
    require!(modules: "dummy", "geneve");
    let topology = Topology::<2>::new();
    let overlay = Overlay {
        requested: vec![("b", "vxlan")],
        ..Overlay::new(&topology, "auto")
    };
    let mut agent = Agent::new(&topology.hosts[0], &overlay.manifests(&topology));
    let pins = agent.pins();
    let bpffs = pins.parent().unwrap();
    let run_directory = agent.run_directory();
    let look = || snapshot::everything(&topology.hosts[0].netns, &[bpffs, &run_directory]);
    let empty = look();

    // The kernel is empty, so everything is to be added.
    let planned = changes(&agent, 4);
    assert_eq!(look(), empty);
    assert!(
        planned
            .iter()
            .any(|(action, kind)| (action.as_str(), kind.as_str()) == ("add", "link"))
    );
    assert!(
        !planned.iter().any(|(action, _)| action == "delete"),
        "{planned:?}"
    );
    let text = agent.plan(&[]);
    assert_eq!(text.code, 4, "{text:?}");
    let said = text
        .stdout
        .lines()
        .filter(|line| line.starts_with(['+', '~']))
        .count();
    assert_eq!(said, planned.len(), "{}", text.stdout);
    assert_eq!(look(), empty);

    agent.start();
    agent.ready();
    let status = agent.status().unwrap();
    assert_eq!(status.reconciliation.residual, 0);
    let full = look();
    assert!(full.contains("adit-vxlan") && full.contains(pins.to_str().unwrap()));
    // Beside the running agent.
    assert_eq!(changes(&agent, 0), []);
    assert_eq!(look(), full);

    let refused = agent.run(&["uninstall"]);
    assert_eq!(refused.code, 8, "{refused:?}");
    assert_eq!(look(), full);
    agent.stop();

    // Objects of others, one of them below the run directory.
    let netns = &topology.hosts[0].netns;
    netns.ip("link add mine type dummy");
    netns.ip("route add 10.0.0.0/8 via 192.0.2.17 metric 500");
    let uninstalled = agent.run(&["uninstall"]);
    assert_eq!(uninstalled.code, 0, "{uninstalled:?}");
    assert!(!run_directory.exists() && !pins.exists());
    assert!(netns.ip("link show").contains("mine"));
    netns.ip("route delete 10.0.0.0/8 metric 500");
    netns.ip("link delete mine");
    assert_eq!(look(), empty);
    // And again, with nothing left.
    let again = agent.run(&["uninstall"]);
    assert_eq!(again.code, 0, "{again:?}");
    assert_eq!(look(), empty);
}

#[test]
fn one_process_writes_in_a_network_namespace_whatever_its_directories() {
    require!(modules: "dummy", "geneve");
    let topology = Topology::<2>::new();
    let overlay = Overlay::new(&topology, "geneve");
    let manifests = overlay.manifests(&topology);
    let mut agents = agent::start_all(&topology, &manifests);
    let [first, second] = &mut agents;
    let netns = &first.host().netns;
    let path = first.manifests();
    let with = ["--node", "a", "-f", path.to_str().unwrap()];
    let writers = [
        vec!["uninstall"],
        vec!["route", "flush"],
        [&["route", "repair"][..], &with].concat(),
        [&["early"][..], &with].concat(),
        [&["run", "--http", "off"][..], &with].concat(),
    ];
    // The files of the agent's own locks are gone, as with other directories.
    fs::remove_dir_all(first.run_directory()).unwrap();
    let look = || snapshot::everything(netns, &[&first.pins()]);
    let before = look();
    let refused_by = |process: i32| {
        for words in &writers {
            let refused = first.run(words);
            assert_eq!(refused.code, 8, "{words:?}: {refused:?}");
            let holder = format!("process {process} ");
            assert!(refused.stderr.contains(&holder), "{words:?}: {refused:?}");
            assert!(refused.stderr.contains("user id 0"), "{words:?}: {refused:?}");
            assert!(!refused.stderr.contains("--run-dir"), "{words:?}: {refused:?}");
        }
        assert_eq!(look(), before);
    };
    refused_by(first.process().as_raw());
    first.kill();
    // The one in the other namespace is not in the way.
    assert!(second.is_running());
    assert_eq!(first.run(&["route", "flush"]).code, 0);

    // Whoever has taken the name is named.
    let name = SocketAddr::from_abstract_name("adit-writer").unwrap();
    let squatter = netns.enter(|| UnixListener::bind_addr(&name)).unwrap();
    let refused = first.run(&["uninstall"]);
    assert_eq!(refused.code, 8, "{refused:?}");
    let holder = format!("process {} ", std::process::id());
    assert!(refused.stderr.contains(&holder), "{refused:?}");
    drop(squatter);
    let uninstalled = first.run(&["uninstall"]);
    assert_eq!(uninstalled.code, 0, "{uninstalled:?}");
}

#[test]
fn objects_that_cannot_be_decoded_are_not_regarded_as_absent() {
    require!(modules: "dummy");
    let topology = Topology::<1>::new();
    let netns = &topology.hosts[0].netns;
    let agent = Agent::new(&topology.hosts[0], "");
    let rule = |verb: &str| {
        let mut command = Command::new("ip");
        command.args([
            "rule", verb, "priority", "1730", "table", "1730", "protocol", "173", "iif",
        ]);
        // A device name is any bytes.
        command.arg(OsStr::from_bytes(b"\xff0"));
        let output = netns.enter(|| command.output()).unwrap();
        assert!(output.status.success(), "{output:?}");
    };
    rule("add");
    let uninstalled = agent.run(&["uninstall"]);
    assert_eq!(uninstalled.code, 1, "{uninstalled:?}");
    assert!(
        uninstalled.stderr.contains("could not decode 1 rules"),
        "{uninstalled:?}"
    );
    rule("delete");
    let uninstalled = agent.run(&["uninstall"]);
    assert_eq!(uninstalled.code, 0, "{uninstalled:?}");
}

#[test]
fn another_user_with_the_name_of_the_lock_keeps_no_node_unprotected() {
    require!(modules: "dummy");
    let topology = Topology::<1>::new();
    let host = &topology.hosts[0];
    let agent = Agent::new(host, &Overlay::new(&topology, "geneve").manifests(&topology));
    let mut command = Command::new("setpriv");
    command.args([
        "--reuid=65534",
        "--clear-groups",
        "perl",
        "-MIO::Socket::UNIX",
        "-e",
    ]);
    command.arg(
        r#"$| = 1; my $s = IO::Socket::UNIX->new(Local => "\0adit-writer", Listen => 9) or die $!; print "ready\n"; <STDIN>"#,
    );
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut squatter = host.netns.enter(|| command.spawn()).unwrap();
    let mut ready = String::new();
    std::io::BufReader::new(squatter.stdout.as_mut().unwrap())
        .read_line(&mut ready)
        .unwrap();
    assert_eq!(ready, "ready\n");
    let path = agent.manifests();
    let early = agent.run(&["early", "--node", "a", "-f", path.to_str().unwrap()]);
    assert_eq!(early.code, 0, "{early:?}");
    let holder = format!("process {} (perl, user id 65534)", squatter.id());
    assert!(early.stderr.contains(&holder), "{early:?}");
    assert!(host.netns.ip("route show").contains("unreachable"), "{early:?}");
    let uninstall = agent.run(&["uninstall"]);
    assert_eq!(uninstall.code, 1, "{uninstall:?}");
    assert!(uninstall.stderr.contains(&holder), "{uninstall:?}");
    drop(squatter.stdin.take());
    squatter.wait().unwrap();
    assert_eq!(agent.run(&["uninstall"]).code, 0);
}

#[test]
fn a_missing_privilege_has_its_exit_code() {
    let topology = Topology::<1>::new();
    let host = &topology.hosts[0];
    let places = Agent::new(host, "");
    for words in [&["route", "list"][..], &["route", "flush"], &["uninstall"]] {
        let mut command = Command::new("setpriv");
        let adit = places.command();
        command
            .args(["--reuid=65534", "--clear-groups"])
            .arg(adit.get_program());
        command.args(adit.get_args()).args(words);
        let output = host.netns.enter(|| command.output()).unwrap();
        assert_eq!(output.status.code(), Some(6), "{words:?}: {output:?}");
    }
}

#[test]
fn early_says_why_it_protects_nothing() {
    require!(modules: "dummy");
    let topology = Topology::<1>::new();
    let host = &topology.hosts[0];
    let places = Agent::new(host, &of_node("a", "NetlinkInterface", "d0", "type: dummy"));
    let manifests = places.manifests();
    let early = |node| places.run(&["early", "--node", node, "-f", manifests.to_str().unwrap()]);
    let outside = early("a");
    assert_eq!((outside.code, outside.stdout.as_str()), (0, ""), "{outside:?}");
    assert!(
        outside.stderr.contains("no TunnelNode is named `a`"),
        "{outside:?}"
    );
    let absent = early("b");
    assert_eq!(absent.code, 1, "{absent:?}");
    assert!(absent.stderr.contains("no TunnelNode is named `b`"), "{absent:?}");
}

#[test]
fn one_process_writes_below_a_directory_of_pins() {
    require!(modules: "dummy", "geneve");
    let topology = Topology::<2>::new();
    let manifests = Overlay::new(&topology, "geneve").manifests(&topology);
    let [a, b] = &topology.hosts;
    let first = Agent::started(a, &manifests);
    // In another network namespace, but with the same directory.
    let elsewhere = tempfile::tempdir().unwrap();
    symlink(first.pins(), elsewhere.path().join("adit")).unwrap();
    let second = Agent::new(b, &manifests).with_bpffs(Bpffs::on(elsewhere));
    let look = || snapshot::everything(&b.netns, &[&first.pins()]);
    let before = look();
    let holder = format!("process {},", first.process());
    let path = second.manifests();
    let run = [
        "run",
        "--http",
        "off",
        "--node",
        "b",
        "-f",
        path.to_str().unwrap(),
    ];
    for words in [&["uninstall"][..], &run] {
        let refused = second.run(words);
        assert_eq!(refused.code, 8, "{words:?}: {refused:?}");
        assert!(refused.stderr.contains(&holder), "{words:?}: {refused:?}");
        assert!(refused.stderr.contains("--bpffs"), "{words:?}: {refused:?}");
    }
    assert_eq!(look(), before);
    assert_eq!(first.plan(&[]).code, 0);
}

#[test]
fn a_closed_pipe_ends_reading_quietly_and_a_change_is_completed() {
    require!(modules: "dummy", "geneve");
    let topology = Topology::<2>::new();
    let overlay = Overlay::new(&topology, "geneve");
    let host = &topology.hosts[0];
    let mut agent = Agent::new(host, &overlay.manifests(&topology));
    // A closed pipe, and a full disk.
    let closed = || Stdio::from(std::io::pipe().unwrap().1);
    let full = || Stdio::from(File::options().write(true).open("/dev/full").unwrap());
    let manifests = agent.manifests();
    let manifests = manifests.to_str().unwrap();
    let plan = ["plan", "--node", "a", "-f", manifests];
    let early = ["early", "--node", "a", "-f", manifests];
    let doctor = ["doctor"];
    let completions = ["completions", "bash"];
    let by_json = ["doctor", "--json"];
    for words in [
        &plan[..],
        &doctor,
        &by_json,
        &completions,
        &["--help"],
        &["--version"],
    ] {
        assert_eq!(
            run(&agent, words, closed()),
            (Some(141), String::new()),
            "{words:?}"
        );
        let (code, said) = run(&agent, words, full());
        assert_eq!(code, Some(1), "{words:?}: {said}");
        assert!(said.contains("No space left"), "{words:?}: {said}");
    }
    // Commands that change something have done so.
    let (code, said) = run(&agent, &early, closed());
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("Broken pipe"), "{said}");
    assert!(host.netns.ip("address show dev adit0").contains("10.1.0.1"));
    agent.start();
    agent.ready();
    for words in [
        &["status"][..],
        &["status", "--watch"],
        &["map", "dump"],
        &["route", "list"],
    ] {
        assert_eq!(
            run(&agent, words, closed()),
            (Some(141), String::new()),
            "{words:?}"
        );
    }
    agent.stop();
    let (code, said) = run(&agent, &["uninstall"], closed());
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains("the changes are done") && said.contains("Broken pipe"),
        "{said}"
    );
    assert!(!agent.run_directory().exists() && !agent.pins().exists());
    assert_eq!(host.netns.ip("link show group 173"), "");
}

#[test]
fn an_agent_continues_if_its_log_is_not_read() {
    require!(modules: "dummy", "geneve");
    let topology = Topology::<2>::new();
    let overlay = Overlay::new(&topology, "geneve");
    let agent = Agent::new(&topology.hosts[0], &overlay.manifests(&topology));
    let closed = || Stdio::from(std::io::pipe().unwrap().1);
    let start = || {
        let mut command = agent.command();
        command.args(["run", "--log", "debug", "--node", "a", "-f"]);
        command.arg(agent.manifests());
        command.stdout(closed()).stderr(closed()).spawn()
    };
    let mut process = agent.host().netns.enter(start).unwrap();
    agent.ready();
    process.kill().unwrap();
    process.wait().unwrap();
}

#[test]
fn control_characters_in_names_are_escaped() {
    require!(modules: "dummy", "geneve");
    let topology = Topology::<2>::new();
    let overlay = Overlay::new(&topology, "geneve");
    let host = &topology.hosts[0];
    let mut agent = Agent::started(host, &overlay.manifests(&topology));
    // In the name of a device, which is to be deleted because of its group, and in JSON.
    agent.stop();
    let name = "e\x1b[2J\u{9b}1mx";
    host.netns.ip(&format!("link add {name} group 173 type dummy"));
    let text = agent.plan(&[]);
    assert_eq!(text.code, 4, "{text:?}");
    assert!(text.stdout.contains("e\\u{1b}[2J\\u{9b}1mx"), "{text:?}");
    let json = agent.plan(&["-o", "json"]).stdout;
    let uninstalled = agent.run(&["uninstall"]);
    assert_eq!(uninstalled.code, 0, "{uninstalled:?}");
    assert!(uninstalled.stdout.contains("e\\u{1b}[2J"), "{uninstalled:?}");
    for said in [text.stdout, text.stderr, json, uninstalled.stdout] {
        assert!(!said.contains(|c: char| c.is_control() && c != '\n'), "{said:?}");
    }
}

/// Runs `adit` with these words and this standard output: its exit code, and what it said on the standard error.
fn run(agent: &Agent<'_>, words: &[&str], output: Stdio) -> (Option<i32>, String) {
    let run = || agent.command().args(words).stdout(output).output();
    let output = agent.host().netns.enter(run).unwrap();
    (
        output.status.code(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    )
}

#[test]
fn a_dash_means_standard_input_for_commands_that_read_manifests_once() {
    let adit = |words: &[&str], input: &str| -> Output {
        let mut child = Command::new(agent::binary())
            .args(words)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // A program that does not read its input may have ended.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        child.wait_with_output().unwrap()
    };
    let wrong = "kind: TunnelNode\nmetadata: {name: a}\n";
    for (words, code, wanted) in [
        (&["plan", "-f", "-", "--node", "a"][..], 1, "standard input:1:1"),
        (
            &["route", "list", "-f", "-", "--node", "a"],
            1,
            "standard input:1:1",
        ),
        (&["run", "-f", "-", "--node", "a"], 2, "-f -"),
    ] {
        let output = adit(words, wrong);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{words:?}: {said}");
        assert!(said.contains(wanted), "{words:?}: {said}");
    }
    let empty = adit(&["plan", "-f", "-", "--node", "a"], "# nothing\n");
    let said = String::from_utf8_lossy(&empty.stderr);
    assert!(said.contains("standard input: contains no manifest"), "{said}");
}

/// The planned changes' actions and kinds.
fn changes(agent: &Agent<'_>, code: i32) -> Vec<(String, String)> {
    let printed = agent.plan(&["-o", "json"]);
    assert_eq!(printed.code, code, "{printed:?}");
    let plan: Value = serde_json::from_str(&printed.stdout).unwrap();
    assert_eq!(plan["node"], "a");
    let word = |change: &Value, name: &str| change[name].as_str().unwrap().to_owned();
    let changes = plan["changes"].as_array().unwrap().iter();
    changes
        .map(|change| {
            assert!(!word(change, "text").is_empty());
            (word(change, "action"), word(change, "kind"))
        })
        .collect()
}
