//! How secrets are shown.

use zeroize::Zeroizing;

use crate::kernel::wireguard::listing::Listing;
use crate::net::PrivateKey;
use crate::resource::wireguard::Peer;

const HIDDEN: &str = "(hidden)";

/// Whether private and preshared keys are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Secrets {
    /// As `(hidden)`, if there is one.
    Hidden,
    /// As they are.
    Shown,
}

impl Secrets {
    /// A device's private key, if it has one.
    pub(super) fn private_key(self, device: &Listing) -> Option<Zeroizing<String>> {
        match self {
            Secrets::Hidden => device.public_key.map(|_| hidden()),
            Secrets::Shown => device.private_key.as_ref().map(PrivateKey::to_base64),
        }
    }

    /// A peer's preshared key, if it has one.
    pub(super) fn preshared_key(self, peer: &Peer) -> Option<Zeroizing<String>> {
        let key = peer.known_preshared_key()?;
        Some(match self {
            Secrets::Hidden => hidden(),
            Secrets::Shown => key.to_base64(),
        })
    }
}

fn hidden() -> Zeroizing<String> {
    Zeroizing::new(HIDDEN.to_owned())
}
