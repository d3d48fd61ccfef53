//! One boot, from the start of the guest to its end: follows the events of the guest and copies the output of the command.
use std::cell::Cell;
use std::fs::File;
use std::io::{self, Read, Write};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};

use super::machine::{Event, Events, Machine, Running};
use super::terminal::{self, RawTerminal};
use super::{Bootable, Outcome, Output, VmRequest};
use crate::{child, progress};

/// The time limit of a boot. Emulated boots take seconds, and many times longer on a busy machine.
const BOOT: Duration = Duration::from_secs(180);

/// One boot.
pub(super) struct Attempt<'a> {
    pub(super) request: &'a VmRequest,
    pub(super) bootable: &'a Bootable,
    pub(super) initrd: &'a File,
    /// Whether the guest started the command.
    pub(super) ready: Cell<bool>,
}

/// How a boot ended.
pub(super) enum Ended {
    /// The command ran.
    Command(Outcome),
    /// The guest sent no event within its time, or died before the first one; with the reason.
    Silent(String),
}

impl Attempt<'_> {
    /// Prints progress of the boot, unless the request is quiet.
    pub(super) fn say(&self, text: impl std::fmt::Display) {
        if !self.request.quiet {
            progress::say(text);
        }
    }

    /// Runs the command. Ends a guest that sends no event for longer than `patience`.
    pub(super) fn run(&self, patience: Option<Duration>) -> Result<Ended> {
        let terminal = self.request.output == Output::Terminal;
        let started = Instant::now();
        let guest = Running::start(&Machine {
            bootable: self.bootable,
            initrd: self.initrd,
            memory_mib: self.request.memory_mib,
            arguments: &self.request.arguments,
            artifacts: self.request.artifacts.as_deref(),
            terminal,
        })?;
        let mut events = Events::new(guest.control.try_clone()?);
        let output = self.copy(guest.output.try_clone()?, io::stdout());
        let errors = self.copy(guest.errors.try_clone()?, io::stderr());

        if let Some(patience) = patience {
            let spoke = events.next(Some(started + patience));
            if !matches!(spoke, Ok(Some(Event::Init))) {
                let console = guest.stop();
                let last = console.lines().rfind(|line| !line.trim().is_empty());
                return Ok(Ended::Silent(format!(
                    "no answer within {} s; the last line of its console: {}",
                    patience.as_secs(),
                    last.unwrap_or("nothing")
                )));
            }
        }
        let raw = if terminal {
            Some(RawTerminal::enter()?)
        } else {
            None
        };
        if terminal {
            terminal::pass_input(guest.output.try_clone()?)?;
        }
        let ended = self.follow(&mut events, started);
        drop(raw);

        // The guest reports its exit code after its last write, so all output can be read after this.
        let console = guest.stop();
        let collect =
            |copier: thread::JoinHandle<Vec<u8>>| copier.join().map_err(|_| anyhow!("copying output failed"));
        let (stdout, stderr) = (collect(output)?, collect(errors)?);
        match ended {
            Ok(code) => Ok(Ended::Command(Outcome { code, stdout, stderr })),
            Err(error) => Err(explain(&error, &stdout, &console)),
        }
    }

    /// Waits for the command's end.
    fn follow(&self, events: &mut Events, started: Instant) -> Result<u8> {
        let mut deadline = Some(started + BOOT);
        loop {
            let event = match events.next(deadline) {
                Ok(event) => event,
                Err(error) if error.kind() != io::ErrorKind::TimedOut => {
                    return Err(error).context("reading the control port of the guest");
                }
                Err(_) if self.ready.get() => {
                    let limit = self.request.timeout.unwrap_or_default();
                    bail!(
                        "the command in the guest did not end within {} s",
                        limit.as_secs()
                    );
                }
                Err(_) => bail!("the guest did not boot within {} s", BOOT.as_secs()),
            };
            match event {
                Some(Event::Init) => {}
                Some(Event::Ready(uptime)) => {
                    self.ready.set(true);
                    deadline = self.request.timeout.map(|limit| Instant::now() + limit);
                    let waited = started.elapsed().as_secs_f64();
                    self.say(format_args!(
                        "the guest is up after {waited:.1} s (by its own clock {uptime:.1} s)"
                    ));
                }
                Some(Event::Exit(code)) => return Ok(code),
                Some(Event::Failed(why)) => bail!("the guest could not be set up: {why}"),
                None => bail!("the guest ended before the command did"),
            }
        }
    }

    /// Copies a stream to its end, and returns the captured output.
    fn copy(
        &self,
        mut from: impl Read + Send + 'static,
        mut to: impl Write + Send + 'static,
    ) -> thread::JoinHandle<Vec<u8>> {
        let (mut streams, captures) = (self.request.output.streams(), self.request.output.captures());
        thread::spawn(move || {
            let mut captured = Vec::new();
            let mut buffer = vec![0; 64 * 1024];
            while let Ok(count @ 1..) = from.read(&mut buffer) {
                let data = &buffer[..count];
                // A reader that closes our output must not stop the command.
                streams = streams && to.write_all(data).and_then(|()| to.flush()).is_ok();
                if captures {
                    captured.extend(data);
                }
            }
            captured
        })
    }
}

/// Adds the end of the captured output and of the console to an error. If the console shows a panic, the error starts
/// with it.
fn explain(error: &anyhow::Error, printed: &[u8], console: &str) -> anyhow::Error {
    let what = match console
        .lines()
        .rev()
        .find_map(|line| line.split_once("Kernel panic - "))
    {
        Some((_, panic)) => format!("the guest's kernel panicked ({panic})"),
        None => format!("{error:#}"),
    };
    let printed = match printed {
        [] => String::new(),
        _ => format!("; the output before ends with:\n{}\n", child::tail(printed, 40)),
    };
    anyhow!(
        "{what}{printed}; the console of the guest ends with:\n{}",
        child::tail(console.as_bytes(), 40)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_starts_with_the_panic() {
        let console = "[1.0] fine\n[2.0] Kernel panic - not syncing: sysrq triggered crash\n[2.1] CPU: 0\n";
        let error = explain(&anyhow!("the guest ended"), b"test a ... ", console).to_string();
        assert!(error.starts_with("the guest's kernel panicked (not syncing: sysrq triggered crash)"));
        assert!(error.contains("CPU: 0") && error.contains("test a ..."));
        assert!(explain(&anyhow!("hung"), b"", "").to_string().starts_with("hung"));
    }
}
