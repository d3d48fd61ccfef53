//! BPF programs: egress on the anchor, ingress on each tunnel device except WireGuard devices.

use crate::model::{Attachment, Hook, KernelState, LinkKind, ProgramVersion};

use crate::model::devices::ANCHOR;

pub(super) fn plan(desired: &mut KernelState) {
    for (name, link) in &desired.links {
        if link.kind == LinkKind::WireGuard {
            // WireGuard itself checks which peer may send from which source.
            continue;
        }
        let hook = if name.as_str() == ANCHOR {
            Hook::Egress
        } else {
            Hook::Ingress
        };
        desired.attachments.insert(
            (name.clone(), hook),
            Attachment {
                version: ProgramVersion::Current,
            },
        );
    }
}
