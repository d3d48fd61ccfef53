//! The tables that `wg-quick up` creates for a default route, and their removal.
//!
//! They have the names that wg-quick uses (`wg-quick-wg0`, in the families `ip` and `ip6`), so that both
//! `adit wg down` and `wg-quick down` remove them, no matter which tool created them. Like the interface
//! itself they belong to the user and have no mark of Adit.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io;
use std::net::IpAddr;
use std::process::Stdio;

use ipnet::IpNet;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use super::{Nft, nft, program_of};
use crate::kernel::KernelError;
use crate::net::{Family, LinkName};

/// The part of the table name before the interface name.
const PREFIX: &str = "wg-quick-";

/// The protection of an interface to which default routes lead.
///
/// Packets to its addresses are dropped if they arrive on another device and from a source that is not this
/// host. Otherwise hosts on the local link could inject packets into connections of the tunnel
/// (CVE-2019-14899). Replies to packets of the interface get its mark, so that the reverse-path filter of the
/// kernel finds the route by which they arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Protection {
    interface: LinkName,
    /// The mark of the packets that the interface sends.
    mark: u32,
    /// The families of the default routes, each with the addresses of the interface.
    families: BTreeMap<Family, Vec<IpAddr>>,
}

impl Protection {
    /// The protection of an interface with these addresses. Only families with a default route get a table.
    #[must_use]
    pub fn new(
        interface: &LinkName,
        mark: u32,
        families: &BTreeSet<Family>,
        addresses: &[IpNet],
    ) -> Protection {
        let of = |family: Family| {
            let addresses = addresses.iter().map(IpNet::addr);
            // The kernel accepts packets to a link-local address only on the device of the address.
            let addresses = addresses.filter(|address| match address {
                IpAddr::V4(_) => family == Family::Ipv4,
                IpAddr::V6(address) => family == Family::Ipv6 && !address.is_unicast_link_local(),
            });
            (family, addresses.collect())
        };
        Protection {
            interface: interface.clone(),
            mark,
            families: families.iter().map(|family| of(*family)).collect(),
        }
    }

    /// Creates the tables in one transaction, and replaces those of an earlier interface of this name.
    ///
    /// # Errors
    /// When `nft` is not installed or fails; the error contains its messages.
    pub async fn create(&self) -> Result<(), KernelError> {
        let context = format!("create the nft tables {}", table(&self.interface));
        let created = nft(&["-f", "-"], &self.script()).await;
        created.map(drop).map_err(|error| error.about(&context))
    }

    fn script(&self) -> String {
        let (table, interface, mark) = (table(&self.interface), &self.interface, self.mark);
        let mut text = String::new();
        for (family, addresses) in &self.families {
            let family = match family {
                Family::Ipv4 => "ip",
                Family::Ipv6 => "ip6",
            };
            let drops = addresses.iter().map(|address| {
                format!(
                    "\t\tiifname != \"{interface}\" {family} daddr {address} fib saddr type != local drop\n"
                )
            });
            let drops = drops.collect::<String>();
            let _infallible = write!(
                text,
                "table {family} {table}\n\
                 delete table {family} {table}\n\
                 table {family} {table} {{\n\
                 \tchain preraw {{\n\
                 \t\ttype filter hook prerouting priority -300; policy accept;\n\
                 {drops}\
                 \t}}\n\
                 \tchain premangle {{\n\
                 \t\ttype filter hook prerouting priority -150; policy accept;\n\
                 \t\tmeta l4proto udp ct mark {mark} meta mark set ct mark\n\
                 \t}}\n\
                 \tchain postmangle {{\n\
                 \t\ttype filter hook postrouting priority -150; policy accept;\n\
                 \t\tmeta l4proto udp meta mark {mark} ct mark set meta mark\n\
                 \t}}\n\
                 }}\n"
            );
        }
        text
    }
}

/// Deletes what `adit wg up` or `wg-quick up` created for an interface: the nft tables, and the iptables
/// rules that wg-quick uses instead if `nft` is not installed. What does not exist any more is no error.
///
/// # Errors
/// When tables or rules can't be listed, or the kernel refuses.
pub async fn remove(interface: &LinkName) -> Result<(), KernelError> {
    remove_tables(interface).await?;
    for program in ["iptables", "ip6tables"] {
        remove_rules(program, interface).await?;
    }
    Ok(())
}

async fn remove_tables(interface: &LinkName) -> Result<(), KernelError> {
    if super::program().is_none() || Nft::default().generation().await?.is_none() {
        return Ok(());
    }
    let table = table(interface);
    let listed = nft(&["list", "tables"], "").await;
    let listed = listed.map_err(|error| error.about(&"list the nft tables"))?;
    let listed = String::from_utf8_lossy(&listed);
    let of_interface = listed.lines().filter_map(|line| {
        let name = line.strip_prefix("table ")?;
        name.ends_with(&format!(" {table}")).then_some(name)
    });
    // A table that was deleted meanwhile is created first, so that the deletion succeeds.
    let script = of_interface.map(|name| format!("table {name}\ndelete table {name}\n"));
    let script = script.collect::<String>();
    if script.is_empty() {
        return Ok(());
    }
    let context = format!("delete the nft tables {table}");
    let deleted = nft(&["-f", "-"], &script).await;
    deleted.map(drop).map_err(|error| error.about(&context))
}

/// Deletes the rules that have the comment of wg-quick for this interface.
async fn remove_rules(program: &str, interface: &LinkName) -> Result<(), KernelError> {
    let (Some(save), Some(restore)) = (
        program_of(&format!("{program}-save")),
        program_of(&format!("{program}-restore")),
    ) else {
        return Ok(());
    };
    let context = format!("delete the {program} rules of wg-quick for {interface}");
    let failed = |source| KernelError::new(context.clone(), source);
    let saved = Command::new(save).stdin(Stdio::null()).output().await;
    let saved = saved.map_err(failed)?;
    // A kernel without the family, or without iptables, has no such rules.
    let script = deletions(&String::from_utf8_lossy(&saved.stdout), interface);
    let Some(script) = script.filter(|_| saved.status.success()) else {
        return Ok(());
    };
    let mut child = Command::new(restore)
        .arg("-n")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .map_err(failed)?;
    let mut input = child.stdin.take().expect("it is piped");
    input.write_all(script.as_bytes()).await.map_err(failed)?;
    drop(input);
    let status = child.wait().await.map_err(failed)?;
    match status.success() {
        true => Ok(()),
        false => Err(failed(io::Error::other(format!(
            "{program}-restore ended with {status}"
        )))),
    }
}

/// The input for `iptables-restore -n` that deletes the rules of an interface, derived from the output of
/// `iptables-save`; `None` if there are no such rules.
fn deletions(saved: &str, interface: &LinkName) -> Option<String> {
    let comment = format!("-m comment --comment \"wg-quick(8) rule for {interface}\"");
    let mut script = String::new();
    let mut found = false;
    for line in saved.lines() {
        let rule = line.strip_prefix("-A ").filter(|rule| rule.contains(&comment));
        if let Some(rule) = rule {
            found = true;
            let _infallible = writeln!(script, "-D {rule}");
        } else if line.starts_with('*') || line == "COMMIT" {
            let _infallible = writeln!(script, "{line}");
        }
    }
    found.then_some(script)
}

/// The name of the tables, as wg-quick chooses it, but without characters that nft allows in no name. Names
/// of interfaces contain no slash.
fn table(interface: &LinkName) -> String {
    let name = interface.as_str().replace('=', "/e").replace('+', "/p");
    format!("{PREFIX}{name}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wg0() -> LinkName {
        LinkName::constant("wg0")
    }

    #[test]
    fn each_family_with_a_default_route_has_a_table() {
        let addresses = ["10.70.0.1/24", "fd70::1/64", "fe80::7/64"].map(|address| address.parse().unwrap());
        let of = |families: &[Family]| {
            Protection::new(&wg0(), 51820, &families.iter().copied().collect(), &addresses).script()
        };
        let both = of(&Family::BOTH);
        for line in [
            "table ip wg-quick-wg0 {",
            "\t\tiifname != \"wg0\" ip daddr 10.70.0.1 fib saddr type != local drop",
            "table ip6 wg-quick-wg0 {",
            "\t\tiifname != \"wg0\" ip6 daddr fd70::1 fib saddr type != local drop",
            "\t\tmeta l4proto udp ct mark 51820 meta mark set ct mark",
        ] {
            assert!(both.lines().any(|found| found == line), "{line}: {both}");
        }
        assert!(!both.contains("fe80"), "{both}");
        let one = of(&[Family::Ipv6]);
        assert!(both.ends_with(&one) && !one.contains("table ip "), "{one}");
        assert_eq!(of(&[]), "");
    }

    #[test]
    fn names_of_tables_are_those_of_wg_quick_and_accepted_by_nft() {
        assert_eq!(table(&wg0()), "wg-quick-wg0");
        assert_eq!(table(&LinkName::constant("a.b_c-1")), "wg-quick-a.b_c-1");
        assert_eq!(table(&LinkName::constant("a=b+")), "wg-quick-a/eb/p");
    }

    #[test]
    fn of_iptables_rules_one_interfaces_are_deleted() {
        let rule = |of: &str| {
            format!(
                "PREROUTING -d 10.0.0.1/32 ! -i {of} -m comment --comment \"wg-quick(8) rule for {of}\" -j DROP"
            )
        };
        let saved = format!(
            "# Generated\n*raw\n:PREROUTING ACCEPT [0:0]\n-A {}\n-A {}\n-A PREROUTING -j ACCEPT\nCOMMIT\n",
            rule("wg0"),
            rule("wg01")
        );
        assert_eq!(
            deletions(&saved, &wg0()),
            Some(format!("*raw\n-D {}\nCOMMIT\n", rule("wg0")))
        );
        assert_eq!(deletions(&saved, &LinkName::constant("wg")), None);
    }
}
