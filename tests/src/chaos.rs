//! Damages the objects of an agent at random, adds unmanaged objects, and kills the agent, while traffic flows.
//!
//! Operations on managed objects are done one by one, and the test waits for each repair. So each operation is one repair
//! of a known kind and object, and the log of the agent must have exactly those. Damage while the agent is dead is
//! corrected by its next start, which counts no repairs, because it does not know the earlier desired state.

pub mod declared;

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use dataplane_user::net::Family;
use dataplane_user::status::Status;

use crate::hand::{Operation, operations};
use crate::named::Named;
use crate::splitmix::Random;
use crate::traffic::{self, Lost, Probes};
use crate::{Agent, NetNs, Overlay, Topology, snapshot};

/// The interval between two probes.
const PAUSE: Duration = Duration::from_millis(20);

/// The numbers are parts of addresses.
const MOST_FOREIGN: usize = 200;

/// The length of the test and its seed.
#[derive(Clone, Copy, Debug)]
pub struct Course {
    /// The same seed gives the same steps, unless the time ends first.
    pub seed: u64,
    /// A number of steps.
    pub steps: Option<u32>,
    /// A time.
    pub time: Option<Duration>,
}

/// The counts of a run.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    seed: u64,
    /// Operations on managed objects while the agent ran.
    injected: BTreeMap<(String, String), u32>,
    /// Repairs in the log.
    logged: BTreeMap<(String, String), u32>,
    /// Operations on managed objects while the agent was dead.
    unseen: u32,
    foreign: u32,
    kills: u32,
    probes: (u32, u32),
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sum = |counts: &BTreeMap<_, u32>| counts.values().sum::<u32>();
        let (sent, lost) = self.probes;
        write!(
            f,
            "chaos: seed {}, {} operations, {} repairs, {} while dead, {} foreign objects, {} kills, {sent} probes, {lost} of \
             them lost",
            self.seed,
            sum(&self.injected),
            sum(&self.logged),
            self.unseen,
            self.foreign,
            self.kills
        )
    }
}

/// Runs the test on the first of three hosts, whose links use GENEVE and WireGuard, in two networks: one by BPF programs,
/// the other by routes. The other two hosts advertise the same prefix. Devices, routes and rules are declared as well, also
/// in another namespace.
///
/// # Errors
/// The differences from the expected state at the end.
///
/// # Panics
/// If something is not repaired, or a tool fails.
pub fn run(course: Course) -> Result<Tally> {
    let topology = Topology::<3>::new();
    let overlay = Overlay {
        requested: vec![("b", "geneve"), ("c", "wireguard")],
        shared: vec!["b", "c"],
        beside: true,
        ..Overlay::new(&topology, "auto")
    };
    let manifests = overlay.manifests(&topology);
    let peers = topology.hosts[1..]
        .iter()
        .map(|host| Agent::started(host, &manifests));
    let _peers = peers.collect::<Vec<_>>();
    let there = Named::new();
    let manifests = manifests + &declared::manifests(&there);
    // Changes without events are found soon, and an object that is damaged often causes no fight.
    let mut agent = Agent::new(&topology.hosts[0], &manifests)
        .with_resync(1)
        .with_pauses("fight-window=1");
    agent.start();
    agent.ready();
    let mut hand = Hand::new(agent, &there, course.seed);
    let [a, b, c] = [0, 1, 2].map(|host| topology.hosts[host].pod_end());
    let beside = [0, 1, 2].map(|host| topology.hosts[host].beside());
    let probes = [
        (a, b, Family::Ipv4),
        (a, c, Family::Ipv6),
        (beside[0], beside[1], Family::Ipv6),
        (beside[0], beside[2], Family::Ipv4),
    ];
    let probes = probes.map(|(from, to, family)| Probes::every(PAUSE, from, to, family));
    let ours = hand.ours();
    let start = Instant::now();
    let mut step = 0;
    while course.steps.is_none_or(|steps| step < steps)
        && course.time.is_none_or(|time| start.elapsed() < time)
    {
        step += 1;
        hand.step();
    }
    for probes in probes {
        let Lost { sent, lost } = probes?.finish()?;
        hand.tally.probes.0 += sent;
        hand.tally.probes.1 += lost;
    }
    for family in Family::BOTH {
        for (from, to) in [(a, b), (a, c), (beside[0], beside[1]), (beside[0], beside[2])] {
            traffic::udp(from, to, family, 100)?;
        }
    }
    hand.judge(&ours)
}

/// The state of the test.
struct Hand<'a> {
    agent: Agent<'a>,
    /// A namespace with more objects of the agent.
    there: &'a Named,
    random: Random,
    /// The remaining operations on managed objects before any is repeated.
    deck: Vec<Operation>,
    /// Repairs that the running agent has reported so far.
    told: u64,
    foreign: Vec<Foreign>,
    tally: Tally,
}

impl<'a> Hand<'a> {
    fn new(agent: Agent<'a>, there: &'a Named, seed: u64) -> Hand<'a> {
        Hand {
            agent,
            there,
            random: Random(seed),
            deck: Vec::new(),
            told: 0,
            foreign: Vec::new(),
            tally: Tally {
                seed,
                ..Tally::default()
            },
        }
    }

    fn step(&mut self) {
        match self.random.below(10) {
            0 => self.kill(),
            1 | 2 if self.foreign.len() < MOST_FOREIGN => self.add_foreign(),
            _ => self.meddle(),
        }
    }

    /// Damages one managed object and waits for the repair.
    fn meddle(&mut self) {
        let operation = self.draw();
        println!("{}", operation.what);
        let before = self.agent.wait("answering", |_| true);
        self.show_surplus(&before, self.told);
        let before = before.repairs.total;
        operation.act(&self.agent);
        let Operation {
            what, kind, object, ..
        } = operation;
        let status = self.agent.wait(&format!("repaired after: {what}"), |status| {
            status.ready && status.repairs.total > before
        });
        self.show_surplus(&status, before + 1);
        self.told = status.repairs.total;
        *self.tally.injected.entry((kind.to_owned(), object)).or_default() += 1;
    }

    /// Prints repairs that no operation explains, when they happen.
    fn show_surplus(&self, status: &Status, expected: u64) {
        let surplus = status.repairs.total.saturating_sub(expected);
        let surplus = usize::try_from(surplus).expect("a small number");
        if surplus > 0 {
            println!("repairs in addition to the expected one: {surplus}");
            let shown = status.repairs.recent.iter().rev().take(surplus + 1);
            shown.for_each(|repair| println!("  {} {}", repair.object, repair.found));
        }
    }

    /// Kills the agent, damages something, and starts it again.
    fn kill(&mut self) {
        println!("kill -9");
        self.agent.kill();
        self.tally.kills += 1;
        if self.random.below(2) == 0 {
            let operation = self.draw();
            println!("{}, while it is dead", operation.what);
            operation.act(&self.agent);
            self.tally.unseen += 1;
        }
        self.agent.start();
        self.agent.ready();
        self.told = 0;
    }

    fn draw(&mut self) -> Operation {
        if self.deck.is_empty() {
            self.deck = operations(&self.agent);
            self.deck.extend(declared::operations(self.there));
            self.random.shuffle(&mut self.deck);
        }
        self.deck.pop().expect("an agent has objects")
    }

    fn add_foreign(&mut self) {
        let number = self.foreign.len();
        let kind = self.random.below(FOREIGN.len());
        let netns = &self.agent.host().netns;
        let [add, look] = FOREIGN[kind].map(|words| words.replace("{n}", &number.to_string()));
        println!("{add}");
        for words in add.split("; ") {
            command(netns, words);
        }
        let before = command(netns, &look);
        assert!(!before.trim().is_empty(), "{look} shows nothing");
        self.foreign.push(Foreign { look, before });
        self.tally.foreign += 1;
    }

    /// The managed objects as `ip` prints them, without ids and without values that contain an interface index.
    fn ours(&self) -> String {
        let netns = &self.agent.host().netns;
        let routes = [
            "route show table all proto 173",
            "-6 route show table all proto 173",
            "nexthop show proto 173",
            "-6 neighbour show nud permanent",
        ];
        let routes = routes.map(|words| without_ids(&netns.ip(words)));
        let rules = ["rule show", "-6 rule show"].map(|words| marked(&netns.ip(words)));
        let elsewhere = [
            "-br link show group 173",
            "-br address show scope global",
            "route show table all proto 173",
        ];
        let elsewhere = elsewhere.map(|words| without_states(&self.there.ip(words)));
        let links = netns.ip("-br link show group 173");
        let addresses = netns.ip("-br address show scope global group 173");
        let mut links = links
            .lines()
            .filter_map(|line| line.split(['@', ' ']).next())
            .collect::<Vec<_>>();
        links.sort_unstable();
        let addresses = without_states(&addresses);
        format!(
            "{}\n{addresses}\n{}\n{}\n{}\n{}",
            links.join(" "),
            routes.concat(),
            rules.concat(),
            elsewhere.concat(),
            marked(&self.there.ip("rule show"))
        )
    }

    /// Compares everything with the expected state.
    fn judge(mut self, ours: &str) -> Result<Tally> {
        let plan = self.agent.plan(&[]);
        ensure!(plan.code == 0, "the plan is not reached: {plan:?}");
        ensure!(
            self.ours() == ours,
            "the managed objects were\n{ours}\nand are now\n{}",
            self.ours()
        );
        let netns = &self.agent.host().netns;
        for Foreign { look, before } in &self.foreign {
            let after = command(netns, look);
            ensure!(after == *before, "{look}: before\n{before}\nand after\n{after}");
        }
        for line in self
            .agent
            .log()
            .lines()
            .filter(|line| line.contains(" repaired: "))
        {
            let value = |name: &str| {
                let (_, rest) = line.split_once(&format!(" {name}=\""))?;
                Some(rest.split_once('"')?.0.to_owned())
            };
            let subject = value("kind").zip(value("object"));
            let subject = subject.ok_or_else(|| anyhow::anyhow!("a repair that says nothing: {line}"))?;
            *self.tally.logged.entry(subject).or_default() += 1;
        }
        let Tally { injected, logged, .. } = &self.tally;
        ensure!(
            injected == logged,
            "injected\n{injected:#?}\nand logged\n{logged:#?}"
        );
        Ok(self.tally)
    }
}

/// The lines with the mark of Adit, because `ip rule show` of 2022 cannot filter by `protocol`.
fn marked(text: &str) -> String {
    let ours = text.lines().filter(|line| line.contains(" proto 173"));
    ours.map(|line| format!("{line}\n")).collect()
}

/// Sorted lines of `ip -br`, without values that change when a device is recreated: its current state, its hardware address
/// and the index of its other end.
fn without_states(text: &str) -> String {
    let is_lasting =
        |word: &&str| !["UP", "UNKNOWN", "DOWN", "LOWERLAYERDOWN"].contains(word) && word.len() != 17;
    let line = |line: &str| {
        let mut words = line.split_whitespace().filter(is_lasting).collect::<Vec<_>>();
        // ip prints the newest of several addresses first.
        words.sort_unstable();
        let words = words
            .into_iter()
            .map(|word| word.split('@').next().unwrap_or(word));
        words.collect::<Vec<_>>().join(" ")
    };
    let mut lines = text.lines().map(line).collect::<Vec<_>>();
    lines.sort_unstable();
    lines.iter().map(|line| format!("{line}\n")).collect()
}

/// Sorted lines without the ids of next-hop objects.
fn without_ids(text: &str) -> String {
    let is_id = |word: &&str| word.starts_with("173") && word.len() >= 7;
    let words = |line: &str| {
        let words = line.split_whitespace().filter(|word| !is_id(word));
        words.collect::<Vec<_>>().join(" ")
    };
    let mut lines = text.lines().map(words).collect::<Vec<_>>();
    lines.sort_unstable();
    lines.iter().map(|line| format!("{line}\n")).collect()
}

/// An unmanaged object: how it looked when it was created.
struct Foreign {
    look: String,
    before: String,
}

/// Commands that create and show unmanaged objects.
const FOREIGN: [[&str; 2]; 7] = [
    [
        "ip link add f{n} type dummy; ip address add 198.51.100.{n}/32 dev f{n}; ip link set f{n} mtu 1333 up",
        "ip -d -j address show dev f{n}",
    ],
    [
        "ip link add g{n} type geneve id {n} remote 203.0.113.7 dstport 7777; ip link set g{n} up",
        "ip -d -j link show g{n}",
    ],
    [
        "ip route add 198.18.{n}.0/24 dev u0 metric 7",
        "ip -d -j route show 198.18.{n}.0/24",
    ],
    [
        "ip -6 route add unreachable 2001:db8:ffff:{n}::/64 metric 1000000",
        "ip -6 -d -j route show 2001:db8:ffff:{n}::/64",
    ],
    [
        "ip rule add to 198.19.{n}.0/24 lookup 9{n}; ip route add default dev u0 table 9{n}",
        "ip -j rule show to 198.19.{n}.0/24",
    ],
    [
        "tc qdisc replace dev p0 clsact; tc filter add dev p0 ingress pref 1{n} protocol ip matchall action pass",
        "tc filter show dev p0 ingress pref 1{n}",
    ],
    [
        "nft add table inet their{n}; nft add chain inet their{n} c",
        "nft list table inet their{n}",
    ],
];

fn command(netns: &NetNs, line: &str) -> String {
    let (program, words) = line.split_once(' ').expect("a program and its words");
    snapshot::run(netns, program, words)
}
