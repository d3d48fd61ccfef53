//! Interfaces as JSON, with the field names of `wg-json` of wireguard-tools. Absent values are omitted.

use std::collections::BTreeMap;
use std::io::{self, Write};

use serde::{Serialize, Serializer};
use zeroize::Zeroizing;

use super::format;
use super::secrets::Secrets;
use crate::kernel::wireguard::PeerTraffic;
use crate::kernel::wireguard::listing::Listing;
use crate::net::LinkName;
use crate::resource::wireguard::Peer;

/// A device.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct DeviceView {
    #[serde(skip_serializing_if = "Option::is_none")]
    private_key: Option<Secret>,
    #[serde(skip_serializing_if = "Option::is_none")]
    public_key: Option<String>,
    #[serde(skip_serializing_if = "is_zero")]
    listen_port: u16,
    #[serde(skip_serializing_if = "is_zero")]
    fwmark: u32,
    /// By public key.
    peers: BTreeMap<String, PeerView>,
}

/// A peer of a device.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PeerView {
    #[serde(skip_serializing_if = "Option::is_none")]
    preshared_key: Option<Secret>,
    #[serde(skip_serializing_if = "Option::is_none")]
    endpoint: Option<String>,
    /// Seconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    latest_handshake: Option<u64>,
    /// Bytes.
    transfer_rx: u64,
    transfer_tx: u64,
    /// Seconds.
    #[serde(skip_serializing_if = "is_zero")]
    persistent_keepalive: u16,
    allowed_ips: Vec<String>,
}

/// A text that is wiped when dropped.
struct Secret(Zeroizing<String>);

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

/// Devices by name.
pub(super) fn devices(listings: &[Listing], secrets: Secrets) -> BTreeMap<&str, DeviceView> {
    let named = listings.iter().map(|listing| {
        let name = listing.name.as_ref().map_or("", LinkName::as_str);
        (name, device(listing, secrets))
    });
    named.collect()
}

/// Writes a value directly to the output, so that no copy of a key stays in memory.
pub(super) fn write(output: &mut dyn Write, value: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *output, value)?;
    writeln!(output)
}

fn device(listing: &Listing, secrets: Secrets) -> DeviceView {
    let peers = listing.peers.iter();
    DeviceView {
        private_key: secrets.private_key(listing).map(Secret),
        public_key: listing.public_key.map(|key| key.to_string()),
        listen_port: listing.listen_port,
        fwmark: listing.fwmark,
        peers: peers
            .map(|one| {
                (
                    one.public_key.to_string(),
                    peer(one, listing.traffic(one), secrets),
                )
            })
            .collect(),
    }
}

fn peer(peer: &Peer, traffic: PeerTraffic, secrets: Secrets) -> PeerView {
    PeerView {
        preshared_key: secrets.preshared_key(peer).map(Secret),
        endpoint: peer.endpoint.as_ref().map(format::endpoint),
        latest_handshake: traffic.last_handshake.map(|time| time.as_secs()),
        transfer_rx: traffic.received,
        transfer_tx: traffic.sent,
        persistent_keepalive: peer.keepalive,
        allowed_ips: peer.allowed_ips.iter().map(format::prefix).collect(),
    }
}

fn is_zero<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
