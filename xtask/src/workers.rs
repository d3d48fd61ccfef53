//! Runs jobs in parallel on a number of worker threads.
use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::thread;

use anyhow::Result;

/// As many workers as CPUs: for jobs that compute all the time.
pub fn count() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

/// One and a half times as many workers as CPUs: for jobs that wait for a third of their time.
pub fn more_than_cpus() -> usize {
    count() + count().div_ceil(2)
}

/// Runs `work` for each job, with the index of the job. Jobs start in their order.
///
/// # Errors
/// The error of the first worker whose job failed. That worker starts no other job; the others continue.
pub fn each<J: Send>(
    workers: usize,
    jobs: impl IntoIterator<Item = J>,
    work: impl Fn(usize, J) -> Result<()> + Sync,
) -> Result<()> {
    let queue = Mutex::new(jobs.into_iter().enumerate().collect::<VecDeque<_>>());
    let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
    let worker = || -> Result<()> {
        while let Some((index, job)) = next() {
            work(index, job)?;
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
