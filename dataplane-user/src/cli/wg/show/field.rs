//! One field of an interface for scripts: columns separated by tabs, peers in the order of the kernel.

use std::io::{self, Write};

use clap::ValueEnum;
use zeroize::Zeroizing;

use super::format::{self, NONE};
use super::secrets::Secrets;
use crate::kernel::wireguard::PeerTraffic;
use crate::kernel::wireguard::listing::Listing;
use crate::net::LinkName;
use crate::resource::wireguard::Peer;

/// The fields of `wg show`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Field {
    /// Public key of the interface
    PublicKey,
    /// Private key of the interface
    PrivateKey,
    /// UDP port of the interface
    ListenPort,
    /// Mark of the encrypted packets of the interface
    Fwmark,
    /// Public keys of the peers
    Peers,
    /// Preshared keys of the peers
    PresharedKeys,
    /// Addresses and UDP ports of the peers
    Endpoints,
    /// Prefixes of the peers
    AllowedIps,
    /// Latest handshakes of the peers, in seconds since 1970; 0 for never
    LatestHandshakes,
    /// Bytes received from and sent to the peers
    Transfer,
    /// Seconds between keepalives, or `off`
    PersistentKeepalive,
    /// All fields
    Dump,
}

/// Writes a field of a device. If `named`, each line begins with the name of the device.
pub(super) fn write(
    output: &mut dyn Write,
    field: Field,
    device: &Listing,
    named: bool,
    secrets: Secrets,
) -> io::Result<()> {
    let start = match &device.name {
        Some(name) if named => format!("{}\t", LinkName::as_str(name)),
        _ => String::new(),
    };
    if let Some(value) = of_device(field, device, secrets) {
        writeln!(output, "{start}{}", *value)?;
    }
    for peer in &device.peers {
        let Some(value) = of_peer(field, peer, device.traffic(peer), secrets) else {
            continue;
        };
        writeln!(output, "{start}{}{}", peer.public_key, *value)?;
    }
    Ok(())
}

/// The line of the device; `None` for fields of peers.
fn of_device(field: Field, device: &Listing, secrets: Secrets) -> Option<Zeroizing<String>> {
    let public_key = || device.public_key.map_or(NONE.to_owned(), |key| key.to_string());
    let private_key = || or_none(secrets.private_key(device));
    let text = match field {
        Field::PublicKey => public_key(),
        Field::PrivateKey => return Some(private_key()),
        Field::ListenPort => device.listen_port.to_string(),
        Field::Fwmark => format::mark(device.fwmark),
        Field::Dump => [
            &*private_key(),
            &public_key(),
            &device.listen_port.to_string(),
            &format::mark(device.fwmark),
        ]
        .map(String::as_str)
        .join("\t"),
        _ => return None,
    };
    Some(Zeroizing::new(text))
}

/// The line of a peer after its key; `None` for fields of the device.
fn of_peer(field: Field, peer: &Peer, traffic: PeerTraffic, secrets: Secrets) -> Option<Zeroizing<String>> {
    let preshared_key = || or_none(secrets.preshared_key(peer));
    let endpoint = || peer.endpoint.as_ref().map_or(NONE.to_owned(), format::endpoint);
    let handshake = traffic.last_handshake.map_or(0, |time| time.as_secs());
    let transfer = format!("{}\t{}", traffic.received, traffic.sent);
    let keepalive = format::keepalive(peer.keepalive);
    let text = match field {
        Field::Peers => String::new(),
        Field::PresharedKeys => ["\t", preshared_key().as_str()].concat(),
        Field::Endpoints => format!("\t{}", endpoint()),
        Field::AllowedIps => format!("\t{}", format::prefixes(&peer.allowed_ips, " ")),
        Field::LatestHandshakes => format!("\t{handshake}"),
        Field::Transfer => format!("\t{transfer}"),
        Field::PersistentKeepalive => format!("\t{keepalive}"),
        // Joined at once, so that no other copy of a key stays in memory.
        Field::Dump => [
            "",
            preshared_key().as_str(),
            &endpoint(),
            &format::prefixes(&peer.allowed_ips, ","),
            &handshake.to_string(),
            &transfer,
            &keepalive,
        ]
        .join("\t"),
        Field::PublicKey | Field::PrivateKey | Field::ListenPort | Field::Fwmark => return None,
    };
    Some(Zeroizing::new(text))
}

fn or_none(secret: Option<Zeroizing<String>>) -> Zeroizing<String> {
    secret.unwrap_or_else(|| Zeroizing::new(NONE.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::PeerEndpoint;
    use crate::net::{PresharedKey, PrivateKey, PublicKey};
    use crate::resource::wireguard::PresharedSource;

    fn lines(field: Field, named: bool, secrets: Secrets) -> String {
        let full = Peer {
            preshared_key: Some(PresharedSource::Key(PresharedKey::from_bytes(&[8; 32]))),
            endpoint: Some(PeerEndpoint::new("2001:db8::7".parse().unwrap(), 9).into()),
            keepalive: 25,
            allowed_ips: vec!["10.0.0.0/24".parse().unwrap(), "fd00::/64".parse().unwrap()],
            ..Peer::new(PublicKey::from_bytes([2; 32]))
        };
        let device = Listing {
            name: Some(LinkName::constant("wg0")),
            private_key: Some(PrivateKey::from_bytes(&[7; 32])),
            public_key: Some(PublicKey::from_bytes([1; 32])),
            listen_port: 51820,
            fwmark: 0,
            peers: vec![full, Peer::new(PublicKey::from_bytes([3; 32]))],
            ..Listing::default()
        };
        let mut output = Vec::new();
        write(&mut output, field, &device, named, secrets).unwrap();
        let text = String::from_utf8(output).unwrap();
        let short = [(1, 'A'), (2, 'B'), (3, 'C'), (7, 'S'), (8, 'T')];
        short.iter().fold(text, |text, (byte, letter)| {
            let key = PublicKey::from_bytes([*byte; 32]).to_string();
            text.replace(&key, &letter.to_string())
        })
    }

    #[test]
    fn lines_are_as_of_wg() {
        let hidden = |field| lines(field, false, Secrets::Hidden);
        assert_eq!(hidden(Field::PublicKey), "A\n");
        assert_eq!(hidden(Field::PrivateKey), "(hidden)\n");
        assert_eq!(hidden(Field::Fwmark), "off\n");
        assert_eq!(hidden(Field::Peers), "B\nC\n");
        assert_eq!(hidden(Field::AllowedIps), "B\t10.0.0.0/24 fd00::/64\nC\t(none)\n");
        assert_eq!(hidden(Field::PersistentKeepalive), "B\t25\nC\toff\n");
        assert_eq!(
            hidden(Field::Dump),
            "(hidden)\tA\t51820\toff\n\
             B\t(hidden)\t[2001:db8::7]:9\t10.0.0.0/24,fd00::/64\t0\t0\t0\t25\n\
             C\t(none)\t(none)\t(none)\t0\t0\t0\toff\n"
        );
        assert_eq!(
            lines(Field::Transfer, true, Secrets::Hidden),
            "wg0\tB\t0\t0\nwg0\tC\t0\t0\n"
        );
        assert_eq!(
            lines(Field::PresharedKeys, true, Secrets::Shown),
            "wg0\tB\tT\nwg0\tC\t(none)\n"
        );
        assert_eq!(lines(Field::PrivateKey, true, Secrets::Shown), "wg0\tS\n");
    }
}
