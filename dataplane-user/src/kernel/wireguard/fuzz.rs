//! Random changes to messages of the kernel about WireGuard devices.

use super::listing::Listing;
use super::*;
use crate::fuzz::{Verdict, feed, same};
use crate::kernel::fuzz::bodies;
use crate::kernel::netlink::message::messages;
use crate::net::key::KEY_LENGTH;

const DEVICE: &[u8] = include_bytes!("../examples/wireguard");
const FAMILY_NUMBER: &[u8] = include_bytes!("../examples/family");

#[test]
fn a_device_is_rejected_or_equal_after_the_messages_that_create_it() {
    feed(&bodies(DEVICE), &[], |bytes| {
        let Ok(part) = read::part(bytes, true) else {
            return Ok(Verdict::Refused);
        };
        let device = Reading::from(read::merge(vec![part])).device;
        let mut wanted = device.clone();
        for peer in wanted.peers.values_mut() {
            // Only existing devices have an index, and those of this machine are not those of the dump.
            peer.endpoint = peer.endpoint.take().filter(|endpoint| endpoint.device.is_none());
        }
        let changes = wanted
            .peers
            .iter()
            .map(|(key, peer)| DeviceChange::AddPeer(*key, peer.clone()));
        let changes: Vec<DeviceChange> = changes
            .chain([
                DeviceChange::SetListenPort(device.listen_port),
                DeviceChange::SetFwmark(device.fwmark),
            ])
            .collect();
        let keys = Keys {
            private: None,
            spare: PublicKey::from_bytes([0; KEY_LENGTH]),
            zones: BTreeMap::new(),
        };
        let requests = write::set(
            30,
            &LinkName::constant("wg0"),
            &changes.iter().collect::<Vec<_>>(),
            &keys,
        );
        let parts = requests.iter().map(|request| {
            let mut datagram = Vec::new();
            request.write(&mut datagram, 0, 1);
            let message = &messages(&datagram).expect("as it was written")[0];
            read::part(message.body, false).expect("as it was written")
        });
        let listing: Listing = read::merge(parts.collect());
        wanted.public_key = None;
        same(&wanted, &Reading::from(listing).device)
    });
}

#[test]
fn messages_of_a_device_keep_all_allowed_ips_when_they_become_one() {
    let bodies = bodies(DEVICE);
    feed(&bodies, &[], |bytes| {
        let Ok(part) = read::part(bytes, false) else {
            return Ok(Verdict::Refused);
        };
        let first = read::part(&bodies[0], false).expect("as the kernel wrote it");
        let whole = read::merge(vec![first.clone(), part.clone()]);
        proptest::prop_assert_eq!(&whole.name, &first.name);
        let allowed = |listing: &Listing| -> usize {
            let peers = listing.peers.iter();
            peers.map(|peer| peer.allowed_ips.len()).sum()
        };
        same(&allowed(&whole), &(allowed(&first) + allowed(&part)))
    });
}

#[test]
fn the_number_of_a_family_is_found_or_not() {
    feed(&bodies(FAMILY_NUMBER), &[], |bytes| {
        Ok(Verdict::of(read::family(bytes).ok().flatten().as_ref()))
    });
}
