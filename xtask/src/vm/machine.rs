//! A running guest: its process, its connections, and the text of its console.
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd as _, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use anyhow::{Context as _, Result};

use super::{Bootable, qemu, uml};
use crate::child;

/// How many bytes of the console are kept.
const CONSOLE_BYTES: usize = 256 * 1024;

/// A guest to start.
pub(super) struct Machine<'a> {
    pub(super) bootable: &'a Bootable,
    pub(super) initrd: &'a File,
    pub(super) memory_mib: u32,
    /// Additional arguments for the kernel command line.
    pub(super) arguments: &'a str,
    /// A directory that the guest may write to.
    pub(super) artifacts: Option<&'a Path>,
    pub(super) terminal: bool,
}

/// The ends of the connections on the side of the guest: the descriptors that its process inherits.
pub(super) struct Wires {
    pub(super) initrd: RawFd,
    pub(super) console: RawFd,
    pub(super) control: RawFd,
    pub(super) output: RawFd,
    pub(super) errors: RawFd,
}

/// A running guest. Dropping it ends the guest.
pub(super) struct Running {
    process: Child,
    /// Events from the scripts of the guest, one a line.
    pub(super) control: UnixStream,
    /// The standard output of the command, or its terminal.
    pub(super) output: UnixStream,
    /// The standard error of the command; silent with a terminal.
    pub(super) errors: UnixStream,
    console: Console,
    complaints: Console,
    /// A directory for the files of the process.
    _scratch: tempfile::TempDir,
}

impl Running {
    pub(super) fn start(machine: &Machine) -> Result<Self> {
        let mut inherited = vec![OwnedFd::from(machine.initrd.try_clone()?)];
        let mut connect = || -> Result<(UnixStream, RawFd)> {
            let (ours, theirs) = UnixStream::pair().context("a socket pair")?;
            let number = theirs.as_raw_fd();
            inherited.push(theirs.into());
            Ok((ours, number))
        };
        let (console, console_wire) = connect()?;
        let (control, control_wire) = connect()?;
        let (output, output_wire) = connect()?;
        let (errors, errors_wire) = connect()?;
        let wires = Wires {
            initrd: inherited[0].as_raw_fd(),
            console: console_wire,
            control: control_wire,
            output: output_wire,
            errors: errors_wire,
        };

        let scratch = tempfile::tempdir().context("a scratch directory")?;
        let mut command = match machine.bootable {
            Bootable::Uml(kernel) => uml::command(kernel, machine, &wires, scratch.path())?,
            Bootable::Qemu { boot, kvm, .. } => qemu::command(boot, *kvm, machine, &wires)?,
        };
        child::tie(&mut command, inherited);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut process = command.spawn().context("starting the guest")?;
        // Drops the copies of the ends of the guest, so that this process reads an end of file when the guest ends.
        drop(command);
        let stderr = process.stderr.take().context("the guest's standard error")?;
        Ok(Self {
            process,
            control,
            output,
            errors,
            console: Console::new(console),
            complaints: Console::new(stderr),
            _scratch: scratch,
        })
    }

    /// Ends the guest, and returns the end of its console and the messages of its process.
    pub(super) fn stop(mut self) -> String {
        self.end();
        let mut said = self.complaints.take();
        said.push_str(&self.console.take());
        said
    }

    fn end(&mut self) {
        // Fails only if the process has ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end();
    }
}

/// Collects the end of a stream.
struct Console {
    text: Arc<Mutex<Vec<u8>>>,
    reader: Option<JoinHandle<()>>,
}

impl Console {
    fn new(mut stream: impl Read + Send + 'static) -> Self {
        let text = Arc::new(Mutex::new(Vec::new()));
        let shared = Arc::clone(&text);
        let reader = thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = stream.read(&mut buffer) {
                let mut text = shared.lock().unwrap_or_else(PoisonError::into_inner);
                text.extend(&buffer[..count]);
                let excess = text.len().saturating_sub(CONSOLE_BYTES);
                text.drain(..excess);
            }
        });
        Self {
            text,
            reader: Some(reader),
        }
    }

    /// Returns the text that was kept. The stream must have ended.
    fn take(&mut self) -> String {
        if let Some(reader) = self.reader.take() {
            // The text is more important than a panic of that thread.
            let _ = reader.join();
        }
        let text = self.text.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&text).replace('\r', "")
    }
}

/// An event that the scripts of the guest report.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Event {
    /// The first program runs and has opened its port.
    Init,
    /// The command is about to start, this many seconds after the kernel.
    Ready(f64),
    /// The command ended.
    Exit(u8),
    /// The root file system could not be set up, with the reason.
    Failed(String),
}

impl Event {
    fn parse(line: &str) -> Option<Self> {
        match line.split_once(' ').unwrap_or((line, "")) {
            ("init", _) => Some(Self::Init),
            ("ready", seconds) => Some(Self::Ready(seconds.parse().ok()?)),
            ("exit", code) => Some(Self::Exit(code.parse().ok()?)),
            ("failed", why) => Some(Self::Failed(why.to_owned())),
            _ => None,
        }
    }
}

/// Reads events from the control port.
pub(super) struct Events {
    stream: UnixStream,
    pending: Vec<u8>,
}

impl Events {
    pub(super) fn new(stream: UnixStream) -> Self {
        Self {
            stream,
            pending: Vec::new(),
        }
    }

    /// Waits for the next event until the deadline; without one, for ever. `Ok(None)` means that the guest has ended.
    pub(super) fn next(&mut self, deadline: Option<Instant>) -> io::Result<Option<Event>> {
        loop {
            if let Some(end) = self.pending.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.pending.drain(..=end).collect();
                match Event::parse(String::from_utf8_lossy(&line).trim()) {
                    Some(event) => return Ok(Some(event)),
                    None => continue,
                }
            }
            let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return Err(io::ErrorKind::TimedOut.into());
            }
            self.stream.set_read_timeout(left)?;
            let mut buffer = [0; 256];
            match self.stream.read(&mut buffer) {
                Ok(0) => return Ok(None),
                Ok(count) => self.pending.extend(&buffer[..count]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(None),
                Err(error) => return Err(error),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::time::Duration;

    use super::*;

    #[test]
    fn events_arrive_whole_and_noise_is_skipped() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let mut events = Events::new(ours);
        theirs.write_all(b"init\nnoise\nready 3.25\nexi").unwrap();
        let soon = || Some(Instant::now() + Duration::from_millis(50));
        assert_eq!(events.next(soon()).unwrap(), Some(Event::Init));
        assert_eq!(events.next(soon()).unwrap(), Some(Event::Ready(3.25)));
        assert_eq!(events.next(soon()).unwrap_err().kind(), io::ErrorKind::TimedOut);
        theirs.write_all(b"t 7\nfailed no root\n").unwrap();
        drop(theirs);
        assert_eq!(events.next(None).unwrap(), Some(Event::Exit(7)));
        assert_eq!(events.next(None).unwrap(), Some(Event::Failed("no root".into())));
        assert_eq!(events.next(None).unwrap(), None);
    }
}
