//! `adit plan` tells what would be done and does nothing; `adit uninstall` takes away what is ours, all of it, and
//! nothing else.

use std::io::Write as _;
use std::process::{Command, Output, Stdio};

use adit_tests::{Agent, Overlay, Topology, agent, require_module, snapshot};
use serde_json::Value;

#[test]
fn plan_changes_nothing_and_uninstall_leaves_nothing() {
    if !require_module("dummy") || !require_module("geneve") {
        return;
    }
    let topology = Topology::new(2);
    let overlay = Overlay {
        wishes: vec![("b", "vxlan")],
        ..Overlay::new(&topology, "auto")
    };
    let mut agent = Agent::new(&topology.hosts[0], &overlay.manifests(&topology));
    let pins = agent.pins();
    let bpffs = pins.parent().unwrap();
    let run_directory = agent.run_directory();
    let look = || snapshot::everything(&topology.hosts[0].netns, &[bpffs, &run_directory]);
    let empty = look();

    // Nothing is there: all of it is to be added.
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
    assert_eq!(status.pass.residual, 0);
    let full = look();
    assert!(full.contains("adit-vxlan") && full.contains(pins.to_str().unwrap()));
    // Beside the running agent.
    assert_eq!(changes(&agent, 0), []);
    assert_eq!(look(), full);

    let refused = agent.run(&["uninstall"]);
    assert_eq!(refused.code, 8, "{refused:?}");
    assert_eq!(look(), full);
    agent.stop();

    // Things of others, one of them below our run directory.
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
    // And again, where nothing is.
    let again = agent.run(&["uninstall"]);
    assert_eq!(again.code, 0, "{again:?}");
    assert_eq!(look(), empty);
}

#[test]
fn a_dash_is_the_standard_input_where_manifests_are_read_once() {
    let adit = |words: &[&str], input: &str| -> Output {
        let mut child = Command::new(agent::binary())
            .args(words)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // Who reads none of it may be gone.
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
    assert!(said.contains("standard input: holds no manifest"), "{said}");
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
