//! Programs: egress on the anchor, ingress on each tunnel device but WireGuard's.

use crate::model::{Attachment, Hook, KernelState, LinkKind, ProgramVersion};

use crate::model::devices::ANCHOR;

pub(super) fn plan(target: &mut KernelState) {
    for (name, link) in &target.links {
        if link.kind == LinkKind::WireGuard {
            // Whose source may come from whom is WireGuard's to say.
            continue;
        }
        let hook = if name.as_str() == ANCHOR {
            Hook::Egress
        } else {
            Hook::Ingress
        };
        target.attachments.insert(
            (name.clone(), hook),
            Attachment {
                version: ProgramVersion::Current,
            },
        );
    }
}
