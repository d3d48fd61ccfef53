//! The nft table. Changes are scripts for the program `nft`, each one transaction. The table is read back
//! with `nft`, too.
//!
//! The kernel counts the generations of its ruleset. `nft` only has to list the table if this number has
//! changed since the last listing. Whether the table exists and is managed by Adit is read over netlink,
//! because nft 1.0 does not print comments of tables in JSON. Drop counters are also read over netlink,
//! because packets do not change the generation.

mod drops;
#[cfg(test)]
mod fuzz;
mod query;
pub mod quick;
mod read;
mod render;

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Instant;

use netlink_sys::protocols::NETLINK_NETFILTER;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;
use tracing::debug;

use self::query::Table;
use super::KernelError;
use super::netlink::socket::Socket;
use crate::limits;
use crate::model::Firewall;
use crate::model::change::NftChange;
use crate::model::facts;
use crate::model::firewall::{Action, Match};
use crate::net::Family;

pub use drops::{Count, Drops};

/// Directories with programs for administrators, which are searched in addition to PATH.
const FOLDERS: &str = "/usr/sbin:/sbin:/usr/local/sbin";

/// The result of an observation of the nft table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// The table, managed by Adit or not; `None` if there is none.
    Table(Option<Firewall>),
    /// The table exists and is managed by Adit, but nft can't list it, for this reason.
    Unlisted(String),
}

/// The nft table of a network namespace.
#[derive(Default)]
pub struct Nft {
    /// The socket, opened at the first use, which loads the kernel module.
    socket: Option<Socket>,
    /// The last listing, and its generation. The listing may be newer than that.
    listed: Option<(u32, Option<Firewall>)>,
    /// Whether the kernel has refused to masquerade IPv6.
    without_ipv6_nat: bool,
    /// When `nft` last hung; `None` if it has ended properly since.
    hung: Option<Instant>,
    /// The number of packets that the rules have dropped, including former tables.
    drops: Drops,
}

impl Nft {
    /// The number of packets that the rules have dropped so far. It can be read from any thread of this
    /// namespace.
    #[must_use]
    pub fn drops(&self) -> Drops {
        self.drops.clone()
    }

    /// Whether and how nftables can be used.
    pub async fn facts(&mut self) -> facts::Nft {
        if program().is_none() {
            return facts::Nft::NoProgram;
        }
        match self.generation().await {
            Ok(None) => facts::Nft::NoTables,
            _ if self.without_ipv6_nat => facts::Nft::WithoutIpv6Nat,
            // Without the privilege to ask, assume that it can be used.
            Ok(Some(_)) | Err(_) => facts::Nft::Usable,
        }
    }

    /// Observes the table.
    ///
    /// # Errors
    /// When the kernel can't be asked.
    pub async fn observe(&mut self) -> Result<Found, KernelError> {
        let Some(generation) = self.generation().await? else {
            return Ok(Found::Table(None));
        };
        self.count_drops().await;
        if let Some((listed, firewall)) = &self.listed
            && *listed == generation
        {
            return Ok(Found::Table(firewall.clone()));
        }
        // A change after this has a later generation, so that the next observation lists again.
        let firewall = match self.table().await? {
            Table::Absent => None,
            Table::Foreign => Some(Firewall::not_managed()),
            Table::Managed(_) => match self.list().await {
                Ok(firewall) => Some(firewall),
                // The table may have been deleted meanwhile.
                Err(_) if self.table().await? == Table::Absent => None,
                Err(error) => return Ok(Found::Unlisted(error.to_string())),
            },
        };
        self.listed = Some((generation, firewall.clone()));
        Ok(Found::Table(firewall))
    }

    /// Whether the table exists and is managed by Adit.
    async fn table(&mut self) -> Result<Table, KernelError> {
        let found = query::table(self.socket()?).await;
        found.map_err(|failure| failure.into_error("look for nft table inet adit"))
    }

    /// Changes the table in one transaction.
    ///
    /// # Errors
    /// When `nft` is not installed or fails; the error contains its messages.
    pub async fn execute(&mut self, change: &NftChange) -> Result<(), KernelError> {
        let wanted = match change {
            NftChange::Create(table) | NftChange::Replace(table) => Some(&**table),
            NftChange::Delete => None,
        };
        if let Some(link) = wanted.and_then(|table| table.inexpressible_links().into_iter().next()) {
            let text = format!(
                "the syntax of nft can't express the device name {:?}",
                link.as_str()
            );
            let source = io::Error::new(io::ErrorKind::InvalidInput, text);
            return Err(KernelError::of_change(source));
        }
        // The counters of a new table start at zero.
        self.count_drops().await;
        let script = match change {
            NftChange::Create(table) => render::create(table),
            NftChange::Replace(table) => render::replace(table),
            NftChange::Delete => render::delete(),
        };
        let Err(refusal) = self.run(&["-f", "-"], &script).await else {
            return Ok(());
        };
        if self.hung.is_none()
            && let Some(table) = wanted
            && table.masquerades(Family::Ipv6) > 0
            && self.dry_run(table).await.is_err()
            && self.dry_run(&without_ipv6_nat(table)).await.is_ok()
        {
            self.without_ipv6_nat = true;
        }
        Err(refusal)
    }

    /// Lists the table of Adit.
    async fn list(&mut self) -> Result<Firewall, KernelError> {
        debug!("listing nft table inet adit");
        let listed = self.run(&["-j", "list", "table", "inet", "adit"], "").await;
        let listed = listed.and_then(|json| read::firewall(&json).map_err(malformed));
        listed.map_err(|error| error.about(&"list nft table inet adit"))
    }

    /// Checks whether the kernel would accept this table.
    async fn dry_run(&mut self, table: &Firewall) -> Result<(), KernelError> {
        let script = render::replace(table);
        let tried = self.run(&["-c", "-f", "-"], &script).await;
        tried.map(drop)
    }

    /// Runs `nft`, unless it has hung lately.
    async fn run(&mut self, arguments: &[&str], script: &str) -> Result<Vec<u8>, KernelError> {
        if self
            .hung
            .is_some_and(|hung| hung.elapsed() < limits::NFT_BACK_OFF)
        {
            return Err(hung());
        }
        let result = nft(arguments, script).await;
        let has_hung = matches!(&result, Err(error) if error.source.kind() == io::ErrorKind::TimedOut);
        self.hung = has_hung.then(Instant::now);
        result
    }

    /// Adds the drop counters to the sums. If they can't be read, the sums stay as they are.
    async fn count_drops(&mut self) {
        let drops = self.drops.clone();
        let Ok(socket) = self.socket() else {
            return;
        };
        if let Err(failure) = drops.look(socket).await {
            let error = failure.into_error("read the drop counters of nft table inet adit");
            debug!("{error}");
        }
    }

    /// The generation of the ruleset; `None` if the kernel has no nf_tables.
    async fn generation(&mut self) -> Result<Option<u32>, KernelError> {
        let socket = match self.socket() {
            Ok(socket) => socket,
            Err(error) if error.errno() == Some(libc::EPROTONOSUPPORT) => return Ok(None),
            Err(error) => return Err(error),
        };
        match query::generation(socket).await {
            Ok(generation) => Ok(Some(generation)),
            // This is the answer of nfnetlink if nf_tables can't be loaded.
            Err(failure) if failure.errno() == Some(libc::EINVAL) => Ok(None),
            Err(failure) => Err(failure.into_error("read the generation of the nftables rules")),
        }
    }

    fn socket(&mut self) -> Result<&mut Socket, KernelError> {
        if self.socket.is_none() {
            let socket = Socket::open(NETLINK_NETFILTER)
                .map_err(|error| KernelError::new("open a netfilter netlink socket", error))?;
            self.socket = Some(socket);
        }
        Ok(self.socket.as_mut().expect("it was opened"))
    }
}

/// The same table without rules that masquerade IPv6.
fn without_ipv6_nat(table: &Firewall) -> Firewall {
    let of_ipv6 = |one: &Match| match one {
        Match::Address { prefixes, .. } => prefixes
            .iter()
            .any(|prefix| Family::of_prefix(*prefix) == Family::Ipv6),
        _ => false,
    };
    let mut table = table.clone();
    for rules in table.chains.values_mut() {
        rules.retain(|rule| rule.action != Action::Masquerade || !rule.matches.iter().any(of_ipv6));
    }
    table
}

/// Runs `nft` in the calling thread's network namespace and returns what it prints.
async fn nft(arguments: &[&str], script: &str) -> Result<Vec<u8>, KernelError> {
    let Some(program) = program() else {
        return Err(KernelError {
            context: None,
            source: io::Error::from(io::ErrorKind::NotFound),
            kernel_text: Some("the program `nft` is not installed".to_owned()),
        });
    };
    let failed = KernelError::of_change;
    let mut child = Command::new(program)
        .args(arguments)
        .env("LC_ALL", "C")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(failed)?;
    let mut input = child.stdin.take().expect("it is piped");
    let work = async {
        // If it ends before it has read everything, its own messages tell why.
        let _written = input.write_all(script.as_bytes()).await;
        drop(input);
        child.wait_with_output().await
    };
    let output = tokio::time::timeout(limits::NFT_TIMEOUT, work)
        .await
        .map_err(|_| hung())?
        .map_err(failed)?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    Err(KernelError {
        context: None,
        source: io::Error::other(format!("nft ended with {}", output.status)),
        kernel_text: Some(error_text(&String::from_utf8_lossy(&output.stderr))),
    })
}

/// The error if `nft` did not end in time.
fn hung() -> KernelError {
    let (patience, rest) = (limits::NFT_TIMEOUT.as_secs(), limits::NFT_BACK_OFF.as_secs());
    let text = format!("nft did not end within {patience} s; it is not started again for {rest} s");
    KernelError::of_change(io::Error::new(io::ErrorKind::TimedOut, text))
}

/// The error if the output of `nft` has an unexpected form.
fn malformed(why: String) -> KernelError {
    KernelError::of_change(io::Error::new(io::ErrorKind::InvalidData, why))
}

/// The error messages of nft, each with the line that it underlines, but without the position in a script
/// that the user does not have.
fn error_text(errors: &str) -> String {
    let mut messages: Vec<String> = Vec::new();
    let mut lines = errors.lines().peekable();
    while let Some(line) = lines.next() {
        let Some((_, message)) = line.split_once("Error: ") else {
            continue;
        };
        let rule = lines
            .peek()
            .map(|rule| rule.trim())
            .filter(|rule| !rule.is_empty());
        messages.push(match rule {
            Some(rule) => format!("{}: {rule}", message.trim()),
            None => message.trim().to_owned(),
        });
    }
    if messages.is_empty() {
        return errors.trim().to_owned();
    }
    messages.join("; ")
}

/// Describes the chains of other tables that drop forwarded packets unless one of their rules accepts them.
///
/// # Errors
/// When they can't be listed.
pub async fn dropping_forward_chains() -> Result<Vec<String>, KernelError> {
    let listed = nft(&["-j", "list", "chains"], "").await;
    let found = listed.and_then(|json| read::dropping_forward_chains(&json).map_err(malformed));
    found.map_err(|error| error.about(&"list the nftables chains"))
}

/// The path of `nft`.
#[must_use]
pub fn program() -> Option<PathBuf> {
    program_of("nft")
}

/// The path of a program, also in a directory that only administrators have in PATH.
fn program_of(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = OsString::from(FOLDERS);
    std::env::split_paths(&path)
        .chain(std::env::split_paths(&folders))
        .map(|folder| folder.join(name))
        .find(|program| program.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_nft_are_reported_with_their_rules() {
        let errors = "\
/dev/stdin:1:19-22: Error: Could not process rule: File exists
create table inet adit
                  ^^^^
";
        assert_eq!(
            error_text(errors),
            "Could not process rule: File exists: create table inet adit"
        );
        assert_eq!(error_text("netlink: Error: cache\n"), "cache");
        assert_eq!(error_text("killed\n"), "killed");
    }
}
