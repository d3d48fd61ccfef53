//! Runs the lab on the running kernel: starts the agents, sends traffic round by round, and reports.
use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::time::{Duration, Instant};

use adit_tests::agent::Agent;
use adit_tests::interrupt;
use adit_tests::overlay::Overlay;
use anyhow::{Context as _, Result, bail};
use dataplane_user::status::Status;

use super::capture::Capture;
use super::links::Links;
use super::options::{ADVERTISERS, Dataplane, Encapsulation, Options};
use super::pairs::{self, Ends};
use super::plain::Routes;
use super::progress::say;
use super::report::{Format, Report};
use super::requested::{self, Requested};
use super::site::Site;
use super::topology::Topology;
use super::traffic::{self, Kind, Pair};
use super::verdict::{Round, Row};
use super::{agents, hold, shared};

/// The traffic that shows whether a pair can communicate.
const QUICK: [Kind; 2] = [Kind::Icmp, Kind::UdpByte];

/// Time limits.
struct Waits {
    /// To wait for a packet.
    packet: Duration,
    /// To wait until an agent is ready, or ends.
    agent: Duration,
    /// To wait for WireGuard sessions: a lost handshake is retried after five seconds.
    session: Duration,
}

impl Waits {
    /// Guests get twenty times as long for each packet, because they may be emulated.
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

/// Runs the lab. Returns whether everything arrived and nothing crossed the underlay without its encapsulation.
pub(crate) fn run(options: &Options) -> Result<bool> {
    interrupt::watch()?;
    let topology = Topology::new(options.nodes, options.underlay);
    say(format_args!(
        "creating {} hosts behind a router, with a pod behind each host",
        topology.nodes.len()
    ));
    let site = Site::build(topology, options.shared_prefix)?;
    let ends = Ends::new(&site);
    let mut stage = Stage {
        options,
        site: &site,
        ends: &ends,
        waits: Waits::new(),
        agents: Vec::new(),
    };
    let result = stage.play();

    if !matches!(result, Ok(true)) && !interrupt::happened() {
        agents::show_logs(&stage.agents);
    }
    if let Some(first) = stage.agents.first()
        && options.hold
        && !interrupt::happened()
    {
        if let Err(error) = &result {
            eprintln!("Error: {error:#}");
        }
        hold::hold(&site, first)?;
    }
    agents::stop(stage.agents, stage.waits.agent);
    result
}

struct Stage<'a> {
    options: &'a Options,
    site: &'a Site,
    ends: &'a Ends<'a>,
    waits: Waits,
    agents: Vec<Agent<'a>>,
}

impl<'a> Stage<'a> {
    /// Runs all rounds. Returns whether everything was right.
    fn play(&mut self) -> Result<bool> {
        let format = match self.options.json {
            true => Format::Json,
            false => Format::Text {
                colour: self.options.colour,
            },
        };
        let mut report = Report::new(format, kernel_release()?);
        let mut rounds = requested::rounds(self.options);
        if self.options.sabotage.is_some() {
            rounds.truncate(1);
        }
        for requested in &rounds {
            interrupt::check()?;
            let statuses = self.ready(requested)?;
            let links = Links::expected(&self.site.topology, requested);
            let routes = Routes::put(&self.site.router, &self.site.topology, &links);
            if self.options.sabotage.is_some() {
                self.sabotage(requested, &statuses)?;
            }
            let round = self.round(requested, &statuses, &Kind::ALL.into())?;
            interrupt::check()?;
            report.add(&round)?;
            routes.remove();
        }
        report.finish()
    }

    /// Starts the agents, or makes them reload the manifests, and waits until all are ready.
    fn ready(&mut self, requested: &Requested) -> Result<BTreeMap<String, Status>> {
        let start = Instant::now();
        let manifests = self.manifests(requested);
        self.agents.iter().for_each(|agent| agent.write(&manifests));
        if self.agents.is_empty() {
            for host in &self.site.hosts {
                self.agents.push(agents::start(host, &manifests)?);
            }
        }
        let mut statuses = BTreeMap::new();
        for agent in &mut self.agents {
            let status = agents::wait_ready(agent, requested.vni, self.waits.agent)?;
            statuses.insert(agent.host().name.to_owned(), status);
        }
        let seconds = start.elapsed().as_secs_f64();
        say(format_args!(
            "{}: all agents are ready after {seconds:.1} s",
            requested.name
        ));
        for host in &self.site.hosts {
            // The MTU, as a CNI plugin would set it.
            host.route_pod(&format!("mtu {}", pairs::mtu(&statuses, host)?));
        }
        Ok(statuses)
    }

    /// The manifests of a round.
    fn manifests(&self, requested: &Requested) -> String {
        let Topology { nodes, underlay } = &self.site.topology;
        let names = nodes.iter().map(|node| node.name);
        let wanted = names.clone().zip(&requested.nodes);
        let wanted = wanted.filter_map(|(name, wish)| Some((name, (*wish)?.name())));
        let by_routes = |index: usize| match self.options.dataplane {
            Dataplane::Ebpf => false,
            Dataplane::Routes => true,
            Dataplane::Mixed => index % 2 == 1,
        };
        let by_routes = names.clone().enumerate().filter(|(index, _)| by_routes(*index));
        let advertisers = if self.options.shared_prefix {
            ADVERTISERS
        } else {
            0
        };
        let overlay = Overlay {
            underlay: underlay.preferred(),
            vni: requested.vni,
            requested: wanted.collect(),
            dataplanes: by_routes.map(|(_, name)| (name, "routes")).collect(),
            shared: names.take(advertisers).collect(),
            ..Overlay::new(nodes, Requested::name_of(requested.network))
        };
        overlay.manifests(nodes)
    }

    /// Kills an agent, which must not affect traffic, and breaks one thing on its host, which must.
    fn sabotage(&mut self, requested: &Requested, statuses: &BTreeMap<String, Status>) -> Result<()> {
        let Some(sabotage) = self.options.sabotage else {
            return Ok(());
        };
        let agent = self.agents.first_mut().context("the lab has no agent")?;
        let node = agent.host().name;
        say(format_args!("killing the agent of {node}: traffic must continue"));
        agent.kill();
        let round = self.round(requested, statuses, &QUICK.into())?;
        let (losses, leaks) = (round.losses(), round.leaks());
        if !losses.is_empty() || !leaks.is_empty() {
            bail!(
                "traffic stopped when the agent of {node} was killed:\n{}",
                [losses, leaks].concat().join("\n")
            );
        }
        say(format_args!(
            "sabotaging {node} ({}): the lab must fail now",
            sabotage.name()
        ));
        sabotage.commit(&self.agents[0])
    }

    /// Sends all traffic with these manifests, and captures on the router meanwhile.
    fn round(
        &self,
        requested: &Requested,
        statuses: &BTreeMap<String, Status>,
        kinds: &BTreeSet<Kind>,
    ) -> Result<Round<'a>> {
        let topology = &self.site.topology;
        let links = Links::expected(topology, requested);
        let refused = pairs::refused(statuses);
        let mut contradictions = links.contradictions(topology, statuses);
        contradictions.extend(links.unexpected(topology, &refused));

        let pairs = pairs::all(self.ends, &links, statuses)?;
        let names: Vec<&str> = kinds.iter().map(|kind| kind.name()).collect();
        say(format_args!(
            "{}: sending {} between {} pairs",
            requested.name,
            names.join(", "),
            pairs.len()
        ));
        let start = Instant::now();
        let capture = Capture::start(&self.site.router);
        traffic::warm_up(&sessions(&pairs), self.waits.packet, self.waits.session);
        let results = traffic::run(&pairs, kinds, self.waits.packet);
        let flows = match self.options.shared_prefix {
            true => shared::measure(self.ends, &links, self.waits.packet)?,
            false => Vec::new(),
        };
        let captured = capture.finish()?;
        let seconds = start.elapsed().as_secs_f64();
        say(format_args!(
            "{}: sent and captured in {seconds:.1} s",
            requested.name
        ));
        if captured.missed > 0 {
            say(format_args!(
                "the capture missed {} packets, because this machine was too slow to read them",
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
            vni: requested.vni,
            rows,
            flows,
            refused,
            contradictions,
            captured,
        })
    }
}

/// One pair for each WireGuard link, because a session serves both directions and all traffic.
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
