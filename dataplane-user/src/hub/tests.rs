//! File and interface are changed together, or not at all.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};

use super::*;
use crate::kernel::KernelError;
use crate::net::LinkName;

const FILE: &[u8] = b"# \xff untidy\n[interface]\naddress=10.42.0.1/24";

/// A fake interface that records its peers and can fail.
#[derive(Debug, Default)]
struct FakeInterface {
    peers: LivePeers,
    is_down: bool,
    refuses: bool,
    /// It applies the change but never answers, as if the process were killed then.
    hangs: bool,
}

impl FakeInterface {
    fn keys(&self) -> Vec<PublicKey> {
        self.peers.keys().copied().collect()
    }

    fn set(&mut self, before: &Config, now: &Config) {
        for peer in &before.peers {
            self.peers.remove(&peer.public_key);
        }
        let peers = now.peers.iter();
        self.peers
            .extend(peers.map(|peer| (peer.public_key, peer.allowed_ips.iter().copied().collect())));
    }
}

impl Live for &mut FakeInterface {
    async fn peers(&mut self) -> Result<LivePeers, SyncError> {
        match self.is_down {
            true => Err(SyncError::NotUp {
                interface: LinkName::constant("wg0"),
                source: KernelError::new("nothing is up", io::Error::from_raw_os_error(libc::ENODEV)),
            }),
            false => Ok(self.peers.clone()),
        }
    }

    async fn sync(&mut self, before: &Config, now: &Config) -> Result<(), SyncError> {
        if self.refuses {
            return Err(SyncError::NotApplied {
                interface: LinkName::constant("wg0"),
                peer: key(0),
            });
        }
        self.set(before, now);
        match self.hangs {
            true => std::future::pending().await,
            false => Ok(()),
        }
    }

    async fn restore(&mut self, before: &Config, now: &Config) -> Result<(), SyncError> {
        self.set(now, before);
        Ok(())
    }

    async fn align(&mut self, file: &Config) -> Result<Vec<String>, SyncError> {
        self.set(&Config::default(), file);
        Ok(Vec::new())
    }
}

fn key(number: u8) -> PublicKey {
    PublicKey::from_bytes([number; 32])
}

async fn add(path: &Path, live: &mut FakeInterface, id: &str, number: u8) -> Result<Admission, HubError> {
    let mut hub = Hub::open(path, Duration::from_secs(30), Some(live)).await?;
    let subnet = "10.42.0.0/24".parse().unwrap();
    hub.add(&DeviceId::new(id).unwrap(), key(number), subnet).await
}

async fn remove(path: &Path, live: &mut FakeInterface, id: &str) -> Result<Member, HubError> {
    let mut hub = Hub::open(path, Duration::from_secs(30), Some(live)).await?;
    hub.remove(id).await
}

/// Changes only the file.
async fn alone(path: &Path) -> Hub<LiveDevice> {
    Hub::open(path, Duration::ZERO, None).await.unwrap()
}

/// A process that is killed after the interface has the change.
async fn killed<T>(run: impl Future<Output = Result<T, HubError>>) {
    let run = tokio::time::timeout(Duration::from_millis(200), run).await;
    assert!(run.is_err(), "it waits for the interface");
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
    let mut live = FakeInterface::default();
    let admission = add(&path, &mut live, "a", 1).await.unwrap();
    assert_eq!(
        (admission.status, admission.assigned_ip.to_string()),
        (Status::Added, "10.42.0.2".to_owned())
    );
    assert_eq!(live.keys(), [key(1)]);
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
    assert_eq!(live.keys(), [key(2)]);
    let removed = remove(&path, &mut live, "a").await.unwrap();
    assert_eq!((removed.public_key, live.peers.len()), (key(2), 0));
    assert_eq!(fs::read(&path).unwrap(), [FILE, b"\n"].concat());
}

#[tokio::test]
async fn what_the_interface_refuses_is_not_in_the_file() {
    let (_directory, path) = make();
    let mut live = FakeInterface {
        refuses: true,
        ..FakeInterface::default()
    };
    let error = add(&path, &mut live, "a", 1).await.unwrap_err().to_string();
    assert!(
        error.contains("did not accept the peer") && error.ends_with("; the file is unchanged"),
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
    let mut live = FakeInterface::default();
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
async fn a_killed_removal_takes_the_key_first_and_a_second_one_finishes() {
    let (_directory, path) = make();
    let mut live = FakeInterface::default();
    add(&path, &mut live, "a", 1).await.unwrap();
    live.hangs = true;
    killed(remove(&path, &mut live, "a")).await;
    assert!(live.peers.is_empty(), "the interface loses the key first");
    assert_eq!(list(&path).unwrap().0.len(), 1, "the file still knows it");
    live.hangs = false;
    assert_eq!(remove(&path, &mut live, "a").await.unwrap().public_key, key(1));
    assert!(list(&path).unwrap().0.is_empty());
    let again = remove(&path, &mut live, "a").await.unwrap_err();
    assert!(matches!(again, HubError::Unknown { .. }), "{again}");

    add(&path, &mut live, "b", 2).await.unwrap();
    live.hangs = true;
    killed(add(&path, &mut live, "b", 3)).await;
    assert_eq!(live.keys(), [key(3)], "the former key is out of it first");
    live.hangs = false;
    assert_eq!(
        add(&path, &mut live, "b", 3).await.unwrap().status,
        Status::Reconfigured
    );
    assert_eq!(
        (live.keys(), list(&path).unwrap().0[0].public_key),
        (vec![key(3)], key(3))
    );
}

#[tokio::test]
async fn what_was_done_without_the_interface_a_second_run_does_there() {
    let (_directory, path) = make();
    let mut live = FakeInterface::default();
    for (id, number) in [("a", 1), ("b", 2), ("c", 3)] {
        add(&path, &mut live, id, number).await.unwrap();
    }
    let subnet = "10.42.0.0/24".parse().unwrap();
    let id = DeviceId::new("c").unwrap();
    let mut hub = alone(&path).await;
    assert_eq!(
        hub.add(&id, key(4), subnet).await.unwrap().status,
        Status::Reconfigured
    );
    drop(hub);
    assert_eq!(
        add(&path, &mut live, "c", 4).await.unwrap().status,
        Status::AlreadyPresent
    );
    assert_eq!(
        live.keys(),
        [key(1), key(2), key(4)],
        "the former key is out of it"
    );

    alone(&path).await.remove("a").await.unwrap();
    assert_eq!(live.peers.len(), 3);
    let other = remove(&path, &mut live, "x").await.unwrap_err();
    assert!(
        matches!(
            other,
            HubError::UnknownWithStale {
                interface_peers: 1,
                ..
            }
        ),
        "{other}"
    );
    assert!(
        other.to_string().contains("`adit peer sync` removes it"),
        "{other}"
    );
    assert_eq!(remove(&path, &mut live, "a").await.unwrap().public_key, key(1));
    assert_eq!(live.keys(), [key(2), key(4)]);

    // After another change the backup no longer tells whose key it is.
    alone(&path).await.remove("b").await.unwrap();
    alone(&path).await.add(&id, key(5), subnet).await.unwrap();
    let error = remove(&path, &mut live, "b").await.unwrap_err();
    assert!(
        matches!(
            error,
            HubError::UnknownWithStale {
                interface_peers: 2,
                ..
            }
        ),
        "{error}"
    );
}

#[tokio::test]
async fn a_directory_that_cannot_be_synced_is_reported_and_file_and_interface_agree() {
    let (_directory, path) = make();
    let mut live = FakeInterface::default();
    let subnet = "10.42.0.0/24".parse().unwrap();
    let mut hub = Hub::open(&path, Duration::ZERO, Some(&mut live)).await.unwrap();
    hub.file.fail_to_sync();
    let admission = hub
        .add(&DeviceId::new("a").unwrap(), key(1), subnet)
        .await
        .unwrap();
    assert_eq!(admission.status, Status::Added);
    let told = hub
        .warnings()
        .iter()
        .filter(|warning| warning.contains("a loss of power"));
    assert_eq!(
        told.count(),
        2,
        "of the file and of its backup: {:?}",
        hub.warnings()
    );
    drop(hub);
    assert_eq!((live.keys(), list(&path).unwrap().0.len()), (vec![key(1)], 1));

    let mut hub = Hub::open(&path, Duration::ZERO, Some(&mut live)).await.unwrap();
    hub.file.fail_to_sync();
    hub.remove("a").await.unwrap();
    drop(hub);
    assert_eq!((live.keys(), list(&path).unwrap().0.len()), (vec![], 0));

    // A client that the interface rejects is not in the file, even if the file can't be synced.
    live.refuses = true;
    let mut hub = Hub::open(&path, Duration::ZERO, Some(&mut live)).await.unwrap();
    hub.file.fail_to_sync();
    let error = hub
        .add(&DeviceId::new("a").unwrap(), key(1), subnet)
        .await
        .unwrap_err();
    assert!(
        matches!(error, HubError::Sync(SyncError::NotApplied { .. })),
        "{error}"
    );
    drop(hub);
    assert!(list(&path).unwrap().0.is_empty());
}

#[tokio::test]
async fn a_file_that_cannot_be_written_leaves_the_interface_as_it_was() {
    let (directory, path) = make();
    let mut live = FakeInterface::default();
    add(&path, &mut live, "a", 1).await.unwrap();
    let bytes = fs::read(&path).unwrap();
    let mut hub = Hub::open(&path, Duration::ZERO, Some(&mut live)).await.unwrap();
    // A file can't replace a directory.
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    let error = hub.remove("a").await.unwrap_err();
    assert!(matches!(error, HubError::Io { .. }), "{error}");
    drop(hub);
    assert_eq!(live.keys(), [key(1)]);
    fs::remove_dir(&path).unwrap();
    fs::write(&path, &bytes).unwrap();
    assert_eq!(
        fs::read_dir(directory.path()).unwrap().count(),
        3,
        "nothing is left over"
    );
}

#[tokio::test]
async fn a_backup_of_somebody_else_stays() {
    let (directory, path) = make();
    let mut live = FakeInterface::default();
    let bak = path.with_extension("conf.bak");
    fs::write(&bak, "the administrator's own").unwrap();
    add(&path, &mut live, "a", 1).await.unwrap();
    let first = fs::read(&path).unwrap();
    add(&path, &mut live, "b", 2).await.unwrap();
    assert_eq!(fs::read(&bak).unwrap(), b"the administrator's own");
    let dated = || {
        let names = fs::read_dir(directory.path()).unwrap();
        let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names = names
            .filter(|name| name.starts_with("wg0.conf.bak-"))
            .collect::<Vec<_>>();
        names.sort();
        names
    };
    let names = dated();
    assert_eq!(names.len(), 1, "the backup of Adit is used again: {names:?}");
    assert_eq!(names[0].len(), "wg0.conf.bak-20251128T093000Z".len(), "{names:?}");
    let own = directory.path().join(&names[0]);
    assert_eq!((fs::read(&own).unwrap(), mode(&own)), (first, 0o600));

    // A backup that was changed is no longer overwritten.
    fs::write(&own, "changed").unwrap();
    add(&path, &mut live, "c", 3).await.unwrap();
    assert_eq!((fs::read(&own).unwrap(), dated().len()), (b"changed".to_vec(), 2));
}

#[tokio::test]
async fn attributes_stay_and_an_acl_is_not_cut() {
    let (_directory, path) = make();
    let set = |name: &str, value: &[u8]| {
        let set = rustix::fs::setxattr(&path, name, value, rustix::fs::XattrFlags::empty());
        // A file system without attributes can't lose any.
        set.is_ok()
    };
    let mut live = FakeInterface::default();
    if set("user.adit.test", b"kept") {
        add(&path, &mut live, "a", 1).await.unwrap();
        let mut value = [0; 16];
        let length = rustix::fs::getxattr(&path, "user.adit.test", &mut value[..]).unwrap();
        assert_eq!(value[..length], *b"kept");
    }
    // linux/posix_acl_xattr.h: version 2; owner rw, user 1 r, group none, mask r, others none.
    let entries: [(u16, u16, u32); 5] = [(1, 6, !0), (2, 4, 1), (4, 0, !0), (16, 4, !0), (32, 0, !0)];
    let mut acl = 2_u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in entries {
        acl.extend([tag.to_le_bytes(), permissions.to_le_bytes()].concat());
        acl.extend(id.to_le_bytes());
    }
    if set("system.posix_acl_access", &acl) {
        let before = fs::metadata(&path).unwrap();
        let error = add(&path, &mut live, "b", 2).await.unwrap_err();
        assert!(
            matches!(&error, HubError::Refused { why, .. } if why.contains("setfacl -b")),
            "{error}"
        );
        let now = fs::metadata(&path).unwrap();
        assert_eq!((now.ino(), now.mode()), (before.ino(), before.mode()));
        assert!(!live.peers.contains_key(&key(2)));
    }
}

#[tokio::test]
async fn a_changed_mode_is_reported_once() {
    let (_directory, path) = make();
    let mut hub = alone(&path).await;
    let subnet = "10.42.0.0/24".parse().unwrap();
    hub.add(&DeviceId::new("a").unwrap(), key(1), subnet)
        .await
        .unwrap();
    assert!(
        matches!(hub.warnings(), [one] if one.contains("0600") && one.contains("it was 0644")),
        "{:?}",
        hub.warnings()
    );
    drop(hub);
    let mut hub = alone(&path).await;
    hub.remove("a").await.unwrap();
    assert!(hub.warnings().is_empty(), "{:?}", hub.warnings());
}

#[tokio::test]
async fn a_symbolic_link_stays_one() {
    let (directory, path) = make();
    let link = directory.path().join("link.conf");
    symlink(&path, &link).unwrap();
    let admission = add(&link, &mut FakeInterface::default(), "a", 1).await.unwrap();
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
