//! The programs of the BPF adapter on devices: attached, adopted, replaced and detached beside those of others. Needs root.
#![expect(clippy::unwrap_used, reason = "helpers fail the test as its own body does")]

#[path = "bpf_attach/world.rs"]
mod world;

use std::fs;
use std::io;
use std::net::UdpSocket;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use adit_tests::snapshot;
use dataplane_ebpf::layout::ABI_VERSION;
use dataplane_user::kernel::bpf::{Bpf, BpfOptions, Mechanism, uninstall};
use dataplane_user::model::change::{BpfChange, DeleteVersion, ProgramChange, ProgramOperation};
use dataplane_user::model::{Hook, ProgramVersion};

use self::world::{Foreign, Names, World, attach_both, both, device, execute, filters, ip, make, only, run};

#[test]
fn programs_survive_a_restart_and_are_replaced_in_place() {
    World::run(|world| {
        let mut bpf = world.open();
        assert!(world.attachments(&mut bpf).is_empty());
        execute(&mut bpf, &attach_both());
        assert_eq!(world.attachments(&mut bpf), both(ProgramVersion::Current));
        let before = world.programs();
        assert_eq!(before.len(), 2);
        drop(bpf);
        assert_eq!(world.programs(), before, "attached without the process");

        let mut bpf = world.open();
        assert_eq!(world.attachments(&mut bpf), both(ProgramVersion::Stale));
        let again = bpf.execute(
            &Names,
            &[BpfChange::Program(ProgramChange(
                device(0),
                Hook::Egress,
                ProgramOperation::Attach,
            ))],
        );
        assert_eq!(again[0].as_ref().unwrap_err().errno(), Some(libc::EEXIST));
        execute(
            &mut bpf,
            &[
                BpfChange::Program(ProgramChange(device(0), Hook::Egress, ProgramOperation::Replace)),
                BpfChange::Program(ProgramChange(device(1), Hook::Ingress, ProgramOperation::Replace)),
            ],
        );
        assert_eq!(world.attachments(&mut bpf), both(ProgramVersion::Current));
        let after = world.programs();
        assert_eq!(after.len(), before.len());
        assert_ne!(after, before, "other programs");
        drop(bpf);
        assert_eq!(world.programs(), after);
    });
}

#[test]
fn a_read_only_process_compares_instructions() {
    World::run(|world| {
        let mut agent = world.open();
        execute(&mut agent, &attach_both());
        let looking = BpfOptions {
            compare_by_tag: true,
            ..BpfOptions::new(world.bpffs.path())
        };
        let mut bpf = Bpf::open(&looking).unwrap();
        assert_eq!(world.attachments(&mut bpf), both(ProgramVersion::Current));
        let mut bpf = Bpf::open_read_only(world.bpffs.path()).unwrap();
        assert_eq!(world.attachments(&mut bpf), both(ProgramVersion::Stale));
        let results = bpf.execute(
            &Names,
            &[BpfChange::Program(ProgramChange(
                device(0),
                Hook::Egress,
                ProgramOperation::Detach,
            ))],
        );
        assert_eq!(results[0].as_ref().unwrap_err().errno(), Some(libc::EROFS));
        assert_eq!(world.attachments(&mut agent), both(ProgramVersion::Current));
    });
}

#[test]
fn a_recreated_device_gets_its_program() {
    World::run(|world| {
        let mut bpf = world.open();
        execute(&mut bpf, &attach_both());
        ip("link del adit-geneve");
        make("adit-geneve");
        let only_egress = only(0, ProgramVersion::Current);
        assert_eq!(world.attachments(&mut bpf), only_egress);
        assert_eq!(bpf.leftovers(), 1, "a pin");
        let missing = bpf.execute(
            &Names,
            &[BpfChange::Program(ProgramChange(
                device(1),
                Hook::Ingress,
                ProgramOperation::Replace,
            ))],
        );
        assert!(missing[0].is_err());
        execute(
            &mut bpf,
            &[BpfChange::Program(ProgramChange(
                device(1),
                Hook::Ingress,
                ProgramOperation::Attach,
            ))],
        );
        assert_eq!(world.attachments(&mut bpf), both(ProgramVersion::Current));
        assert_eq!(bpf.leftovers(), 0);

        // Deleted and not recreated: the next clean-up deletes the pin.
        ip("link del adit-geneve");
        assert_eq!(world.attachments(&mut bpf), only_egress);
        assert_eq!(bpf.leftovers(), 1);
        execute(&mut bpf, &[]);
        assert_eq!(world.attachments(&mut bpf), only_egress);
        assert_eq!(bpf.leftovers(), 0);
    });
}

#[test]
fn programs_of_an_older_version_are_replaced_or_detached() {
    World::run(|world| {
        let mut bpf = world.open();
        execute(&mut bpf, &attach_both());
        drop(bpf);
        let version = |number| world.bpffs.path().join(format!("v{number}"));
        fs::rename(version(ABI_VERSION), version(ABI_VERSION - 1)).unwrap();

        let mut bpf = world.open();
        assert_eq!(world.attachments(&mut bpf), both(ProgramVersion::Stale));
        execute(
            &mut bpf,
            &[BpfChange::Program(ProgramChange(
                device(0),
                Hook::Egress,
                ProgramOperation::TakeOver,
            ))],
        );
        // Also while the pins of the older version exist.
        let half = world.attachments(&mut bpf);
        assert_eq!(
            half.values().map(|found| found.version).collect::<Vec<_>>(),
            [ProgramVersion::Stale, ProgramVersion::Current]
        );
        assert_eq!(world.programs().len(), 2);
        execute(
            &mut bpf,
            &[BpfChange::Program(ProgramChange(
                device(1),
                Hook::Ingress,
                ProgramOperation::Detach,
            ))],
        );
        assert_eq!(world.attachments(&mut bpf), only(0, ProgramVersion::Current));
        execute(&mut bpf, &[BpfChange::Version(DeleteVersion(ABI_VERSION - 1))]);
        assert!(!version(ABI_VERSION - 1).exists());
        assert_eq!(world.attachments(&mut bpf), only(0, ProgramVersion::Current));
        assert_eq!(world.programs().len(), 1);
    });
}

#[test]
fn filters_and_programs_of_others_keep_their_position() {
    World::run(|world| {
        let foreign = Foreign::attach(&world);
        let (filters, programs) = (filters(), world.tcx());

        let mut bpf = world.open();
        execute(&mut bpf, &attach_both());
        assert_eq!(world.attachments(&mut bpf), both(ProgramVersion::Current));
        match world.mechanism {
            // The program of Adit first.
            Mechanism::Tcx => assert_eq!(world.tcx()[1..], programs),
            Mechanism::Clsact => assert_eq!(self::filters().lines().count(), filters.lines().count() + 1),
        }
        execute(
            &mut bpf,
            &[BpfChange::Program(ProgramChange(
                device(1),
                Hook::Ingress,
                ProgramOperation::Replace,
            ))],
        );
        execute(
            &mut bpf,
            &[BpfChange::Program(ProgramChange(
                device(1),
                Hook::Ingress,
                ProgramOperation::Detach,
            ))],
        );
        assert_eq!(self::filters(), filters);
        assert_eq!(world.tcx(), programs);
        assert_eq!(world.attachments(&mut bpf), only(0, ProgramVersion::Current));
        execute(
            &mut bpf,
            &[BpfChange::Program(ProgramChange(
                device(1),
                Hook::Ingress,
                ProgramOperation::Detach,
            ))],
        );
        drop(foreign);
    });
}

/// With TCX there are links instead.
#[test]
fn a_filter_is_known_by_its_program_whatever_its_name() {
    World::run(|world| {
        if world.mechanism == Mechanism::Tcx {
            return;
        }
        let mut bpf = world.open();
        execute(&mut bpf, &attach_both());
        let directory = world.bpffs.path().join(format!("v{ABI_VERSION}/programs"));
        let pins = || {
            let entries = fs::read_dir(&directory)
                .unwrap()
                .map(|entry| entry.unwrap().path());
            entries.collect::<Vec<_>>()
        };
        let is_egress = |pin: &&PathBuf| pin.to_str().unwrap().contains("adit0-egress-");
        let pin = pins().iter().find(is_egress).unwrap().clone();
        // The same program with the name that `tc` gives it.
        let filter = "filter replace dev adit0 egress pref 173 handle 173 bpf direct-action object-pinned";
        run("tc", &format!("{filter} {}", pin.display()));
        let named = run("tc", "filter show dev adit0 egress");
        assert!(
            snapshot::is_of_adit(&named) && !named.contains(" adit_egress direct-action"),
            "{named}"
        );
        assert_eq!(world.attachments(&mut bpf), both(ProgramVersion::Current));
        assert_eq!(bpf.leftovers(), 0);
        drop(bpf);

        // Without pins the instructions are compared.
        let mut bpf = world.open();
        pins().iter().for_each(|pin| fs::remove_file(pin).unwrap());
        assert_eq!(world.attachments(&mut bpf), both(ProgramVersion::Stale));
        let replace = [
            BpfChange::Program(ProgramChange(device(0), Hook::Egress, ProgramOperation::Replace)),
            BpfChange::Program(ProgramChange(device(1), Hook::Ingress, ProgramOperation::Replace)),
        ];
        execute(&mut bpf, &replace);
        assert_eq!(world.attachments(&mut bpf), both(ProgramVersion::Current));
        assert_eq!(pins().len(), 2);

        // A filter of somebody else in the position of the one of Adit stays.
        execute(
            &mut bpf,
            &[BpfChange::Program(ProgramChange(
                device(0),
                Hook::Egress,
                ProgramOperation::Detach,
            ))],
        );
        assert_eq!(pins().len(), 1);
        let words = "filter add dev adit0 egress pref 173 handle 173 bpf direct-action bytecode";
        let mut tc = Command::new("tc");
        tc.args(words.split(' ')).arg("1,6 0 0 0,");
        assert!(tc.status().unwrap().success());
        let other = run("tc", "filter show dev adit0 egress");
        assert_eq!(world.attachments(&mut bpf), only(1, ProgramVersion::Current));
        let refused = bpf.execute(
            &Names,
            &[BpfChange::Program(ProgramChange(
                device(0),
                Hook::Egress,
                ProgramOperation::Attach,
            ))],
        );
        assert_eq!(refused[0].as_ref().unwrap_err().errno(), Some(libc::EEXIST));
        assert_eq!(run("tc", "filter show dev adit0 egress"), other);
    });
}

#[test]
fn packets_pass_and_are_counted() {
    World::run(|world| {
        let mut bpf = world.open();
        execute(&mut bpf, &attach_both());
        send_into_the_overlay();
        let report = bpf.counters().unwrap();
        let no_prefix = report
            .egress
            .iter()
            .find(|count| count.name == "no_prefix")
            .unwrap();
        assert_eq!(no_prefix.counters.packets, 1);
        assert_eq!(no_prefix.counters.bytes, 32);
    });
}

#[test]
fn uninstalling_detaches_the_programs() {
    World::run(|world| {
        let mut bpf = world.open();
        execute(&mut bpf, &attach_both());
        if world.mechanism == Mechanism::Clsact {
            // A pin does not keep a filter: the diff detaches it.
            let detach = [(0, Hook::Egress), (1, Hook::Ingress)].map(|(number, hook)| {
                BpfChange::Program(ProgramChange(device(number), hook, ProgramOperation::Detach))
            });
            execute(&mut bpf, &detach);
        }
        drop(bpf);
        uninstall(&world.bpffs.path()).unwrap();
        assert!(world.programs().is_empty());
        assert!(!world.bpffs.path().exists());
    });
}

#[test]
fn program_logs_become_events() {
    World::run(|world| {
        let options = BpfOptions {
            log: true,
            ..BpfOptions::new(world.bpffs.path())
        };
        let mut bpf = Bpf::open(&options).unwrap();
        let drain = bpf.take_log().unwrap();
        assert!(bpf.take_log().is_err());
        execute(&mut bpf, &attach_both());
        send_into_the_overlay();

        let text = Text::default();
        let writer = text.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::DEBUG)
            .with_writer(move || writer.clone())
            .finish();
        let _guard = tracing::subscriber::set_default(subscriber);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let said = || String::from_utf8(text.0.lock().unwrap().clone()).unwrap();
        runtime.block_on(async {
            let heard = async {
                while !said().contains("drop 10.1.0.1 > 10.2.0.1") {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            };
            tokio::select! {
                ended = drain.run() => panic!("{ended:?}"),
                heard = tokio::time::timeout(Duration::from_secs(60), heard) => heard.unwrap(),
            }
        });
        assert!(said().contains("adit::bpf"), "{}", said());
    });
}

/// What a subscriber wrote.
#[derive(Clone, Default)]
struct Text(Arc<Mutex<Vec<u8>>>);

impl io::Write for Text {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Sends one datagram of 32 bytes from the inner IP header on to a destination that `adit0` attracts.
fn send_into_the_overlay() {
    ip("address add 10.1.0.1/32 dev adit0");
    ip("link set adit0 up");
    ip("route add 10.2.0.0/16 via 169.254.1.1 dev adit0 onlink");
    ip("neigh add 169.254.1.1 lladdr 02:00:00:00:00:01 dev adit0");
    let socket = UdpSocket::bind("10.1.0.1:0").unwrap();
    // The send may return an error for the drop.
    let sent = socket.send_to(b"adit", "10.2.0.1:9");
    assert!(sent.is_ok() || sent.unwrap_err().raw_os_error() == Some(libc::ENOBUFS));
}
