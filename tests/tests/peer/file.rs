//! The file alone, with `WG_SKIP_SYNCCONF=1`.

use std::collections::BTreeSet;
use std::fs::{self, File, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink};
use std::process::{Command, Stdio};

use adit_tests::require_program;
use serde_json::json;

use crate::{Hub, Print, answer, key, peer, run};

#[test]
fn a_client_is_added_once_and_another_key_keeps_the_address() {
    let hub = Hub::with("");
    let before = hub.text();
    let config_path = hub.path.to_str().unwrap();
    let said = |ip: &str, status: &str| json!({"device_id": "laptop-7", "assigned_ip": ip, "config_path": config_path, "status": status});
    assert_eq!(hub.add("laptop-7", 1), said("10.42.0.2", "added"));
    assert_eq!(hub.text(), before.clone() + &peer("laptop-7", 1, "10.42.0.2"));
    assert_eq!(fs::read_to_string(hub.beside(".bak")).unwrap(), before);

    let (print, bak) = (Print::of(&hub.path), Print::of(&hub.beside(".bak")));
    assert_eq!(hub.add("laptop-7", 1), said("10.42.0.2", "already-present"));
    assert_eq!(
        (Print::of(&hub.path), Print::of(&hub.beside(".bak"))),
        (print, bak)
    );

    assert_eq!(hub.add("phone", 2)["assigned_ip"], "10.42.0.3");
    assert_eq!(hub.add("laptop-7", 3), said("10.42.0.2", "reconfigured"));
    let peers = peer("laptop-7", 3, "10.42.0.2") + &peer("phone", 2, "10.42.0.3");
    assert_eq!(hub.text(), before + &peers);
    let words = ["add", "phone", "--subnet", "10.42.0.0/24", "--public-key"];
    let printed = hub.adit(&[&words[..], &[&key(4).to_string()]].concat());
    assert_eq!(
        printed.stdout,
        "phone has a new key and keeps address 10.42.0.3.\n"
    );
}

#[test]
fn a_change_whose_output_cannot_be_written_is_complete_and_an_error() {
    let hub = Hub::with("");
    let public = key(1).to_string();
    let words = Hub::add_words("laptop-7", &public);
    let outputs = [
        Stdio::from(File::options().write(true).open("/dev/full").unwrap()),
        Stdio::from(std::io::pipe().unwrap().1),
    ];
    for output in outputs {
        let mut command = hub.command(&words);
        let output = command
            .env("WG_SKIP_SYNCCONF", "1")
            .stdout(output)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("the changes are done"), "{said}");
        assert_eq!(hub.list().len(), 1);
    }
    // Reading ends as if all had been read.
    let closed = Stdio::from(std::io::pipe().unwrap().1);
    let output = hub.command(&["list"]).stdout(closed).output().unwrap();
    assert_eq!((output.status.code(), output.stderr), (Some(141), Vec::new()));
}

#[test]
fn clients_are_listed_renamed_and_removed() {
    let hub = Hub::with("");
    let before = hub.text();
    hub.add("a", 1);
    hub.add("b", 2);
    let row = |id: &str, number: u32, ip: &str| {
        json!({
            "device_id": id,
            "assigned_ip": ip,
            "public_key": key(number).to_string(),
            "allowed_ips": [format!("{ip}/32")],
        })
    };
    assert_eq!(hub.list(), [row("a", 1, "10.42.0.2"), row("b", 2, "10.42.0.3")]);
    let table = hub.adit(&["list"]).stdout;
    let cells = table
        .lines()
        .nth(2)
        .unwrap()
        .split_whitespace()
        .collect::<Vec<_>>();
    assert_eq!(cells, ["b", "10.42.0.3", &key(2).to_string(), "10.42.0.3/32"]);

    assert_eq!(hub.adit(&["rename", "b", "c"]).stdout, "b renamed to c.\n");
    assert_eq!(hub.list()[1], row("c", 2, "10.42.0.3"));
    assert_eq!(
        hub.adit(&["remove", "a"]).stdout,
        "a removed; 10.42.0.2 is free again.\n"
    );
    assert_eq!(hub.text(), before.clone() + &peer("c", 2, "10.42.0.3"));
    assert_eq!(hub.add("d", 4)["assigned_ip"], "10.42.0.2");
    for id in ["c", "d"] {
        assert_eq!(hub.adit(&["remove", id]).code, 0);
    }
    assert_eq!(hub.text(), before);
}

#[test]
fn every_other_byte_of_an_untidy_file_stays() {
    let hub = Hub::with("");
    let untidy = [
        &b"# caf\xe9\r\n\t[INTERFACE]\r\naddress=10.42.0.1/24,fd42::1/64 # hub\r\nPostUp = echo '\xc3\xa9' = x\r\n\r\n"[..],
        &b"#  DeviceID: old one\r\n[peer]\r\n  allowedips =10.42.0.2 , 192.0.2.0/24\r\nPUBLICKEY="[..],
        key(1).to_string().as_bytes(),
        b" # of 2019\r\n\r\n\r\n   # the end, without line break",
    ]
    .concat();
    fs::write(&hub.path, &untidy).unwrap();
    assert_eq!(hub.add("old one", 1)["status"], "already-present");
    assert_eq!(fs::read(&hub.path).unwrap(), untidy);
    assert_eq!(hub.add("new", 2)["assigned_ip"], "10.42.0.3");
    let added = format!("\n{}", peer("new", 2, "10.42.0.3")).replace('\n', "\r\n");
    assert_eq!(fs::read(&hub.path).unwrap(), [&untidy, added.as_bytes()].concat());
    assert_eq!(hub.add("old one", 3)["status"], "reconfigured");
    let now = String::from_utf8_lossy(&fs::read(&hub.path).unwrap()).into_owned();
    let wanted = String::from_utf8_lossy(&untidy).replace(&key(1).to_string(), &key(3).to_string());
    assert_eq!(now, wanted + &added);
    let key = key(4).to_string();
    let printed = hub.adit(&[
        "add",
        "six",
        "--public-key",
        &key,
        "--subnet",
        "fd42::/64",
        "-o",
        "json",
    ]);
    assert_eq!(answer(&printed)["assigned_ip"], "fd42::2");
    assert!(hub.text().ends_with("\r\nAllowedIPs = fd42::2/128\r\n"));
}

#[test]
fn files_are_private_to_their_owner_and_symbolic_links_stay() {
    let hub = Hub::with("");
    fs::set_permissions(&hub.path, Permissions::from_mode(0o644)).unwrap();
    // Only root can give a file away.
    let owner = match nix::unistd::geteuid().is_root() {
        true => (1234, 4321),
        false => (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw()),
    };
    chown(&hub.path, Some(owner.0), Some(owner.1)).unwrap();
    let real = hub.beside(".real");
    fs::rename(&hub.path, &real).unwrap();
    symlink(&real, &hub.path).unwrap();
    hub.add("a", 1);
    assert!(fs::symlink_metadata(&hub.path).unwrap().is_symlink());
    for ending in [".real", ".real.bak", ".real.lock"] {
        let metadata = fs::metadata(hub.beside(ending)).unwrap();
        assert_eq!(metadata.mode() & 0o7777, 0o600, "{ending}");
        assert_eq!((metadata.uid(), metadata.gid()), owner, "{ending}");
    }
    let directory = hub.path.parent().unwrap();
    assert_eq!(
        fs::read_dir(directory).unwrap().count(),
        4,
        "nothing is left over"
    );
}

#[test]
fn fifty_parallel_additions_get_fifty_addresses() {
    let hub = Hub::with("");
    let ids = (0..50)
        .map(|number| format!("device-{number}"))
        .collect::<Vec<_>>();
    let spawn = |(id, number): (&String, u32)| {
        let key = key(number).to_string();
        let mut command = hub.command(&Hub::add_words(id, &key));
        command.args(["--lock-timeout", "600"]);
        let command = command.env("WG_SKIP_SYNCCONF", "1");
        command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    };
    let children = ids.iter().zip(0..).map(spawn).collect::<Vec<_>>();
    let mut given = BTreeSet::new();
    for child in children {
        let output = child.wait_with_output().unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(answer["status"], "added");
        given.insert(answer["assigned_ip"].as_str().unwrap().to_owned());
    }
    let wanted = (2..52)
        .map(|last| format!("10.42.0.{last}"))
        .collect::<BTreeSet<_>>();
    assert_eq!(given, wanted, "the lowest ones");
    let listed = hub.list();
    let listed = listed
        .iter()
        .map(|row| row["assigned_ip"].as_str().unwrap().to_owned());
    assert_eq!(listed.collect::<BTreeSet<_>>(), wanted);
    if require_program("wg-quick") {
        let stripped = run(Command::new("wg-quick").arg("strip").arg(&hub.path));
        assert_eq!(stripped.stdout.matches("[Peer]").count(), 50, "{stripped:?}");
    }
}

#[test]
fn a_lock_is_waited_for_so_long_and_no_longer() {
    let hub = Hub::with("");
    hub.add("a", 1);
    let print = Print::of(&hub.path);
    let lock = File::open(hub.beside(".lock")).unwrap();
    lock.try_lock().unwrap();
    let key = key(2).to_string();
    let words = Hub::add_words("b", &key);
    let printed = hub.adit(&[&words[..], &["--lock-timeout", "0"]].concat());
    assert_eq!(printed.code, 7, "{printed:?}");
    let says = format!("{} is still locked after 0 s", hub.beside(".lock").display());
    assert!(printed.stderr.contains(&says), "{printed:?}");
    assert_eq!(Print::of(&hub.path), print);
    assert_eq!(hub.list().len(), 1, "reading needs no lock");
    drop(lock);
    assert_eq!(hub.add("b", 2)["status"], "added");
}
