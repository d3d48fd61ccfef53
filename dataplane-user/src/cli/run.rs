//! `adit run`: the agent of this node.
//!
//! Tasks, all on one thread: the reconciliation loop, tasks that only send events to it (file watch, kernel,
//! timers, signals), and one that notifies systemd. Two other threads answer: one on
//! the socket, one over HTTP. When the loop ends, the process ends, and the other tasks with it; none of them has
//! anything to clean up.

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

use super::directories::{Directories, Manifests};
use super::exit::{Code, Failure};
use super::privilege::{self, BPF, NET_ADMIN, PERFMON};
use crate::event::Event;
use crate::heartbeat::Heartbeat;
use crate::kernel::LinuxKernel;
use crate::kernel::bpf::{self, BpfOptions};
use crate::kernel::netlink::{EventCounts, Events, Woken};
use crate::limits;
use crate::pauses::Pauses;
use crate::reconcile::{Agent, Config};
use crate::reporter::Reporter;
use crate::serve::http::Http;
use crate::serve::{self, EndpointAges, Listeners, View, Withdrawals};
use crate::source::file::STANDARD_INPUT;
use crate::source::{KeyRing, Watch};
use crate::status::Status;

/// Run the agent of this node
///
/// The agent loads the manifests, changes the kernel to match them, and watches both. It stays in the
/// foreground and ends on SIGINT or SIGTERM; traffic continues. A new version of the manifests is accepted
/// only if all of it is valid. SIGHUP loads the manifests at once.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  adit run -f /etc/adit/manifests --node a\n  adit run -f network.yaml -f nodes.yaml\n  adit run -f /etc/adit/manifests --http '[::1]:9200'\n  curl -s localhost:9173/metrics"
)]
pub(super) struct Arguments {
    #[command(flatten)]
    manifests: Manifests,
    /// Log level (error, warn, info, debug, trace), or a filter in the syntax of the Rust library tracing
    #[arg(long, env = "ADIT_LOG", default_value = "info", value_name = "FILTER")]
    log: String,
    /// Log the decision of the BPF programs for each packet, at level debug; this slows traffic down
    #[arg(long)]
    log_packets: bool,
    /// Interval of full reconciliations, in seconds
    #[arg(long, default_value_t = 30, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    resync: u64,
    /// Interval of checks for changes that send no event (programs, pins, WireGuard peers), in seconds; a
    /// change starts a full reconciliation
    #[arg(long, default_value_t = 5, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    recheck: u64,
    /// Waiting times before retries: NAME=MILLISECONDS, separated by commas
    #[arg(
        long,
        hide_short_help = true,
        help_heading = "For tests only",
        value_name = "PAUSES"
    )]
    pauses: Option<Pauses>,
    /// Address of the HTTP server (/metrics, /healthz, /readyz, /status): an IP address and a port, or `off`
    #[arg(
        long,
        env = "ADIT_HTTP",
        default_value = "127.0.0.1:9173",
        value_name = "ADDRESS:PORT|off"
    )]
    http: HttpAddress,
    /// Include public keys, endpoints and underlay addresses in HTTP answers, for anyone who can connect;
    /// answers on the socket always include them
    #[arg(long)]
    http_details: bool,
    /// Answer /metrics and /status also for this host name, besides IP addresses and localhost; may be
    /// repeated
    #[arg(long, value_name = "NAME")]
    http_host: Vec<String>,
}

/// The address of the HTTP server, if there is one.
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
            "expected an IP address and a port, such as 127.0.0.1:9173 or [::1]:9173, or `off`".to_owned()
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
                "can't listen for HTTP on {address}; choose another address with --http ADDRESS:PORT, or disable HTTP with \
                 --http off"
            ))
        })?;
        Ok(Some(listener))
    }
}

pub(super) async fn run(directories: &Directories, arguments: Arguments) -> Result<(), Failure> {
    start_logging(&arguments.log)?;
    let node = arguments.manifests.node()?;
    let paths = &arguments.manifests.paths;
    if paths.iter().any(|path| path == Path::new(STANDARD_INPUT)) {
        let text = "-f -: an agent reads its manifests repeatedly, and standard input can be read only once: name files";
        return Err(Failure::new(Code::Usage, anyhow!(text)));
    }
    privilege::require(&[NET_ADMIN, BPF, PERFMON])?;
    let locks = directories.lock("the agent does not start")?;
    directories.refuse_newer()?;
    if let Err(error) = serve::raise_descriptor_limit() {
        warn!("can't raise the limit of open files (RLIMIT_NOFILE): {error}");
    }
    let http = arguments.http.listen()?.map(|listener| Http {
        listener,
        details: arguments.http_details,
        hosts: arguments.http_host,
    });
    let listeners = Listeners {
        socket: locks.run_directory.listen()?,
        lock: locks.namespace.listener()?,
        http,
    };
    let keys = KeyRing::new(&directories.state_dir);
    let mut kernel = open_kernel(directories, arguments.log_packets, &keys)?;
    // Before the first read, so that no change in between is missed.
    let counts = Arc::new(EventCounts::default());
    let kernel_events = kernel
        .subscribe(Arc::clone(&counts))
        .context("subscribing to kernel events")?;
    if arguments.log_packets {
        log_packets(&mut kernel)?;
    }

    let (sender, events) = mpsc::channel(limits::EVENTS_WAITING);
    let resync = Duration::from_secs(arguments.resync);
    let config = Config {
        paths: arguments.manifests.paths,
        node,
        state_directory: directories.state_dir.clone(),
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
    let mut teller = Reporter::new(&config);
    teller.recorder().counts_events(counts);
    spawn_local(tell_systemd(teller.status()));
    let view = View {
        status: teller.status(),
        recorder: teller.recorder(),
        bpffs: directories.bpffs.clone(),
        withdrawals: Withdrawals {
            state_directory: directories.state_dir.clone(),
            events: sender,
        },
        endpoints: EndpointAges::default(),
        drops,
        heartbeat,
    };
    serve::start(listeners, view).context("starting the thread that answers requests")?;
    Agent::new(kernel, config).run(events, &mut teller).await;
    notify(NotifyState::Stopping);
    Ok(())
}

/// Opens the kernel interfaces. Another process may have locked the directory of pins.
fn open_kernel(directories: &Directories, log: bool, keys: &KeyRing) -> Result<LinuxKernel, Failure> {
    let options = BpfOptions {
        log,
        ..BpfOptions::new(&directories.bpffs)
    };
    LinuxKernel::open(&options, &directories.state_dir, keys.private_keys()).map_err(|error| {
        let code = if bpf::is_locked(&error) {
            Code::Refused
        } else {
            Code::Error
        };
        Failure::new(code, anyhow!(error).context("opening the kernel interfaces"))
    })
}

/// The waiting times. Resolved names are cached no longer than until the next full reconciliation.
fn pauses(given: Option<Pauses>, resync: Duration) -> Pauses {
    let pauses = given.unwrap_or_default();
    Pauses {
        names: resync.min(pauses.names),
        ..pauses
    }
}

/// Messages of aya about loading objects are for developers; a filter that names aya shows them.
const QUIET_LIBRARIES: &str = "aya=error,aya_obj=error";

fn start_logging(filter: &str) -> Result<(), Failure> {
    let filter = EnvFilter::try_new(format!("{QUIET_LIBRARIES},{filter}")).context("--log")?;
    let colour = io::stderr().is_terminal();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(colour)
        .with_writer(io::stderr)
        // Otherwise it panics when the log can't be written.
        .log_internal_errors(false)
        .init();
    Ok(())
}

/// Notifies systemd that the unit has started when the first reconciliation has ended, successful or not.
/// Afterwards sends each new state as a line.
async fn tell_systemd(mut status: watch::Receiver<Status>) {
    let mut sent = None;
    while status.changed().await.is_ok() {
        let (passes, unready) = {
            let now = status.borrow();
            (now.reconciliation.number, now.unready())
        };
        if passes == 0 {
            continue;
        }
        let line = match unready {
            None => "ready".to_owned(),
            Some(why) => format!("not ready: {}", why.lines().next().unwrap_or_default()),
        };
        if sent.is_none() {
            notify(NotifyState::Ready);
        }
        if sent.as_ref() != Some(&line) {
            notify(NotifyState::Status(&line));
            sent = Some(line);
        }
    }
}

/// Does nothing if systemd has not started this process.
fn notify(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        warn!("can't notify systemd: {error}");
    }
}

fn log_packets(kernel: &mut LinuxKernel) -> Result<(), Failure> {
    let drain = kernel.take_log()?;
    spawn_local(async move {
        if let Err(error) = drain.run().await {
            warn!("can't read the log of the BPF programs any more: {error}");
        }
    });
    Ok(())
}

fn send_source_changes(config: &Config, sender: mpsc::Sender<Event>) {
    let mut watch = match Watch::new(&config.paths) {
        Ok(watch) => watch,
        Err(error) => {
            warn!("can't watch the manifests; only full reconciliations (--resync) find changes: {error}");
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
                    warn!(
                        "can't receive kernel events any more; only full reconciliations (--resync) find changes: {error}"
                    );
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
        let mut stream = signal(kind).context("listening for signals")?;
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
    fn a_port_in_use_is_reported_with_the_flag() {
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
