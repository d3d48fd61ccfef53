//! The nft table: whether it can be had, whose it is, and which chains of others drop what it accepts.

use std::path::{Path, PathBuf};

use super::finding::Finding;
use super::kernel::has_module;
use crate::kernel::nft::{self, Nft};
use crate::model::Owner;

/// What was seen.
#[derive(Clone, Debug, Default)]
pub(super) struct Facts {
    /// Where `nft` is.
    program: Option<PathBuf>,
    /// Whether the kernel has nf_tables, loaded or to be loaded; `None`: it can't be told.
    tables: Option<bool>,
    /// Whose the table `inet adit` is; `None`: there is none, or it takes privilege to be seen.
    owner: Option<Owner>,
    /// Others' chains that drop what is forwarded unless a rule of theirs accepts it.
    dropping: Vec<String>,
}

impl Facts {
    /// What takes privilege is left out without it.
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
                Ok(nft::Found::Unlisted(_)) => Some(Owner::Ours),
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
            "the kernel has no module nf_tables: nothing is masqueraded, no segment is made to fit, and plain packets with overlay sources get in",
            "modprobe nf_tables; where that fails, install the package with the kernel's modules",
        ));
    }
    findings.extend(facts.owner.map(owner));
    findings.extend(facts.dropping.iter().map(|chain| dropping(chain)));
    findings
}

fn program(found: Option<&Path>) -> Finding {
    match found {
        Some(program) => Finding::ok("nft", format!("{} is there", program.display())),
        None => Finding::warning(
            "nft",
            "there is no program nft: nothing is masqueraded, no segment is made to fit, and plain packets with overlay sources get in",
            "apt-get install nftables",
        ),
    }
}

fn owner(owner: Owner) -> Finding {
    match owner {
        Owner::Ours => Finding::ok("nft table", "inet adit is ours"),
        Owner::Foreign | Owner::Kernel => Finding::error(
            "nft table",
            "a table inet adit stands there that is not Adit's: it lacks the comment \"adit\"",
            "rename or delete it (nft delete table inet adit); it is left alone",
        ),
    }
}

fn dropping(chain: &str) -> Finding {
    Finding::warning(
        "forward chain",
        format!(
            "chain {chain} drops what is forwarded unless one of its own rules accepts it; others' do not count"
        ),
        "add rules there that accept what comes in by, and what leaves by, adit0 and adit-*; beside Docker: \
         iptables -I DOCKER-USER -i adit+ -j ACCEPT; iptables -I DOCKER-USER -o adit+ -j ACCEPT (and ip6tables)",
    )
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::super::finding::tests::level;
    use super::*;

    #[test]
    fn what_is_missing_or_in_the_way_is_found() {
        let good = Facts {
            program: Some("/usr/sbin/nft".into()),
            tables: Some(true),
            owner: Some(Owner::Ours),
            dropping: Vec::new(),
        };
        assert!(judge(&good).iter().all(|finding| finding.level == Level::Ok));
        let bad = Facts {
            program: None,
            tables: Some(false),
            owner: Some(Owner::Foreign),
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
