//! Common parts of `adit wg up` and `adit wg down`: the file, its commands, and its name servers.

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
use crate::kernel::wireguard::endpoint_device;
use crate::limits;
use crate::net::LinkName;
use crate::resource::node::Host;
use crate::source::names;
use crate::wg_quick::{Config, Document};

/// The directory of files that are given by interface name, as in wg-quick(8).
const DIRECTORY: &str = "/etc/wireguard";
/// The order of interfaces in resolvconf. A line such as `tun*` is the prefix for names of interfaces.
const ORDER: &str = "/etc/resolvconf/interface-order";

// No doc comment: it would become the help of the commands that flatten this struct.
#[derive(Debug, Args)]
pub(super) struct Source {
    /// Path of a file, or the name of a file in /etc/wireguard without .conf
    #[arg(value_name = "FILE|NAME")]
    pub(super) file: String,
    /// Run the commands of the file (PreUp, PostUp, PreDown, PostDown) with bash
    #[arg(long)]
    pub(super) allow_hooks: bool,
}

/// A wg-quick file and the name of its interface.
pub(super) struct Quick {
    pub(super) path: PathBuf,
    pub(super) name: LinkName,
    pub(super) config: Config,
}

impl Quick {
    /// Reads a file, given by its path or by the name of its interface.
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
                "warning: all users can access {0}, which contains a private key: chmod 600 {0}",
                path.display()
            ));
        }
        let config = Config::parse(&path, &bytes)?;
        for warning in &config.warnings {
            output::note(&format!("warning: {warning}"));
        }
        Ok(Quick { path, name, config })
    }

    /// Resolves the names in endpoints. A device in an endpoint must exist.
    pub(super) async fn look_up(&self) -> Result<BTreeMap<String, Vec<IpAddr>>, Failure> {
        let peers = &self.config.peers;
        let hosts = peers.iter().map(|peer| Some(&peer.endpoint.as_ref()?.host));
        for (index, host) in hosts.clone().enumerate() {
            if let Some(Host::Scoped(_, device)) = host {
                endpoint_device::index(device).with_context(|| self.position("Endpoint", index))?;
            }
        }
        let found = names::of_peers(peers, limits::WG_QUICK_NAMES_TIMEOUT).await;
        found.map_err(|(name, why)| {
            let is_it = |host: Option<&Host>| host.and_then(Host::name) == Some(&name);
            let index = hosts.clone().position(is_it).unwrap_or_default();
            anyhow!(why).context(self.position("Endpoint", index)).into()
        })
    }

    /// File and line of an entry of a peer, for errors. Without a line if the file has changed since.
    fn position(&self, key: &str, peer: usize) -> String {
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

    /// Runs commands of the file if they are allowed, else prints a note. A signal ends the running command.
    pub(super) async fn run_hooks(
        &self,
        key: &str,
        hooks: &[String],
        allowed: bool,
        interrupts: &mut Interrupts,
    ) -> Result<(), Failure> {
        if !allowed && !hooks.is_empty() {
            output::note(&format!("{key} skipped; --allow-hooks runs it"));
            return Ok(());
        }
        for hook in hooks {
            let hook = hook.replace("%i", self.name.as_str());
            // The same options as in wg-quick.
            let child = tokio::process::Command::new("bash")
                .args(["-e", "-o", "pipefail", "-O", "extglob", "-c", &hook])
                .env("INTERFACE", self.name.as_str())
                .kill_on_drop(true)
                .spawn();
            let mut child = child.with_context(|| format!("{key}: can't run bash"))?;
            let status = tokio::select! {
                status = child.wait() => status?,
                interrupt = interrupts.wait() => {
                    end(&mut child).await;
                    return Err(interrupt);
                }
            };
            // The same signal may have ended the command, too.
            interrupts.check().await?;
            if !status.success() {
                return Err(anyhow!("{key}: `{hook}` ended with {status}").into());
            }
        }
        Ok(())
    }

    /// As in wg-quick, search domains without name servers have no effect.
    fn has_dns(&self) -> bool {
        !self.config.interface.dns.is_empty()
    }

    /// Fails before anything is created if name servers could not be set later.
    pub(super) fn check_dns(&self) -> Result<(), Failure> {
        let paths = env::var_os("PATH").unwrap_or_default();
        let is_there = env::split_paths(&paths).any(|path| path.join("resolvconf").is_file());
        if !self.has_dns() || is_there {
            return Ok(());
        }
        Err(Failure::new(
            Code::Refused,
            anyhow!(
                "{}: DNS needs the program resolvconf: run `apt install openresolv`, or remove DNS from the file",
                self.path.display()
            ),
        ))
    }

    /// Passes the name servers to resolvconf.
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

    /// Removes the name servers from resolvconf.
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

/// Ends a command with SIGTERM, and with SIGKILL if it does not end in time.
async fn end(child: &mut tokio::process::Child) {
    let id = child.id().and_then(|id| i32::try_from(id).ok());
    if let Some(id) = id {
        // The command may have ended by itself.
        let _gone = kill(Pid::from_raw(id), Signal::SIGTERM);
    }
    if tokio::time::timeout(limits::COMMAND_TIMEOUT, child.wait())
        .await
        .is_err()
    {
        let _gone = child.kill().await;
    }
}

fn resolvconf(arguments: &[&str], input: &str) -> Result<(), Failure> {
    let run = || -> io::Result<std::process::ExitStatus> {
        let mut child = Command::new("resolvconf")
            .args(arguments)
            .stdin(Stdio::piped())
            .spawn()?;
        if let Some(mut pipe) = child.stdin.take() {
            pipe.write_all(input.as_bytes())?;
        }
        child.wait()
    };
    let status = run().context("can't run resolvconf")?;
    match status.success() {
        true => Ok(()),
        false => Err(anyhow!("`resolvconf {}` ended with {status}", arguments.join(" ")).into()),
    }
}

/// The path of the file that an argument names.
pub(super) fn path(argument: &str) -> PathBuf {
    match argument.contains('/') || argument.ends_with(".conf") {
        true => PathBuf::from(argument),
        false => Path::new(DIRECTORY).join(format!("{argument}.conf")),
    }
}

/// The interface of a file, from its name.
pub(super) fn interface(path: &Path) -> Result<LinkName, Failure> {
    let stem = path
        .file_stem()
        .and_then(|stem| stem.to_str())
        .unwrap_or_default();
    let is_valid = stem
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || "_=+.-".contains(c));
    let name = LinkName::new(stem)
        .ok()
        .filter(|_| is_valid && path.extension().is_some_and(|end| end == "conf"));
    name.ok_or_else(|| {
        let text = format!(
            "{}: the file must be named after its interface, such as wg0.conf: at most 15 letters, digits and `_=+.-`",
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
