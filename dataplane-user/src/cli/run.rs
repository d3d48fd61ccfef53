//! `adit run`: this node's agent.
//!
//! Tasks, all on one thread: the agent's loop, four that only send events to it (file watch, kernel, timer, signals), and one
//! that tells systemd how it is. Another thread answers on the socket and over HTTP. When the loop ends the process
//! does, and the others with it; none holds anything that must be given back.

use std::io::{self, IsTerminal};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use clap::Args;
use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::spawn_local;
use tracing::warn;
use tracing_subscriber::EnvFilter;

use super::exit::{Code, Failure};
use super::places::{Manifests, Places};
use super::privilege::{self, BPF, NET_ADMIN, PERFMON};
use crate::event::Event;
use crate::gather::private_keys;
use crate::heartbeat::Heartbeat;
use crate::kernel::LinuxKernel;
use crate::kernel::bpf::BpfOptions;
use crate::kernel::netlink::{EventCounts, Events, Woken};
use crate::limits;
use crate::pauses::Pauses;
use crate::reconcile::{Agent, Config};
use crate::serve::http::Http;
use crate::serve::{self, EndpointAges, Listeners, View, Withdrawals};
use crate::source::file::STANDARD_INPUT;
use crate::source::{KeyRing, Watch};
use crate::status::Status;
use crate::tell::Teller;

/// Stays in the foreground; ends on SIGINT or SIGTERM and leaves the dataplane forwarding. A new version of the
/// manifests is taken when it is valid as a whole; SIGHUP loads them at once.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  adit run -f /etc/adit/manifests --node a\n  adit run -f network.yaml -f nodes.yaml\n  adit run -f /etc/adit/manifests --http '[::1]:9200'\n  curl -s localhost:9173/metrics"
)]
pub(super) struct Arguments {
    #[command(flatten)]
    manifests: Manifests,
    /// What to log: a level (error, warn, info, debug, trace) or tracing's filter syntax
    #[arg(long, env = "ADIT_LOG", default_value = "info", value_name = "FILTER")]
    log: String,
    /// Logs what the BPF programs decide, packet by packet (costs speed; shown at level debug)
    #[arg(long)]
    log_packets: bool,
    /// Seconds between full passes, which find what no event tells of
    #[arg(long, default_value_t = 30, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    resync: u64,
    /// Seconds between looks at what changes without an event and is cheap to read (programs, pins, WireGuard's peers); a full
    /// pass follows where something did
    #[arg(long, default_value_t = 5, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    recheck: u64,
    /// How long to wait before something is done again: NAME=MILLISECONDS, and further ones after commas
    #[arg(
        long,
        hide_short_help = true,
        help_heading = "For tests alone",
        value_name = "PAUSES"
    )]
    pauses: Option<Pauses>,
    /// Where to answer over HTTP (/metrics, /healthz, /readyz, /status): an address and a port, or `off`
    #[arg(
        long,
        env = "ADIT_HTTP",
        default_value = "127.0.0.1:9173",
        value_name = "ADDRESS:PORT|off"
    )]
    http: HttpAddress,
    /// Tell public keys, endpoints and underlay addresses over HTTP too, to whoever can connect; the socket always does
    #[arg(long)]
    http_details: bool,
    /// Answer /metrics and /status also for this host name, beside IP addresses and localhost; may be repeated
    #[arg(long, value_name = "NAME")]
    http_host: Vec<String>,
}

/// Where HTTP is answered, if at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum HttpAddress {
    Off,
    At(SocketAddr),
}

impl FromStr for HttpAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<HttpAddress, String> {
        if text == "off" {
            return Ok(HttpAddress::Off);
        }
        text.parse().map(HttpAddress::At).map_err(|_| {
            "say an IP address and a port, as in 127.0.0.1:9173 or [::1]:9173, or `off`".to_owned()
        })
    }
}

impl HttpAddress {
    fn listen(self) -> Result<Option<TcpListener>, Failure> {
        let HttpAddress::At(address) = self else {
            return Ok(None);
        };
        let listener = TcpListener::bind(address).map_err(|error| {
            anyhow!(error).context(format!(
                "can't answer over HTTP on {address}; name another place by --http ADDRESS:PORT, or --http off"
            ))
        })?;
        Ok(Some(listener))
    }
}

pub(super) async fn run(places: &Places, arguments: Arguments) -> Result<(), Failure> {
    start_logging(&arguments.log)?;
    let node = arguments.manifests.node()?;
    let paths = &arguments.manifests.paths;
    if paths.iter().any(|path| path == Path::new(STANDARD_INPUT)) {
        let text = "-f -: an agent reads its manifests again and again, and the standard input only once: name files";
        return Err(Failure::new(Code::Usage, anyhow!(text)));
    }
    privilege::require(&[NET_ADMIN, BPF, PERFMON])?;
    let run_directory = places.lock("this agent does not start")?;
    places.refuse_newer()?;
    if let Err(error) = serve::raise_descriptor_limit() {
        warn!("the limit of open files (RLIMIT_NOFILE) stays as it is: {error}");
    }
    let http = arguments.http.listen()?.map(|listener| Http {
        listener,
        details: arguments.http_details,
        hosts: arguments.http_host,
    });
    let listeners = Listeners {
        socket: run_directory.listen()?,
        http,
    };
    let options = BpfOptions {
        log: arguments.log_packets,
        ..BpfOptions::new(&places.bpffs)
    };
    let keys = KeyRing::new(&places.state_dir);
    let mut kernel = LinuxKernel::open(&options, &places.state_dir, private_keys(&keys))
        .context("opening the kernel's interfaces")?;
    // Before anything is read, so that nothing slips through between.
    let counts = Arc::new(EventCounts::default());
    let kernel_events = kernel
        .subscribe(Arc::clone(&counts))
        .context("subscribing to the kernel's events")?;
    if arguments.log_packets {
        log_packets(&mut kernel)?;
    }

    let (sender, events) = mpsc::channel(limits::EVENTS_WAITING);
    let resync = Duration::from_secs(arguments.resync);
    let config = Config {
        paths: arguments.manifests.paths,
        node,
        state_directory: places.state_dir.clone(),
        keys,
        pauses: pauses(arguments.pauses, resync),
        heartbeat: Heartbeat::new(resync, sd_notify::watchdog_enabled()),
    };
    send_source_changes(&config, sender.clone());
    send_each(resync, Event::Resync, sender.clone());
    let recheck = Duration::from_secs(arguments.recheck);
    send_each(recheck, Event::Recheck, sender.clone());
    send_kernel_changes(kernel_events, sender.clone());
    send_signals(&sender)?;
    let drops = kernel.drops();
    let heartbeat = config.heartbeat.clone();
    let mut teller = Teller::new(&config);
    teller.recorder().counts_events(counts);
    spawn_local(tell_systemd(teller.status()));
    let view = View {
        status: teller.status(),
        recorder: teller.recorder(),
        bpffs: places.bpffs.clone(),
        withdrawals: Withdrawals {
            state_directory: places.state_dir.clone(),
            events: sender,
        },
        endpoints: EndpointAges::default(),
        drops,
        heartbeat,
    };
    serve::start(listeners, view).context("starting the thread that answers")?;
    Agent::new(kernel, config).run(events, &mut teller).await;
    notify(NotifyState::Stopping);
    Ok(())
}

/// Names are believed no longer than until the next full reconciliation.
fn pauses(given: Option<Pauses>, resync: Duration) -> Pauses {
    let pauses = given.unwrap_or_default();
    Pauses {
        names: resync.min(pauses.names),
        ..pauses
    }
}

/// What aya says of an object's loading is for whoever develops it; a filter that names it gets it.
const QUIET_LIBRARIES: &str = "aya=error,aya_obj=error";

fn start_logging(filter: &str) -> Result<(), Failure> {
    let filter = EnvFilter::try_new(format!("{QUIET_LIBRARIES},{filter}")).context("--log")?;
    let colour = io::stderr().is_terminal();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(colour)
        .with_writer(io::stderr)
        // There is nobody to tell when nobody reads the log; it would panic.
        .log_internal_errors(false)
        .init();
    Ok(())
}

/// The unit has started once a first pass has ended, whatever it came to; then each new state in a line.
async fn tell_systemd(mut status: watch::Receiver<Status>) {
    let mut told = None;
    while status.changed().await.is_ok() {
        let (passes, unready) = {
            let now = status.borrow();
            (now.pass.number, now.unready())
        };
        if passes == 0 {
            continue;
        }
        let line = match unready {
            None => "ready".to_owned(),
            Some(why) => format!("not ready: {}", why.lines().next().unwrap_or_default()),
        };
        if told.is_none() {
            notify(NotifyState::Ready);
        }
        if told.as_ref() != Some(&line) {
            notify(NotifyState::Status(&line));
            told = Some(line);
        }
    }
}

/// Does nothing where systemd has not started us.
fn notify(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        warn!("systemd can't be told: {error}");
    }
}

fn log_packets(kernel: &mut LinuxKernel) -> Result<(), Failure> {
    let drain = kernel.take_log()?;
    spawn_local(async move {
        if let Err(error) = drain.run().await {
            warn!("what the BPF programs log is lost from here on: {error}");
        }
    });
    Ok(())
}

fn send_source_changes(config: &Config, sender: mpsc::Sender<Event>) {
    let mut watch = match Watch::new(&config.paths) {
        Ok(watch) => watch,
        Err(error) => {
            warn!("changes of manifests are only seen by the periodic pass: {error}");
            return;
        }
    };
    spawn_local(async move {
        loop {
            watch.changed().await;
            if sender.send(Event::SourceChanged).await.is_err() {
                return;
            }
        }
    });
}

fn send_each(period: Duration, event: Event, sender: mpsc::Sender<Event>) {
    spawn_local(async move {
        loop {
            tokio::time::sleep(period).await;
            if sender.send(event).await.is_err() {
                return;
            }
        }
    });
}

fn send_kernel_changes(mut events: Events, sender: mpsc::Sender<Event>) {
    spawn_local(async move {
        loop {
            let event = match events.changed().await {
                Ok(Woken::Changed) => Event::KernelChanged,
                Ok(Woken::Lost) => Event::EventsLost,
                Err(error) => {
                    warn!("what changes in the kernel is only seen by the periodic pass: {error}");
                    return;
                }
            };
            if sender.send(event).await.is_err() {
                return;
            }
        }
    });
}

fn send_signals(sender: &mpsc::Sender<Event>) -> Result<(), Failure> {
    let signals = [
        (SignalKind::interrupt(), Event::Stop),
        (SignalKind::terminate(), Event::Stop),
        (SignalKind::hangup(), Event::SourceChanged),
    ];
    for (kind, event) in signals {
        let mut stream = signal(kind).context("listening to signals")?;
        let sender = sender.clone();
        spawn_local(async move {
            while stream.recv().await.is_some() {
                if sender.send(event).await.is_err() {
                    return;
                }
            }
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn http_is_an_address_or_off() {
        assert_eq!("off".parse(), Ok(HttpAddress::Off));
        assert_eq!(
            "127.0.0.1:1".parse(),
            Ok(HttpAddress::At(SocketAddr::from(([127, 0, 0, 1], 1))))
        );
        for wrong in ["", "9173", "localhost:1", "::1:9173", "127.0.0.1"] {
            assert!(
                wrong.parse::<HttpAddress>().unwrap_err().contains("`off`"),
                "{wrong}"
            );
        }
    }

    #[test]
    fn a_port_in_use_is_told_with_the_flag() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let failure = HttpAddress::At(taken.local_addr().unwrap())
            .listen()
            .unwrap_err()
            .to_string();
        assert!(
            failure.contains("--http") && failure.contains("in use"),
            "{failure}"
        );
    }
}
