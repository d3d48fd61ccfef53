//! The tables that `wg-quick up` creates for a default route, and their removal.
//!
//! They have wg-quick's own names (`wg-quick-wg0`, in the families `ip` and `ip6`), so that `adit wg down` and
//! `wg-quick down` remove them whichever tool created them. Like the interface itself they are the user's, and bear no
//! mark of Adit.

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

/// What stands before the interface's name.
const PREFIX: &str = "wg-quick-";

/// What protects an interface that default routes lead to.
///
/// Packets to its addresses are dropped where they come in by another device from a source that is not this host:
/// without that, hosts on the local link can inject packets into the tunnel's connections (CVE-2019-14899). And the
/// packets that answer what the interface has sent get its mark, by which the kernel's reverse-path filter finds the
/// route that they came by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Protection {
    interface: LinkName,
    /// The mark of the packets that the interface sends.
    mark: u32,
    /// The families of the default routes, each with the interface's addresses.
    families: BTreeMap<Family, Vec<IpAddr>>,
}

impl Protection {
    /// Of an interface with these addresses; there are tables for the families that have a default route.
    #[must_use]
    pub fn new(
        interface: &LinkName,
        mark: u32,
        families: &BTreeSet<Family>,
        addresses: &[IpNet],
    ) -> Protection {
        let of = |family: Family| {
            let addresses = addresses.iter().map(IpNet::addr);
            // The kernel takes packets to a link-local address by its own device only.
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

    /// Creates the tables in one transaction, in place of any that an interface of this name left.
    ///
    /// # Errors
    /// When there is no `nft`, or it refuses; with its words.
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

/// Removes what `adit wg up` or `wg-quick up` created for an interface: nft tables, and the rules by which wg-quick
/// replaces them where there is no `nft`. What is gone already is fine.
///
/// # Errors
/// When it can't be found out what is there, or the kernel refuses.
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
        let words = line.strip_prefix("table ")?;
        words.ends_with(&format!(" {table}")).then_some(words)
    });
    // One that went meanwhile is created for that moment.
    let script = of_interface.map(|words| format!("table {words}\ndelete table {words}\n"));
    let script = script.collect::<String>();
    if script.is_empty() {
        return Ok(());
    }
    let context = format!("delete the nft tables {table}");
    let deleted = nft(&["-f", "-"], &script).await;
    deleted.map(drop).map_err(|error| error.about(&context))
}

/// Removes the rules that bear wg-quick's comment with this interface.
async fn remove_rules(program: &str, interface: &LinkName) -> Result<(), KernelError> {
    let (Some(save), Some(restore)) = (
        program_of(&format!("{program}-save")),
        program_of(&format!("{program}-restore")),
    ) else {
        return Ok(());
    };
    let context = format!("delete wg-quick's {program} rules for {interface}");
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

/// What `iptables-restore -n` takes to delete an interface's rules, of what `iptables-save` printed; `None`: there are
/// none.
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

/// The tables' name: wg-quick's, but for characters that nft takes in no name. A slash is in no interface's name.
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
    fn names_of_tables_are_wg_quicks_and_taken_by_nft() {
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
