//! The kernel for commands such as `adit wg up`, which do what a user would do with `ip` and `wg`.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::LinuxKernel;
use crate::kernel::wireguard::PrivateKeys;
use crate::kernel::{Kernel, KernelError};
use crate::model::facts::NodeFacts;
use crate::model::{Change, KernelState, LinkKind, Owner, Route};
use crate::net::LinkName;
use crate::plan::default_rules_of;

/// A kernel in which the command manages at most one WireGuard device and the rules of its default routes. It
/// manages nothing else, not even objects of an agent. What it creates has no mark, so that no agent adopts
/// it.
pub struct ByHand {
    kernel: LinuxKernel,
    /// The device, and the mark of the packets that it sends.
    own: Option<(LinkName, u32)>,
}

impl ByHand {
    /// Opens the adapters that WireGuard devices need. At first the command manages nothing.
    ///
    /// # Errors
    /// When it can't be opened.
    pub fn open(private_keys: PrivateKeys) -> Result<ByHand, KernelError> {
        let mut kernel = LinuxKernel::with(private_keys)?;
        kernel.netlink = kernel.netlink.by_hand();
        Ok(ByHand { kernel, own: None })
    }

    /// From now on the command manages this WireGuard device, and the rules that lead packets without this
    /// mark to the table of the same number. Without such rules the mark is 0.
    pub fn own(&mut self, device: &LinkName, mark: u32) {
        self.own = Some((device.clone(), mark));
    }
}

impl Kernel for ByHand {
    async fn observe(&mut self) -> Result<KernelState, KernelError> {
        let mut state = KernelState::default();
        self.kernel.observe_links(&mut state).await?;
        for (name, link) in &mut state.links {
            let named = self.own.as_ref().is_some_and(|(own, _)| own == name);
            let is_own = named && link.kind == LinkKind::WireGuard;
            link.owner = match link.owner {
                Owner::Other if is_own => Owner::Adit,
                _ => Owner::Other,
            };
        }
        let foreign = |route| Route {
            owner: Owner::Other,
            ..route
        };
        let routes = state.routes.into_iter();
        Ok(KernelState {
            links: state.links,
            routes: routes.map(|(key, route)| (key, foreign(route))).collect(),
            rules: match self.own {
                Some((_, mark)) if mark != 0 => default_rules_of(mark, &state.rules),
                _ => BTreeSet::new(),
            },
            ..KernelState::default()
        })
    }

    fn prepare(&mut self, desired: &KernelState) {
        self.kernel.prepare(desired);
    }

    async fn facts(&mut self, peers: &BTreeSet<IpAddr>) -> Result<NodeFacts, KernelError> {
        self.kernel.netlink.facts(peers).await
    }

    async fn execute(&mut self, changes: &[Change]) -> Vec<Result<(), KernelError>> {
        self.kernel.execute(changes).await
    }
}
