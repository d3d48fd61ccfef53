//! Many objects, and objects that are created and deleted meanwhile.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use adit_tests::NetNs;
use dataplane_user::kernel::netlink::Netlink;
use dataplane_user::model::change::{
    DeleteLinkReason, LinkChange, LinkOperation, NetlinkChange, RouteChange, RouteOperation,
};
use dataplane_user::model::{ANCHOR_METRIC, KernelState, MAIN_TABLE, RouteKey};

use crate::{execute, key, name, observe, via, vxlan, with_link};

#[test]
fn thousands_of_routes_are_sent_in_batches_with_a_result_for_each() {
    const ROUTES: u32 = 10_000;
    /// The number of requests per send.
    const BATCH: u64 = 128;
    NetNs::new().run(async || {
        let mut netlink = with_link().await;
        let route = |number: u32| {
            let [_, _, high, low] = number.to_be_bytes();
            let (to, gateway) = if number.is_multiple_of(2) {
                (format!("10.{high}.{low}.0/24"), "169.254.1.1")
            } else {
                (format!("fd00:0:{number:x}::/48"), "fe80::1")
            };
            (
                key(MAIN_TABLE, &to, ANCHOR_METRIC),
                via(gateway, "ours", None, Some(1380)),
            )
        };
        let mut wanted: BTreeMap<_, _> = (0..ROUTES).map(route).collect();
        let mut changes: Vec<_> = wanted
            .iter()
            .map(|(key, route)| {
                NetlinkChange::Route(RouteChange(*key, RouteOperation::Create(route.clone())))
            })
            .collect();
        // Only two requests in the middle of a batch are refused: a duplicate, and an invalid gateway.
        changes.insert(2500, changes[2400].clone());
        let nowhere = key(MAIN_TABLE, "10.255.0.0/24", ANCHOR_METRIC);
        let multicast = via("224.0.0.1", "ours", None, None);
        changes.insert(
            5500,
            NetlinkChange::Route(RouteChange(nowhere, RouteOperation::Create(multicast))),
        );

        let before = netlink.stats();
        let outcomes = netlink.execute(&changes).await;
        let after = netlink.stats();
        assert_eq!(outcomes.len(), changes.len());
        let failed: Vec<_> = (0..outcomes.len())
            .filter(|place| outcomes[*place].is_err())
            .collect();
        assert_eq!(failed, [2500, 5500]);
        assert_eq!(outcomes[2500].as_ref().unwrap_err().errno(), Some(libc::EEXIST));
        let refusal = outcomes[5500].as_ref().unwrap_err();
        assert_eq!(refusal.errno(), Some(libc::EINVAL));
        assert_eq!(
            refusal.kernel_text.as_deref(),
            Some("Nexthop has invalid gateway")
        );
        let (sends, receives) = (after.sends - before.sends, after.receives - before.receives);
        println!(
            "{sends} sends and {receives} receives for {} routes",
            changes.len()
        );
        let batches = u64::try_from(changes.len()).unwrap().div_ceil(BATCH);
        assert!(sends <= batches, "{sends} sends");
        // One ack for each, and the errors.
        assert!(receives <= batches + 2, "{receives} receives");

        let before = netlink.stats();
        assert_eq!(observe(&mut netlink).await.routes, wanted);
        assert_eq!(
            netlink.stats().sends - before.sends,
            8,
            "one dump each of links, addresses, next hops, neighbours, and both families' routes and rules"
        );

        let deleted: Vec<_> = wanted.keys().copied().take(8000).collect();
        let delete = |key: &RouteKey| {
            NetlinkChange::Route(RouteChange(*key, RouteOperation::Delete(wanted[key].clone())))
        };
        execute(&mut netlink, &deleted.iter().map(delete).collect::<Vec<_>>()).await;
        wanted.retain(|key, _| !deleted.contains(key));
        assert_eq!(observe(&mut netlink).await.routes, wanted);
        assert_eq!(netlink.stats().reopened, 0);
    });
}

#[test]
fn listings_are_complete_while_links_are_created_and_deleted() {
    const LINKS: usize = 120;
    let netns = NetNs::new();
    netns.enter(|| {
        let mut script = tempfile::NamedTempFile::new().unwrap();
        for number in 0..LINKS {
            writeln!(script, "link add standing{number} type bridge").unwrap();
        }
        let status = Command::new("ip")
            .arg("-batch")
            .arg(script.path())
            .status()
            .unwrap();
        assert!(status.success());
    });
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            netns.run(async || {
                let mut netlink = Netlink::open().unwrap();
                let brief = name("brief");
                let changes = [
                    NetlinkChange::Link(LinkChange(brief.clone(), LinkOperation::Create(vxlan()))),
                    NetlinkChange::Link(LinkChange(
                        brief,
                        LinkOperation::Delete(DeleteLinkReason::Unneeded),
                    )),
                ];
                while !done.load(Ordering::Relaxed) {
                    execute(&mut netlink, &changes).await;
                }
            });
        });
        let seen = netns.run(async || {
            let mut netlink = Netlink::open().unwrap();
            let mut whole = 0;
            for _ in 0..40 {
                let mut state = KernelState::default();
                match netlink.observe(&mut state).await {
                    Ok(()) => {
                        let standing = state
                            .links
                            .keys()
                            .filter(|name| name.as_str().starts_with("standing"));
                        if standing.count() != LINKS {
                            return Err(format!("{} links", state.links.len()));
                        }
                        whole += 1;
                    }
                    Err(error) if error.is_transient() => {}
                    Err(error) => return Err(error.to_string()),
                }
            }
            Ok((whole, netlink.stats()))
        });
        // Before any assertion: the other thread waits for it.
        done.store(true, Ordering::Relaxed);
        let (whole, stats) = seen.unwrap();
        println!("{whole} of 40 whole, {stats:?}");
        assert!(whole > 0);
    });
}
