//! What `adit wg up` and `adit wg down` have in common: the file, its commands, and its name servers.

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{env, fs};

use anyhow::{Context as _, anyhow};
use clap::Args;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use zeroize::Zeroizing;

use crate::cli::exit::{Code, Failure};
use crate::cli::interrupt::Interrupts;
use crate::cli::output;
use crate::files;
use crate::kernel::wireguard::zone;
use crate::limits;
use crate::net::LinkName;
use crate::resource::node::Host;
use crate::source::names;
use crate::wg_quick::{Config, Document};

/// Where the files are that are named by their interface alone, as wg-quick(8) has it.
const DIRECTORY: &str = "/etc/wireguard";
/// The order of resolvconf's interfaces; a line such as `tun*` gives what ours is to begin with.
const ORDER: &str = "/etc/resolvconf/interface-order";

// What a doc comment here said would be the help of who flattens it.
#[derive(Debug, Args)]
pub(super) struct Source {
    /// A file, or the name of one in /etc/wireguard without its .conf
    #[arg(value_name = "FILE|NAME")]
    pub(super) file: String,
    /// Runs the file's commands (PreUp, PostUp, PreDown, PostDown) by bash
    #[arg(long)]
    pub(super) allow_hooks: bool,
}

/// A file and its interface.
pub(super) struct Quick {
    pub(super) path: PathBuf,
    pub(super) name: LinkName,
    pub(super) config: Config,
}

impl Quick {
    /// Reads a file, or that of an interface's name.
    pub(super) fn read(argument: &str) -> Result<Quick, Failure> {
        let path = path(argument);
        let name = interface(&path)?;
        let bytes = files::read(&path).map(Zeroizing::new).map_err(|error| {
            let code = match error.kind() {
                io::ErrorKind::NotFound => Code::NotFound,
                io::ErrorKind::PermissionDenied => Code::Privilege,
                _ => Code::Error,
            };
            Failure::new(code, anyhow!(error).context(path.display().to_string()))
        })?;
        if fs::metadata(&path).is_ok_and(|metadata| metadata.mode() & 0o007 != 0) {
            output::note(&format!(
                "everybody can read {0}, which holds a private key: chmod 600 {0}",
                path.display()
            ));
        }
        let config = Config::parse(&path, &bytes)?;
        for warning in &config.warnings {
            output::note(&format!("warning: {warning}"));
        }
        Ok(Quick { path, name, config })
    }

    /// The addresses of the names in its endpoints. A device that one names must be there.
    pub(super) async fn look_up(&self) -> Result<BTreeMap<String, Vec<IpAddr>>, Failure> {
        let peers = &self.config.peers;
        let hosts = peers.iter().map(|peer| Some(&peer.endpoint.as_ref()?.host));
        for (index, host) in hosts.clone().enumerate() {
            if let Some(Host::Scoped(_, device)) = host {
                zone::index(device).with_context(|| self.place("Endpoint", index))?;
            }
        }
        let found = names::of_peers(peers, limits::WG_QUICK_NAMES_PATIENCE).await;
        found.map_err(|(name, why)| {
            let is_it = |host: Option<&Host>| host.and_then(Host::name) == Some(&name);
            let index = hosts.clone().position(is_it).unwrap_or_default();
            anyhow!(why).context(self.place("Endpoint", index)).into()
        })
    }

    /// File and line of a peer's entry, as far as the file is still what was read.
    fn place(&self, key: &str, peer: usize) -> String {
        let document = files::read(&self.path).map(Document::new).ok();
        let line = document.and_then(|document| {
            let section = document.peers().nth(peer)?;
            document.entry(section, key).map(|(line, _)| line + 1)
        });
        match line {
            Some(line) => format!("{}:{line}: {key}", self.path.display()),
            None => format!("{}: {key}", self.path.display()),
        }
    }

    /// Runs commands of the file, if that was asked for; says so if not. A signal ends the one that runs.
    pub(super) async fn run_hooks(
        &self,
        (key, hooks): (&str, &[String]),
        allowed: bool,
        interrupts: &mut Interrupts,
    ) -> Result<(), Failure> {
        if !allowed && !hooks.is_empty() {
            output::note(&format!("{key} is not run; --allow-hooks runs it"));
            return Ok(());
        }
        for hook in hooks {
            let hook = hook.replace("%i", self.name.as_str());
            // As wg-quick runs them.
            let child = tokio::process::Command::new("bash")
                .args(["-e", "-o", "pipefail", "-O", "extglob", "-c", &hook])
                .env("INTERFACE", self.name.as_str())
                .kill_on_drop(true)
                .spawn();
            let mut child = child.with_context(|| format!("{key}: bash can't be run"))?;
            let status = tokio::select! {
                status = child.wait() => status?,
                interrupt = interrupts.wait() => {
                    end(&mut child).await;
                    return Err(interrupt);
                }
            };
            // The same signal may have ended both.
            interrupts.check().await?;
            if !status.success() {
                return Err(anyhow!("{key}: `{hook}` ended with {status}").into());
            }
        }
        Ok(())
    }

    /// As with wg-quick, search domains alone are none.
    fn has_dns(&self) -> bool {
        !self.config.interface.dns.is_empty()
    }

    /// Refuses before anything is made what could not be made later.
    pub(super) fn check_dns(&self) -> Result<(), Failure> {
        let paths = env::var_os("PATH").unwrap_or_default();
        let is_there = env::split_paths(&paths).any(|path| path.join("resolvconf").is_file());
        if !self.has_dns() || is_there {
            return Ok(());
        }
        Err(Failure::new(
            Code::Refused,
            anyhow!(
                "{}: DNS needs the program resolvconf: `apt install openresolv`, or take DNS out",
                self.path.display()
            ),
        ))
    }

    /// Tells resolvconf of the name servers.
    pub(super) fn set_dns(&self) -> Result<(), Failure> {
        if !self.has_dns() {
            return Ok(());
        }
        let interface = &self.config.interface;
        let mut text = String::new();
        for server in &interface.dns {
            text.push_str(&format!("nameserver {server}\n"));
        }
        if !interface.dns_search.is_empty() {
            text.push_str(&format!("search {}\n", interface.dns_search.join(" ")));
        }
        let name = self.resolvconf_name();
        resolvconf(&["-a", &name, "-m", "0", "-x"], &text)
    }

    /// Has resolvconf forget them.
    pub(super) fn unset_dns(&self) -> Result<(), Failure> {
        if !self.has_dns() {
            return Ok(());
        }
        resolvconf(&["-d", &self.resolvconf_name(), "-f"], "")
    }

    fn resolvconf_name(&self) -> String {
        let order = fs::read_to_string(ORDER).unwrap_or_default();
        let prefix = order.lines().find_map(|line| line.strip_suffix('*'));
        match prefix {
            Some(prefix) => format!("{prefix}.{}", self.name),
            None => self.name.to_string(),
        }
    }
}

/// Asks a command to end, and ends it where it doesn't.
async fn end(child: &mut tokio::process::Child) {
    let id = child.id().and_then(|id| i32::try_from(id).ok());
    if let Some(id) = id {
        // It may have ended by itself.
        let _gone = kill(Pid::from_raw(id), Signal::SIGTERM);
    }
    if tokio::time::timeout(limits::COMMAND_PATIENCE, child.wait())
        .await
        .is_err()
    {
        let _gone = child.kill().await;
    }
}

fn resolvconf(words: &[&str], input: &str) -> Result<(), Failure> {
    let run = || -> io::Result<std::process::ExitStatus> {
        let mut child = Command::new("resolvconf")
            .args(words)
            .stdin(Stdio::piped())
            .spawn()?;
        if let Some(mut pipe) = child.stdin.take() {
            pipe.write_all(input.as_bytes())?;
        }
        child.wait()
    };
    let status = run().context("resolvconf can't be run")?;
    match status.success() {
        true => Ok(()),
        false => Err(anyhow!("`resolvconf {}` ended with {status}", words.join(" ")).into()),
    }
}

/// The file that an argument means.
pub(super) fn path(argument: &str) -> PathBuf {
    match argument.contains('/') || argument.ends_with(".conf") {
        true => PathBuf::from(argument),
        false => Path::new(DIRECTORY).join(format!("{argument}.conf")),
    }
}

/// The interface that a file is of.
pub(super) fn interface(path: &Path) -> Result<LinkName, Failure> {
    let stem = path
        .file_stem()
        .and_then(|stem| stem.to_str())
        .unwrap_or_default();
    let fine = stem
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || "_=+.-".contains(c));
    let name = LinkName::new(stem)
        .ok()
        .filter(|_| fine && path.extension().is_some_and(|end| end == "conf"));
    name.ok_or_else(|| {
        let text = format!(
            "{}: a file is named after its interface, as wg0.conf: at most 15 letters, digits and `_=+.-`",
            path.display()
        );
        Failure::new(Code::Usage, anyhow!(text))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_means_its_file_and_a_file_its_interface() {
        assert_eq!(path("wg0"), Path::new("/etc/wireguard/wg0.conf"));
        assert_eq!(path("wg0.conf"), Path::new("wg0.conf"));
        assert_eq!(path("/x/home.conf"), Path::new("/x/home.conf"));
        assert_eq!(interface(Path::new("/x/home.conf")).unwrap().as_str(), "home");
        for wrong in ["/x/home", "/x/a b.conf", "/x/sixteen-letters-.conf", "/x/.conf"] {
            assert!(interface(Path::new(wrong)).is_err(), "{wrong}");
        }
    }
}
