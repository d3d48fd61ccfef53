//! Passes the log messages of the programs to `tracing`. There is one task, [`LogReader::run`], which only
//! waits for the ring buffer of the programs; aborting it loses unread messages.

use std::io;

use aya::Ebpf;
use aya_log::EbpfLogger;
use log::{Level, Log, Metadata, Record};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::programs::aya_error;
use crate::kernel::KernelError;

/// The reader of the log of the programs.
pub struct LogReader {
    logger: EbpfLogger<Tracing>,
}

impl LogReader {
    pub(super) fn new(ebpf: &mut Ebpf) -> Result<LogReader, KernelError> {
        let logger = EbpfLogger::init_with_logger(ebpf, Tracing)
            .map_err(|error| aya_error("opening the programs' log", &error))?;
        Ok(LogReader { logger })
    }

    /// Passes on log messages until it is dropped.
    ///
    /// # Errors
    /// When waiting for the log fails. Must be called in a tokio runtime with I/O.
    pub async fn run(self) -> Result<(), KernelError> {
        let waiting = |error| KernelError::new("waiting for the programs' log", error);
        let mut ready = register(self.logger).map_err(waiting)?;
        loop {
            let mut guard = ready.readable_mut().await.map_err(waiting)?;
            guard.get_inner_mut().flush();
            guard.clear_ready();
        }
    }
}

#[expect(unsafe_code, reason = "tokio can't see that a logger keeps its descriptor")]
fn register(logger: EbpfLogger<Tracing>) -> io::Result<AsyncFd<EbpfLogger<Tracing>>> {
    // SAFETY: the logger owns its ring buffer's descriptor, always gives that one, and closes it when it is
    // dropped.
    let registered = unsafe { AsyncFd::register_with_interest(logger, Interest::READABLE) };
    registered.map_err(|error| error.into_parts().1)
}

/// Converts records of the `log` crate to events.
struct Tracing;

impl Log for Tracing {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let text = record.args();
        match record.level() {
            Level::Error => tracing::error!(target: "adit::bpf", "{text}"),
            Level::Warn => tracing::warn!(target: "adit::bpf", "{text}"),
            Level::Info => tracing::info!(target: "adit::bpf", "{text}"),
            Level::Debug => tracing::debug!(target: "adit::bpf", "{text}"),
            Level::Trace => tracing::trace!(target: "adit::bpf", "{text}"),
        }
    }

    fn flush(&self) {}
}
