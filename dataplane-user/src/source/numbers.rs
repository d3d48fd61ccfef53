//! Numbers for names, from the lists of the machine: routing tables (`rt_tables` of iproute2) and UDP
//! services (services(5)).

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The lists of iproute2, which reads the first that exists. Each can have drop-ins; those of the first list
/// have precedence.
const TABLES: [&str; 3] = [
    "/etc/iproute2/rt_tables",
    "/usr/share/iproute2/rt_tables",
    "/usr/lib/iproute2/rt_tables",
];
/// The tables of the kernel, used for names that no list contains (linux/rtnetlink.h).
const KNOWN_TABLES: [(&str, u32); 4] = [("unspec", 0), ("default", 253), ("main", 254), ("local", 255)];
const SERVICES: &str = "/etc/services";

/// The number of a routing table; `None`: no list contains the name. Blocks on file access.
///
/// # Errors
/// If a list exists and can't be read.
pub fn table(name: &str) -> Result<Option<u32>, String> {
    let lists = TABLES.map(PathBuf::from);
    let main = lists.iter().find(|list| list.exists()).cloned();
    let drop_ins = lists.iter().rev().flat_map(|list| drop_ins(list));
    let mut texts = Vec::new();
    for list in main.into_iter().chain(drop_ins) {
        texts.extend(read(&list)?);
    }
    Ok(table_in(&texts, name))
}

/// The UDP port of a service; `None`: the list does not contain the name. Blocks on file access.
///
/// # Errors
/// If the list exists and can't be read.
pub fn udp_port(name: &str) -> Result<Option<u16>, String> {
    let text = read(Path::new(SERVICES))?;
    Ok(text.and_then(|text| udp_port_in(&text, name)))
}

/// The drop-ins of a list: the files `*.conf` in the directory with the name of the list and `.d`, sorted.
fn drop_ins(list: &Path) -> Vec<PathBuf> {
    let mut directory = list.as_os_str().to_owned();
    directory.push(".d");
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let paths = entries.map(|entry| entry.path());
    let mut lists = paths
        .filter(|path| path.extension().is_some_and(|end| end == "conf"))
        .collect::<Vec<_>>();
    lists.sort();
    lists
}

fn read(path: &Path) -> Result<Option<String>, String> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(format!("{} can't be read: {error}", path.display())),
    }
}

fn table_in(texts: &[String], name: &str) -> Option<u32> {
    let lines = texts.iter().flat_map(|text| text.lines());
    let mut listed = lines.filter_map(|line| {
        let mut words = words(line);
        let (number, found) = (words.next()?, words.next()?);
        let number = match number.strip_prefix("0x") {
            Some(digits) => u32::from_str_radix(digits, 16).ok()?,
            None => number.parse().ok()?,
        };
        (found == name).then_some(number)
    });
    let known = KNOWN_TABLES.iter().find(|(known, _)| *known == name);
    listed.next_back().or(known.map(|(_, number)| *number))
}

fn udp_port_in(text: &str, name: &str) -> Option<u16> {
    text.lines().find_map(|line| {
        let mut words = words(line);
        let official = words.next()?;
        let port = words.next()?.strip_suffix("/udp")?.parse().ok()?;
        let is_named = official == name || words.any(|alias| alias == name);
        is_named.then_some(port)
    })
}

/// The words of a line without its comment.
fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split('#')
        .next()
        .unwrap_or_default()
        .split_ascii_whitespace()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_have_the_numbers_of_the_lists_and_of_the_kernel() {
        let texts = [
            "# reserved\n255\tlocal\n100 vpn # mine\n0x64 hex\n",
            "200 vpn\nx y\n7\n",
        ];
        let texts = texts.map(str::to_owned);
        for (name, number) in [
            ("vpn", Some(200)),
            ("hex", Some(100)),
            ("local", Some(255)),
            ("main", Some(254)),
            ("mine", None),
            ("y", None),
            ("", None),
        ] {
            assert_eq!(table_in(&texts, name), number, "{name}");
        }
        assert_eq!(table("main"), Ok(Some(254)));
        assert_eq!(table("no-such-table"), Ok(None));
    }

    #[test]
    fn services_have_the_ports_of_udp() {
        let text = "domain\t53/tcp\t# DNS\ndomain 53/udp nameserver\nhttp 80/tcp www\n";
        for (name, port) in [
            ("domain", Some(53)),
            ("nameserver", Some(53)),
            ("http", None),
            ("DNS", None),
        ] {
            assert_eq!(udp_port_in(text, name), port, "{name}");
        }
        assert_eq!(udp_port("no-such-service"), Ok(None));
    }
}
