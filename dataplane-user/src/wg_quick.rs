//! Configuration files of `wg-quick` and `wg`: a document that keeps every byte, its meaning, and how a file
//! is written.
//!
//! Keys, sections and values are those of wg-quick(8) and wg(8). A `#` begins a comment anywhere in a line,
//! and keys are case-insensitive. A file that these tools accept is accepted with the same result. There is a
//! warning for content that is probably a mistake: a key twice in a section, a peer twice, a prefix of two
//! peers. Numbers that these tools read in an unexpected way are rejected: numbers with leading zeros, if
//! some tool reads them as octal, and ports beyond 65535, which `wg` truncates.

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

/// The configuration of one interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// `[Interface]`.
    pub interface: Interface,
    /// The `[Peer]` sections, in the order of the file. Each prefix belongs to only one peer, the last that
    /// names it. Of several sections with one key the last one is complete, and the others have no prefixes.
    pub peers: Vec<Peer>,
    /// Warnings about content that is accepted but probably a mistake, each with file and line.
    pub warnings: Vec<String>,
}

/// `[Interface]`. Absent keys have the defaults of `wg-quick`. This is a separate type from
/// [`WireGuardInterface`](crate::resource::WireGuardInterface), because it contains what no manifest has: the
/// private key itself, and the order of the addresses, of which the kernel prefers the first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interface {
    /// `PrivateKey`.
    pub private_key: Option<PrivateKey>,
    /// `ListenPort`; `None` and 0: the kernel chooses.
    pub listen_port: Option<u16>,
    /// `FwMark`; 0: off.
    pub fwmark: u32,
    /// `Address`, with host bits; /32 or /128 if the file has no prefix length.
    pub addresses: Vec<IpNet>,
    /// The servers in `DNS`: addresses; link-local addresses with their device.
    pub dns: Vec<String>,
    /// The search domains in `DNS`.
    pub dns_search: Vec<String>,
    /// `MTU`, in bytes; `None`: computed from the routes to the endpoints.
    pub mtu: Option<u32>,
    /// `Table`.
    pub table: AllowedIpRoutes,
    /// The commands of the `PreUp`, `PostUp`, `PreDown` and `PostDown` keys.
    pub hooks: Hooks,
    /// `SaveConfig`: `wg-quick down` overwrites the file with the state of the interface.
    pub save_config: bool,
}

/// Shell commands, in order; `%i` is replaced by the name of the interface.
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
    /// Parses the bytes of a file; `path` is for errors.
    ///
    /// # Errors
    /// The first error of the file, with its line; never with key material.
    pub fn parse(path: &Path, bytes: &[u8]) -> Result<Config, ConfigError> {
        Config::of(path, &Document::new(bytes.to_vec()))
    }

    /// The configuration in a document. It has one peer for each `[Peer]` section, in the same order.
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
