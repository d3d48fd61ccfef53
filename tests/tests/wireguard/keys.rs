//! Keys: `adit wg` compared with `wg`, the key file, and logs without keys.

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::process::Command;
use std::sync::Mutex;

use adit_tests::agent::binary;
use adit_tests::{NetNs, require};
use dataplane_user::diff::wireguard::device as diff;
use dataplane_user::kernel::wireguard::generate;
use dataplane_user::model::wireguard::{Peer, Preshared};
use dataplane_user::net::{LinkName, PresharedKey, PrivateKey};
use tracing::Level;

use crate::{config, make, peer, private_key, public_key, read, run, set, wg};

fn adit(words: &str, input: &str) -> String {
    run(binary().to_str().unwrap(), words, input)
}

#[test]
fn keys_are_compatible_with_wg() {
    for private in [adit("wg genkey", ""), wg("genkey")] {
        let public = run("wg", "pubkey", &private);
        assert_eq!(adit("wg pubkey", &private), public);
        assert_eq!(adit("wg pubkey", &format!("{private}\n")), public);
        let bytes = private.parse::<PrivateKey>().unwrap();
        assert_eq!(PrivateKey::from_random(bytes.as_bytes()), bytes, "it is clamped");
    }
    assert_ne!(adit("wg genkey", ""), adit("wg genkey", ""));
    assert!(adit("wg genpsk", "").parse::<PresharedKey>().is_ok());
}

#[test]
fn an_invalid_key_is_refused_and_not_printed() {
    let directory = tempfile::tempdir().unwrap();
    let input = directory.path().join("input");
    for bad in ["", "topsecret", "topsecrettopsecrettopsecrettopsecrettopsecr="] {
        fs::write(&input, bad).unwrap();
        let output = Command::new(binary())
            .args(["wg", "pubkey"])
            .stdin(File::open(&input).unwrap())
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(
            text.contains("not a private key") && !text.contains("topsecret"),
            "{text}"
        );
    }
}

#[test]
fn the_key_of_the_node_is_generated_once() {
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().join("state");
    let words = format!("--state-dir {} wg pubkey --manifest", state.display());
    let field = adit(&words, "");
    let file = state.join("wireguard.key");
    let mode = |path| fs::metadata(path).unwrap().mode() & 0o7777;
    assert_eq!((mode(&state), mode(&file)), (0o700, 0o600));
    let key: PrivateKey = fs::read_to_string(&file).unwrap().trim_end().parse().unwrap();
    assert_eq!(field, format!("wireguard: {{publicKey: {}}}", key.public_key()));
    let before = fs::metadata(&file).unwrap();
    assert_eq!(adit(&words, ""), field);
    assert_eq!(fs::metadata(&file).unwrap().ino(), before.ino());

    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
    let output = Command::new(binary())
        .args(words.split_whitespace())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(8), "{text}");
    assert!(
        text.contains(&format!("`chmod 600 {}`", file.display())),
        "{text}"
    );
}

#[test]
fn no_log_and_no_error_contains_a_key() {
    require!(modules: "wireguard");
    let log = tempfile::NamedTempFile::new().unwrap();
    let private = private_key();
    let preshared = generate::preshared_key().unwrap();
    NetNs::new().run(async || {
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(Level::TRACE)
            .with_writer(Mutex::new(log.reopen().unwrap()))
            .finish();
        let _default = tracing::subscriber::set_default(subscriber);
        let mut wireguard = make().await;
        let full = Peer {
            preshared_key: Preshared::Key(preshared.clone()),
            ..peer(&["10.0.0.0/24"])
        };
        let wanted = config(private.clone(), [(public_key(), full)]);
        let changes = diff(&read(&mut wireguard).await.device, &wanted);
        let error = wireguard
            .set_device(&LinkName::constant("wg1"), &changes.iter().collect::<Vec<_>>())
            .await
            .unwrap_err();
        tracing::info!(%error, ?error, "as an agent would");
        set(&mut wireguard, &changes).await;
        let observed = read(&mut wireguard).await;
        assert!(
            observed
                .device
                .peers
                .values()
                .all(|peer| peer.preshared_key == Preshared::Key(preshared.clone()))
        );
        for change in &changes {
            tracing::trace!(%change, ?change, "as an agent might");
        }
        tracing::trace!(?wanted, ?observed, "as an agent might");
    });
    let text = fs::read_to_string(log.path()).unwrap();
    assert!(text.contains(&private.public_key().to_string()), "{text}");
    for (base64, bytes) in [
        (private.to_base64(), private.as_bytes()),
        (preshared.to_base64(), preshared.as_bytes()),
    ] {
        let decimal: Vec<_> = bytes[..6].iter().map(ToString::to_string).collect();
        let hex: String = bytes[..6].iter().map(|byte| format!("{byte:02x}")).collect();
        for form in [&base64[..43], &decimal.join(", "), &hex] {
            assert!(!text.contains(form), "{text}");
        }
    }
}
