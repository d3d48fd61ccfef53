//! wg-quick's files as people have them (`tests/wg-quick`), judged by the real tools: what `wg-quick strip`, `wg setconf` and,
//! for wg-quick's own keys, `wg-quick up` accept, `adit wg up` and `adit peer list` accept with the same result, and what they
//! refuse is refused with file, line and reason. No file says what is to become of it. What is below `stricter` the tools
//! accept, and read otherwise than people do: there Adit refuses it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use adit_tests::{NetNs, require_module, require_program};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use serde_json::Value;
use tempfile::TempDir;

const FEWEST: usize = 60;
/// Names that the files have, beside `localhost`.
const HOSTS: &str = "127.0.0.1 localhost\n198.51.100.7 vpn.example\n2001:db8:7::1 vpn6.example\n198.51.100.8 vpn_1.example\n\
                     198.51.100.9 dual.example\n2001:db8:9::1 dual.example\n";
/// Nobody answers there, so what is in no list is not found at once.
const RESOLVER: &str = "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n";
/// Says what it was told.
const RESOLVCONF: &str = "#!/bin/sh\n{ echo \"$@\"; [ \"$1\" != -a ] || cat; } >> \"$RESOLVCONF_TOLD\"\n";

/// What all machines of the test have in common: lists of names, and a program `resolvconf`.
struct Lists(TempDir);

impl Lists {
    fn new() -> Lists {
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

    /// Gives the calling thread, and what it starts, these lists.
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
struct Machine<'a> {
    netns: NetNs,
    lists: &'a Lists,
    told: PathBuf,
}

impl<'a> Machine<'a> {
    fn new(lists: &'a Lists, number: usize) -> Machine<'a> {
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
            // Who reads none of it may be gone.
            let _ = child.stdin.take().unwrap().write_all(input);
            child.wait_with_output().unwrap()
        })
    }

    fn tool(&self, line: &str, input: &str) -> Output {
        let mut words = line.split_whitespace();
        let program = words.next().unwrap();
        self.run(Path::new(program), &words.collect::<Vec<_>>(), input.as_bytes())
    }

    fn adit(&self, words: &[&str]) -> Output {
        self.run(&adit_tests::agent::binary(), words, b"")
    }

    /// What WireGuard has: sections in order of their text, and allowed IPs likewise, as the order in which they came says
    /// nothing. The port only where the file says one: else it is the kernel's choice.
    fn configuration(&self, with_port: bool) -> String {
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

    /// All of the interface: link, addresses, routes, rules, name servers and WireGuard's part.
    fn whole(&self, with_port: bool) -> String {
        let both = self.tool(
            "ip -d -batch -",
            "address show dev wg0\nroute show table all\nrule show\n",
        );
        let v6 = self.tool("ip -6 -d -batch -", "route show table all\nrule show\n");
        let mut lines = [text(&both.stdout), text(&v6.stdout)].concat();
        // The link's number.
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

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A file and the name that it has in the corpus.
struct Case {
    name: String,
    bytes: Vec<u8>,
}

/// The files of a directory of the corpus.
fn cases(directory: &str) -> Vec<Case> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join(directory);
    let entries = fs::read_dir(&directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    let paths = entries.map(|entry| entry.unwrap().path());
    let confs = paths.filter(|path| path.extension().is_some_and(|end| end == "conf"));
    let case = |path: PathBuf| Case {
        name: path.file_stem().unwrap().to_string_lossy().into_owned(),
        bytes: fs::read(&path).unwrap(),
    };
    let mut cases = confs.map(case).collect::<Vec<_>>();
    cases.sort_by(|a, b| a.name.cmp(&b.name));
    cases
}

/// A file as editors of other systems leave it, and as no file of a repository may be.
fn variants(plain: &Case) -> Vec<Case> {
    let text = text(&plain.bytes);
    let utf16 = [0xfeff].into_iter().chain(text.encode_utf16());
    let variant = |name: &str, bytes: Vec<u8>| Case {
        name: format!("{} {name}", plain.name),
        bytes,
    };
    vec![
        variant("with carriage returns", text.replace('\n', "\r\n").into()),
        variant(
            "with white space at the ends of lines",
            text.replace('\n', " \t\n").into(),
        ),
        variant("without the last line break", text.trim_end().into()),
        variant("after a byte order mark", format!("\u{feff}{text}").into()),
        variant("in UTF-16", utf16.flat_map(u16::to_le_bytes).collect()),
    ]
}

impl Case {
    /// The file in a directory of its own, as its interface's.
    fn put(&self) -> (TempDir, String) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("wg0.conf");
        fs::write(&path, &self.bytes).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let path = path.to_str().unwrap().to_owned();
        (directory, path)
    }

    /// All of it in small letters, without comments and white space.
    fn squeezed(&self) -> Vec<String> {
        let text = text(&self.bytes).to_ascii_lowercase();
        let line = |line: &str| {
            line.split('#')
                .next()
                .unwrap_or_default()
                .split_whitespace()
                .collect::<String>()
        };
        text.lines().map(line).collect()
    }

    /// Whether `wg-quick up` has a say, beside `wg setconf`: by keys of its own, or a route that has rules.
    fn is_whole(&self) -> bool {
        const OWN: [&str; 9] = [
            "address=",
            "dns=",
            "mtu=",
            "table=",
            "preup=",
            "postup=",
            "predown=",
            "postdown=",
            "saveconfig=",
        ];
        let own = |line: &String| OWN.iter().any(|key| line.starts_with(key)) || line.contains("/0");
        self.squeezed().iter().any(own)
    }

    fn has_port(&self) -> bool {
        let port = |line: &String| line.starts_with("listenport=") && line != "listenport=0";
        self.squeezed().iter().any(port)
    }
}

/// The machines on which WireGuard's part alone is looked at, one case after the other.
struct Bench<'a> {
    lists: &'a Lists,
    theirs: Machine<'a>,
    ours: Machine<'a>,
    /// How many machines were made.
    made: usize,
}

/// What the tools make of a file.
struct Verdict {
    /// What they complain of.
    refused: Option<String>,
    /// Whether that was for a name that is not found, of which reading alone knows nothing.
    by_lookup: bool,
    /// Whether `wg setconf` accepted it.
    sets: bool,
    configuration: String,
    /// Of what `wg-quick up` made, where it has a say.
    whole: Option<String>,
}

impl<'a> Bench<'a> {
    fn new(lists: &'a Lists) -> Bench<'a> {
        let [theirs, ours] = [0, 1].map(|number| Machine::new(lists, number));
        theirs.netns.ip("link add wg0 type wireguard");
        Bench {
            lists,
            theirs,
            ours,
            made: 2,
        }
    }

    fn fresh(&mut self) -> Machine<'a> {
        self.made += 1;
        Machine::new(self.lists, self.made)
    }

    fn judge(&mut self, case: &Case, path: &str) -> Verdict {
        let stripped = self.theirs.tool(&format!("wg-quick strip {path}"), "");
        let mut verdict = Verdict {
            refused: None,
            by_lookup: false,
            sets: false,
            configuration: String::new(),
            whole: None,
        };
        let mut last = stripped;
        if last.status.success() {
            last = self.theirs.tool("wg setconf wg0 /dev/stdin", &text(&last.stdout));
            verdict.sets = last.status.success();
        }
        if verdict.sets {
            verdict.configuration = self.theirs.configuration(case.has_port());
            if case.is_whole() {
                let machine = self.fresh();
                last = machine.tool(&format!("wg-quick up {path}"), "");
                verdict.whole = Some(machine.whole(case.has_port()));
            }
        }
        let complaint = text(&last.stderr);
        let lookups = ["Name or service not known", "name resolution", "hostname"];
        verdict.by_lookup = lookups.iter().any(|words| complaint.contains(words));
        verdict.refused = (!last.status.success()).then_some(complaint);
        verdict
    }

    /// What is wrong with what Adit makes of a file.
    fn compare(&mut self, case: &Case) -> Result<bool, String> {
        let (_directory, path) = case.put();
        let verdict = self.judge(case, &path);
        let fresh = verdict.whole.is_some().then(|| self.fresh());
        let machine = fresh.as_ref().unwrap_or(&self.ours);
        let up = machine.adit(&["wg", "up", &path, "--allow-hooks"]);
        let list = machine.adit(&["peer", "list", "--config", &path, "-o", "json"]);
        let result = match &verdict.refused {
            Some(complaint) => {
                refused(&path, &up, &list, &verdict).map_err(|why| format!("{why}; they say {complaint}"))
            }
            None => accepted(machine, case, (&up, &list), &verdict),
        };
        if fresh.is_none() && up.status.success() {
            machine.netns.ip("link delete wg0");
        }
        result.map(|()| verdict.refused.is_none())
    }
}

/// Both refuse, and say where and why.
fn refused(path: &str, up: &Output, list: &Output, verdict: &Verdict) -> Result<(), String> {
    let place = |said: &str| {
        let mut after = said.match_indices(path).map(|(at, _)| &said[at + path.len()..]);
        after.any(|rest| {
            rest.strip_prefix(':')
                .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
        })
    };
    let said = text(&up.stderr);
    if up.status.success() {
        return Err("`adit wg up` accepts it".to_owned());
    }
    // A command of the file that fails is named itself.
    if !place(&said) && !said.contains("PostUp: `") {
        return Err(format!("`adit wg up` names no line: {said}"));
    }
    if !verdict.sets && !verdict.by_lookup && (list.status.success() || !place(&text(&list.stderr))) {
        return Err(format!(
            "`adit peer list` accepts it, or names no line: {}",
            text(&list.stderr)
        ));
    }
    Ok(())
}

/// Both make the same of it.
fn accepted(
    machine: &Machine<'_>,
    case: &Case,
    (up, list): (&Output, &Output),
    verdict: &Verdict,
) -> Result<(), String> {
    if !up.status.success() || !list.status.success() {
        return Err(format!("refused: {}{}", text(&up.stderr), text(&list.stderr)));
    }
    let (ours, theirs) = match &verdict.whole {
        Some(theirs) => (machine.whole(case.has_port()), theirs),
        None => (machine.configuration(case.has_port()), &verdict.configuration),
    };
    if ours != *theirs {
        let only = |one: &str, other: &str| {
            let lines = one.lines().filter(|line| !other.contains(line));
            lines.map(str::to_owned).collect::<Vec<_>>()
        };
        let (ours, theirs) = (only(&ours, theirs), only(theirs, &ours));
        return Err(format!("only ours {ours:#?}, only theirs {theirs:#?}"));
    }
    let known = text(&machine.tool("wg show wg0 allowed-ips", "").stdout);
    let known = known
        .lines()
        .filter_map(|line| line.split_once('\t'))
        .map(|(key, list)| {
            let list = list.split_whitespace().filter(|prefix| *prefix != "(none)");
            (key.to_owned(), list.map(str::to_owned).collect::<BTreeSet<_>>())
        });
    let rows = serde_json::from_slice::<Vec<Value>>(&list.stdout).map_err(|error| error.to_string())?;
    let words = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let listed = rows.iter().map(|row| {
        let prefixes = row["allowed_ips"].as_array().into_iter().flatten().map(words);
        (words(&row["public_key"]), prefixes.collect::<BTreeSet<_>>())
    });
    // Of two rows with one key the last one says all.
    let (known, listed) = (
        known.collect::<BTreeMap<_, _>>(),
        listed.collect::<BTreeMap<_, _>>(),
    );
    match known == listed {
        true => Ok(()),
        false => Err(format!("listed {listed:?}, known {known:?}")),
    }
}

fn ready() -> bool {
    require_module("wireguard") && require_program("wg-quick")
}

#[test]
fn files_as_people_have_them_mean_what_they_mean_to_wg_quick() {
    if !ready() {
        return;
    }
    let mut all = cases("wg-quick");
    assert!(all.len() >= FEWEST, "{} files", all.len());
    let plain = all
        .iter()
        .find(|case| case.name == "plain")
        .expect("the corpus has it");
    all.extend(variants(plain));
    let lists = Lists::new();
    let mut bench = Bench::new(&lists);
    let mut wrong = Vec::new();
    let mut accepted = 0;
    for case in &all {
        match bench.compare(case) {
            Ok(is_accepted) => accepted += usize::from(is_accepted),
            Err(why) => wrong.push(format!("{}: {why}", case.name)),
        }
    }
    println!("{} files, {accepted} of them accepted", all.len());
    assert!(
        wrong.is_empty(),
        "{} of {}:\n{}",
        wrong.len(),
        all.len(),
        wrong.join("\n")
    );
    assert!(
        accepted > FEWEST / 2 && all.len() - accepted > FEWEST / 3,
        "both kinds are there"
    );
}

#[test]
fn what_the_tools_read_otherwise_than_people_is_refused() {
    if !ready() {
        return;
    }
    let lists = Lists::new();
    let mut bench = Bench::new(&lists);
    for case in cases("wg-quick/stricter") {
        let (_directory, path) = case.put();
        let verdict = bench.judge(&case, &path);
        assert_eq!(
            verdict.refused, None,
            "{}: it belongs among the others",
            case.name
        );
        let up = bench.ours.adit(&["wg", "up", &path]);
        let list = bench.ours.adit(&["peer", "list", "--config", &path]);
        let verdict = Verdict {
            sets: false,
            ..verdict
        };
        refused(&path, &up, &list, &verdict).unwrap_or_else(|why| panic!("{}: {why}", case.name));
    }
}
