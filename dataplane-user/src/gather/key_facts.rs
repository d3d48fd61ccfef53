//! WireGuard keys for the plan. For a key that can't be read now, the key that was read last is used: a file
//! that is missing for a moment must not cost a device or a peer.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;

use crate::kernel::wireguard::generate;
use crate::model::facts::KeyFile;
use crate::model::facts::{OwnKey, SharedKey, WireGuardFacts};
use crate::net::KeySource;
use crate::net::{PresharedKey, PublicKey};
use crate::source::KeyRing;
use crate::source::key_file::{self, KeyFileError};

/// Keys that can't be read now, and why.
type Unreadable = BTreeMap<KeyFile, String>;

/// The keys that are needed.
#[derive(Debug, Default)]
pub(super) struct Needed {
    /// The public key of the node, as declared.
    pub(super) declared: Option<PublicKey>,
    /// The private keys of declared devices.
    pub(super) private: BTreeSet<KeySource>,
    /// Files with preshared keys.
    pub(super) preshared: BTreeSet<String>,
}

/// Reads keys, and remembers the needed ones.
#[derive(Debug)]
pub(super) struct Keys {
    ring: KeyRing,
    /// Whether missing keys of declared devices are generated, and the next key may replace the key of the
    /// node.
    generates: bool,
    private: BTreeMap<KeySource, PublicKey>,
    preshared: BTreeMap<String, PresharedKey>,
}

impl Keys {
    pub(super) fn new(ring: KeyRing, generates: bool) -> Keys {
        Keys {
            ring,
            generates,
            private: BTreeMap::new(),
            preshared: BTreeMap::new(),
        }
    }

    /// The current keys; other fields of the facts are empty.
    pub(super) fn read(&mut self, needed: &Needed) -> WireGuardFacts {
        let own = |source: &KeySource| matches!(source, KeySource::Node | KeySource::Next);
        self.private
            .retain(|source, _| own(source) || needed.private.contains(source));
        self.preshared.retain(|file, _| needed.preshared.contains(file));
        let mut unreadable = Unreadable::new();
        let (own_key, next_key) = self.own(needed.declared, &mut unreadable);
        let sources = needed.private.iter();
        let keys = sources.map(|source| (source.clone(), self.private(source, &mut unreadable)));
        let keys = keys.collect();
        let files = needed.preshared.iter();
        let preshared_keys = files.map(|file| (file.clone(), self.preshared(file, &mut unreadable)));
        let preshared_keys = preshared_keys.collect();
        WireGuardFacts {
            own_key,
            next_key,
            keys,
            preshared_keys,
            unreadable,
            ..WireGuardFacts::default()
        }
    }

    /// The key of the node, and its next key. The next key replaces it once the manifest of the node declares
    /// it.
    fn own(&mut self, declared: Option<PublicKey>, unreadable: &mut Unreadable) -> (OwnKey, OwnKey) {
        let next = self.private(&KeySource::Next, unreadable);
        if let (Some(declared), OwnKey::Known(known)) = (declared, &next)
            && declared == *known
        {
            let is_there = !unreadable.contains_key(&KeyFile::Private(KeySource::Next));
            if !(self.generates && is_there && self.promote()) {
                return (next, OwnKey::Missing);
            }
        }
        let next = self.private(&KeySource::Next, unreadable);
        let own = self.private(&KeySource::Node, unreadable);
        if own == next {
            // Somebody renamed its file, so a missing file is no problem.
            self.private.remove(&KeySource::Next);
            unreadable.remove(&KeyFile::Private(KeySource::Next));
            return (own, OwnKey::Missing);
        }
        (own, next)
    }

    /// Replaces the key of the node with the next key; returns whether that succeeded.
    fn promote(&mut self) -> bool {
        if let Err(error) = self.ring.promote() {
            tracing::warn!("the next key can't replace the key of this node: {error}");
            return false;
        }
        tracing::info!("the next key has replaced the key of this node, as declared");
        self.private.remove(&KeySource::Next);
        true
    }

    fn private(&mut self, source: &KeySource, unreadable: &mut Unreadable) -> OwnKey {
        let last = self.private.get(source).copied();
        // A key that existed is never generated again: its peers know it.
        let may_generate = matches!(source, KeySource::Generated(_)) && self.generates && last.is_none();
        let make = may_generate.then_some(generate::private_key as fn() -> _);
        let why = match self.ring.public(source, make) {
            Ok(Some(key)) => {
                self.private.insert(source.clone(), key);
                return OwnKey::Known(key);
            }
            Ok(None) => None,
            Err(error) => Some(error.to_string()),
        };
        match (last, why) {
            (Some(last), why) => {
                let why = why.unwrap_or_else(|| "the file is gone".to_owned());
                unreadable.insert(KeyFile::Private(source.clone()), why);
                OwnKey::Known(last)
            }
            (None, None) => OwnKey::Missing,
            (None, Some(why)) => OwnKey::Unusable(why),
        }
    }

    fn preshared(&mut self, file: &str, unreadable: &mut Unreadable) -> SharedKey {
        let error = match key_file::load_preshared(Path::new(file)) {
            Ok(key) => {
                self.preshared.insert(file.to_owned(), key.clone());
                return SharedKey::Known(key);
            }
            Err(error) => error,
        };
        let why = error.to_string();
        if let Some(last) = self.preshared.get(file) {
            unreadable.insert(KeyFile::Preshared(file.to_owned()), why);
            return SharedKey::Known(last.clone());
        }
        // If its directory is missing too, a file system may not be mounted yet.
        let directory_exists = Path::new(file).parent().is_some_and(Path::is_dir);
        match error {
            KeyFileError::Io { source, .. }
                if source.kind() == io::ErrorKind::NotFound && directory_exists =>
            {
                SharedKey::Missing(why)
            }
            _ => SharedKey::Unreadable(why),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::net::PrivateKey;

    fn private(number: u8) -> PrivateKey {
        PrivateKey::from_random(&[number; 32])
    }

    fn write(path: &Path, text: &str) {
        fs::write(path, text).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    }

    #[test]
    fn keys_read_before_stay_when_their_files_are_damaged() {
        let state = tempfile::tempdir().unwrap();
        let at = |name: &str| state.path().join(name);
        let text = |name: &str| at(name).to_str().unwrap().to_owned();
        let needed = Needed {
            declared: None,
            private: [
                KeySource::File(text("own")),
                KeySource::Generated("wg0".to_owned()),
            ]
            .into(),
            preshared: [text("psk"), text("away/psk")].into(),
        };
        let mut keys = Keys::new(KeyRing::new(state.path()), true);
        let first_sight = keys.read(&needed);
        assert_eq!(first_sight.keys[&KeySource::File(text("own"))], OwnKey::Missing);
        let psk = |facts: &WireGuardFacts| facts.preshared_keys[&text("psk")].clone();
        assert!(matches!(psk(&first_sight), SharedKey::Missing(_)));
        let without_directory = &first_sight.preshared_keys[&text("away/psk")];
        assert!(matches!(without_directory, SharedKey::Unreadable(_)));
        assert!(first_sight.unreadable.is_empty(), "{first_sight:?}");

        write(&at("wireguard.key"), &private(1).to_base64());
        write(&at("own"), &private(2).to_base64());
        write(&at("psk"), &private(3).to_base64());
        let good = keys.read(&needed);
        assert_eq!(good.own_key, OwnKey::Known(private(1).public_key()));

        let files = ["wireguard.key", "own", "psk", "wireguard/wg0.key"];
        let damages: [fn(&Path); 5] = [
            |path| fs::remove_file(path).unwrap(),
            |path| fs::set_permissions(path, fs::Permissions::from_mode(0o640)).unwrap(),
            |path| fs::write(path, "half a ke").unwrap(),
            |path| {
                fs::remove_file(path).unwrap();
                fs::create_dir(path).unwrap();
            },
            |path| {
                fs::remove_file(path).unwrap();
                nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRWXU).unwrap();
            },
        ];
        let kept: Vec<_> = files
            .iter()
            .map(|file| fs::read_to_string(at(file)).unwrap())
            .collect();
        for damage in damages {
            for (file, text) in files.iter().zip(&kept) {
                damage(&at(file));
                let facts = keys.read(&needed);
                assert_eq!(facts.unreadable.len(), 1, "{file}: {facts:?}");
                let same = WireGuardFacts {
                    unreadable: Unreadable::new(),
                    ..facts
                };
                assert_eq!(same, good, "{file}");
                let _other_kind = fs::remove_dir(at(file)).or_else(|_| fs::remove_file(at(file)));
                write(&at(file), text);
            }
        }
        assert_eq!(keys.read(&needed), good);

        write(&at("own"), &private(5).to_base64());
        let other = keys.read(&needed).keys[&KeySource::File(text("own"))].clone();
        assert_eq!(other, OwnKey::Known(private(5).public_key()));
    }

    #[test]
    fn a_promoted_next_key_is_not_reported_as_missing() {
        let state = tempfile::tempdir().unwrap();
        let [own, next] = [1, 2].map(private);
        write(&state.path().join(key_file::NAME), &own.to_base64());
        write(&state.path().join(key_file::NEXT), &next.to_base64());
        let known = |key: &PrivateKey| OwnKey::Known(key.public_key());
        let says = |key: &PrivateKey| Needed {
            declared: Some(key.public_key()),
            ..Needed::default()
        };
        let mut keys = Keys::new(KeyRing::new(state.path()), true);
        let read = |keys: &mut Keys, key| {
            let facts = keys.read(&says(key));
            (facts.own_key, facts.next_key, facts.unreadable.len())
        };
        assert_eq!(read(&mut keys, &own), (known(&own), known(&next), 0));
        // While its file is missing it can't replace the key of the node, but the manifest declares it all
        // the same.
        let away = state.path().join("away");
        fs::rename(state.path().join(key_file::NEXT), &away).unwrap();
        assert_eq!(read(&mut keys, &own), (known(&own), known(&next), 1));
        assert_eq!(read(&mut keys, &next), (known(&next), OwnKey::Missing, 1));
        fs::rename(&away, state.path().join(key_file::NEXT)).unwrap();
        assert_eq!(read(&mut keys, &next), (known(&next), OwnKey::Missing, 0));
        assert_eq!(
            fs::read_to_string(state.path().join(key_file::NAME)).unwrap(),
            next.to_base64().as_str()
        );
        assert_eq!(read(&mut keys, &next), (known(&next), OwnKey::Missing, 0));
    }
}
