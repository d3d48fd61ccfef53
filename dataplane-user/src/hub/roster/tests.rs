//! Files before and after changes, and rejected changes.

use std::path::Path;

use super::*;

// RFC 7748, section 6.1: the private key of Alice, here of the hub, and her public key.
const PRIVATE: &str = "dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo=";
const PUBLIC: &str = "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=";

fn key(number: u8) -> PublicKey {
    PublicKey::from_bytes([number; 32])
}

fn id(text: &str) -> DeviceId {
    DeviceId::new(text).unwrap()
}

fn hub(more: &str) -> String {
    format!("[Interface]\nPrivateKey = {PRIVATE}\nAddress = 10.42.0.1/24\n{more}")
}

fn peer(id: &str, number: u8, address: &str) -> String {
    format!(
        "\n# DeviceID:{id}\n[Peer]\nPublicKey = {}\nAllowedIPs = {address}\n",
        key(number)
    )
}

fn roster(text: &str) -> Roster {
    Roster::new(Path::new("wg0.conf"), text.as_bytes().to_vec()).unwrap()
}

fn text(document: &Document) -> String {
    String::from_utf8(document.bytes().to_vec()).unwrap()
}

fn add(roster: &Roster, id: &str, number: u8, subnet: &str) -> Result<(String, Change), String> {
    let added = roster.add(&DeviceId::new(id).unwrap(), key(number), subnet.parse().unwrap());
    added
        .map(|(address, change)| (address.to_string(), change))
        .map_err(|error| error.to_string())
}

/// The address and the file of a new client.
fn added(file: &str, id: &str, number: u8, subnet: &str) -> (String, String) {
    match add(&roster(file), id, number, subnet).unwrap() {
        (address, Change::Peer(document)) => (address, text(&document)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_first_device_gets_the_second_address() {
    let (address, file) = added(&hub(""), "a", 1, "10.42.0.0/24");
    assert_eq!(address, "10.42.0.2");
    assert_eq!(file, hub("") + &peer("a", 1, "10.42.0.2/32"));
    let (address, file) = added(&file, "b", 2, "10.42.0.0/24");
    assert_eq!(address, "10.42.0.3");
    let (address, _) = added(
        &file.replace("10.42.0.2/32", "10.42.0.9/32"),
        "c",
        3,
        "10.42.0.0/24",
    );
    assert_eq!(address, "10.42.0.2", "the lowest that is free");
}

#[test]
fn the_hubs_address_is_what_it_says_else_the_first() {
    let elsewhere = hub("").replace("10.42.0.1/24", "192.0.2.1/32, 10.42.0.2/24, fd42::1/64");
    assert_eq!(added(&elsewhere, "a", 1, "10.42.0.0/24").0, "10.42.0.1");
    let (address, file) = added(&elsewhere, "a", 1, "fd42::/64");
    assert_eq!(address, "fd42::2");
    assert!(file.ends_with("\nAllowedIPs = fd42::2/128\n"), "{file}");
    assert_eq!(added("", "a", 1, "10.42.0.0/24").0, "10.42.0.2");
    assert_eq!(added("", "a", 1, "fd42::/64").0, "fd42::2");
    let routed = hub(&peer("site", 1, "10.42.0.0/28, 0.0.0.0/0, 10.42.0.0/24"));
    assert_eq!(added(&routed, "a", 2, "10.42.0.0/24").0, "10.42.0.16");
}

#[test]
fn a_device_that_is_there_stays_or_gets_another_key() {
    let untidy = hub(
        "\n  #  DeviceID:  a  \n[peer] # A\n publickey=KEY # old\nAllowedIPs = 10.9.0.0/16 , 10.42.0.7\n#end",
    );
    let with = |number| untidy.replace("KEY", &key(number).to_string());
    let (address, change) = add(&roster(&with(1)), "a", 1, "10.42.0.0/24").unwrap();
    assert!(matches!(change, Change::None), "{change:?}");
    assert_eq!(address, "10.42.0.7");
    let (address, change) = add(&roster(&with(1)), "a", 2, "10.42.0.0/24").unwrap();
    let Change::Key(document) = change else {
        panic!("{change:?}");
    };
    assert_eq!((address.as_str(), text(&document)), ("10.42.0.7", with(2)));
    let error = add(
        &roster(&with(1).replace("10.42.0.7", "10.8.0.7")),
        "a",
        1,
        "10.42.0.0/24",
    )
    .unwrap_err();
    assert!(error.contains("`a` has no address in 10.42.0.0/24"), "{error}");
}

#[test]
fn refusals_name_both_sides() {
    let file = hub(&(peer("a", 1, "10.42.0.2/32") + &peer("b", 2, "10.42.0.3/32")));
    let file = file + &format!("\n[Peer]\nPublicKey = {}\n", key(3));
    let whole = roster(&file);
    for (id, number, subnet, wanted) in [
        ("c", 2, "10.42.0.0/24", "is the key of `b` already"),
        ("a", 2, "10.42.0.0/24", "is the key of `b` already"),
        (
            "c",
            3,
            "10.42.0.0/24",
            "is the key of the [Peer] on line 15, which has no id",
        ),
        ("c", 4, "10.42.0.0/30", "no address of 10.42.0.0/30 is free"),
        (
            "c",
            4,
            "10.43.0.0/24",
            "hub address `10.42.0.1/24` is not in the subnet 10.43.0.0/24",
        ),
        (
            "c",
            4,
            "fd42::/64",
            "hub address `10.42.0.1/24` is not in the subnet fd42::/64",
        ),
    ] {
        let error = add(&whole, id, number, subnet).unwrap_err();
        assert!(
            error.starts_with("wg0.conf: ") && error.contains(wanted),
            "{error}"
        );
    }
    let own = whole.add(&id("c"), PUBLIC.parse().unwrap(), "10.42.0.0/24".parse().unwrap());
    assert!(
        own.unwrap_err()
            .to_string()
            .contains("is the key of the hub itself")
    );
    let error = whole.remove("bb").unwrap_err().to_string();
    assert!(
        error.contains("no peer has the DeviceID `bb`; did you mean `b`?"),
        "{error}"
    );
    let error = whole.rename("a", &id("b")).unwrap_err().to_string();
    assert!(
        error.contains(&format!("`b` is the DeviceID of peer {} already", key(2))),
        "{error}"
    );
    assert!(whole.rename("x", &id("b")).is_err());

    let twice = file.replace("DeviceID:b", "DeviceID:a");
    let error = Roster::new(Path::new("wg0.conf"), twice.into_bytes()).unwrap_err();
    assert!(error.to_string().contains("`a`, on lines 5 and 10"), "{error}");
    let saved = roster(&hub("saveconfig = true\n"));
    let error = saved.refuse_save_config().unwrap_err().to_string();
    assert!(error.contains("line 4 has `SaveConfig = true`"), "{error}");
}

#[test]
fn prefixes_may_be_nested_and_the_last_of_equal_ones_counts() {
    let sites = hub("") + &peer("site", 1, "10.0.0.0/8") + &peer("room", 2, "10.42.0.128/25, 10.42.0.2/32");
    let (address, file) = added(&sites, "a", 3, "10.42.0.0/24");
    assert_eq!(address, "10.42.0.3");
    let (_, document) = roster(&file).remove("room").unwrap();
    assert_eq!(added(&text(&document), "b", 4, "10.42.0.0/24").0, "10.42.0.2");
    let twice = hub("") + &peer("a", 1, "10.42.0.2/32") + &peer("b", 2, "10.42.0.2/32");
    let whole = roster(&twice);
    let members = whole.members();
    let addresses = members
        .iter()
        .map(|member| member.assigned_ip.map(|ip| ip.to_string()));
    assert_eq!(
        addresses.collect::<Vec<_>>(),
        [None, Some("10.42.0.2".to_owned())]
    );
    assert!(
        whole.config().warnings[0].starts_with("wg0.conf:13: AllowedIPs: 10.42.0.2/32"),
        "{:?}",
        whole.config().warnings
    );
    let (_, document) = whole.remove("b").unwrap();
    assert_eq!(text(&document), hub("") + &peer("a", 1, "10.42.0.2/32"));
}

#[test]
fn adding_and_removing_leaves_no_trace() {
    for before in [
        hub(""),
        hub("\n\n"),
        hub("# the end\n"),
        hub(&peer("x", 9, "10.42.0.9/32")),
        hub("").replace('\n', "\r\n"),
        "# only a comment\n".to_owned(),
    ] {
        let (_, with) = added(&before, "a", 1, "10.42.0.0/24");
        assert!(with.starts_with(&before), "{with:?}");
        assert_eq!(with.contains("\r\n"), before.contains("\r\n"));
        assert!(
            !before.contains('\r') || !with.replace("\r\n", "").contains('\n'),
            "{with:?}"
        );
        let (member, document) = roster(&with).remove("a").unwrap();
        assert_eq!((member.public_key, text(&document)), (key(1), before));
    }
    let (_, with) = added("# unfinished", "a", 1, "10.42.0.0/24");
    assert!(
        with.starts_with("# unfinished\n\n# DeviceID:a\n[Peer]\n"),
        "{with:?}"
    );
}

#[test]
fn unrelated_content_stays_when_a_peer_is_removed() {
    let file = hub("")
        + &peer("a", 1, "10.42.0.2/32")
        + "# of a\n"
        + &peer("b", 2, "10.42.0.3/32")
        + "# of c\n"
        + peer("c", 3, "10.42.0.4/32").trim_start();
    let without = |id| text(&roster(&file).remove(id).unwrap().1);
    assert_eq!(
        without("a"),
        file.replace(&(peer("a", 1, "10.42.0.2/32") + "# of a\n"), "")
    );
    assert_eq!(without("b"), file.replace(&peer("b", 2, "10.42.0.3/32"), ""));
    assert_eq!(
        without("c"),
        file.replace(peer("c", 3, "10.42.0.4/32").trim_start(), "")
    );
    let first = peer("a", 1, "10.42.0.2/32").trim_start().to_owned() + &peer("b", 2, "10.42.0.3/32");
    let (_, document) = roster(&first).remove("a").unwrap();
    assert_eq!(text(&document), peer("b", 2, "10.42.0.3/32").trim_start());
}

#[test]
fn a_new_id_replaces_the_old_one() {
    let file = hub("\n#DeviceID: a b \r\n[Peer]\nPublicKey = KEY\n").replace("KEY", &key(1).to_string());
    let whole = roster(&file);
    let document = whole.rename("a b", &id("büro")).unwrap().unwrap();
    assert_eq!(text(&document), file.replace("a b", "büro"));
    assert!(whole.rename("a b", &id("a b")).unwrap().is_none());
    let member = Member {
        device_id: Some("a b".to_owned()),
        public_key: key(1),
        assigned_ip: None,
        allowed_ips: Vec::new(),
    };
    assert_eq!(whole.members(), [member]);
    let commented = file.replace("[Peer]", "# the old one\n#\n[Peer]");
    let whole = roster(&commented);
    assert_eq!(whole.members()[0].device_id.as_deref(), Some("a b"));
    let (_, document) = whole.remove("a b").unwrap();
    assert_eq!(text(&document), hub(""));
    let apart = file.replace("[Peer]", "\n[Peer]");
    assert_eq!(
        roster(&apart).members()[0].device_id,
        None,
        "it is not directly above"
    );
}
