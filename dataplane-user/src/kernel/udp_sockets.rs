//! The processes that use UDP ports.

use std::fs;
use std::path::Path;

/// A bound UDP socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Socket {
    /// Its port.
    pub port: u16,
    /// Its inode, by which its process is found; 0 for a socket of the kernel, for example of a tunnel
    /// device.
    pub inode: u64,
}

/// The bound UDP sockets of this network namespace, IPv4 and IPv6. `root` is the directory that contains
/// `proc`.
#[must_use]
pub fn sockets(root: &Path) -> Vec<Socket> {
    let tables = ["udp", "udp6"].map(|name| fs::read_to_string(root.join("proc/net").join(name)));
    tables
        .iter()
        .flatten()
        .flat_map(|table| table.lines().filter_map(parse))
        .collect()
}

/// A line of /proc/net/udp: number, local address and port in hex, and so on; the tenth field is the inode.
fn parse(line: &str) -> Option<Socket> {
    let fields = line.split_whitespace().collect::<Vec<_>>();
    let (_, port) = fields.get(1)?.rsplit_once(':')?;
    Some(Socket {
        port: u16::from_str_radix(port, 16).ok()?,
        inode: fields.get(9)?.parse().ok()?,
    })
}

impl Socket {
    /// The process that uses the socket, if this process may see it.
    #[must_use]
    pub fn holder(&self) -> String {
        let socket = format!("socket:[{}]", self.inode);
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        let mut processes = entries.filter(|entry| {
            let descriptors = fs::read_dir(entry.path().join("fd"))
                .into_iter()
                .flatten()
                .flatten();
            let mut targets = descriptors.filter_map(|descriptor| fs::read_link(descriptor.path()).ok());
            targets.any(|target| target.as_os_str() == socket.as_str())
        });
        let Some(process) = processes.next() else {
            return "a process or a tunnel device that is not visible here".to_owned();
        };
        let name = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
        format!(
            "process {} ({})",
            process.file_name().to_string_lossy(),
            name.trim()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops
  123: 0100007F:12B5 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 4242 2 0000000000000000 0
";

    #[test]
    fn the_kernels_table_is_read() {
        let sockets = TABLE.lines().filter_map(parse).collect::<Vec<_>>();
        assert_eq!(
            sockets,
            [Socket {
                port: 4789,
                inode: 4242
            }]
        );
    }
}
