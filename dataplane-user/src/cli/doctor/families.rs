//! IP families of the kernel, and how it attaches programs.

use std::collections::BTreeSet;

use super::finding::Finding;
use super::name;
use crate::kernel::bpf::Mechanism;
use crate::model::facts::Ipv6;
use crate::model::facts::NodeFacts;
use crate::net::Family;

pub(super) fn judge(facts: &NodeFacts, mechanism: Option<Mechanism>) -> Vec<Finding> {
    let mut findings = vec![ipv6(&facts.ipv6)];
    findings.extend(rules(&facts.ipv6, &facts.without_rules));
    findings.extend(mechanism.map(programs));
    findings
}

fn ipv6(found: &Ipv6) -> Finding {
    match found {
        Ipv6::OnAllBut(_) => Finding::ok("ipv6", "the kernel has IPv6"),
        Ipv6::Absent => Finding::warning(
            "ipv6",
            "the kernel has no IPv6: Adit skips all IPv6 in manifests",
            "if IPv6 is needed, boot a kernel with CONFIG_IPV6, without ipv6.disable=1",
        ),
        Ipv6::OffAllBut(_) => Finding::warning(
            "ipv6",
            "IPv6 is disabled: Adit skips addresses and routes on devices with disable_ipv6 = 1",
            "if IPv6 is needed: sysctl -w net.ipv6.conf.all.disable_ipv6=0, and keep it in /etc/sysctl.d",
        ),
    }
}

fn rules(ipv6: &Ipv6, without: &BTreeSet<Family>) -> Option<Finding> {
    let missing = Family::BOTH.into_iter().filter(|family| {
        let is_there = *family == Family::Ipv4 || *ipv6 != Ipv6::Absent;
        is_there && without.contains(family)
    });
    let missing = missing.map(name).collect::<Vec<_>>();
    if missing.is_empty() {
        return None;
    }
    let missing = missing.join(" and ");
    Some(Finding::warning(
        "rules",
        format!(
            "the kernel has no policy rules for {missing}: Adit skips objects that need a rule or a routing table besides main"
        ),
        "boot a kernel with CONFIG_IP_MULTIPLE_TABLES and CONFIG_IPV6_MULTIPLE_TABLES",
    ))
}

fn programs(mechanism: Mechanism) -> Finding {
    let evidence = match mechanism {
        Mechanism::Tcx => "the kernel has TCX",
        Mechanism::Clsact => "the kernel has no TCX: programs are attached as filters of clsact qdiscs",
    };
    Finding::ok("programs", evidence)
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::super::finding::tests::level;
    use super::*;

    #[test]
    fn a_family_that_is_missing_is_a_warning() {
        let judged = |ipv6: Ipv6, without: &[Family]| {
            let facts = NodeFacts {
                ipv6,
                without_rules: without.iter().copied().collect(),
                ..NodeFacts::default()
            };
            judge(&facts, Some(Mechanism::Clsact))
        };
        let good = judged(Ipv6::default(), &[]);
        assert!(good.iter().all(|finding| finding.level == Level::Ok), "{good:?}");
        let absent = judged(Ipv6::Absent, &[Family::Ipv6]);
        assert_eq!(level(&absent, "ipv6"), Level::Warning);
        assert!(!absent.iter().any(|finding| finding.check == "rules"));
        let off = judged(Ipv6::OffAllBut(BTreeSet::new()), &[]);
        assert_eq!(level(&off, "ipv6"), Level::Warning);
        let poor = judged(Ipv6::default(), &[Family::Ipv6]);
        assert_eq!(level(&poor, "rules"), Level::Warning);
    }
}
