//! The real kernel of this process's network namespace: hands each change to the adapter that it belongs to.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;

use super::bpf::{Bpf, BpfOptions, LinkNames, LogDrain};
use super::netlink::Netlink;
use super::sysctl::Sysctls;
use super::{Kernel, KernelError};
use crate::model::{Change, KernelState, Owner, Sysctl};
use crate::net::LinkName;
use crate::plan::NodeFacts;

/// The kernel of the calling thread's network namespace. Must be used on that thread.
pub struct LinuxKernel {
    netlink: Netlink,
    sysctls: Sysctls,
    /// `None`: BPF is left alone.
    bpf: Option<Bpf>,
}

/// The adapter that a change belongs to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Adapter {
    Netlink,
    Sysctl,
    Bpf,
}

impl LinuxKernel {
    /// Opens all interfaces; loads the programs, and makes the maps or adopts the pinned ones.
    ///
    /// # Errors
    /// When one can't be opened.
    pub fn open(options: &BpfOptions) -> Result<LinuxKernel, KernelError> {
        LinuxKernel::with(Some(Bpf::open(options)?))
    }

    /// Opens all but BPF: for removing, because programs go with their devices and maps with their pins.
    ///
    /// # Errors
    /// When one can't be opened.
    pub fn without_bpf() -> Result<LinuxKernel, KernelError> {
        LinuxKernel::with(None)
    }

    fn with(bpf: Option<Bpf>) -> Result<LinuxKernel, KernelError> {
        Ok(LinuxKernel {
            netlink: Netlink::open()?,
            sysctls: Sysctls::default(),
            bpf,
        })
    }

    /// What the programs log, once; there is something in it when they were opened with logging.
    ///
    /// # Errors
    /// When it was taken before, or BPF is not open.
    pub fn take_log(&mut self) -> Result<LogDrain, KernelError> {
        let closed = || KernelError::new("open the programs' log", io::Error::from(io::ErrorKind::NotFound));
        self.bpf.as_mut().ok_or_else(closed)?.take_log()
    }

    /// The settings of our links; a link that goes meanwhile has none.
    fn observe_sysctls(&self, state: &mut KernelState) -> Result<(), KernelError> {
        let ours = state.links.iter().filter(|(_, link)| link.owner == Owner::Ours);
        for name in ours.map(|(name, _)| name) {
            for sysctl in Sysctl::ALL {
                match self.sysctls.read(name, sysctl) {
                    Ok(value) => {
                        state.sysctls.insert((name.clone(), sysctl), value);
                    }
                    Err(error) if error.source.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }

    fn set_sysctl(&self, change: &Change) -> Result<(), KernelError> {
        match change {
            Change::SetSysctl(link, sysctl, value) => self.sysctls.write(link, *sysctl, value),
            other => Err(KernelError::new(
                other.to_string(),
                io::Error::from(io::ErrorKind::InvalidInput),
            )),
        }
    }
}

impl Kernel for LinuxKernel {
    async fn observe(&mut self) -> Result<KernelState, KernelError> {
        let mut state = KernelState::default();
        self.netlink.observe(&mut state).await?;
        self.observe_sysctls(&mut state)?;
        if let Some(bpf) = &mut self.bpf {
            bpf.observe(&self.netlink, &mut state)?;
        }
        Ok(state)
    }

    async fn facts(&mut self, peers: &BTreeSet<IpAddr>) -> Result<NodeFacts, KernelError> {
        self.netlink.facts(peers).await
    }

    async fn execute(&mut self, changes: &[Change]) -> Vec<Result<(), KernelError>> {
        let mut results = Vec::with_capacity(changes.len());
        if let Some(bpf) = &mut self.bpf
            && bpf.leftovers() > 0
        {
            // What a crash left in the maps, which no state can show; its result is what the next observation finds.
            bpf.execute(&self.netlink, &[]);
        }
        for run in changes.chunk_by(|a, b| Adapter::of(a) == Adapter::of(b)) {
            match (Adapter::of(&run[0]), &mut self.bpf) {
                (Adapter::Netlink, _) => results.extend(self.netlink.execute(run).await),
                (Adapter::Sysctl, _) => results.extend(run.iter().map(|change| self.set_sysctl(change))),
                (Adapter::Bpf, Some(bpf)) => results.extend(bpf.execute(&self.netlink, run)),
                (Adapter::Bpf, None) => results.extend(run.iter().map(|change| {
                    Err(KernelError::new(
                        change.to_string(),
                        io::Error::from(io::ErrorKind::NotFound),
                    ))
                })),
            }
        }
        results
    }
}

impl Adapter {
    fn of(change: &Change) -> Adapter {
        match change {
            Change::SetSysctl(..) => Adapter::Sysctl,
            change if Bpf::handles(change) => Adapter::Bpf,
            _ => Adapter::Netlink,
        }
    }
}

impl LinkNames for Netlink {
    fn name(&self, index: u32) -> Option<LinkName> {
        self.link_name(index).cloned()
    }

    fn index(&self, name: &LinkName) -> Option<u32> {
        self.link_index(name)
    }
}

/// The kernel's release, as `uname -r` prints it.
#[must_use]
pub fn release() -> String {
    nix::sys::utsname::uname()
        .map(|name| name.release().to_string_lossy().into_owned())
        .unwrap_or_default()
}
