//! Configuration files of `wg-quick` and `wg`: a document that keeps every byte, what it says, and how that is written.
//!
//! Keys, sections and values are those of wg-quick(8) and wg(8), a `#` begins a comment wherever it stands, and keys are
//! read in any case. What these tools accept is accepted with the same result, and a warning where it is hardly meant: a key
//! twice in a section, a peer twice, a prefix of two peers. Refused are numbers that they read otherwise than people do: with
//! leading zeros, where some tool takes those for octal, and ports beyond 65535, which `wg` cuts.

mod document;
mod error;
mod read;
mod render;
#[cfg(test)]
mod tests;
pub mod up;
mod value;

use std::path::Path;

use ipnet::IpNet;

use crate::net::key::PrivateKey;
use crate::resource::wireguard::{AllowedIpRoutes, Peer};

pub use document::{Document, Section, SectionKind};
pub use error::ConfigError;

/// What a file says of one interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// `[Interface]`.
    pub interface: Interface,
    /// Each `[Peer]`, in the file's order. Each prefix is that of one peer: the last one that names it. Of several with one
    /// key the last one says all, and the others have no prefixes.
    pub peers: Vec<Peer>,
    /// What is accepted and hardly meant, each with file and line.
    pub warnings: Vec<String>,
}

/// `[Interface]`. What is absent is as `wg-quick` takes it. It is no [`WireGuardInterface`](crate::resource::WireGuardInterface),
/// because it keeps what no manifest says, the private key itself, and the order of the addresses: the kernel prefers the first one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interface {
    /// `PrivateKey`.
    pub private_key: Option<PrivateKey>,
    /// `ListenPort`; `None` and 0: the kernel's choice.
    pub listen_port: Option<u16>,
    /// `FwMark`; 0: off.
    pub fwmark: u32,
    /// `Address`, with host bits; /32 or /128 where the file has no length.
    pub addresses: Vec<IpNet>,
    /// The servers in `DNS`: addresses, link-local ones with their device.
    pub dns: Vec<String>,
    /// The search domains in `DNS`.
    pub dns_search: Vec<String>,
    /// `MTU`, in bytes; `None`: from the routes to the endpoints.
    pub mtu: Option<u32>,
    /// `Table`.
    pub table: AllowedIpRoutes,
    /// The commands.
    pub hooks: Hooks,
    /// `SaveConfig`: `wg-quick down` overwrites the file with the interface's state.
    pub save_config: bool,
}

/// Commands of a shell, in order; `%i` stands for the interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hooks {
    /// `PreUp`.
    pub pre_up: Vec<String>,
    /// `PostUp`.
    pub post_up: Vec<String>,
    /// `PreDown`.
    pub pre_down: Vec<String>,
    /// `PostDown`.
    pub post_down: Vec<String>,
}

impl Config {
    /// Reads a file's bytes; `path` is for errors.
    ///
    /// # Errors
    /// The first thing that is wrong, with its line; never with key material.
    pub fn parse(path: &Path, bytes: &[u8]) -> Result<Config, ConfigError> {
        Config::of(path, &Document::new(bytes.to_vec()))
    }

    /// What a document says. Its peers are those of the document's `[Peer]` sections, one by one.
    ///
    /// # Errors
    /// As for [`Config::parse`].
    pub fn of(path: &Path, document: &Document) -> Result<Config, ConfigError> {
        let at = |problem: error::Problem| ConfigError {
            path: path.to_owned(),
            line: problem.line,
            problem: problem.text,
        };
        let (mut config, warnings) = read::config(document).map_err(at)?;
        config.warnings = warnings
            .into_iter()
            .map(|warning| at(warning).to_string())
            .collect();
        Ok(config)
    }
}

impl Hooks {
    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Hooks::default()
    }
}
