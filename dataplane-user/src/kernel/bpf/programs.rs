//! The programs of this process. They are loaded with the pinned maps, and distinguished from those of other
//! processes by id.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;

use aya::programs::{ProgramError, SchedClassifier, loaded_programs};
use aya::{Ebpf, EbpfLoader};
use dataplane_ebpf::layout::{Class, names};

use super::log::LogReader;
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

/// The identity of a program: the id of the loaded program, and the tag, a hash of its instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) id: u32,
    pub(super) tag: u64,
}

impl Programs {
    /// Loads all programs. With a directory, maps that are pinned there are used, and missing ones are
    /// created and pinned. Without a directory, the programs get maps of their own, which end with them.
    pub(super) fn load(maps: Option<&Path>, log: bool) -> Result<Programs, KernelError> {
        let log = u8::from(log);
        let paths: Vec<_> = maps
            .into_iter()
            .flat_map(|directory| names::PINNED_MAPS.map(|name| (name, directory.join(name))))
            .collect();
        let mut loader = EbpfLoader::new();
        // The programs have no relocations against types of the kernel, so its BTF does not have to be
        // parsed.
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

    /// The program for a hook of a device.
    pub(super) fn program(
        &mut self,
        link: &LinkName,
        hook: Hook,
    ) -> Result<&mut SchedClassifier, KernelError> {
        let name = name(link, hook).ok_or_else(|| {
            let source = io::Error::new(io::ErrorKind::InvalidInput, "it is not a tunnel device of Adit");
            KernelError::new(format!("choosing the {hook} program of {link}"), source)
        })?;
        classifier(&mut self.ebpf, name)
    }

    /// The identity of the program for a hook of a device; `None` if the hook needs no program.
    pub(super) fn identity(&self, link: &LinkName, hook: Hook) -> Option<Identity> {
        self.identities.get(name(link, hook)?).copied()
    }

    /// The tags of all programs.
    pub(super) fn tags(&self) -> BTreeSet<u64> {
        self.identities.values().map(|identity| identity.tag).collect()
    }

    /// The log of the programs; it can be taken once.
    pub(super) fn take_log(&mut self) -> Result<LogReader, KernelError> {
        LogReader::new(&mut self.ebpf)
    }
}

/// The names of the programs for a hook.
fn names_of(hook: Hook) -> Vec<&'static str> {
    match hook {
        Hook::Egress => vec![names::EGRESS_PROGRAM],
        Hook::Ingress => names::INGRESS_PROGRAMS.map(|(_, name)| name).to_vec(),
    }
}

/// The name of the program for a hook of a device. At ingress each encapsulation has its own program, because
/// packets do not tell by which encapsulation they arrived.
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

/// The tag of a loaded program; `None` if it was unloaded meanwhile.
pub(super) fn tag_of(id: u32) -> Result<Option<u64>, KernelError> {
    for info in loaded_programs() {
        match info {
            Ok(info) if info.id() == id => return Ok(Some(info.tag())),
            Ok(_) => {}
            Err(error) => {
                let error = program_error("reading the loaded programs", &error);
                // It was unloaded meanwhile.
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
        KernelError::new(format!("finding the program {name}"), source)
    })?;
    program
        .try_into()
        .map_err(|error: ProgramError| aya_error(&format!("using {name} as a classifier"), &error))
}

/// The error of a program, with the end of the verifier log if there is one.
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

/// Converts an error of aya, using the errno at its root if there is one.
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
