//! The pauses of namespaces that could not be read, because the root user there must not keep the agent from
//! its work. Each failure in a row doubles the pause.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::limits;
use crate::net::Namespace;

/// The namespaces that are in backoff, or were until recently.
#[derive(Debug, Default)]
pub(super) struct BackOffs(BTreeMap<Namespace, BackOff>);

#[derive(Debug)]
struct BackOff {
    /// Why the namespace could not be read.
    why: String,
    until: Instant,
    length: Duration,
}

impl BackOffs {
    /// Why a namespace is not read now; `None` if it is read.
    pub(super) fn why(&self, namespace: &Namespace, now: Instant) -> Option<&str> {
        let rest = self.0.get(namespace).filter(|rest| now < rest.until)?;
        Some(&rest.why)
    }

    /// Records that a namespace could not be read.
    pub(super) fn failed(&mut self, namespace: &Namespace, why: String, now: Instant) {
        let last = self.0.get(namespace).map(|rest| rest.length);
        let length = last.map_or(limits::NAMESPACE_FIRST_BACK_OFF, |length| {
            (2 * length).min(limits::NAMESPACE_LONGEST_BACK_OFF)
        });
        let rest = BackOff {
            why,
            until: now + length,
            length,
        };
        self.0.insert(namespace.clone(), rest);
    }

    /// Records that a namespace could be read.
    pub(super) fn read(&mut self, namespace: &Namespace) {
        self.0.remove(namespace);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_rest_is_longer_until_the_namespace_can_be_read() {
        let namespace = Namespace::Pid(1);
        let mut rests = BackOffs::default();
        let mut now = Instant::now();
        assert_eq!(rests.why(&namespace, now), None);
        for length in [3, 6, 12, 24, 48, 96, 192, 300, 300] {
            rests.failed(&namespace, "why".to_owned(), now);
            now += Duration::from_secs(length - 1);
            assert_eq!(rests.why(&namespace, now), Some("why"), "{length}");
            now += Duration::from_secs(1);
            assert_eq!(rests.why(&namespace, now), None, "{length}");
        }
        rests.read(&namespace);
        rests.failed(&namespace, "why".to_owned(), now);
        assert_eq!(
            rests.why(&namespace, now + limits::NAMESPACE_FIRST_BACK_OFF),
            None
        );
    }
}
