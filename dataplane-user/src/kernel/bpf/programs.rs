//! The programs of this process: loaded with the pinned maps, and told from other processes' by id.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;

use aya::programs::{ProgramError, SchedClassifier, loaded_programs};
use aya::{Ebpf, EbpfLoader};
use dataplane_ebpf::layout::{Class, names};

use super::log::LogDrain;
use super::object;
use crate::kernel::KernelError;
use crate::limits;
use crate::model::Hook;
use crate::model::devices;
use crate::net::LinkName;

/// The loaded programs.
#[derive(Debug)]
pub(super) struct Programs {
    ebpf: Ebpf,
    identities: BTreeMap<&'static str, Identity>,
}

/// What tells a program from others: the id is one loaded program's, the tag a hash of its instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) id: u32,
    pub(super) tag: u64,
}

impl Programs {
    /// Loads all programs. With a directory, maps that are pinned there are used and others pinned; without, the
    /// programs get maps of their own that go with them.
    pub(super) fn load(maps: Option<&Path>, log: bool) -> Result<Programs, KernelError> {
        let log = u8::from(log);
        let paths: Vec<_> = maps
            .into_iter()
            .flat_map(|directory| names::PINNED_MAPS.map(|name| (name, directory.join(name))))
            .collect();
        let mut loader = EbpfLoader::new();
        // Nothing in the programs is relocated against the kernel's types, so its BTF need not be parsed.
        loader.btf(None).override_global(names::LOG_ENABLED, &log, true);
        for (name, path) in &paths {
            loader.map_pin_path(name, path.as_path());
        }
        let mut ebpf = loader
            .load(object::object())
            .map_err(|error| aya_error("loading the BPF object", &error))?;
        let all = [Hook::Egress, Hook::Ingress].into_iter().flat_map(names_of);
        let identities = all
            .map(|name| Ok((name, load_one(&mut ebpf, name)?)))
            .collect::<Result<_, KernelError>>()?;
        Ok(Programs { ebpf, identities })
    }

    /// The program of a device's hook.
    pub(super) fn program(
        &mut self,
        link: &LinkName,
        hook: Hook,
    ) -> Result<&mut SchedClassifier, KernelError> {
        let name = name(link, hook).ok_or_else(|| {
            let source = io::Error::new(io::ErrorKind::InvalidInput, "it is no tunnel device of ours");
            KernelError::new(format!("choosing the {hook} program of {link}"), source)
        })?;
        classifier(&mut self.ebpf, name)
    }

    /// The identity of the program of a device's hook; `None` where none belongs.
    pub(super) fn identity(&self, link: &LinkName, hook: Hook) -> Option<Identity> {
        self.identities.get(name(link, hook)?).copied()
    }

    /// The tags of all programs.
    pub(super) fn tags(&self) -> BTreeSet<u64> {
        self.identities.values().map(|identity| identity.tag).collect()
    }

    /// The programs' log, once.
    pub(super) fn take_log(&mut self) -> Result<LogDrain, KernelError> {
        LogDrain::new(&mut self.ebpf)
    }
}

/// The names of a hook's programs.
fn names_of(hook: Hook) -> Vec<&'static str> {
    match hook {
        Hook::Egress => vec![names::EGRESS_PROGRAM],
        Hook::Ingress => names::INGRESS_PROGRAMS.map(|(_, name)| name).to_vec(),
    }
}

/// The name of the program of a device's hook: at the ingress each tunnel device has one of its own, which says what
/// encapsulation a packet came by.
fn name(link: &LinkName, hook: Hook) -> Option<&'static str> {
    if hook == Hook::Egress {
        return Some(names::EGRESS_PROGRAM);
    }
    let encapsulation = match link.as_str() {
        devices::GENEVE => Class::GENEVE,
        devices::VXLAN => Class::VXLAN,
        devices::IPIP => Class::IPIP,
        devices::IP6TNL => Class::IP6TNL,
        _ => return None,
    };
    let mut programs = names::INGRESS_PROGRAMS.into_iter();
    programs.find_map(|(known, name)| (known == encapsulation).then_some(name))
}

/// The tag of a loaded program; `None` where it is gone meanwhile.
pub(super) fn tag_of(id: u32) -> Result<Option<u64>, KernelError> {
    for info in loaded_programs() {
        match info {
            Ok(info) if info.id() == id => return Ok(Some(info.tag())),
            Ok(_) => {}
            Err(error) => {
                let error = program_error("reading the loaded programs", &error);
                // Unloaded while we looked.
                if error.errno() != Some(libc::ENOENT) {
                    return Err(error);
                }
            }
        }
    }
    Ok(None)
}

fn load_one(ebpf: &mut Ebpf, name: &'static str) -> Result<Identity, KernelError> {
    let doing = format!("loading the program {name}");
    let program = classifier(ebpf, name)?;
    program.load().map_err(|error| program_error(&doing, &error))?;
    let info = program.info().map_err(|error| program_error(&doing, &error))?;
    Ok(Identity {
        id: info.id(),
        tag: info.tag(),
    })
}

fn classifier<'e>(ebpf: &'e mut Ebpf, name: &'static str) -> Result<&'e mut SchedClassifier, KernelError> {
    let program = ebpf.program_mut(name).ok_or_else(|| {
        let source = io::Error::new(io::ErrorKind::NotFound, "the BPF object has no such program");
        KernelError::new(format!("looking for the program {name}"), source)
    })?;
    program
        .try_into()
        .map_err(|error: ProgramError| aya_error(&format!("taking {name} for a classifier"), &error))
}

/// A program's error, with the end of the verifier's log where there is one.
pub(super) fn program_error(doing: &str, error: &ProgramError) -> KernelError {
    let ProgramError::LoadError {
        io_error,
        verifier_log,
    } = error
    else {
        return aya_error(doing, error);
    };
    let log = verifier_log.to_string();
    let lines: Vec<&str> = log.lines().collect();
    KernelError {
        context: Some(doing.to_owned()),
        source: crate::kernel::copy(io_error),
        kernel_text: Some(lines[lines.len().saturating_sub(limits::VERIFIER_LINES)..].join("\n")),
    }
}

/// An error of aya's, by the errno at its root where there is one.
pub(super) fn aya_error(doing: &str, error: &(dyn std::error::Error + 'static)) -> KernelError {
    let mut cause = Some(error);
    while let Some(one) = cause {
        if let Some(root) = one.downcast_ref::<io::Error>()
            && root.raw_os_error().is_some()
        {
            return KernelError {
                context: Some(doing.to_owned()),
                source: crate::kernel::copy(root),
                kernel_text: Some(error.to_string()),
            };
        }
        cause = one.source();
    }
    KernelError::new(doing, io::Error::other(error.to_string()))
}
