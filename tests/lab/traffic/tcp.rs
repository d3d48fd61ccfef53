//! A stream of bytes, which the receiver checks.
use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use adit_tests::interrupt::{Deadline, SLICE};
use adit_tests::socket::is_pause;
use adit_tests::splitmix::fill;
use anyhow::{Context as _, Result, anyhow};

use super::{Measured, Pair};

const LENGTH: usize = 2 << 20;
const CHUNK: usize = 64 << 10;
/// How many times longer than for a packet to wait for progress: retransmissions of lost segments take longer and longer.
const PATIENCE: u32 = 3;

pub(crate) fn measure(pair: &Pair<'_>, wait: Duration, measured: &mut Measured) -> Result<()> {
    measured.unit = 1;
    measured.sent = u64::try_from(LENGTH)?;
    let listener = pair.at_receiver(|| TcpListener::bind((pair.destination(), 0)))?;
    let address = listener.local_addr()?;
    let start = Instant::now();
    let client = pair
        .at_sender(|| TcpStream::connect_timeout(&address, wait))
        .context("connecting")?;
    measured.took(start.elapsed());
    let server = accept(&listener, Deadline::after(wait)).context("accepting")?;

    thread::scope(|scope| {
        let sender = scope.spawn(|| send(client, wait));
        measured.received = receive(server, wait, measured)?;
        sender
            .join()
            .map_err(|_| anyhow!("the sender panicked"))?
            .context("sending")
    })
}

fn accept(listener: &TcpListener, deadline: Deadline) -> io::Result<TcpStream> {
    listener.set_nonblocking(true)?;
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(false)?;
                return Ok(stream);
            }
            Err(error) if is_pause(&error) => {}
            Err(error) => return Err(error),
        }
        let Some(slice) = deadline.slice() else {
            return Err(io::ErrorKind::TimedOut.into());
        };
        thread::sleep(slice.min(Duration::from_millis(5)));
    }
}

fn send(mut stream: TcpStream, wait: Duration) -> io::Result<()> {
    stream.set_write_timeout(Some(SLICE))?;
    let mut chunk = vec![0; CHUNK];
    for index in 0..LENGTH / CHUNK {
        fill(&mut chunk, seed(index));
        let mut rest = &chunk[..];
        let mut deadline = Deadline::after(wait * PATIENCE);
        while !rest.is_empty() {
            match stream.write(rest) {
                Ok(count) => {
                    rest = &rest[count..];
                    deadline = Deadline::after(wait * PATIENCE);
                }
                Err(error) if is_pause(&error) && deadline.slice().is_some() => {}
                Err(error) => return Err(error),
            }
        }
    }
    stream.shutdown(Shutdown::Write)
}

/// Reads to the end. Returns the number of bytes up to the first wrong one.
fn receive(mut stream: TcpStream, wait: Duration, measured: &mut Measured) -> Result<u64> {
    stream.set_read_timeout(Some(SLICE))?;
    let (mut expected, mut buffer) = (vec![0; CHUNK], vec![0; CHUNK]);
    let (mut total, mut good) = (0, 0);
    let mut deadline = Deadline::after(wait * PATIENCE);
    while total < LENGTH + CHUNK {
        let offset = total % CHUNK;
        if offset == 0 {
            fill(&mut expected, seed(total / CHUNK));
        }
        match stream.read(&mut buffer[..CHUNK - offset]) {
            Ok(0) => break,
            Ok(count) => {
                if good == total && buffer[..count] == expected[offset..offset + count] {
                    good += count;
                }
                total += count;
                deadline = Deadline::after(wait * PATIENCE);
            }
            Err(error) if is_pause(&error) && deadline.slice().is_some() => {}
            Err(error) => {
                measured.note(&format!("after {total} bytes: {error}"));
                break;
            }
        }
    }
    if good != total {
        measured.note(&format!("the bytes differ from byte {good} on"));
    }
    Ok(u64::try_from(good)?)
}

fn seed(chunk: usize) -> u64 {
    u64::try_from(chunk).expect("a small number") << 32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (
            client,
            accept(&listener, Deadline::after(Duration::from_secs(10))).unwrap(),
        )
    }

    #[test]
    fn a_whole_stream_is_counted_in_full() {
        let (client, server) = pair();
        let mut measured = Measured::default();
        let sender = thread::spawn(|| send(client, Duration::from_secs(10)));
        assert_eq!(
            receive(server, Duration::from_secs(10), &mut measured).unwrap(),
            2 << 20
        );
        assert_eq!((sender.join().unwrap().is_ok(), measured.error), (true, None));
    }

    #[test]
    fn a_wrong_byte_ends_the_count() {
        let (mut client, server) = pair();
        let mut chunk = vec![0; CHUNK];
        fill(&mut chunk, seed(0));
        chunk[100] ^= 1;
        client.write_all(&chunk).unwrap();
        drop(client);
        let mut measured = Measured::default();
        assert_eq!(
            receive(server, Duration::from_secs(10), &mut measured).unwrap(),
            0
        );
        assert!(measured.error.unwrap().contains("differ"));
    }
}
