//! The input of the fuzz tests of the adapters: messages of Linux 6.12 and output of nft 1.0.6 about a
//! namespace with a device, an address, a route and a rule of each kind. The keys in them are not used
//! anywhere.

use super::netlink::message::messages;

/// The messages of a dump, without their headers and without its end.
pub(super) fn bodies(datagrams: &[u8]) -> Vec<Vec<u8>> {
    let messages = messages(datagrams).expect("as the kernel wrote them");
    let bodies = messages
        .iter()
        .filter(|message| i32::from(message.kind) >= libc::NLMSG_MIN_TYPE);
    bodies.map(|message| message.body.to_vec()).collect()
}
