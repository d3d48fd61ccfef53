//! Files as people write them, and the errors of invalid files.

mod fuzz;
mod random;
mod up;

use std::path::Path;

use super::*;
use crate::net::LinkName;
use crate::resource::node::{Endpoint, Host};
use crate::resource::wireguard::PresharedSource;

// RFC 7748, section 6.1: Alice's and Bob's keys.
const PRIVATE: &str = "dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo=";
const PUBLIC: &str = "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=";
const OTHER: &str = "3p7bfXt9wbTTW2HC7OQ1Nz+DQ8hbeGdNrfx+FG+IK08=";

fn parse(text: &str) -> Result<Config, String> {
    let config = Config::parse(Path::new("wg0.conf"), text.as_bytes());
    config.map_err(|error| error.to_string())
}

fn error(text: &str) -> String {
    parse(text).expect_err(text)
}

fn nets(list: &[&str]) -> Vec<IpNet> {
    list.iter().map(|net| net.parse().unwrap()).collect()
}

#[test]
fn a_configuration_as_people_write_it_by_hand() {
    let text = format!(
        "# host a\n[Interface]\nAddress = 10.0.0.1\nPrivateKey = {PRIVATE}\nListenPort = 51820\n\n\
         [Peer]\nPublicKey = {PUBLIC}\nEndPoint = 192.0.2.2:51820\nAllowedIPs = 10.0.0.2/32\n\n\
         [Peer]\nPublicKey = {OTHER}\nEndPoint = host-c.example:51820\nAllowedIPs = 10.0.0.3/32\n"
    );
    let config = parse(&text).unwrap();
    let interface = Interface {
        private_key: Some(PRIVATE.parse().unwrap()),
        listen_port: Some(51820),
        addresses: nets(&["10.0.0.1/32"]),
        ..Interface::default()
    };
    let peer = |key: &str, host: Host, prefix: &str| Peer {
        allowed_ips: nets(&[prefix]),
        endpoint: Some(Endpoint { host, port: 51820 }),
        ..Peer::new(key.parse().unwrap())
    };
    let peers = vec![
        peer(PUBLIC, Host::Address([192, 0, 2, 2].into()), "10.0.0.2/32"),
        peer(OTHER, Host::Name("host-c.example".to_owned()), "10.0.0.3/32"),
    ];
    let wanted = Config {
        interface,
        peers,
        ..Config::default()
    };
    assert_eq!(config, wanted);
}

#[test]
fn every_key_in_any_case_with_comments_and_white_space() {
    let text = format!(
        "\r\n[INTERFACE] # ours\r\n\tprivatekey={PRIVATE}#x\r\nlistenport = 1\r\nFWMARK = 0xCA6C\r\n\
         address = 10.0.0.1/24, fd00::1/64\r\nAddress=10.1.0.1 10.2.0.1\r\n\
         dns = 192.0.2.53, 2001:db8::53, corp.example\r\nmtu = 1400\r\ntable = off\r\n\
         PreUp = a\r\nPostUp = iptables -A FORWARD -i %i -j ACCEPT; echo a=b # why\r\nPostUp = second\r\n\
         PreDown = b\r\nPostDown = c\r\nPostDown =\r\nsaveconfig = TRUE\r\n\
         [peer]\r\nPUBLICKEY = {PUBLIC}\r\nPresharedKey = {OTHER}\r\n\
         AllowedIPs = 10.0.0.7/24 , 192.0.2.1\r\nAllowedIPs = fd00::7/64,10.0.0.0/24\r\n\
         Endpoint = [2001:db8::1]:51820\r\nPersistentKeepalive = 25"
    );
    let config = parse(&text).unwrap();
    let strings = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    let interface = Interface {
        private_key: Some(PRIVATE.parse().unwrap()),
        listen_port: Some(1),
        fwmark: 0xca6c,
        addresses: nets(&["10.0.0.1/24", "fd00::1/64", "10.1.0.1/32", "10.2.0.1/32"]),
        dns: strings(&["192.0.2.53", "2001:db8::53"]),
        dns_search: strings(&["corp.example"]),
        mtu: Some(1400),
        table: AllowedIpRoutes::Off,
        hooks: Hooks {
            pre_up: strings(&["a"]),
            post_up: strings(&["iptables -A FORWARD -i %i -j ACCEPT; echo a=b", "second"]),
            pre_down: strings(&["b"]),
            post_down: strings(&["c"]),
        },
        save_config: true,
    };
    assert_eq!(config.interface, interface);
    let peer = Peer {
        preshared_key: Some(PresharedSource::Key(OTHER.parse().unwrap())),
        allowed_ips: nets(&["10.0.0.0/24", "192.0.2.1/32", "fd00::/64"]),
        endpoint: Some(Endpoint {
            host: Host::Address("2001:db8::1".parse().unwrap()),
            port: 51820,
        }),
        keepalive: 25,
        ..Peer::new(PUBLIC.parse().unwrap())
    };
    assert_eq!(config.peers, [peer]);
}

#[test]
fn values_mean_what_they_mean_to_wg() {
    let interface = |line: &str| parse(&format!("[Interface]\n{line}\n")).unwrap().interface;
    assert_eq!(interface("FwMark = off"), Interface::default());
    assert_eq!(interface("FwMark = 51820").fwmark, 51820);
    assert_eq!(interface("Table = auto").table, AllowedIpRoutes::Auto);
    assert_eq!(interface("Table = 1730").table, AllowedIpRoutes::Table(1730));
    assert_eq!(interface("Table = main").table, AllowedIpRoutes::Table(254));
    assert_eq!(interface("Table = 0").table, AllowedIpRoutes::Table(254));
    assert_eq!(interface("Table = 0x1234").table, AllowedIpRoutes::Table(0x1234));
    assert_eq!(interface("Table = 77\nTable =").table, AllowedIpRoutes::Auto);
    assert_eq!(interface("MTU = 0").mtu, Some(0));
    assert_eq!(interface("MTU = 0x578").mtu, Some(1400));
    assert_eq!(interface("MTU = 1400\nMTU =").mtu, None);
    assert_eq!(interface("FwMark = 010").fwmark, 10);
    assert_eq!(interface("Listen Port = 0518 20").listen_port, Some(51820));
    assert_eq!(interface("[Interface]\nListenPort = 7").listen_port, Some(7));
    let zeros = format!("PrivateKey = {}=", "A".repeat(43));
    assert_eq!(interface(&zeros).private_key, None);
    assert_eq!(
        interface("Address = 10.0.0.1/255.255.254.0").addresses,
        nets(&["10.0.0.1/23"])
    );
    assert_eq!(interface("DNS = fe80::1%eth0").dns, ["fe80::1%eth0"]);
    let peer = |line: &str| {
        let config = parse(&format!("[Peer]\nPublicKey = {PUBLIC}\n{line}\n"));
        config.unwrap().peers.remove(0)
    };
    assert_eq!(peer("PersistentKeepalive = off").keepalive, 0);
    let zeros = format!("PresharedKey = {}=", "A".repeat(43));
    assert_eq!(peer(&zeros).preshared_key, None);
    assert_eq!(
        peer("AllowedIPs = 0.0.0.0/0, ::/0").allowed_ips,
        nets(&["0.0.0.0/0", "::/0"])
    );
    let twice = peer("PersistentKeepalive = off\nPersistentKeepalive = 025");
    assert_eq!(twice.keepalive, 25);
    assert_eq!(
        peer("Allowed IPs = 10.0.0.0 / 8").allowed_ips,
        nets(&["10.0.0.0/8"])
    );
    let ip = |text: &str| Host::Address(text.parse().unwrap());
    let scoped = Host::Scoped("fe80::1".parse().unwrap(), LinkName::constant("eth0"));
    for (text, host) in [
        ("[fe80::1%eth0]:1", scoped.clone()),
        ("fe80::1%eth0:1", scoped),
        ("2001:db8::1:1", ip("2001:db8::1")),
        ("[192.0.2.1] : 1", ip("192.0.2.1")),
        ("[vpn_1.example.]:1", Host::Name("vpn_1.example.".to_owned())),
    ] {
        let endpoint = peer(&format!("Endpoint = {text}")).endpoint.unwrap();
        assert_eq!(endpoint, Endpoint { host, port: 1 }, "{text}");
    }
    assert_eq!(parse("").unwrap(), Config::default());
}

#[test]
fn errors_name_the_line_the_key_and_the_remedy() {
    let key = format!("[Peer]\nPublicKey = {PUBLIC}\n");
    for (text, wanted) in [
        ("ListenPort = 1\n", "1: `ListenPort` is before the first section"),
        ("text\n[Peer]", "1: text before the first section"),
        (
            "[Interface]\n\n[Pear]\n",
            "3: unknown section; known: [Interface], [Peer]",
        ),
        (
            "[ Interface ]\nListenPort = 1\nAddress = 10.0.0.1\n",
            "3: `Address` belongs in [Interface]",
        ),
        (
            "\u{feff}[Interface]\n",
            "1: the file begins with a byte order mark (BOM)",
        ),
        (
            "[Interface]\nListenPrt = 1\n",
            "2: unknown key `ListenPrt`; did you mean `ListenPort`?",
        ),
        ("[Interface]\nEndpoint = a:1\n", "2: `Endpoint` belongs in [Peer]"),
        (
            "[Peer]\nAddress = 10.0.0.1\n",
            "2: `Address` belongs in [Interface]",
        ),
        ("[Interface]\nListenPort 1\n", "2: no `=` after `ListenPort`"),
        ("[Interface]\nanything\n", "2: no `=` in this line"),
        ("[Interface]\nListenPort =\n", "2: `ListenPort` has no value"),
        (
            "[Interface]\nMTU = 01420\n",
            "2: MTU: `01420` begins with a zero, which some tools read as octal",
        ),
        (
            "[Interface]\nTable = 0100\n",
            "2: Table: `0100` begins with a zero, which some tools read as octal",
        ),
        (
            "[Interface]\nAddress = 10.0.0.1/024\n",
            "2: Address: `10.0.0.1/024` is not an address",
        ),
        (
            "[Interface]\nAddress = 10.0.0.1, fd00::1/64\nAddress = fd00::1/128\n",
            "3: Address: `fd00::1/128` is given twice",
        ),
        (
            "[Interface]\nMTU = 1e3\n",
            "2: MTU: `1e3` is not an MTU; expected 0 to 2147483552 bytes",
        ),
        (
            "[Interface]\nListenPort = 65536\n",
            "2: ListenPort: `65536` is not a port; expected 0 to 65535",
        ),
        (
            "[Interface]\nListenPort = +1\n",
            "2: ListenPort: `+1` is not a port",
        ),
        (
            "[Interface]\nFwMark = 0X10\n",
            "2: FwMark: `0X10` is not a mark; expected `off`",
        ),
        ("[Interface]\nFwMark = 0x+1\n", "2: FwMark: `0x+1` is not a mark"),
        (
            "[Interface]\nTable = mine\n",
            "2: Table: `mine` is not a table; expected `off`, `auto`, a",
        ),
        (
            "[Interface]\nAddress = 10.0.0/24\n",
            "2: Address: `10.0.0/24` is not an address",
        ),
        (
            "[Interface]\nDNS = 10.0.0.256\n",
            "2: DNS: `10.0.0.256` is neither an IP address nor a domain",
        ),
        (
            "[Interface]\nSaveConfig = yes\n",
            "2: SaveConfig: `yes` is neither true nor false",
        ),
        (
            "[Interface]\nPrivateKey = topsecret\n",
            "2: PrivateKey: a key has 44 characters",
        ),
        ("[Peer]\nAllowedIPs = ::/0\n", "1: this [Peer] has no `PublicKey`"),
    ] {
        let said = error(text);
        assert!(said.starts_with(&format!("wg0.conf:{wanted}")), "{said}");
    }
    for (line, wanted) in [
        (
            "PersistentKeepalive = 65536",
            "PersistentKeepalive: `65536` is not an interval; expected `off` or",
        ),
        (
            "AllowedIPs = 10.0.0.0/33",
            "AllowedIPs: `10.0.0.0/33` is not an address; expected for example",
        ),
        ("AllowedIPs = 10.0.0.0/8,", "AllowedIPs: `` is not an address"),
        (
            "Endpoint = 192.0.2.1",
            "Endpoint: `192.0.2.1` is not an endpoint; expected for example",
        ),
        (
            "Endpoint = 192.0.2.256:1",
            "Endpoint: `192.0.2.256:1` is not an endpoint",
        ),
        ("AllowedIPs =", "`AllowedIPs` has no value"),
        (
            "AllowedIPs = 10.0.0.0/08",
            "AllowedIPs: `10.0.0.0/08` is not an address",
        ),
        (
            "Endpoint = 192.0.2.010:1",
            "Endpoint: `192.0.2.010:1` is not an endpoint",
        ),
        (
            "Endpoint = [2001:db8::1%eth0]:1",
            "Endpoint: `[2001:db8::1%eth0]:1` is not an endpoint",
        ),
        (
            "Endpoint = 192.0.2.1:no-such-service",
            "Endpoint: `no-such-service` is not a port; expected 0 to 65535, or a UDP service",
        ),
        (
            "Endpoint = host.example:0",
            "Endpoint: `host.example:0` is not an endpoint",
        ),
    ] {
        let said = error(&format!("{key}{line}\n"));
        assert!(said.starts_with(&format!("wg0.conf:3: {wanted}")), "{said}");
    }
}

#[test]
fn suspicious_values_mean_what_the_kernel_reads_and_are_reported() {
    let text = format!(
        "[Peer]\nAllowedIPs = 10.0.0.0/24\nPublicKey = {PUBLIC}\nEndpoint = 192.0.2.1:1\nPersistentKeepalive = 25\n\
         [Peer]\nPublicKey = {OTHER}\nAllowedIPs = 10.0.0.0/25\nAllowedIPs = 10.0.1.1, 10.0.0.9/24\n\
         [Peer]\nPublicKey = {PUBLIC}\nPersistentKeepalive = 0\nAllowedIPs = 10.0.1.1\nEndpoint = 192.0.2.2:1\nEndpoint = 192.0.2.3:1\n"
    );
    let config = parse(&text).unwrap();
    let peers = config.peers.iter().map(|peer| peer.allowed_ips.clone());
    let wanted = [
        nets(&[]),
        nets(&["10.0.0.0/25", "10.0.0.0/24"]),
        nets(&["10.0.1.1/32"]),
    ];
    assert_eq!(peers.collect::<Vec<_>>(), wanted);
    let last = &config.peers[2];
    assert_eq!(last.endpoint.as_ref().unwrap().to_string(), "192.0.2.3:1");
    assert_eq!(last.keepalive, 0);
    let warned = |line: usize, words: &[&str]| {
        let told = config.warnings.iter();
        let mut told = told.filter(|told| told.starts_with(&format!("wg0.conf:{line}: ")));
        told.any(|told| words.iter().all(|word| told.contains(word)))
    };
    for (line, words) in [
        (9, &["10.0.0.0/24", PUBLIC, OTHER, "line 2"][..]),
        (11, &["two peers", "line 3"]),
        (13, &["10.0.1.1/32", "line 9"]),
        (15, &["`Endpoint`", "line 14"]),
    ] {
        assert!(warned(line, words), "{line}: {:#?}", config.warnings);
    }
    assert_eq!(config.warnings.len(), 4, "{:#?}", config.warnings);
    // Without its own endpoint the last section keeps that of the earlier one.
    let config = parse(&text.replace("Endpoint = 192.0.2.2:1\nEndpoint = 192.0.2.3:1\n", "")).unwrap();
    let endpoint = config.peers[2].endpoint.as_ref().unwrap();
    assert_eq!(endpoint.to_string(), "192.0.2.1:1");
}

#[test]
fn no_error_shows_key_material() {
    let secret = &PRIVATE[..43];
    let parts = [&PRIVATE[..21], &PRIVATE[21..43]];
    for text in [
        format!("[Interface]\nPrivateKey {PRIVATE}\n"),
        format!("[Interface]\nPrivateKey = {secret}\n"),
        format!("[Interface]\nPrivateKey = {PRIVATE}x\n"),
        format!("[Interface]\n{PRIVATE}\n"),
        format!("[Interface]\nPrivateKey = {}\n{}=\n", parts[0], parts[1]),
        format!("{PRIVATE}\n[Interface]\n"),
        format!("[Interface]\nAddress = {PRIVATE}\n"),
        format!("[Interface]\nListenPort = {PRIVATE}\n"),
        format!("[Peer]\nPresharedKey = {secret}!\n"),
        format!("[Peer]\nEndpoint = {PRIVATE}:1\n"),
        format!("[Peer]\nPublicKey = {secret}\n"),
        format!("[{PRIVATE}]\n"),
    ] {
        let said = error(&text);
        assert!(!parts.iter().any(|part| said.contains(part)), "{said}");
    }
    let text = format!("[Interface]\nPrivateKey = {PRIVATE}\n");
    let shown = format!(
        "{:?} {:?}",
        Document::new(text.clone().into_bytes()),
        parse(&text)
    );
    assert!(!shown.contains(secret), "{shown}");
}

#[test]
fn bytes_stay_and_are_found_again() {
    let text: &[u8] = b"\xff\xfe\n# top\n [Peer]\t# p\r\nPublicKey = a\r\npublickey=b #c\n\n[Interface]\nX";
    let document = Document::new(text.to_vec());
    assert_eq!(document.bytes(), text);
    let peer = document.peers().next().unwrap();
    assert_eq!((peer.lines.clone(), document.last_entry(peer)), (2..6, 4));
    let (line, value) = document.entry(peer, "PublicKey").unwrap();
    assert_eq!((line, &text[value.clone()]), (4, &b"b"[..]));
    assert_eq!(document.comment(1).map(|range| &text[range]), Some(&b"top"[..]));
    assert_eq!((document.comment(2), document.is_blank(5)), (None, true));
    let replaced = document.replaced(value, b"other");
    assert_eq!(replaced.bytes().len(), text.len() + 4);
    assert_eq!(replaced.replaced(0..3, b"").sections().len(), 2);
    let error = Config::of(Path::new("x"), &document).unwrap_err();
    assert_eq!(
        error.to_string(),
        "x:1: the file begins with a byte order mark (BOM), which the WireGuard tools reject; save it as UTF-8 without one"
    );
}
