//! Programs: egress on the anchor, ingress on each tunnel device.

use crate::model::{Attachment, Hook, KernelState, ProgramVersion};

use super::ANCHOR;

pub(super) fn plan(target: &mut KernelState) {
    for name in target.links.keys() {
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
