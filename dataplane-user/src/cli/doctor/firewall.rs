//! The nft table: whether it can be created, who created it, and which other chains drop what it accepts.

use std::path::{Path, PathBuf};

use super::finding::Finding;
use super::kernel::has_module;
use crate::kernel::nft::{self, Nft};
use crate::model::Owner;

/// Facts about nftables.
#[derive(Clone, Debug, Default)]
pub(super) struct Facts {
    /// The path of the program `nft`.
    program: Option<PathBuf>,
    /// Whether the kernel has nf_tables, loaded or loadable; `None`: unknown.
    tables: Option<bool>,
    /// The owner of the table `inet adit`; `None`: it does not exist, or a capability is missing to read it.
    owner: Option<Owner>,
    /// Chains not managed by Adit that drop forwarded packets unless one of their rules accepts them.
    dropping: Vec<String>,
}

impl Facts {
    /// Without capabilities some facts are unknown.
    pub(super) async fn gather(root: &Path) -> Facts {
        let mut nft = Nft::default();
        let found = nft.observe().await;
        let tables = if found.is_ok() && nft.facts().await.is_usable() {
            Some(true)
        } else {
            has_module(root, &crate::kernel::release(), "nf_tables")
        };
        Facts {
            program: nft::program(),
            tables,
            owner: match found {
                Ok(nft::Found::Table(table)) => table.map(|table| table.owner),
                Ok(nft::Found::Unlisted(_)) => Some(Owner::Adit),
                Err(_) => None,
            },
            dropping: nft::dropping_forward_chains().await.unwrap_or_default(),
        }
    }
}

pub(super) fn judge(facts: &Facts) -> Vec<Finding> {
    let mut findings = vec![program(facts.program.as_deref())];
    if facts.tables == Some(false) {
        findings.push(Finding::warning(
            "nf_tables",
            "the kernel has no module nf_tables: no masquerading, no MSS clamping, and cleartext packets with overlay sources are not dropped",
            "modprobe nf_tables; if that fails, install the package with the kernel modules",
        ));
    }
    findings.extend(facts.owner.map(owner));
    findings.extend(facts.dropping.iter().map(|chain| dropping(chain)));
    findings
}

fn program(found: Option<&Path>) -> Finding {
    match found {
        Some(program) => Finding::ok("nft", format!("found {}", program.display())),
        None => Finding::warning(
            "nft",
            "the program nft is not installed: no masquerading, no MSS clamping, and cleartext packets with overlay sources are not dropped",
            "install nftables, for example with `apt-get install nftables`",
        ),
    }
}

fn owner(owner: Owner) -> Finding {
    match owner {
        Owner::Adit => Finding::ok("nft table", "table inet adit is managed by Adit"),
        Owner::Other | Owner::Kernel => Finding::error(
            "nft table",
            "conflict: table inet adit exists already and was not created by Adit (it has no comment \"adit\")",
            "rename it, or delete it with `nft delete table inet adit`; Adit does not change it",
        ),
    }
}

fn dropping(chain: &str) -> Finding {
    Finding::warning(
        "forward chain",
        format!(
            "chain {chain} drops forwarded packets unless one of its own rules accepts them; rules of other chains do not count"
        ),
        "add rules to it that accept packets from and to the devices adit0 and adit-*; with Docker: iptables -I DOCKER-USER \
         -i adit+ -j ACCEPT; iptables -I DOCKER-USER -o adit+ -j ACCEPT (the same for ip6tables)",
    )
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::super::finding::tests::level;
    use super::*;

    #[test]
    fn missing_and_conflicting_rules_are_found() {
        let good = Facts {
            program: Some("/usr/sbin/nft".into()),
            tables: Some(true),
            owner: Some(Owner::Adit),
            dropping: Vec::new(),
        };
        assert!(judge(&good).iter().all(|finding| finding.level == Level::Ok));
        let bad = Facts {
            program: None,
            tables: Some(false),
            owner: Some(Owner::Other),
            dropping: vec!["FORWARD of table ip filter".to_owned()],
        };
        let findings = judge(&bad);
        for (check, expected) in [
            ("nft", Level::Warning),
            ("nf_tables", Level::Warning),
            ("nft table", Level::Error),
            ("forward chain", Level::Warning),
        ] {
            assert_eq!(level(&findings, check), expected, "{check}");
        }
    }
}
