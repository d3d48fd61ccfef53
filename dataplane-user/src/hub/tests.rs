//! Files and interfaces that go together, or not at all.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};

use super::*;
use crate::net::LinkName;

const FILE: &[u8] = b"# \xff untidy\n[interface]\naddress=10.42.0.1/24";

/// An interface that does as it is told: what it was told, and whether it refuses.
#[derive(Debug, Default)]
struct Told {
    peers: BTreeSet<PublicKey>,
    is_down: bool,
    refuses: bool,
}

impl Live for &mut Told {
    async fn peers(&mut self) -> Result<BTreeSet<PublicKey>, SyncError> {
        match self.is_down {
            true => Err(SyncError::Name("nothing is up".to_owned())),
            false => Ok(self.peers.clone()),
        }
    }

    async fn sync(&mut self, before: &Config, now: &Config) -> Result<(), SyncError> {
        if self.refuses {
            return Err(SyncError::NotTaken {
                interface: LinkName::constant("wg0"),
                peer: key(0),
            });
        }
        for peer in &before.peers {
            self.peers.remove(&peer.public_key);
        }
        self.peers.extend(now.peers.iter().map(|peer| peer.public_key));
        Ok(())
    }
}

fn key(number: u8) -> PublicKey {
    PublicKey::from_bytes([number; 32])
}

async fn add(path: &Path, live: &mut Told, id: &str, number: u8) -> Result<Admission, HubError> {
    let hub = Hub::open(path, Duration::from_secs(30), Some(live)).await?;
    let subnet = "10.42.0.0/24".parse().unwrap();
    hub.add(&DeviceId::new(id).unwrap(), key(number), subnet).await
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o7777
}

fn make() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("wg0.conf");
    fs::write(&path, FILE).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    (directory, path)
}

#[tokio::test]
async fn file_and_interface_go_together() {
    let (_directory, path) = make();
    let mut live = Told::default();
    let admission = add(&path, &mut live, "a", 1).await.unwrap();
    assert_eq!(
        (admission.status, admission.assigned_ip.to_string()),
        (Status::Added, "10.42.0.2".to_owned())
    );
    assert_eq!(live.peers, BTreeSet::from([key(1)]));
    let bak = path.with_extension("conf.bak");
    assert_eq!(fs::read(&bak).unwrap(), FILE);
    for file in [&path, &bak, &path.with_extension("conf.lock")] {
        assert_eq!(mode(file), 0o600, "{}", file.display());
    }
    let files = fs::read_dir(path.parent().unwrap()).unwrap().count();
    assert_eq!(files, 3, "nothing is left over");

    assert_eq!(
        add(&path, &mut live, "a", 2).await.unwrap().status,
        Status::Reconfigured
    );
    assert_eq!(live.peers, BTreeSet::from([key(2)]));
    let hub = |live| Hub::open(&path, Duration::ZERO, Some(live));
    let removed = hub(&mut live).await.unwrap().remove("a").await.unwrap();
    assert_eq!((removed.public_key, live.peers.len()), (key(2), 0));
    assert_eq!(fs::read(&path).unwrap(), [FILE, b"\n"].concat());
}

#[tokio::test]
async fn what_the_interface_refuses_is_not_in_the_file() {
    let (_directory, path) = make();
    let mut live = Told {
        refuses: true,
        ..Told::default()
    };
    let error = add(&path, &mut live, "a", 1).await.unwrap_err().to_string();
    assert!(
        error.contains("did not take the peer") && error.ends_with("; the file is as it was"),
        "{error}"
    );
    assert_eq!((fs::read(&path).unwrap(), mode(&path)), (FILE.to_vec(), 0o600));

    let before = fs::metadata(&path).unwrap();
    live.is_down = true;
    let error = add(&path, &mut live, "a", 1).await.unwrap_err();
    assert!(error.to_string().contains("nothing is up"), "{error}");
    let now = fs::metadata(&path).unwrap();
    assert_eq!(
        (now.ino(), now.mtime_nsec()),
        (before.ino(), before.mtime_nsec()),
        "it was never written"
    );
}

#[tokio::test]
async fn who_was_interrupted_is_put_back_and_the_file_stays() {
    let (_directory, path) = make();
    let mut live = Told::default();
    add(&path, &mut live, "a", 1).await.unwrap();
    let before = fs::metadata(&path).unwrap();
    live.peers.clear();
    let again = add(&path, &mut live, "a", 1).await.unwrap();
    assert_eq!((again.status, live.peers.len()), (Status::AlreadyPresent, 1));
    live.is_down = true;
    let again = add(&path, &mut live, "a", 1).await.unwrap();
    assert_eq!(
        again.status,
        Status::AlreadyPresent,
        "nothing is missing where nothing is up"
    );
    let now = fs::metadata(&path).unwrap();
    assert_eq!((now.ino(), now.mtime_nsec()), (before.ino(), before.mtime_nsec()));
}

#[tokio::test]
async fn a_symbolic_link_stays_one() {
    let (directory, path) = make();
    let link = directory.path().join("link.conf");
    symlink(&path, &link).unwrap();
    let admission = add(&link, &mut Told::default(), "a", 1).await.unwrap();
    assert_eq!(admission.config_path, link);
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(list(&path).unwrap().0.len(), 1);
    assert!(path.with_extension("conf.lock").exists() && !link.with_extension("conf.lock").exists());
}

#[tokio::test]
async fn a_lock_is_waited_for_so_long_and_no_longer() {
    let (_directory, path) = make();
    let (held, _) = Locked::open(&path, Duration::ZERO).await.unwrap();
    let error = add_at_once(&path).await.unwrap_err();
    assert!(matches!(error, HubError::Locked { .. }), "{error}");
    drop(held);
    add_at_once(&path).await.unwrap();
}

async fn add_at_once(path: &Path) -> Result<(), HubError> {
    Hub::<LiveDevice>::open(path, Duration::ZERO, None)
        .await
        .map(drop)
}

#[test]
fn the_interface_has_the_files_name() {
    let name = |path: &str| LiveDevice::name_of(Path::new(path)).map(|name| name.to_string());
    assert_eq!(name("/etc/wireguard/wg0.conf").as_deref(), Ok("wg0"));
    assert_eq!(name("hub.eu.conf").as_deref(), Ok("hub.eu"));
    assert!(name("a-name-that-is-too-long.conf").is_err());
}
