//! Resolves the names of WireGuard endpoints repeatedly, by the resolver of the system.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use tokio::net::lookup_host;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::debug;

use crate::limits;
use crate::resource::node::Host;
use crate::resource::wireguard::Peer;

/// Resolves all names at the same time, each for at most `patience`. The result for each name: its addresses
/// in the order that the resolver prefers, or the reason why there are none.
async fn look_up(
    names: impl IntoIterator<Item = String>,
    patience: Duration,
) -> BTreeMap<String, Result<Vec<IpAddr>, String>> {
    let mut lookups = JoinSet::new();
    for name in names {
        lookups.spawn(async move {
            let found = timeout(patience, lookup_host((name.clone(), 0))).await;
            let addresses = match found {
                Ok(Ok(found)) => Ok(found.map(|found| found.ip()).collect::<Vec<_>>()),
                Ok(Err(error)) => Err(format!("can't resolve {name}: {error}")),
                Err(_) => Err(format!(
                    "can't resolve {name}: no answer within {} s",
                    patience.as_secs()
                )),
            };
            let addresses = addresses.and_then(|addresses| match addresses.is_empty() {
                true => Err(format!("{name} has no address")),
                false => Ok(addresses),
            });
            (name, addresses)
        });
    }
    lookups.join_all().await.into_iter().collect()
}

/// Resolves the names in the endpoints of peers, each for at most `patience`.
///
/// # Errors
/// A name without addresses, and the reason.
pub async fn of_peers<'a>(
    peers: impl IntoIterator<Item = &'a Peer>,
    patience: Duration,
) -> Result<BTreeMap<String, Vec<IpAddr>>, (String, String)> {
    let hosts = peers
        .into_iter()
        .filter_map(|peer| Some(&peer.endpoint.as_ref()?.host));
    let names = hosts.filter_map(Host::name).cloned().collect::<BTreeSet<_>>();
    let found = look_up(names, patience).await.into_iter();
    let found = found.map(|(name, found)| match found {
        Ok(addresses) => Ok((name, addresses)),
        Err(why) => Err((name, why)),
    });
    found.collect()
}

/// The known addresses of names. While lookups fail, the last known addresses stay.
#[derive(Debug)]
pub struct Names {
    /// How long an answer is used before the name is resolved again.
    lifetime: Duration,
    known: BTreeMap<String, Answer>,
}

#[derive(Clone, Debug)]
struct Answer {
    /// The address that was used last is the first.
    addresses: Vec<IpAddr>,
    asked: Instant,
}

impl Names {
    /// Without any known names.
    #[must_use]
    pub fn new(lifetime: Duration) -> Names {
        Names {
            lifetime,
            known: BTreeMap::new(),
        }
    }

    /// The addresses of these names. New names, and names with an expired answer, are resolved at the same
    /// time. A name that was never resolved is absent. An address stays the first as long as the name has it,
    /// so that a resolver that rotates its answers does not move a peer.
    pub async fn look_up(&mut self, names: &BTreeSet<String>) -> BTreeMap<String, Vec<IpAddr>> {
        let now = Instant::now();
        self.known.retain(|name, _| names.contains(name));
        let is_fresh = |answer: &Answer| now.duration_since(answer.asked) < self.lifetime;
        let wanted = names
            .iter()
            .filter(|name| !self.known.get(*name).is_some_and(is_fresh));
        for (name, found) in look_up(wanted.cloned(), limits::NAMES_TIMEOUT).await {
            let found = found.inspect_err(|why| debug!("{why}"));
            self.record(name, found.unwrap_or_default().into_iter().collect(), now);
        }
        let found = self
            .known
            .iter()
            .filter(|(_, answer)| !answer.addresses.is_empty());
        found
            .map(|(name, answer)| (name.clone(), answer.addresses.clone()))
            .collect()
    }

    /// The time until the first answer expires; `None`: there are no names.
    #[must_use]
    pub fn due(&self) -> Option<Duration> {
        let asked = self.known.values().map(|answer| answer.asked).min()?;
        Some(self.lifetime.saturating_sub(asked.elapsed()))
    }

    fn record(&mut self, name: String, addresses: BTreeSet<IpAddr>, asked: Instant) {
        let answer = self.known.entry(name).or_insert(Answer {
            addresses: Vec::new(),
            asked,
        });
        answer.asked = asked;
        if addresses.is_empty() {
            return;
        }
        let used = answer.addresses.first().copied();
        answer.addresses = addresses.into_iter().collect();
        answer.addresses.sort_by_key(|address| Some(*address) != used);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(list: &[&str]) -> BTreeSet<IpAddr> {
        list.iter().map(|address| address.parse().unwrap()).collect()
    }

    #[test]
    fn the_address_in_use_stays_first_and_a_failure_changes_nothing() {
        let mut names = Names::new(Duration::ZERO);
        let mut answer = |list: &[&str]| {
            names.record("a.example".to_owned(), addresses(list), Instant::now());
            let known = &names.known["a.example"].addresses;
            known.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(answer(&["192.0.2.2"]), ["192.0.2.2"]);
        assert_eq!(answer(&["192.0.2.1", "192.0.2.2"]), ["192.0.2.2", "192.0.2.1"]);
        assert_eq!(answer(&[]), ["192.0.2.2", "192.0.2.1"]);
        assert_eq!(answer(&["192.0.2.1", "192.0.2.3"]), ["192.0.2.1", "192.0.2.3"]);
    }

    #[tokio::test]
    async fn names_are_found_and_what_is_none_is_absent() {
        let mut names = Names::new(Duration::from_secs(60));
        let wanted = BTreeSet::from(["localhost".to_owned(), "a.invalid".to_owned()]);
        let found = names.look_up(&wanted).await;
        assert_eq!(found.keys().collect::<Vec<_>>(), ["localhost"]);
        assert!(found["localhost"][0].is_loopback());
        let due = names.due().expect("there is a name");
        assert!(
            due > Duration::from_secs(50) && due <= Duration::from_secs(60),
            "{due:?}"
        );
        assert!(names.look_up(&BTreeSet::new()).await.is_empty());
        assert_eq!(names.due(), None);
    }
}
