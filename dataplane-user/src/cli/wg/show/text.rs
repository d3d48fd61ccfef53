//! An interface as text for people, exactly as `wg show` prints it.

use std::cmp::Reverse;
use std::io::{self, Write};

use super::format;
use super::secrets::Secrets;
use crate::cli::output::Paint;
use crate::kernel::wireguard::PeerTraffic;
use crate::kernel::wireguard::listing::Listing;
use crate::net::LinkName;
use crate::resource::wireguard::Peer;

/// Options of the text.
#[derive(Clone, Copy, Debug)]
pub(super) struct Style {
    /// Seconds since 1970.
    pub(super) now: u64,
    pub(super) paint: Paint,
    pub(super) secrets: Secrets,
}

/// Writes a device and its peers, those with the latest handshake first.
pub(super) fn write(output: &mut dyn Write, device: &Listing, style: Style) -> io::Result<()> {
    let paint = style.paint;
    let name = device.name.as_ref().map_or("", LinkName::as_str);
    writeln!(output, "{}: {}", paint.strong("interface"), paint.good(name))?;
    let mut line = |label: &str, value: &str| writeln!(output, "  {}: {value}", paint.strong(label));
    if let Some(key) = &device.public_key {
        line("public key", &key.to_string())?;
    }
    if let Some(key) = style.secrets.private_key(device) {
        line("private key", &key)?;
    }
    if device.listen_port > 0 {
        line("listening port", &device.listen_port.to_string())?;
    }
    if device.fwmark > 0 {
        line("fwmark", &format::mark(device.fwmark))?;
    }
    let mut peers: Vec<&Peer> = device.peers.iter().collect();
    // The sort is stable: peers of one age stay in the order of the kernel.
    peers.sort_by_key(|peer| Reverse(device.traffic(peer).last_handshake));
    for peer in peers {
        writeln!(output)?;
        write_peer(output, peer, device.traffic(peer), style)?;
    }
    Ok(())
}

fn write_peer(output: &mut dyn Write, peer: &Peer, traffic: PeerTraffic, style: Style) -> io::Result<()> {
    let paint = style.paint;
    let key = peer.public_key.to_string();
    writeln!(output, "{}: {}", paint.strong("peer"), paint.doubtful(&key))?;
    let mut line = |label: &str, value: &str| writeln!(output, "  {}: {value}", paint.strong(label));
    if let Some(key) = style.secrets.preshared_key(peer) {
        line("preshared key", &key)?;
    }
    if let Some(endpoint) = &peer.endpoint {
        line("endpoint", &format::endpoint(endpoint))?;
    }
    line("allowed ips", &format::prefixes(&peer.allowed_ips, ", "))?;
    if let Some(then) = traffic.last_handshake {
        line("latest handshake", &format::ago(style.now, then.as_secs(), paint))?;
    }
    if traffic.received > 0 || traffic.sent > 0 {
        let [received, sent] = [traffic.received, traffic.sent].map(format::bytes);
        line("transfer", &format!("{received} received, {sent} sent"))?;
    }
    if peer.keepalive > 0 {
        line("persistent keepalive", &format::every(peer.keepalive))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::net::PeerEndpoint;
    use crate::net::{PresharedKey, PrivateKey, PublicKey};
    use crate::resource::wireguard::PresharedSource;

    fn key(number: u8) -> PublicKey {
        PublicKey::from_bytes([number; 32])
    }

    /// The traffic of a peer with a handshake at this time.
    fn traffic(seconds: u64) -> PeerTraffic {
        PeerTraffic {
            last_handshake: Some(Duration::from_secs(seconds)),
            ..PeerTraffic::default()
        }
    }

    fn text(device: &Listing, secrets: Secrets, paint: Paint) -> String {
        let mut output = Vec::new();
        let style = Style {
            now: 1000,
            paint,
            secrets,
        };
        write(&mut output, device, style).unwrap();
        String::from_utf8(output).unwrap()
    }

    fn full() -> Listing {
        let talks = Peer {
            preshared_key: Some(PresharedSource::Key(PresharedKey::from_bytes(&[9; 32]))),
            endpoint: Some(PeerEndpoint::new("192.0.2.7".parse().unwrap(), 51820).into()),
            keepalive: 25,
            allowed_ips: vec!["10.0.0.0/24".parse().unwrap(), "fd00::/64".parse().unwrap()],
            ..Peer::new(key(2))
        };
        let moved = PeerTraffic {
            received: 1240,
            sent: 3_565_158,
            ..traffic(935)
        };
        Listing {
            name: Some(LinkName::constant("wg0")),
            private_key: Some(PrivateKey::from_bytes(&[7; 32])),
            public_key: Some(PublicKey::from_bytes([1; 32])),
            listen_port: 51820,
            fwmark: 0xad17,
            peers: vec![Peer::new(key(4)), talks, Peer::new(key(3))],
            traffic: [(key(2), moved), (key(3), traffic(999))].into(),
        }
    }

    #[test]
    fn a_device_is_shown_as_wg_shows_it() {
        let shown = text(&full(), Secrets::Hidden, Paint::NEVER);
        let expected = "\
interface: wg0
  public key: AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=
  private key: (hidden)
  listening port: 51820
  fwmark: 0xad17

peer: AwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwM=
  allowed ips: (none)
  latest handshake: 1 second ago

peer: AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=
  preshared key: (hidden)
  endpoint: 192.0.2.7:51820
  allowed ips: 10.0.0.0/24, fd00::/64
  latest handshake: 1 minute, 5 seconds ago
  transfer: 1.21 KiB received, 3.40 MiB sent
  persistent keepalive: every 25 seconds

peer: BAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQ=
  allowed ips: (none)
";
        assert_eq!(shown, expected);
        let bare = Listing {
            name: Some(LinkName::constant("wg1")),
            ..Listing::default()
        };
        assert_eq!(text(&bare, Secrets::Hidden, Paint::NEVER), "interface: wg1\n");
    }

    #[test]
    fn secrets_show_where_they_are_asked_for_alone() {
        let keys = ["BwcHBwcHBwcH", "CQkJCQkJCQkJ"];
        let hidden = text(&full(), Secrets::Hidden, Paint::ALWAYS);
        assert!(keys.iter().all(|key| !hidden.contains(key)), "{hidden}");
        let shown = text(&full(), Secrets::Shown, Paint::NEVER);
        assert!(keys.iter().all(|key| shown.contains(key)), "{shown}");
        assert!(!shown.contains("(hidden)"), "{shown}");
    }
}
