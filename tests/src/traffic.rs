//! Traffic between two ends, over real sockets that are created in their namespaces and used from any thread.

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail, ensure};
use dataplane_user::net::Family;
use nix::errno::Errno;
use nix::sys::socket::{SockaddrStorage, bind, setsockopt, sockopt};

use crate::agent::PATIENCE;
use crate::interrupt::Deadline;
use crate::socket::{is_pause, receive};
use crate::topology::End;
use crate::{NetNs, icmp};

/// How long to wait for one answer before asking again.
const ANSWER: Duration = Duration::from_millis(500);
/// How long to wait at the end for probes that are still unanswered.
const LAST_ANSWER: Duration = Duration::from_secs(2);
/// How long a probe waits for its answer before the next is sent.
const PROBE_ANSWER: Duration = Duration::from_millis(100);
const BETWEEN_PROBES: Duration = Duration::from_millis(2);

/// Sends an ICMP echo, a small and a large UDP packet and a TCP stream in both directions.
///
/// # Errors
/// If something does not arrive.
pub fn all(from: End<'_>, to: End<'_>, family: Family) -> Result<()> {
    let (source, destination) = (from.address(family), to.address(family));
    let way = || format!("{source} to {destination}");
    ping(from, to, family).with_context(way)?;
    udp(from, to, family, 1).with_context(way)?;
    udp(from, to, family, 1300).with_context(way)?;
    tcp(from, to, family, 300_000).with_context(way)
}

/// Sends a UDP packet and receives its echo.
///
/// # Errors
/// If no answer arrives.
pub fn udp(from: End<'_>, to: End<'_>, family: Family, payload: usize) -> Result<()> {
    let server = bound(to.netns, to.address(family))?;
    let client = bound(from.netns, from.address(family))?;
    client.connect(server.local_addr()?)?;
    let packet = vec![0xa5; payload];
    let mut buffer = [0; 2048];
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        client.send(&packet).context("UDP: send")?;
        let Some((length, peer)) = unless_late(server.recv_from(&mut buffer))? else {
            continue;
        };
        ensure!(buffer[..length] == packet, "UDP: another packet arrived");
        ensure!(peer.ip() == from.address(family), "UDP: it came from {peer}");
        server.send_to(&packet, peer).context("UDP: send back")?;
        if let Some(length) = unless_late(client.recv(&mut buffer))? {
            ensure!(buffer[..length] == packet, "UDP: another packet came back");
            return Ok(());
        }
    }
    bail!("UDP: no answer within {PATIENCE:?}")
}

/// Opens a TCP connection and sends a number of bytes in both directions.
///
/// # Errors
/// If they do not arrive.
pub fn tcp(from: End<'_>, to: End<'_>, family: Family, bytes: usize) -> Result<()> {
    let (source, destination) = (from.address(family), to.address(family));
    let listener = to.netns.enter(|| TcpListener::bind((destination, 0)))?;
    let server_address = listener.local_addr()?;
    let connect = || TcpStream::connect_timeout(&server_address, PATIENCE);
    let mut client = from.netns.enter(connect).context("TCP: connect")?;
    ensure!(client.local_addr()?.ip() == source, "TCP: not from {source}");
    client.set_read_timeout(Some(PATIENCE))?;
    client.set_write_timeout(Some(PATIENCE))?;
    let (mut server, _) = listener.accept()?;
    server.set_read_timeout(Some(PATIENCE))?;
    server.set_write_timeout(Some(PATIENCE))?;
    let data = (0..bytes).map(|index| index.to_le_bytes()[0]).collect::<Vec<_>>();
    thread::scope(|scope| {
        let echo = scope.spawn(move || -> io::Result<()> {
            let mut received = vec![0; bytes];
            server.read_exact(&mut received)?;
            server.write_all(&received)
        });
        client.write_all(&data).context("TCP: write")?;
        let mut back = vec![0; bytes];
        client.read_exact(&mut back).context("TCP: read")?;
        echo.join()
            .expect("the echo does not panic")
            .context("TCP: echo")?;
        ensure!(back == data, "TCP: other data came back");
        Ok(())
    })
}

/// Sends an ICMP echo request and receives its answer.
///
/// # Errors
/// If no answer arrives.
pub fn ping(from: End<'_>, to: End<'_>, family: Family) -> Result<()> {
    let socket = from.netns.enter(|| icmp::raw(family))?;
    bind(socket.as_raw_fd(), &storage(from.address(family)))?;
    let deadline = Instant::now() + PATIENCE;
    let mut sequence = 0;
    while Instant::now() < deadline {
        let request = icmp::request(family, 0xad17, sequence);
        socket
            .send_to(&request, (to.address(family), 0))
            .context("ICMP: send")?;
        let is_answer = |packet: &[u8], _| icmp::answers(packet, family, &request).then_some(());
        let answer = receive(&socket, Deadline::after(ANSWER), is_answer);
        if answer.context("ICMP: receive")?.is_some() {
            return Ok(());
        }
        sequence += 1;
    }
    bail!("ICMP: no answer within {PATIENCE:?}")
}

/// The error of the kernel for a UDP packet of a namespace, at once or by ICMP; `None` if there is none within a second.
///
/// # Errors
/// If the socket cannot be created, or there is an answer.
pub fn refusal(from: &NetNs, to: IpAddr) -> Result<Option<Errno>> {
    let family = Family::of(to);
    let client = bound(from, family.unspecified())?;
    match family {
        Family::Ipv4 => setsockopt(&client, sockopt::Ipv4RecvErr, &true)?,
        Family::Ipv6 => setsockopt(&client, sockopt::Ipv6RecvErr, &true)?,
    }
    client.set_read_timeout(Some(Duration::from_secs(1)))?;
    let tried = client
        .connect((to, 9))
        .and_then(|()| client.send(b"adit"))
        .and_then(|_| client.recv(&mut [0; 16]));
    match tried {
        Err(error) if is_pause(&error) => Ok(None),
        Err(error) => Ok(error.raw_os_error().map(Errno::from_raw)),
        Ok(_) => bail!("{to} answered"),
    }
}

/// A UDP socket in a namespace, with a time-out.
///
/// # Errors
/// The error of the kernel.
pub fn bound(netns: &NetNs, address: IpAddr) -> io::Result<UdpSocket> {
    let socket = netns.enter(|| UdpSocket::bind((address, 0)))?;
    socket.set_read_timeout(Some(ANSWER))?;
    Ok(socket)
}

/// UDP packets with sequence numbers, echoed, every few milliseconds until [`Probes::finish`].
pub struct Probes {
    stop_client: StopOnDrop,
    stop_server: StopOnDrop,
    client: JoinHandle<io::Result<Lost>>,
    server: JoinHandle<io::Result<()>>,
}

/// Ends the threads, also if the test fails.
struct StopOnDrop(Arc<AtomicBool>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// How many probes were sent, and how many of them were not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lost {
    /// The number of sent probes.
    pub sent: u32,
    /// The number of sent probes that were never answered.
    pub lost: u32,
}

impl Probes {
    /// Starts to send after a first packet was answered.
    ///
    /// # Errors
    /// If no packet is answered, or sockets cannot be created.
    pub fn start(from: End<'_>, to: End<'_>, family: Family) -> Result<Probes> {
        Probes::every(BETWEEN_PROBES, from, to, family)
    }

    /// As [`Probes::start`], with another pause between an answer and the next probe, because frequent probes use most of an
    /// emulated machine.
    ///
    /// # Errors
    /// As [`Probes::start`].
    pub fn every(pause: Duration, from: End<'_>, to: End<'_>, family: Family) -> Result<Probes> {
        udp(from, to, family, 4)?;
        let server = bound(to.netns, to.address(family))?;
        let client = bound(from.netns, from.address(family))?;
        client.connect(server.local_addr()?)?;
        let (client_stop, server_stop) = (Arc::default(), Arc::default());
        Ok(Probes {
            stop_client: StopOnDrop(Arc::clone(&client_stop)),
            stop_server: StopOnDrop(Arc::clone(&server_stop)),
            client: thread::spawn(move || send_probes(&client, &client_stop, pause)),
            server: thread::spawn(move || echo(&server, &server_stop)),
        })
    }

    /// Stops, waits for the last answers, and counts.
    ///
    /// # Errors
    /// If the sockets failed.
    pub fn finish(self) -> Result<Lost> {
        let Probes {
            stop_client,
            stop_server,
            client,
            server,
        } = self;
        drop(stop_client);
        let lost = client.join().expect("the client does not panic")?;
        drop(stop_server);
        server.join().expect("the server does not panic")?;
        Ok(lost)
    }
}

/// Sends one probe at a time, after the answer to the last, so that a busy machine sends fewer probes and fills no queue.
fn send_probes(client: &UdpSocket, stop: &AtomicBool, pause: Duration) -> io::Result<Lost> {
    client.set_read_timeout(Some(PROBE_ANSWER))?;
    let (mut sent, mut answered) = (0_u32, 0_u32);
    // One more than the number of the last answered probe.
    let mut last = 0;
    let mut buffer = [0; 4];
    loop {
        let is_last = stop.load(Ordering::Acquire);
        // A drop by the program is an error here, and counts as a lost packet.
        let _dropped = client.send(&sent.to_be_bytes());
        sent += 1;
        // After the last probe, earlier answers may still arrive.
        let deadline = Instant::now() + if is_last { LAST_ANSWER } else { PROBE_ANSWER };
        while (last < sent || is_last && answered < sent) && Instant::now() < deadline {
            match client.recv(&mut buffer) {
                Ok(_) => {
                    answered += 1;
                    last = last.max(u32::from_be_bytes(buffer) + 1);
                }
                Err(error) if is_pause(&error) || unreachable(&error) => {}
                Err(error) => return Err(error),
            }
        }
        if last < sent {
            let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            let to = client.peer_addr()?;
            eprintln!("{time:?}: of {sent} probes to {to}, {answered} were answered so far");
        }
        if is_last {
            let lost = sent - answered;
            return Ok(Lost { sent, lost });
        }
        thread::sleep(pause);
    }
}

fn echo(server: &UdpSocket, stop: &AtomicBool) -> io::Result<()> {
    server.set_read_timeout(Some(Duration::from_millis(20)))?;
    let mut buffer = [0; 4];
    while !stop.load(Ordering::Acquire) {
        match server.recv_from(&mut buffer) {
            Ok((length, peer)) => {
                let _dropped = server.send_to(&buffer[..length], peer);
            }
            Err(error) if is_pause(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Whether an error of a socket means that a probe could not be delivered, so that it is lost.
fn unreachable(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw);
    matches!(
        errno,
        Some(Errno::EHOSTUNREACH | Errno::ENETUNREACH | Errno::ECONNREFUSED)
    )
}

/// Converts a time-out to `None`.
fn unless_late<T>(received: io::Result<T>) -> io::Result<Option<T>> {
    match received {
        Ok(received) => Ok(Some(received)),
        Err(error) if is_pause(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

fn storage(address: IpAddr) -> SockaddrStorage {
    SocketAddr::new(address, 0).into()
}
