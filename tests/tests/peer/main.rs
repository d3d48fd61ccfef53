//! `adit peer`: its changes of the file and of the interface of a hub.
#![expect(
    clippy::unwrap_used,
    reason = "clippy takes only test functions themselves for tests"
)]

mod file;
mod live;
mod refuse;
mod sync;

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use adit_tests::agent::{Printed, binary};
use dataplane_user::net::PublicKey;
use serde_json::Value;
use tempfile::TempDir;

// RFC 7748, section 6.1: the hub has Alice's private key, a client has Bob's.
const PRIVATE: &str = "dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo=";
const PUBLIC: &str = "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=";
const SUBNET: &str = "10.42.0.0/24";

/// A directory with the file of a hub.
struct Hub {
    _directory: TempDir,
    path: PathBuf,
}

impl Hub {
    fn new(text: &str) -> Hub {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("wg0.conf");
        fs::write(&path, text).unwrap();
        Hub {
            _directory: directory,
            path,
        }
    }

    /// A file with a key, an address and these additional lines.
    fn with(more: &str) -> Hub {
        Hub::new(&format!(
            "[Interface]\nPrivateKey = {PRIVATE}\nAddress = 10.42.0.1/24\nListenPort = 51820\n{more}"
        ))
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.path).unwrap()).into_owned()
    }

    fn beside(&self, ending: &str) -> PathBuf {
        format!("{}{ending}", self.path.display()).into()
    }

    /// Runs `adit peer` with these arguments and this file.
    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(binary());
        command.arg("peer").args(words).arg("--config").arg(&self.path);
        command.env_remove("WG_SKIP_SYNCCONF");
        command
    }

    /// The same without the interface.
    fn adit(&self, words: &[&str]) -> Printed {
        run(self.command(words).env("WG_SKIP_SYNCCONF", "1"))
    }

    fn add_words<'a>(id: &'a str, key: &'a str) -> [&'a str; 8] {
        ["add", id, "--public-key", key, "--subnet", SUBNET, "-o", "json"]
    }

    /// Adds a client without the interface, and returns the output.
    fn add(&self, id: &str, number: u32) -> Value {
        answer(&self.adit(&Hub::add_words(id, &key(number).to_string())))
    }

    fn list(&self) -> Vec<Value> {
        let printed = self.adit(&["list", "-o", "json"]);
        assert_eq!(printed.code, 0, "{printed:?}");
        serde_json::from_str(&printed.stdout).unwrap()
    }
}

/// The metadata that shows whether a file was written.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Print {
    inode: u64,
    modified: (i64, i64),
    bytes: Vec<u8>,
}

impl Print {
    fn of(path: &Path) -> Print {
        let metadata = fs::metadata(path).unwrap();
        Print {
            inode: metadata.ino(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            bytes: fs::read(path).unwrap(),
        }
    }
}

fn run(command: &mut Command) -> Printed {
    let output = command.output().unwrap();
    Printed {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

fn answer(printed: &Printed) -> Value {
    assert_eq!(printed.code, 0, "{printed:?}");
    serde_json::from_str(&printed.stdout).unwrap()
}

/// A public key; any bytes are valid.
fn key(number: u32) -> PublicKey {
    let mut bytes = [0x5a; 32];
    bytes[..4].copy_from_slice(&number.to_be_bytes());
    PublicKey::from_bytes(bytes)
}

/// A `[Peer]` as `adit` writes it.
fn peer(id: &str, number: u32, address: &str) -> String {
    format!(
        "\n# DeviceID:{id}\n[Peer]\nPublicKey = {}\nAllowedIPs = {address}/32\n",
        key(number)
    )
}
