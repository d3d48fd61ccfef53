//! Generates keys from random numbers of the kernel.

use std::io;

use zeroize::Zeroizing;

use crate::net::key::{KEY_LENGTH, PresharedKey, PrivateKey, PublicKey};

/// Generates a private key.
///
/// # Errors
/// When the kernel returns no random numbers.
pub fn private_key() -> io::Result<PrivateKey> {
    Ok(PrivateKey::from_random(&*random()?))
}

/// Generates a preshared key.
///
/// # Errors
/// When the kernel returns no random numbers.
pub fn preshared_key() -> io::Result<PresharedKey> {
    Ok(PresharedKey::from_bytes(&*random()?))
}

/// Generates a public key that belongs to no peer.
pub(super) fn public_key() -> io::Result<PublicKey> {
    Ok(PublicKey::from_bytes(*random()?))
}

fn random() -> io::Result<Zeroizing<[u8; KEY_LENGTH]>> {
    let mut bytes = Zeroizing::new([0; KEY_LENGTH]);
    getrandom::fill(bytes.as_mut_slice()).map_err(|error| io::Error::other(error.to_string()))?;
    Ok(bytes)
}
