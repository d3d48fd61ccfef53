//! Policy rules.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::process::Command;

use adit_tests::NetNs;
use dataplane_user::diff::diff;
use dataplane_user::kernel::netlink::Netlink;
use dataplane_user::model::change::{Existence, NetlinkChange, RuleChange};
use dataplane_user::model::rule::Mark;
use dataplane_user::model::{Action, KernelState, Rule};
use dataplane_user::net::Family;

use crate::{execute, name, observe, prefix};

fn marked(family: Family, priority: u32, mark: u32, mask: u32) -> Rule {
    Rule {
        mark: Mark::new(mark, mask),
        ..Rule::to_table(family, priority, 1730)
    }
}

/// A rule of each form, in both families.
fn all() -> BTreeSet<Rule> {
    let plain = |family| Rule::to_table(family, 1730, 1730);
    let one = |family, to: &str, from: &str| {
        [
            plain(family),
            marked(family, 100, 0xad, 0),
            marked(family, 100, 0x10, 0xf0),
            Rule {
                table: 17,
                iif: Some(name("adit0")),
                ..plain(family)
            },
            Rule {
                to: Some(prefix(to)),
                from: Some(prefix(from)),
                oif: Some(name("nowhere")),
                suppress_prefix_length: Some(0),
                ..plain(family)
            },
        ]
    };
    let v4 = one(Family::Ipv4, "10.0.0.0/8", "192.0.2.1/32");
    let v6 = one(Family::Ipv6, "fd00::/8", "2001:db8::1/128");
    v4.into_iter().chain(v6).collect()
}

/// One reconciliation; returns the number of changes.
async fn pass(netlink: &mut Netlink, wanted: &BTreeSet<Rule>) -> usize {
    let desired = KernelState {
        rules: wanted.clone(),
        ..KernelState::default()
    };
    let changes = diff(&observe(netlink).await, &desired).changes.into_iter();
    let changes = changes.map(|change| match change.action {
        Action::Netlink(change) => change,
        other => panic!("{other}"),
    });
    let changes = changes.collect::<Vec<_>>();
    execute(netlink, &changes).await;
    changes.len()
}

#[test]
fn rules_of_both_families_read_back_and_a_second_reconciliation_changes_nothing() {
    let netns = NetNs::new();
    let before = netns.ip("-j rule show") + &netns.ip("-6 -j rule show");
    netns.run(async || {
        let mut netlink = Netlink::open().unwrap();
        assert_eq!(pass(&mut netlink, &all()).await, 10);
        assert_eq!(observe(&mut netlink).await.rules, all());
        assert_eq!(pass(&mut netlink, &all()).await, 0);
        let shown = netns.ip("-N rule show");
        assert!(
            shown.contains("from all fwmark 0x10/0xf0 lookup 1730 proto 173"),
            "{shown}"
        );
        assert!(
            shown.contains("from all iif adit0 [detached] lookup 17 proto 173"),
            "{shown}"
        );
        assert_eq!(pass(&mut netlink, &BTreeSet::new()).await, 10);
    });
    assert_eq!(netns.ip("-j rule show") + &netns.ip("-6 -j rule show"), before);
}

#[test]
fn managed_rules_with_another_mask_or_priority_are_replaced_and_others_stay() {
    let netns = NetNs::new();
    for family in ["", "-6 "] {
        netns.ip(&format!(
            "{family}rule add fwmark 0xad/0xff table 1730 priority 200"
        ));
        netns.ip(&format!(
            "{family}rule add fwmark 0xad table 1730 priority 100 protocol static"
        ));
    }
    let theirs = netns.ip("-j rule show") + &netns.ip("-6 -j rule show");
    netns.run(async || {
        let mut netlink = Netlink::open().unwrap();
        assert_eq!(observe(&mut netlink).await.rules, BTreeSet::new());
        for (priority, mask) in [(100, 0), (100, 0xff), (200, 0xff)] {
            let wanted = Family::BOTH
                .map(|family| marked(family, priority, 0xad, mask))
                .into();
            pass(&mut netlink, &wanted).await;
            assert_eq!(observe(&mut netlink).await.rules, wanted);
            assert_eq!(pass(&mut netlink, &wanted).await, 0);
        }
        pass(&mut netlink, &BTreeSet::new()).await;
    });
    assert_eq!(netns.ip("-j rule show") + &netns.ip("-6 -j rule show"), theirs);
}

#[test]
fn only_the_exact_rule_is_deleted_among_more_specific_ones() {
    let netns = NetNs::new();
    netns.run(async || {
        let mut netlink = Netlink::open().unwrap();
        for family in Family::BOTH {
            let general = Rule::to_table(family, 1730, 1730);
            let more = [
                marked(family, 1730, 1, 0),
                Rule {
                    iif: Some(name("lo")),
                    ..general.clone()
                },
            ];
            let wanted: BTreeSet<_> = more.iter().cloned().collect();
            for order in [[&more[0], &more[1], &general], [&general, &more[0], &more[1]]] {
                execute(
                    &mut netlink,
                    &order.map(|rule| NetlinkChange::Rule(RuleChange(rule.clone(), Existence::Create))),
                )
                .await;
                assert_eq!(observe(&mut netlink).await.rules.len(), 3);
                let delete = NetlinkChange::Rule(RuleChange(general.clone(), Existence::Delete));
                execute(&mut netlink, &[delete.clone(), delete]).await;
                assert_eq!(observe(&mut netlink).await.rules, wanted);
                pass(&mut netlink, &BTreeSet::new()).await;
            }
        }
    });
}

#[test]
fn no_rule_is_deleted_while_the_kernel_might_delete_one_that_cannot_be_decoded() {
    let netns = NetNs::new();
    for family in Family::BOTH {
        // A device name is any bytes.
        let odd = |verb: &str| {
            let words = format!("rule {verb} priority 1730 table 1730 protocol 173 iif");
            let flag = if family == Family::Ipv4 { "-4" } else { "-6" };
            let mut command = Command::new("ip");
            command.arg(flag).args(words.split(' '));
            command.arg(OsStr::from_bytes(b"\xff0"));
            let output = netns.enter(|| command.output()).unwrap();
            assert!(output.status.success(), "{output:?}");
        };
        odd("add");
        netns.run(async || {
            let mut netlink = Netlink::open().unwrap();
            let rule = Rule::to_table(family, 1730, 1730);
            let of = |existence| NetlinkChange::Rule(RuleChange(rule.clone(), existence));
            execute(&mut netlink, &[of(Existence::Create)]).await;
            let state = observe(&mut netlink).await;
            assert_eq!(state.undecoded["rules"].count, 1, "{state:?}");
            let look = || netns.ip("rule show") + &netns.ip("-6 rule show");
            let before = look();
            let refused = netlink.execute(&[of(Existence::Delete)]).await;
            let refused = refused[0].as_ref().unwrap_err().to_string();
            assert!(refused.contains("can't be decoded"), "{refused}");
            assert_eq!(look(), before);
            odd("delete");
            execute(&mut netlink, &[of(Existence::Delete)]).await;
            assert_eq!(observe(&mut netlink).await.rules, BTreeSet::new());
        });
    }
}

#[test]
fn a_rule_with_the_mark_and_unknown_conditions_is_removed() {
    let netns = NetNs::new();
    let before = netns.ip("-j rule show");
    for words in [
        "not fwmark 3 table 5 priority 50",
        "blackhole from 10.0.0.0/8 priority 51",
        "ipproto tcp dport 22 table 7 priority 52",
    ] {
        netns.ip(&format!("rule add {words} protocol 173"));
    }
    netns.run(async || {
        let mut netlink = Netlink::open().unwrap();
        assert_eq!(pass(&mut netlink, &BTreeSet::new()).await, 3);
        assert_eq!(pass(&mut netlink, &BTreeSet::new()).await, 0);
    });
    assert_eq!(netns.ip("-j rule show"), before);
}
