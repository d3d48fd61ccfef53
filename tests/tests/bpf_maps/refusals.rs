//! Errors and their messages: maps of another shape, no BPF file system, full maps, and writes by a read-only process.

use std::fs;
use std::io::ErrorKind;
use std::net::Ipv6Addr;
use std::time::Instant;

use adit_tests::Bpffs;
use aya::maps::{Array, MapData};
use dataplane_ebpf::layout::{MAX_PREFIXES_V6, names};
use dataplane_user::kernel::bpf::{Bpf, BpfOptions, uninstall};
use dataplane_user::model::change::{BpfChange, NextHopChange, NextHopOperation, PrefixChange, Write};
use dataplane_user::model::{KernelState, PrefixTarget};
use ipnet::{IpNet, Ipv6Net};

use super::values::{difference, execute, links, maps, observe, open, prefix, small_state};

#[test]
fn a_map_of_another_shape_is_not_adopted() {
    let bpffs = Bpffs::new();
    let maps = maps(&bpffs.path());
    fs::create_dir_all(&maps).unwrap();
    let odd = Array::<MapData, [u8; 16]>::create(8, 0).unwrap();
    odd.pin(maps.join(names::CLASSES)).unwrap();
    let error = Bpf::open(&BpfOptions::new(bpffs.path())).unwrap_err().to_string();
    for part in [
        names::CLASSES,
        "value 16 entries 8",
        "needs `type 2 key 4 value 32 entries 256",
        "remove",
    ] {
        assert!(error.contains(part), "`{part}` is missing: {error}");
    }
}

#[test]
fn an_incomplete_set_of_pins_is_completed() {
    let bpffs = Bpffs::new();
    let mut bpf = open(&bpffs.path());
    execute(&mut bpf, &difference(&KernelState::default(), &small_state()));
    drop(bpf);
    fs::remove_file(maps(&bpffs.path()).join(names::GROUPS)).unwrap();
    let mut bpf = open(&bpffs.path());
    let found = observe(&mut bpf);
    assert_eq!(found.next_hops, small_state().next_hops);
    assert!(found.groups.is_empty());
    execute(&mut bpf, &difference(&found, &small_state()));
    assert_eq!(observe(&mut bpf), small_state());
}

#[test]
fn another_file_system_is_refused_with_the_remedy() {
    let ordinary = tempfile::tempdir().unwrap();
    let error = Bpf::open(&BpfOptions::new(ordinary.path()))
        .unwrap_err()
        .to_string();
    assert!(error.contains("mount -t bpf"), "{error}");
    assert_eq!(fs::read_dir(ordinary.path()).unwrap().count(), 0);
}

#[test]
fn reading_needs_pins_and_writes_nothing() {
    let bpffs = Bpffs::new();
    let error = Bpf::open_read_only(bpffs.path()).unwrap_err();
    assert_eq!(error.source.kind(), ErrorKind::NotFound);
    let looking = BpfOptions {
        compare_by_tag: true,
        ..BpfOptions::new(bpffs.path())
    };
    let mut early = Bpf::open(&looking).unwrap();
    assert_eq!(observe(&mut early), KernelState::default());
    assert!(!bpffs.path().exists());

    let mut agent = open(&bpffs.path());
    execute(&mut agent, &difference(&KernelState::default(), &small_state()));
    for mut reader in [
        Bpf::open(&looking).unwrap(),
        Bpf::open_read_only(bpffs.path()).unwrap(),
    ] {
        assert_eq!(observe(&mut reader), small_state());
        let changes = [
            BpfChange::Prefix(PrefixChange(prefix("10.2.0.0/16"), Write::Delete)),
            BpfChange::NextHop(NextHopChange(
                small_state().next_hops.first().unwrap().clone(),
                NextHopOperation::Put,
            )),
        ];
        for result in reader.execute(&links(), &changes) {
            assert_eq!(result.unwrap_err().errno(), Some(libc::EROFS));
        }
    }
    assert_eq!(observe(&mut agent), small_state());
}

#[test]
fn a_batch_continues_after_missing_entries() {
    let bpffs = Bpffs::new();
    let mut bpf = open(&bpffs.path());
    execute(&mut bpf, &difference(&KernelState::default(), &small_state()));
    let changes = [
        "10.9.0.0/16",
        "10.1.0.0/16",
        "10.8.0.0/16",
        "fd00:9::/64",
        "10.2.0.0/16",
        "fd00:1::/64",
    ]
    .map(|text| BpfChange::Prefix(PrefixChange(prefix(text), Write::Delete)));
    execute(&mut bpf, &changes);
    assert!(observe(&mut bpf).prefixes.is_empty());
}

#[test]
fn a_full_map_is_reported_and_the_rest_is_written() {
    let bpffs = Bpffs::new();
    let mut bpf = open(&bpffs.path());
    let put = |number: u32| {
        let address = Ipv6Addr::from((0xfd00_u128 << 112) | u128::from(number) << 64);
        BpfChange::Prefix(PrefixChange(
            IpNet::V6(Ipv6Net::new(address, 64).unwrap()),
            Write::Put(PrefixTarget::Local),
        ))
    };
    let start = Instant::now();
    execute(&mut bpf, &(2..MAX_PREFIXES_V6).map(put).collect::<Vec<_>>());
    println!("{} prefixes put in {:?}", MAX_PREFIXES_V6 - 2, start.elapsed());
    let start = Instant::now();
    assert_eq!(observe(&mut bpf).prefixes.len(), MAX_PREFIXES_V6 as usize - 2);
    println!("observed in {:?}", start.elapsed());

    let v4 = BpfChange::Prefix(PrefixChange(
        prefix("10.0.0.0/8"),
        Write::Put(PrefixTarget::Local),
    ));
    let changes = [put(0), put(1), put(MAX_PREFIXES_V6), v4, put(MAX_PREFIXES_V6 + 1)];
    let results = bpf.execute(&links(), &changes);
    let fine: Vec<_> = results.iter().map(Result::is_ok).collect();
    assert_eq!(fine, [true, true, false, true, false]);
    let error = results[2].as_ref().unwrap_err();
    assert_eq!(error.errno(), Some(libc::ENOSPC));
    let text = error.to_string();
    assert!(
        text.contains(names::PREFIXES_V6) && text.contains("262144"),
        "{text}"
    );
    assert_eq!(observe(&mut bpf).prefixes.len(), MAX_PREFIXES_V6 as usize + 1);
}

#[test]
fn uninstalling_removes_every_version_and_nothing_else() {
    let bpffs = Bpffs::new();
    uninstall(&bpffs.path()).unwrap();
    drop(open(&bpffs.path()));
    fs::create_dir_all(bpffs.path().join("v7/maps")).unwrap();
    uninstall(&bpffs.path()).unwrap();
    assert!(!bpffs.path().exists());

    drop(open(&bpffs.path()));
    fs::create_dir(bpffs.path().join("vault")).unwrap();
    uninstall(&bpffs.path()).unwrap();
    let left: Vec<_> = fs::read_dir(bpffs.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(left, ["vault"]);
}
