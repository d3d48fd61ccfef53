//! Jobs side by side, by a number of workers.
use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::thread;

use anyhow::Result;

/// As many as there are CPUs: for jobs that compute all the time.
pub fn count() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

/// Half as many more: for jobs that wait for a third of their time.
pub fn more_than_cpus() -> usize {
    count() + count().div_ceil(2)
}

/// Does the work of each job, which are begun in their order. `work` gets each job's index.
///
/// # Errors
/// The first worker's whose job failed; that one begins no other job, the others go on.
pub fn each<J: Send>(
    workers: usize,
    jobs: impl IntoIterator<Item = J>,
    work: impl Fn(usize, J) -> Result<()> + Sync,
) -> Result<()> {
    let queue = Mutex::new(jobs.into_iter().enumerate().collect::<VecDeque<_>>());
    let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
    let worker = || -> Result<()> {
        while let Some((place, job)) = next() {
            work(place, job)?;
        }
        Ok(())
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..workers).map(|_| scope.spawn(worker)).collect();
        workers
            .into_iter()
            .try_for_each(|worker| worker.join().expect("no worker panics"))
    })
}
