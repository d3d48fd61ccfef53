//! The lab itself, on the running kernel.
use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use super::agent::{self, Agent, Status};
use super::capture::Capture;
use super::encapsulation::Encapsulation;
use super::interrupt;
use super::links::Links;
use super::manifest::{self, Contents};
use super::pairs::{self, Ends};
use super::plain::Routes;
use super::report::{Format, Report};
use super::site::Site;
use super::topology::{self, Topology};
use super::traffic::{self, Kind, Pair};
use super::verdict::{Round, Row};
use super::wishes::Wishes;
use super::{Args, hold, is_coloured, keys, shared};
use crate::progress::say;

/// Enough to see whether a way is open.
const QUICK: [Kind; 2] = [Kind::Icmp, Kind::UdpByte];

/// How long things are waited for.
struct Waits {
    /// For a packet.
    packet: Duration,
    /// For an agent to be ready, or to end.
    agent: Duration,
    /// For the sessions of WireGuard: a handshake that got lost is tried again after five seconds.
    session: Duration,
}

impl Waits {
    /// Emulated machines get twenty times as long for each packet.
    fn new() -> Self {
        let emulated = env::var_os("ADIT_VM").is_some();
        let seconds = |native, guest| Duration::from_secs(if emulated { guest } else { native });
        Self {
            packet: seconds(1, 20),
            agent: seconds(30, 180),
            session: seconds(20, 60),
        }
    }
}

/// Runs it; returns whether everything arrived and nothing went bare.
pub(super) fn run(args: &Args, adit: &Path) -> Result<bool> {
    interrupt::watch()?;
    let topology = Topology::new(args.nodes, args.underlay);
    say(format_args!(
        "making {} hosts behind a router, a pod behind each",
        topology.nodes.len()
    ));
    let site = Site::build(topology, args.shared_prefix)?;
    let ends = Ends::new(&site);
    let mut stage = Stage {
        args,
        site: &site,
        ends: &ends,
        keys: keys::fields(adit, &site.topology.nodes)?,
        waits: Waits::new(),
        agents: Vec::new(),
    };
    let result = stage.play(adit);

    if !matches!(result, Ok(true)) && !interrupt::happened() {
        agent::show_logs(&site.topology.nodes);
    }
    if args.hold && !interrupt::happened() {
        if let Err(error) = &result {
            eprintln!("Error: {error:#}");
        }
        hold::hold(&site, adit)?;
    }
    agent::stop(std::mem::take(&mut stage.agents), stage.waits.agent);
    result
}

struct Stage<'a> {
    args: &'a Args,
    site: &'a Site,
    ends: &'a Ends<'a>,
    /// The nodes' fields with their WireGuard keys.
    keys: Vec<String>,
    waits: Waits,
    agents: Vec<Agent>,
}

impl<'a> Stage<'a> {
    /// Returns whether all was well.
    fn play(&mut self, adit: &Path) -> Result<bool> {
        let format = match self.args.json {
            true => Format::Json,
            false => Format::Text {
                colour: self.args.colour || is_coloured(),
            },
        };
        let mut report = Report::new(format, kernel_release()?);
        let mut rounds = self.args.rounds();
        if self.args.sabotage.is_some() {
            rounds.truncate(1);
        }
        for wishes in &rounds {
            interrupt::check()?;
            let statuses = self.ready(adit, wishes)?;
            let links = Links::expected(&self.site.topology, wishes);
            let routes = Routes::put(&self.site.router, &self.site.topology, &links)?;
            if self.args.sabotage.is_some() {
                self.sabotage(wishes, &statuses)?;
            }
            let round = self.round(wishes, &statuses, &Kind::ALL.into())?;
            interrupt::check()?;
            report.add(&round)?;
            routes.remove()?;
        }
        report.finish()
    }

    /// Starts the agents, or has them load the manifests anew, and waits until all are ready.
    fn ready(&mut self, adit: &Path, wishes: &Wishes) -> Result<BTreeMap<String, Status>> {
        let start = Instant::now();
        let contents = Contents {
            wishes,
            keys: &self.keys,
            dataplane: self.args.dataplane,
            shared: self.args.shared_prefix,
        };
        manifest::write(&self.site.topology, &contents)?;
        if self.agents.is_empty() {
            for (node, host) in self.site.topology.nodes.iter().zip(&self.site.hosts) {
                self.agents.push(Agent::start(adit, node, host)?);
            }
        }
        let mut statuses = BTreeMap::new();
        for agent in &mut self.agents {
            let status = agent.wait_ready(wishes.vni, self.waits.agent)?;
            statuses.insert(agent.node.clone(), status);
        }
        let seconds = start.elapsed().as_secs_f64();
        say(format_args!(
            "{}: all agents are ready after {seconds:.1} s",
            wishes.name
        ));
        for (node, pod) in self.site.topology.nodes.iter().zip(&self.site.pods) {
            pod.ip(&topology::pod_routes(node, pairs::mtu(&statuses, node)?))?;
        }
        Ok(statuses)
    }

    /// Kills an agent, which must not matter, and breaks one thing where it was, which must.
    fn sabotage(&mut self, wishes: &Wishes, statuses: &BTreeMap<String, Status>) -> Result<()> {
        let Some(sabotage) = self.args.sabotage else {
            return Ok(());
        };
        let agent = self.agents.first_mut().context("there are two agents or more")?;
        let node = agent.node.clone();
        say(format_args!("killing the agent of {node}: traffic must go on"));
        agent.kill()?;
        let round = self.round(wishes, statuses, &QUICK.into())?;
        let (losses, leaks) = (round.losses(), round.leaks());
        if !losses.is_empty() || !leaks.is_empty() {
            bail!(
                "with the agent went its traffic:\n{}",
                [losses, leaks].concat().join("\n")
            );
        }
        say(format_args!("sabotage on {node}: {}", sabotage.name()));
        sabotage.commit(&node, &self.site.hosts[0])
    }

    /// Sends everything with these manifests and listens on the router meanwhile.
    fn round(
        &self,
        wishes: &Wishes,
        statuses: &BTreeMap<String, Status>,
        kinds: &BTreeSet<Kind>,
    ) -> Result<Round<'a>> {
        let topology = &self.site.topology;
        let links = Links::expected(topology, wishes);
        let refused = pairs::refused(statuses);
        let mut contradictions = links.contradictions(topology, statuses);
        contradictions.extend(links.unexpected(topology, &refused));

        let pairs = pairs::all(self.ends, &links, statuses)?;
        let names: Vec<&str> = kinds.iter().map(|kind| kind.name()).collect();
        say(format_args!(
            "{}: {} on {} ways",
            wishes.name,
            names.join(", "),
            pairs.len()
        ));
        let start = Instant::now();
        let capture = Capture::start(&self.site.router)?;
        traffic::warm_up(&sessions(&pairs), self.waits.packet, self.waits.session);
        let results = traffic::run(&pairs, kinds, self.waits.packet);
        let flows = match self.args.shared_prefix {
            true => shared::measure(&self.ends.to_shared(), &links, self.waits.packet)?,
            false => Vec::new(),
        };
        let captured = capture.finish()?;
        let seconds = start.elapsed().as_secs_f64();
        say(format_args!("{}: done after {seconds:.1} s", wishes.name));
        if captured.missed > 0 {
            say(format_args!(
                "the capture had no room for {} packets: they were not looked at",
                captured.missed
            ));
        }
        let rows = pairs
            .into_iter()
            .zip(results)
            .map(|(pair, cells)| Row { pair, cells })
            .collect();
        Ok(Round {
            topology,
            links,
            vni: wishes.vni,
            rows,
            flows,
            refused,
            contradictions,
            captured,
        })
    }
}

/// One way for each WireGuard link: its session serves both ends and all that it carries.
fn sessions<'a>(pairs: &[Pair<'a>]) -> Vec<Pair<'a>> {
    let mut known = BTreeSet::new();
    let secret = pairs
        .iter()
        .filter(|pair| pair.link.encapsulation == Encapsulation::Wireguard);
    let first = secret.filter(|pair| {
        let mut ends = [pair.link.local, pair.link.remote];
        ends.sort();
        known.insert(ends)
    });
    first.copied().collect()
}

fn kernel_release() -> Result<String> {
    Ok(nix::sys::utsname::uname()
        .context("uname")?
        .release()
        .to_string_lossy()
        .into_owned())
}
