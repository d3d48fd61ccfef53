//! One QEMU process: how it's started, what it's connected to, and what its console said.
use std::fs::File;
use std::io::Read as _;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use anyhow::{Context as _, Result};

use super::accel::Accel;
use super::boot::Boot;
use crate::{child, host};

/// `panic=-1 oops=panic`, with `-no-reboot`: a crash ends QEMU at once.
const KERNEL_ARGUMENTS: &str = "console=ttyS0 earlyprintk=ttyS0 loglevel=5 panic=-1 oops=panic random.trust_cpu=on \
                                mitigations=off nokaslr audit=0";
/// How much of the console is kept.
const CONSOLE_BYTES: usize = 256 * 1024;

/// What to start.
pub(super) struct Machine<'a> {
    pub(super) accel: Accel,
    pub(super) boot: &'a Boot,
    pub(super) initrd: &'a File,
    pub(super) memory_mib: u32,
    /// Shared with the guest for writing.
    pub(super) artifacts: Option<&'a Path>,
    pub(super) terminal: bool,
}

/// A running machine; dropping it ends it.
pub(super) struct Qemu {
    process: Child,
    /// Lines from the guest's scripts.
    pub(super) control: UnixStream,
    /// The command's standard output, or its terminal.
    pub(super) output: UnixStream,
    /// The command's standard error; silent with a terminal.
    pub(super) errors: UnixStream,
    console: Console,
    complaints: Console,
}

impl Qemu {
    pub(super) fn start(machine: &Machine) -> Result<Self> {
        let program = host::find_program("qemu-system-x86_64");
        let program = program.context("no qemu-system-x86_64: run `cargo xtask setup`")?;
        let mut command = Command::new(program);
        let mut inherited = vec![OwnedFd::from(machine.initrd.try_clone()?)];
        let initrd = format!("/dev/fd/{}", inherited[0].as_raw_fd());

        command.args([
            "-nodefaults",
            "-no-user-config",
            "-display",
            "none",
            "-no-reboot",
            "-machine",
            "q35",
        ]);
        command.args(["-smp", "2", "-m", &machine.memory_mib.to_string()]);
        command.args(match machine.accel {
            Accel::Kvm => ["-accel", "kvm", "-cpu", "host"],
            // With cx16, QEMU 7.2's translator corrupts the guest at random; `max` is several times slower.
            Accel::Tcg => ["-accel", "tcg,thread=multi", "-cpu", "qemu64,-cx16"],
        });
        command.arg("-kernel").arg(&machine.boot.vmlinux).args([
            "-initrd",
            &initrd,
            "-append",
            KERNEL_ARGUMENTS,
        ]);

        let mut connect = |id: &str| -> Result<UnixStream> {
            let (ours, theirs) = UnixStream::pair().context("a socket pair")?;
            command.args(["-chardev", &format!("socket,id={id},fd={}", theirs.as_raw_fd())]);
            inherited.push(theirs.into());
            Ok(ours)
        };
        let console = connect("console")?;
        let control = connect("control")?;
        let output = connect("output")?;
        let errors = connect("errors")?;

        command.args(["-serial", "chardev:console", "-device", "virtio-serial"]);
        command.args(["-device", "virtserialport,nr=1,chardev=control"]);
        command.args(["-device", "virtserialport,nr=3,chardev=errors"]);
        command.args(match machine.terminal {
            true => ["-device", "virtconsole,nr=0,chardev=output"],
            false => ["-device", "virtserialport,nr=2,chardev=output"],
        });
        share(
            &mut command,
            "root",
            Path::new("/"),
            "readonly=on,multidevs=remap",
        );
        if let Some(dir) = machine.artifacts {
            share(&mut command, "artifacts", dir, "readonly=off");
        }
        child::tie(&mut command, inherited);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());

        let mut process = command.spawn().context("starting QEMU")?;
        // Our copies of the far ends: without them an end of QEMU is an end of file here.
        drop(command);
        let stderr = process.stderr.take().context("QEMU's standard error")?;
        Ok(Self {
            process,
            control,
            output,
            errors,
            console: Console::new(console),
            complaints: Console::new(stderr),
        })
    }

    /// Ends the machine, and returns the last lines of its console, and of QEMU's own messages.
    pub(super) fn stop(mut self) -> String {
        self.end();
        let mut said = self.console.take();
        said.push_str(&self.complaints.take());
        said
    }

    fn end(&mut self) {
        // Fails only if it's gone already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Drop for Qemu {
    fn drop(&mut self) {
        self.end();
    }
}

/// Adds a 9p share under a tag.
fn share(command: &mut Command, tag: &str, dir: &Path, options: &str) {
    // A comma in the path would start the next option: QEMU wants it doubled.
    let path = dir.to_string_lossy().replace(',', ",,");
    command.args([
        "-fsdev",
        &format!("local,id={tag},path={path},security_model=none,{options}"),
    ]);
    command.args(["-device", &format!("virtio-9p-pci,fsdev={tag},mount_tag={tag}")]);
}

/// Collects the end of what a stream says.
struct Console {
    text: Arc<Mutex<Vec<u8>>>,
    reader: Option<JoinHandle<()>>,
}

impl Console {
    fn new(mut stream: impl std::io::Read + Send + 'static) -> Self {
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

    /// All that was kept; the stream must have ended.
    fn take(&mut self) -> String {
        if let Some(reader) = self.reader.take() {
            // A panic over there can't be more important than the text.
            let _ = reader.join();
        }
        let text = self.text.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&text).replace('\r', "")
    }
}

/// A line of the guest's scripts.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Event {
    /// The first program runs and has a port.
    Init,
    /// The command is about to start, this many seconds after the kernel.
    Ready(f64),
    /// The command ended.
    Exit(u8),
    /// The root could not be laid out.
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

/// Reads events off the control port.
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

    /// Waits for the next event until the deadline; none means for ever. `Ok(None)` says that QEMU has ended.
    pub(super) fn next(&mut self, deadline: Option<std::time::Instant>) -> std::io::Result<Option<Event>> {
        loop {
            if let Some(end) = self.pending.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.pending.drain(..=end).collect();
                match Event::parse(String::from_utf8_lossy(&line).trim()) {
                    Some(event) => return Ok(Some(event)),
                    None => continue,
                }
            }
            let left = deadline.map(|at| at.saturating_duration_since(std::time::Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return Err(std::io::ErrorKind::TimedOut.into());
            }
            self.stream.set_read_timeout(left)?;
            let mut buffer = [0; 256];
            match self.stream.read(&mut buffer) {
                Ok(0) => return Ok(None),
                Ok(count) => self.pending.extend(&buffer[..count]),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return Ok(None),
                Err(error) => return Err(error),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn events_arrive_whole_and_noise_is_skipped() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let mut events = Events::new(ours);
        theirs.write_all(b"init\nnoise\nready 3.25\nexi").unwrap();
        let soon = || Some(Instant::now() + Duration::from_millis(50));
        assert_eq!(events.next(soon()).unwrap(), Some(Event::Init));
        assert_eq!(events.next(soon()).unwrap(), Some(Event::Ready(3.25)));
        assert_eq!(
            events.next(soon()).unwrap_err().kind(),
            std::io::ErrorKind::TimedOut
        );
        theirs.write_all(b"t 7\nfailed no root\n").unwrap();
        drop(theirs);
        assert_eq!(events.next(None).unwrap(), Some(Event::Exit(7)));
        assert_eq!(events.next(None).unwrap(), Some(Event::Failed("no root".into())));
        assert_eq!(events.next(None).unwrap(), None);
    }

    #[test]
    fn a_comma_in_a_shared_path_is_doubled() {
        let mut command = Command::new("qemu");
        share(&mut command, "t", Path::new("/a,b"), "readonly=off");
        let args: Vec<_> = command.get_args().collect();
        assert_eq!(args[1], "local,id=t,path=/a,,b,security_model=none,readonly=off");
    }
}
