//! Writes a configuration as a file, in the layout of `wg-quick save` and `wg showconf`.

use std::fmt::{self, Display, Write as _};

use zeroize::Zeroizing;

use super::{Config, Interface};
use crate::resource::wireguard::{AllowedIpRoutes, Peer};

impl Config {
    /// The text of a file with this configuration, including its secrets. The text is wiped on drop.
    #[must_use]
    pub fn render(&self) -> Zeroizing<String> {
        // A string that grows leaves copies of its content in memory, so the capacity is reserved first.
        let hooks = &self.interface.hooks;
        let hooks = [&hooks.pre_up, &hooks.post_up, &hooks.pre_down, &hooks.post_down];
        let hooks = hooks.into_iter().flatten().map(|hook| hook.len() + 16);
        let search = self.interface.dns_search.iter().map(String::len);
        let lists =
            self.interface.addresses.len() + self.interface.dns.len() + self.interface.dns_search.len();
        let peers = self.peers.iter().map(|peer| 640 + 64 * peer.allowed_ips.len());
        let room = 512 + 64 * lists + hooks.chain(search).chain(peers).sum::<usize>();
        let mut text = Zeroizing::new(String::with_capacity(room));
        let written = self.write(&mut text);
        written.expect("a string takes whatever is written");
        debug_assert!(text.len() <= room, "{} of {room} bytes", text.len());
        text
    }

    fn write(&self, text: &mut String) -> fmt::Result {
        self.interface.write(text)?;
        self.peers.iter().try_for_each(|peer| write_peer(peer, text))
    }
}

impl Interface {
    fn write(&self, text: &mut String) -> fmt::Result {
        text.write_str("[Interface]\n")?;
        for address in &self.addresses {
            writeln!(text, "Address = {address}")?;
        }
        let servers = self.dns.iter().map(|server| server as &dyn Display);
        let search = self.dns_search.iter().map(|domain| domain as &dyn Display);
        for dns in servers.chain(search) {
            writeln!(text, "DNS = {dns}")?;
        }
        if let Some(mtu) = self.mtu {
            writeln!(text, "MTU = {mtu}")?;
        }
        match self.table {
            AllowedIpRoutes::Auto => {}
            AllowedIpRoutes::Off => text.write_str("Table = off\n")?,
            AllowedIpRoutes::Table(table) => writeln!(text, "Table = {table}")?,
        }
        let hooks = &self.hooks;
        for (name, hooks) in [
            ("PreUp", &hooks.pre_up),
            ("PostUp", &hooks.post_up),
            ("PreDown", &hooks.pre_down),
            ("PostDown", &hooks.post_down),
        ] {
            for hook in hooks {
                writeln!(text, "{name} = {hook}")?;
            }
        }
        if self.save_config {
            text.write_str("SaveConfig = true\n")?;
        }
        if let Some(port) = self.listen_port {
            writeln!(text, "ListenPort = {port}")?;
        }
        if self.fwmark != 0 {
            writeln!(text, "FwMark = {:#x}", self.fwmark)?;
        }
        if let Some(key) = &self.private_key {
            writeln!(text, "PrivateKey = {}", key.to_base64().as_str())?;
        }
        Ok(())
    }
}

fn write_peer(peer: &Peer, text: &mut String) -> fmt::Result {
    writeln!(text, "\n[Peer]\nPublicKey = {}", peer.public_key)?;
    if let Some(key) = peer.known_preshared_key() {
        writeln!(text, "PresharedKey = {}", key.to_base64().as_str())?;
    }
    for (index, prefix) in peer.allowed_ips.iter().enumerate() {
        let before = if index == 0 { "AllowedIPs = " } else { ", " };
        write!(text, "{before}{prefix}")?;
    }
    if !peer.allowed_ips.is_empty() {
        text.write_str("\n")?;
    }
    if let Some(endpoint) = &peer.endpoint {
        writeln!(text, "Endpoint = {endpoint}")?;
    }
    if peer.keepalive > 0 {
        writeln!(text, "PersistentKeepalive = {}", peer.keepalive)?;
    }
    Ok(())
}
