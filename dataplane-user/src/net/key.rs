//! WireGuard keys: secrets that can't be printed by accident, and public keys in base64.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use x25519_dalek::StaticSecret;
use zeroize::{Zeroize as _, Zeroizing};

/// Bytes of a WireGuard key (`WG_KEY_LEN`, linux/wireguard.h).
pub const KEY_LENGTH: usize = 32;
/// Characters of a key in base64.
const TEXT_LENGTH: usize = 44;

/// Why a text is not a key. The error never contains any of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidKey {
    /// It has another length.
    #[error("a key has 44 characters (32 bytes in base64), but this text has {0}")]
    Length(usize),
    /// It is not base64.
    #[error("a key is 32 bytes in base64, but this text is not")]
    Encoding,
}

/// A public key on Curve25519, which identifies a peer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey([u8; KEY_LENGTH]);

/// A private key on Curve25519. Wiped when dropped; only [`PrivateKey::to_base64`] and
/// [`PrivateKey::as_bytes`] show it.
#[derive(Clone, PartialEq, Eq)]
pub struct PrivateKey([u8; KEY_LENGTH]);

/// A secret that two peers share and mix into their handshakes. Wiped when dropped; only
/// [`PresharedKey::to_base64`] and [`PresharedKey::as_bytes`] show it.
#[derive(Clone, PartialEq, Eq)]
pub struct PresharedKey([u8; KEY_LENGTH]);

impl PublicKey {
    /// A key from its bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; KEY_LENGTH]) -> PublicKey {
        PublicKey(bytes)
    }

    /// Its bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; KEY_LENGTH] {
        &self.0
    }
}

impl PrivateKey {
    /// A key from its bytes.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; KEY_LENGTH]) -> PrivateKey {
        PrivateKey(*bytes)
    }

    /// A key from random bytes, clamped as WireGuard does (RFC 7748, section 5).
    #[must_use]
    pub fn from_random(random: &[u8; KEY_LENGTH]) -> PrivateKey {
        let mut key = PrivateKey(*random);
        key.0[0] &= 0b1111_1000;
        key.0[31] = (key.0[31] & 0b0111_1111) | 0b0100_0000;
        key
    }

    /// Whether it is all zeros, which means "no key" to the kernel.
    #[must_use]
    pub fn is_zero(&self) -> bool {
        self.0 == [0; KEY_LENGTH]
    }

    /// The public key that belongs to it.
    #[must_use]
    pub fn public_key(&self) -> PublicKey {
        // Wiped when dropped, too.
        let secret = StaticSecret::from(self.0);
        PublicKey(x25519_dalek::PublicKey::from(&secret).to_bytes())
    }
}

impl PresharedKey {
    /// A key from its bytes.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; KEY_LENGTH]) -> PresharedKey {
        PresharedKey(*bytes)
    }

    /// Whether it is all zeros, which means "no key" to the kernel.
    #[must_use]
    pub fn is_zero(&self) -> bool {
        self.0 == [0; KEY_LENGTH]
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&STANDARD.encode(self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({self})")
    }
}

impl FromStr for PublicKey {
    type Err = InvalidKey;

    fn from_str(text: &str) -> Result<PublicKey, InvalidKey> {
        Ok(PublicKey(*decode(text)?))
    }
}

macro_rules! secret {
    ($type:ident) => {
        impl $type {
            /// Its bytes.
            #[must_use]
            pub fn as_bytes(&self) -> &[u8; KEY_LENGTH] {
                &self.0
            }

            /// The key in base64: 44 characters, wiped when dropped.
            #[must_use]
            pub fn to_base64(&self) -> Zeroizing<String> {
                Zeroizing::new(STANDARD.encode(self.0))
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($type), "(hidden)"))
            }
        }

        impl FromStr for $type {
            type Err = InvalidKey;

            fn from_str(text: &str) -> Result<$type, InvalidKey> {
                Ok($type(*decode(text)?))
            }
        }

        impl Drop for $type {
            fn drop(&mut self) {
                self.0.zeroize();
            }
        }
    };
}

secret!(PrivateKey);
secret!(PresharedKey);

/// Reads base64 as strictly as `wg` does: with padding, and without unused bits that are set.
fn decode(text: &str) -> Result<Zeroizing<[u8; KEY_LENGTH]>, InvalidKey> {
    if text.len() != TEXT_LENGTH {
        return Err(InvalidKey::Length(text.chars().count()));
    }
    // The decoder needs room for 44 characters without padding.
    let mut bytes = Zeroizing::new([0; KEY_LENGTH + 1]);
    let length = STANDARD
        .decode_slice(text, bytes.as_mut_slice())
        .map_err(|_| InvalidKey::Encoding)?;
    if length != KEY_LENGTH {
        return Err(InvalidKey::Encoding);
    }
    let mut key = Zeroizing::new([0; KEY_LENGTH]);
    key.copy_from_slice(&bytes[..KEY_LENGTH]);
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    // RFC 7748, section 6.1: Alice's keys.
    const PRIVATE: &str = "dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo=";
    const PUBLIC: &str = "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=";

    #[test]
    fn a_public_key_is_derived() {
        let key: PrivateKey = PRIVATE.parse().unwrap();
        assert_eq!(key.public_key().to_string(), PUBLIC);
        assert_eq!(key.to_base64().as_str(), PRIVATE);
        assert_eq!(PUBLIC.parse::<PublicKey>().unwrap(), key.public_key());
    }

    #[test]
    fn random_bytes_are_clamped() {
        let key = PrivateKey::from_random(&[0xff; KEY_LENGTH]);
        assert_eq!((key.as_bytes()[0], key.as_bytes()[31]), (0xf8, 0x7f));
        let key = PrivateKey::from_random(&[0; KEY_LENGTH]);
        assert_eq!((key.as_bytes()[0], key.as_bytes()[31]), (0, 0x40));
    }

    #[test]
    fn no_secret_shows() {
        let private: PrivateKey = PRIVATE.parse().unwrap();
        let preshared: PresharedKey = PRIVATE.parse().unwrap();
        let shown = format!("{private:?} {preshared:?}");
        assert_eq!(shown, "PrivateKey(hidden) PresharedKey(hidden)");
    }

    #[test]
    fn an_invalid_key_is_rejected_without_showing_it() {
        let spare_bits = PRIVATE.replace("o=", "p=");
        let unpadded = format!("{}A", &PRIVATE[..43]);
        let spaced = format!("{PRIVATE} ");
        for bad in [
            "",
            "abc",
            &PRIVATE[..43],
            &spare_bits,
            &unpadded,
            &spaced,
            &PRIVATE.replace('p', "é"),
        ] {
            let error = bad.parse::<PrivateKey>().unwrap_err();
            let text = format!("{error} {error:?}");
            assert!(bad.len() < 4 || !text.contains(&bad[..3]), "{text}");
        }
        assert_eq!("abc".parse::<PublicKey>(), Err(InvalidKey::Length(3)));
        assert_eq!(unpadded.parse::<PublicKey>(), Err(InvalidKey::Encoding));
    }
}
