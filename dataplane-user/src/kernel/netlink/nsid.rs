//! The ids by which a network namespace knows others (`ip netns list-id`).

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};

use netlink_packet_core::Parseable as _;
use netlink_packet_route::nsid::{NsidAttribute, NsidMessage};

use super::Netlink;
use super::message::{Failure, Request};
use crate::kernel::KernelError;

impl Netlink {
    /// The ids of other namespaces in this one; `None` for those without id.
    ///
    /// # Errors
    /// When the kernel can't be asked.
    pub(in crate::kernel) async fn numbers(
        &mut self,
        namespaces: &[BorrowedFd<'_>],
    ) -> Result<Vec<Option<i32>>, KernelError> {
        let requests = namespaces
            .iter()
            .map(|file| request(libc::RTM_GETNSID, *file, None));
        let answers = self.socket.exchange(&requests.collect::<Vec<_>>()).await;
        let mut numbers = Vec::with_capacity(answers.len());
        for answer in answers {
            numbers.push(match answer {
                Ok(bodies) => bodies.first().and_then(|body| read(body)),
                // The namespace is being deleted.
                Err(Failure::Refused { .. }) => None,
                Err(failure) => return Err(failure.into_error("list the ids of network namespaces")),
            });
        }
        Ok(numbers)
    }

    /// Gives a namespace an id in this one; `false` if it has one already, or the id is in use.
    ///
    /// # Errors
    /// When the kernel refuses for another reason.
    pub(in crate::kernel) async fn give_number(
        &mut self,
        namespace: BorrowedFd<'_>,
        number: i32,
    ) -> Result<bool, KernelError> {
        let request = request(libc::RTM_NEWNSID, namespace, Some(number));
        match self.socket.exchange(&[request]).await.into_iter().next() {
            Some(Ok(_)) => Ok(true),
            Some(Err(failure)) if matches!(failure.errno(), Some(libc::EEXIST | libc::ENOSPC)) => Ok(false),
            Some(Err(failure)) => Err(failure.into_error("give a namespace a number")),
            None => Err(KernelError::new(
                "give a namespace a number",
                io::Error::from(io::ErrorKind::UnexpectedEof),
            )),
        }
    }
}

fn request(kind: u16, namespace: BorrowedFd<'_>, number: Option<i32>) -> Request {
    let mut message = NsidMessage::default();
    let descriptor = u32::try_from(namespace.as_raw_fd()).expect("descriptors are not negative");
    message.attributes.push(NsidAttribute::Fd(descriptor));
    message.attributes.extend(number.map(NsidAttribute::Id));
    Request::new(kind, 0, &message)
}

/// Decodes the id in a message; `None` if it says that there is none.
pub(super) fn read(body: &[u8]) -> Option<i32> {
    let attributes = NsidMessage::parse(body).ok()?.attributes;
    attributes.iter().find_map(|attribute| match attribute {
        NsidAttribute::Id(number) => (*number >= 0).then_some(*number),
        _ => None,
    })
}
