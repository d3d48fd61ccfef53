//! Namespaces with an underlay, and the lists of names that the files need.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use adit_tests::NetNs;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use tempfile::TempDir;

use crate::text;

/// Names in the files, besides `localhost`.
const HOSTS: &str = "127.0.0.1 localhost\n198.51.100.7 vpn.example\n2001:db8:7::1 vpn6.example\n198.51.100.8 vpn_1.example\n\
                     198.51.100.9 dual.example\n2001:db8:9::1 dual.example\n";
/// A name server that does not answer, so that other names are not found.
const RESOLVER: &str = "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n";
/// A program that prints its arguments.
const RESOLVCONF: &str = "#!/bin/sh\n{ echo \"$@\"; [ \"$1\" != -a ] || cat; } >> \"$RESOLVCONF_TOLD\"\n";

/// Shared by all machines of the test: lists of names, and a program `resolvconf`.
pub(crate) struct Lists(TempDir);

impl Lists {
    pub(crate) fn new() -> Lists {
        let lists = Lists(tempfile::tempdir().unwrap());
        for directory in ["bin", "rt_tables.d", "told"] {
            fs::create_dir(lists.path(directory)).unwrap();
        }
        fs::write(lists.path("hosts"), HOSTS).unwrap();
        fs::write(lists.path("resolv.conf"), RESOLVER).unwrap();
        fs::write(lists.path("rt_tables.d/corpus.conf"), "# a list\n0x1e15 corpus\n").unwrap();
        let program = lists.path("bin/resolvconf");
        fs::write(&program, RESOLVCONF).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        lists
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Uses these lists in the calling thread and in processes that it starts.
    fn enter(&self) {
        unshare(CloneFlags::CLONE_NEWNS).expect("root makes mount namespaces");
        let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        mount(None::<&str>, "/", None::<&str>, private, None::<&str>).unwrap();
        for (name, place) in [
            ("hosts", "/etc/hosts"),
            ("resolv.conf", "/etc/resolv.conf"),
            ("rt_tables.d", "/etc/iproute2/rt_tables.d"),
        ] {
            let (source, bind) = (self.path(name), MsFlags::MS_BIND);
            mount(Some(&source), place, None::<&str>, bind, None::<&str>)
                .unwrap_or_else(|error| panic!("{place}: {error}"));
        }
    }
}

/// A namespace with an underlay, and the lists.
pub(crate) struct Machine<'a> {
    pub(crate) netns: NetNs,
    lists: &'a Lists,
    told: PathBuf,
}

impl<'a> Machine<'a> {
    pub(crate) fn new(lists: &'a Lists, number: usize) -> Machine<'a> {
        let netns = NetNs::new();
        netns.sysctl("net/ipv6/conf/default/accept_dad", "0");
        netns.ip_batch(
            "link add u0 mtu 1480 type veth peer name v0
            link set v0 up
            link set u0 up
            address add 192.0.2.2/24 dev u0
            address add 2001:db8::2/64 dev u0 nodad
            route add default via 192.0.2.1
            route add default via 2001:db8::1",
        );
        let told = lists.path("told").join(number.to_string());
        Machine { netns, lists, told }
    }

    fn run(&self, program: &Path, words: &[&str], input: &[u8]) -> Output {
        self.netns.enter(|| {
            self.lists.enter();
            let path = std::env::var("PATH").unwrap_or_default();
            let mut child = Command::new(program)
                .args(words)
                .env("WG_ENDPOINT_RESOLUTION_RETRIES", "0")
                .env("PATH", format!("{}:{path}", self.lists.path("bin").display()))
                .env("RESOLVCONF_TOLD", &self.told)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap_or_else(|error| panic!("{}: {error}", program.display()));
            // A program that does not read its input may have ended.
            let _ = child.stdin.take().unwrap().write_all(input);
            child.wait_with_output().unwrap()
        })
    }

    pub(crate) fn tool(&self, line: &str, input: &str) -> Output {
        let mut words = line.split_whitespace();
        let program = words.next().unwrap();
        self.run(Path::new(program), &words.collect::<Vec<_>>(), input.as_bytes())
    }

    pub(crate) fn adit(&self, words: &[&str]) -> Output {
        self.run(&adit_tests::agent::binary(), words, b"")
    }

    /// The WireGuard configuration, with sorted sections and allowed IPs, because their order does not matter. The port only if
    /// the file has one; otherwise the kernel chooses it.
    pub(crate) fn configuration(&self, with_port: bool) -> String {
        let text = text(&self.tool("wg showconf wg0", "").stdout);
        let line = |line: &str| match line.strip_prefix("AllowedIPs = ") {
            Some(list) => {
                let list = list.split(", ").collect::<BTreeSet<_>>();
                Some(format!("AllowedIPs = {list:?}"))
            }
            None if line.starts_with("ListenPort") && !with_port => None,
            None => Some(line.to_owned()),
        };
        let section = |section: &str| {
            section
                .trim()
                .lines()
                .filter_map(line)
                .collect::<Vec<_>>()
                .join("\n")
        };
        let sections = text.split("\n\n").map(section).collect::<BTreeSet<_>>();
        sections.into_iter().collect::<Vec<_>>().join("\n\n")
    }

    /// The whole interface: link, addresses, routes, rules, name servers and WireGuard configuration.
    pub(crate) fn whole(&self, with_port: bool) -> String {
        let both = self.tool(
            "ip -d -batch -",
            "address show dev wg0\nroute show table all\nrule show\n",
        );
        let v6 = self.tool("ip -6 -d -batch -", "route show table all\nrule show\n");
        let mut lines = [text(&both.stdout), text(&v6.stdout)].concat();
        // The index of the link.
        if let Some((number, _)) = lines.split_once(": wg0: ") {
            lines.drain(..number.len());
        }
        let is_ours = |line: &&str| {
            [" dev u0", " dev v0", " dev lo"]
                .iter()
                .all(|other| !line.contains(other))
        };
        let mut lines = lines.lines().filter(is_ours).collect::<Vec<_>>();
        lines.sort_unstable();
        let told = fs::read_to_string(&self.told).unwrap_or_default();
        format!("{}\n{told}{}", lines.join("\n"), self.configuration(with_port))
    }
}
