//! Watches for changes of manifests.
//!
//! This starts no task. [`Watch::changed`] waits for events of the thread of `notify`; it may be dropped at
//! any time without losing an event. It reports only that something changed; the caller loads the whole set.

mod interest;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

use notify::event::{AccessKind, AccessMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::{Instant, sleep_until};
use tracing::{debug, warn};

use interest::Interest;

use crate::limits;

/// Why files can't be watched. A periodic reload works nevertheless.
#[derive(Debug, thiserror::Error)]
#[error("can't watch files: {0}")]
pub struct WatchError(#[from] notify::Error);

/// A watch on manifests.
#[derive(Debug)]
pub struct Watch {
    watcher: RecommendedWatcher,
    events: UnboundedReceiver<notify::Result<Event>>,
    paths: Vec<PathBuf>,
    interests: Vec<Interest>,
    /// The times of the first and the last event that is not yet reported.
    pending: Option<(Instant, Instant)>,
}

impl Watch {
    /// Watches files and directories. One that does not exist yet is watched if its parent directory exists.
    ///
    /// # Errors
    /// If the system has no watches left.
    pub fn new(paths: &[PathBuf]) -> Result<Watch, WatchError> {
        let (sender, events) = unbounded_channel();
        let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            if event.as_ref().is_ok_and(only_read) {
                return;
            }
            // Sending fails only while the watch is being dropped.
            let _closed = sender.send(event);
        })?;
        let mut watch = Watch {
            watcher,
            events,
            paths: paths.to_vec(),
            interests: Vec::new(),
            pending: None,
        };
        watch.arm()?;
        Ok(watch)
    }

    /// Waits until something changed and no further events arrive. It may be cancelled without losing a
    /// change.
    pub async fn changed(&mut self) {
        loop {
            let Some((first, last)) = self.pending else {
                let event = self.events.recv().await;
                self.record(event);
                continue;
            };
            let due = (last + limits::FILES_QUIET).min(first + limits::FILES_LATEST);
            tokio::select! {
                biased;
                () = sleep_until(due) => {
                    self.pending = None;
                    // Directories may have been replaced. The new ones are watched before the caller reads
                    // them, so that no change is missed.
                    if let Err(error) = self.arm() {
                        warn!(%error, "can't watch all manifests; changes are found by the next periodic reload");
                    }
                    return;
                }
                event = self.events.recv() => self.record(event),
            }
        }
    }

    fn record(&mut self, event: Option<notify::Result<Event>>) {
        let event = event.expect("the watcher holds the sender as long as the watch lives");
        if self.concerns(&event) {
            let now = Instant::now();
            let first = self.pending.map_or(now, |(first, _)| first);
            self.pending = Some((first, now));
        }
    }

    fn concerns(&self, event: &notify::Result<Event>) -> bool {
        match event {
            // Events were lost: anything may have changed.
            Ok(event) if event.need_rescan() || event.paths.is_empty() => true,
            Ok(event) => event
                .paths
                .iter()
                .any(|path| self.interests.iter().any(|interest| interest.covers(path))),
            Err(error) => {
                warn!(%error, "error while watching manifests");
                true
            }
        }
    }

    /// Watches all directories of interest. Existing watches stay.
    fn arm(&mut self) -> Result<(), notify::Error> {
        self.interests = self.paths.iter().flat_map(|path| interest::of(path)).collect();
        let mut result = Ok(());
        for directory in self.interests.iter().map(|interest| &interest.directory) {
            if let Err(error) = self.watcher.watch(directory, RecursiveMode::NonRecursive) {
                // A deleted directory may be created again: its parent is watched too.
                debug!(directory = %directory.display(), %error, "can't watch");
                result = Err(error);
            }
        }
        result
    }
}

/// Whether an event is only about reading. The agent itself causes such events, and they must not cause
/// another read.
fn only_read(event: &Event) -> bool {
    match event.kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => false,
        EventKind::Access(_) => !event.need_rescan(),
        _ => false,
    }
}
