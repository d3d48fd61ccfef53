//! Signals that end a command, which undoes its changes first.

use std::future::poll_fn;
use std::io;
use std::task::Poll;

use anyhow::anyhow;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::exit::{Code, Failure};

/// SIGINT, SIGTERM and SIGHUP, received from the call of [`Interrupts::listen`] on. There is no task: the
/// command checks for a signal between its steps.
pub(super) struct Interrupts {
    signals: Vec<(Code, Signal)>,
}

impl Interrupts {
    /// Receives the signals from now on; they no longer end the process by themselves.
    ///
    /// # Errors
    /// When a handler can't be installed.
    pub(super) fn listen() -> io::Result<Interrupts> {
        let kinds = [
            (Code::Interrupted, SignalKind::interrupt()),
            (Code::Terminated, SignalKind::terminate()),
            (Code::HungUp, SignalKind::hangup()),
        ];
        let signals = kinds.into_iter().map(|(code, kind)| Ok((code, signal(kind)?)));
        Ok(Interrupts {
            signals: signals.collect::<io::Result<_>>()?,
        })
    }

    /// For a command that the signals end at once, as usual.
    pub(super) fn none() -> Interrupts {
        Interrupts { signals: Vec::new() }
    }

    /// Waits for a signal and returns the failure with its name and exit code.
    pub(super) async fn wait(&mut self) -> Failure {
        let code = poll_fn(|context| {
            let received = self.signals.iter_mut().find_map(|(code, signal)| {
                let is_received = matches!(signal.poll_recv(context), Poll::Ready(Some(())));
                is_received.then_some(*code)
            });
            received.map_or(Poll::Pending, Poll::Ready)
        });
        let code = code.await;
        let name = match code {
            Code::HungUp => "SIGHUP",
            Code::Terminated => "SIGTERM",
            _ => "SIGINT",
        };
        Failure::new(code, anyhow!("ended by {name}"))
    }

    /// Fails if a signal was received.
    ///
    /// # Errors
    /// With the failure of [`Interrupts::wait`].
    pub(super) async fn check(&mut self) -> Result<(), Failure> {
        // The runtime receives signals only while its single task yields.
        tokio::select! {
            biased;
            failure = self.wait() => Err(failure),
            () = tokio::task::yield_now() => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use nix::sys::signal::{Signal, raise};

    use super::*;

    #[tokio::test]
    async fn a_signal_is_heard_once_by_who_asks() {
        let mut interrupts = Interrupts::listen().unwrap();
        assert!(interrupts.check().await.is_ok());
        for (signal, code) in [
            (Signal::SIGTERM, Code::Terminated),
            (Signal::SIGHUP, Code::HungUp),
            (Signal::SIGINT, Code::Interrupted),
        ] {
            raise(signal).unwrap();
            assert_eq!(interrupts.check().await.unwrap_err().code, code);
            assert!(interrupts.check().await.is_ok());
        }
        assert!(Interrupts::none().check().await.is_ok());
    }
}
