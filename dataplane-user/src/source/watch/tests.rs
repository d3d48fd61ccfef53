//! Changes are reported, however files are replaced. Deadlines only limit a failing test.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

use tokio::time::timeout;

use super::*;

const DEADLINE: Duration = Duration::from_secs(20);

async fn told(watch: &mut Watch, after: &str) {
    let told = timeout(DEADLINE, watch.changed()).await;
    assert!(told.is_ok(), "no change was reported after: {after}");
}

fn replace(path: &Path, text: &str) {
    let new = path.with_extension("new");
    fs::write(&new, text).unwrap();
    fs::rename(new, path).unwrap();
}

#[tokio::test]
async fn a_directorys_files_are_watched() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("a.yaml");
    let mut watch = Watch::new(&[directory.path().to_owned()]).unwrap();
    fs::write(&file, "1").unwrap();
    told(&mut watch, "creation").await;
    fs::write(&file, "2").unwrap();
    told(&mut watch, "a write").await;
    replace(&file, "3");
    told(&mut watch, "an atomic rename").await;
    fs::remove_file(&file).unwrap();
    told(&mut watch, "deletion").await;
}

#[tokio::test]
async fn a_single_file_is_watched() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("a.yaml");
    let mut watch = Watch::new(std::slice::from_ref(&file)).unwrap();
    fs::write(&file, "1").unwrap();
    told(&mut watch, "creation").await;
    for round in 0..3 {
        replace(&file, "2");
        told(&mut watch, &format!("atomic rename {round}")).await;
    }
    fs::remove_file(&file).unwrap();
    told(&mut watch, "deletion").await;
}

#[tokio::test]
async fn the_swap_of_a_config_map_is_noticed() {
    for single in [false, true] {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        for version in ["..1", "..2"] {
            fs::create_dir(root.join(version)).unwrap();
            fs::write(root.join(version).join("a.yaml"), version).unwrap();
        }
        symlink("..1", root.join("..data")).unwrap();
        symlink("..data/a.yaml", root.join("a.yaml")).unwrap();
        let path = if single {
            root.join("a.yaml")
        } else {
            root.to_owned()
        };
        let mut watch = Watch::new(&[path]).unwrap();
        for version in ["..2", "..1", "..2"] {
            symlink(version, root.join("..new")).unwrap();
            fs::rename(root.join("..new"), root.join("..data")).unwrap();
            told(&mut watch, version).await;
            assert_eq!(fs::read_to_string(root.join("a.yaml")).unwrap(), version);
        }
    }
}

#[tokio::test]
async fn a_symbolic_link_to_a_directory_is_watched_at_its_target() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    fs::create_dir(root.join("one")).unwrap();
    fs::create_dir(root.join("two")).unwrap();
    symlink("one", root.join("current")).unwrap();
    let mut watch = Watch::new(&[root.join("current")]).unwrap();
    fs::write(root.join("one/a.yaml"), "1").unwrap();
    told(&mut watch, "a write behind the link").await;
    symlink("two", root.join("new")).unwrap();
    fs::rename(root.join("new"), root.join("current")).unwrap();
    told(&mut watch, "another link").await;
    fs::write(root.join("two/a.yaml"), "1").unwrap();
    told(&mut watch, "a write behind the new link").await;
}

#[tokio::test]
async fn a_deleted_and_recreated_directory_is_watched_again() {
    let parent = tempfile::tempdir().unwrap();
    let root = parent.path().join("manifests");
    fs::create_dir(&root).unwrap();
    let mut watch = Watch::new(std::slice::from_ref(&root)).unwrap();
    for round in 0..3 {
        fs::write(root.join("a.yaml"), "1").unwrap();
        told(&mut watch, &format!("a write, round {round}")).await;
        fs::remove_dir_all(&root).unwrap();
        told(&mut watch, &format!("removal, round {round}")).await;
        fs::create_dir(&root).unwrap();
        told(&mut watch, &format!("creation, round {round}")).await;
    }
}

#[tokio::test]
async fn a_change_outlives_a_dropped_wait() {
    let directory = tempfile::tempdir().unwrap();
    let mut watch = Watch::new(&[directory.path().to_owned()]).unwrap();
    fs::write(directory.path().join("a.yaml"), "1").unwrap();
    while watch.pending.is_none() {
        // Dropped while it waits for further events.
        let _elapsed = timeout(Duration::from_millis(1), watch.changed()).await;
    }
    told(&mut watch, "a dropped wait").await;
}

#[tokio::test]
async fn only_changes_that_matter_are_reported() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    let watch = Watch::new(&[root.join("a.yaml")]).unwrap();
    let root = fs::canonicalize(root).unwrap();
    let written = EventKind::Access(AccessKind::Close(AccessMode::Write));
    let event = |name: &str| Ok(Event::new(written).add_path(root.join(name)));
    assert!(watch.concerns(&event("a.yaml")));
    assert!(watch.concerns(&event("..data")));
    assert!(!watch.concerns(&event("b.yaml")));
    // Lost events may concern any file.
    assert!(watch.concerns(&Ok(
        Event::new(EventKind::Other).set_flag(notify::event::Flag::Rescan)
    )));
    assert!(watch.concerns(&Err(notify::Error::generic("lost"))));
    // Reading must not lead to more reading.
    let opened = Event::new(EventKind::Access(AccessKind::Open(AccessMode::Any)));
    assert!(only_read(&opened));
    assert!(!only_read(&Event::new(written)));
}
