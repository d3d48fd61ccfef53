//! Tells when manifests may have changed.
//!
//! No task: the events of notify's own thread are waited for in [`Watch::changed`], which may be dropped at any time
//! without losing one. What is told is that something changed, never what; whoever listens loads the whole set.

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

/// Why nothing can be watched; a periodic reload still works.
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
    /// When the first and the last untold event came.
    pending: Option<(Instant, Instant)>,
}

impl Watch {
    /// Watches files and directories, also such as do not exist yet if the directory above does.
    ///
    /// # Errors
    /// When the system has no (more) watches.
    pub fn new(paths: &[PathBuf]) -> Result<Watch, WatchError> {
        let (sender, events) = unbounded_channel();
        let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            if event.as_ref().is_ok_and(only_read) {
                return;
            }
            // Nobody listens any more: the watch is being dropped.
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

    /// Waits until something changed and it is quiet again. May be cancelled without losing a change.
    pub async fn changed(&mut self) {
        loop {
            let Some((first, last)) = self.pending else {
                let event = self.events.recv().await;
                self.take(event);
                continue;
            };
            let due = (last + limits::FILES_QUIET).min(first + limits::FILES_LATEST);
            tokio::select! {
                biased;
                () = sleep_until(due) => {
                    self.pending = None;
                    // Directories may have been replaced; before the caller reads, or a change could slip through.
                    if let Err(error) = self.arm() {
                        warn!(%error, "can't watch all manifests; periodic reloads go on");
                    }
                    return;
                }
                event = self.events.recv() => self.take(event),
            }
        }
    }

    fn take(&mut self, event: Option<notify::Result<Event>>) {
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
                warn!(%error, "watching manifests");
                true
            }
        }
    }

    /// Sets watches on all directories of interest; those that stand stay.
    fn arm(&mut self) -> Result<(), notify::Error> {
        self.interests = self.paths.iter().flat_map(|path| interest::of(path)).collect();
        let mut result = Ok(());
        for directory in self.interests.iter().map(|interest| &interest.directory) {
            if let Err(error) = self.watcher.watch(directory, RecursiveMode::NonRecursive) {
                // One that has just gone may come back: the directory above is watched too.
                debug!(directory = %directory.display(), %error, "can't watch");
                result = Err(error);
            }
        }
        result
    }
}

/// Our own reading makes events too; they must not cause another one.
fn only_read(event: &Event) -> bool {
    match event.kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => false,
        EventKind::Access(_) => !event.need_rescan(),
        _ => false,
    }
}
