//! Two devices in a namespace, with the programs of Adit and one of somebody else.

use std::collections::BTreeMap;

use adit_tests::bpf::ingress_program;
use adit_tests::{Bpffs, NetNs, snapshot};
use aya::programs::tc::{self, NlOptions, TcAttachOptions, TcHandle};
use aya::programs::{SchedClassifier, TcAttachType};
use aya::{Ebpf, EbpfLoader};
use dataplane_ebpf::layout::Class;
use dataplane_user::kernel::KernelError;
use dataplane_user::kernel::bpf::{Bpf, BpfOptions, LinkNames, Mechanism, object};
use dataplane_user::model::change::{BpfChange, ProgramChange, ProgramOperation};
use dataplane_user::model::{Attachment, Hook, KernelState, Link, LinkKind, Owner, ProgramVersion};
use dataplane_user::net::LinkName;
use nix::net::if_::{if_indextoname, if_nametoindex};

/// Replacements for `adit0` and a tunnel device; any Ethernet device works.
const DEVICES: [&str; 2] = ["adit0", "adit-geneve"];

/// A namespace with two devices, and a BPF file system.
pub(crate) struct World {
    pub(crate) bpffs: Bpffs,
    pub(crate) mechanism: Mechanism,
}

impl World {
    /// Runs a test in the namespace.
    pub(crate) fn run(test: impl FnOnce(World) + Send) {
        let netns = NetNs::new();
        netns.enter(|| {
            DEVICES.into_iter().for_each(make);
            test(World {
                bpffs: Bpffs::new(),
                mechanism: Mechanism::probe().unwrap(),
            });
        });
    }

    pub(crate) fn open(&self) -> Bpf {
        Bpf::open(&BpfOptions::new(self.bpffs.path())).unwrap()
    }

    pub(crate) fn attachments(&self, bpf: &mut Bpf) -> Attachments {
        let mut state = KernelState::default();
        for number in 0..DEVICES.len() {
            state.links.insert(
                device(number),
                Link {
                    owner: Owner::Adit,
                    kind: LinkKind::Dummy,
                    mac: None,
                    mtu: None,
                    arp: false,
                    generates_addresses: false,
                    up: false,
                },
            );
        }
        bpf.observe(&Names, &mut state).unwrap();
        state.attachments
    }

    /// The programs on the devices, with their ids.
    pub(crate) fn programs(&self) -> Vec<String> {
        let on = |(device, side): (&str, TcAttachType)| match self.mechanism {
            Mechanism::Tcx => ids(device, side).iter().map(u32::to_string).collect::<Vec<_>>(),
            Mechanism::Clsact => {
                let side = if side == TcAttachType::Egress {
                    "egress"
                } else {
                    "ingress"
                };
                let filters = run("tc", &format!("filter show dev {device} {side}"));
                let programs = filters.lines().filter(|line| snapshot::is_of_adit(line));
                programs.map(str::to_owned).collect()
            }
        };
        let sides = [
            (DEVICES[0], TcAttachType::Egress),
            (DEVICES[1], TcAttachType::Ingress),
        ];
        sides.into_iter().flat_map(on).collect()
    }

    /// The TCX programs on the ingress of the tunnel device.
    pub(crate) fn tcx(&self) -> Vec<u32> {
        if self.mechanism == Mechanism::Clsact {
            return Vec::new();
        }
        ids(DEVICES[1], TcAttachType::Ingress)
    }
}

fn ids(device: &str, side: TcAttachType) -> Vec<u32> {
    let (_, programs) = SchedClassifier::query_tcx(device, side).unwrap();
    programs.iter().map(aya::programs::ProgramInfo::id).collect()
}

/// Attaches a program of somebody else to the ingress of the tunnel device, by TCX (if available) and by clsact.
pub(crate) struct Foreign(#[expect(dead_code, reason = "it is attached for as long as it is there")] Ebpf);

impl Foreign {
    pub(crate) fn attach(world: &World) -> Foreign {
        let mut ebpf = EbpfLoader::new().load(object::object()).unwrap();
        let program: &mut SchedClassifier = ebpf
            .program_mut(ingress_program(Class::GENEVE))
            .unwrap()
            .try_into()
            .unwrap();
        program.load().unwrap();
        if world.mechanism == Mechanism::Tcx {
            program.attach(DEVICES[1], TcAttachType::Ingress).unwrap();
        }
        tc::qdisc_add_clsact(DEVICES[1]).unwrap();
        // The second is very similar to the one of Adit: the same name and priority.
        for (priority, handle) in [(5, 173), (173, 1)] {
            let options = TcAttachOptions::Netlink(NlOptions {
                priority,
                handle: TcHandle::new(0, handle),
                classid: None,
            });
            match program.attach_with_options(DEVICES[1], TcAttachType::Ingress, options) {
                Ok(_) => {}
                Err(error) if world.mechanism == Mechanism::Tcx => {
                    eprintln!("without filters of others: {error}");
                }
                Err(error) => panic!("{error}"),
            }
        }
        Foreign(ebpf)
    }
}

/// The filters on the ingress of the tunnel device.
pub(crate) fn filters() -> String {
    run("tc", "filter show dev adit-geneve ingress")
}

/// The namespace of the calling thread.
pub(crate) struct Names;

impl LinkNames for Names {
    fn name(&self, index: u32) -> Option<LinkName> {
        LinkName::new(if_indextoname(index).ok()?.to_str().ok()?).ok()
    }

    fn index(&self, name: &LinkName) -> Option<u32> {
        if_nametoindex(name.as_str()).ok()
    }
}

pub(crate) fn device(number: usize) -> LinkName {
    LinkName::constant(DEVICES[number])
}

pub(crate) fn attach_both() -> [BpfChange; 2] {
    [
        BpfChange::Program(ProgramChange(device(0), Hook::Egress, ProgramOperation::Attach)),
        BpfChange::Program(ProgramChange(device(1), Hook::Ingress, ProgramOperation::Attach)),
    ]
}

/// The programs of Adit by device and hook.
pub(crate) type Attachments = BTreeMap<(LinkName, Hook), Attachment>;

pub(crate) fn both(version: ProgramVersion) -> Attachments {
    [(0, Hook::Egress), (1, Hook::Ingress)]
        .map(|(number, hook)| ((device(number), hook), Attachment { version }))
        .into()
}

pub(crate) fn only(number: usize, version: ProgramVersion) -> Attachments {
    let mut attachments = both(version);
    attachments.retain(|(link, _), _| *link == device(number));
    attachments
}

pub(crate) fn execute(bpf: &mut Bpf, changes: &[BpfChange]) {
    let results: Vec<Result<(), KernelError>> = bpf.execute(&Names, changes);
    for (change, result) in changes.iter().zip(results) {
        result.unwrap_or_else(|error| panic!("{change}: {error}"));
    }
}

pub(crate) fn make(device: &str) {
    ip(&format!(
        "link add {device} type veth peer name {}",
        device.replace("adit", "peer")
    ));
}

pub(crate) fn ip(words: &str) -> String {
    run("ip", words)
}

/// Runs a program in the namespace of the calling thread.
pub(crate) fn run(program: &str, words: &str) -> String {
    snapshot::run(&NetNs::current(), program, words)
}
