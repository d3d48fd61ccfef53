//! The connections of a listener. Their number is limited, so that clients never use up the file descriptors
//! of the loop.

use std::collections::VecDeque;
use std::io;
use std::time::Instant;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::task::{AbortHandle, spawn_local};

use crate::limits;

/// Raises the limit of open files (`RLIMIT_NOFILE`) to its hard limit.
///
/// # Errors
/// When the limit can't be read or set.
pub fn raise_descriptor_limit() -> io::Result<()> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    }
    Ok(())
}

/// Accepts connections and serves each in a task of its own, until aborted. At the limit, a new connection
/// closes the oldest one: silent clients don't keep others out.
pub(crate) async fn serve<S, F: Future<Output = ()> + 'static>(
    what: &str,
    mut accept: impl AsyncFnMut() -> io::Result<S>,
    answer: impl Fn(S) -> F,
) {
    let limit = limit();
    let mut open: VecDeque<AbortHandle> = VecDeque::new();
    let mut logged: Option<Instant> = None;
    loop {
        match accept().await {
            Ok(stream) => {
                open.retain(|task| !task.is_finished());
                if open.len() >= limit
                    && let Some(oldest) = open.pop_front()
                {
                    oldest.abort();
                }
                open.push_back(spawn_local(answer(stream)).abort_handle());
            }
            Err(error) => {
                if logged.is_none_or(|then| then.elapsed() >= limits::ACCEPT_LOG_PAUSE) {
                    tracing::warn!("{what} can't accept connections: {error}; retrying");
                    logged = Some(Instant::now());
                }
                tokio::time::sleep(limits::ACCEPT_PAUSE).await;
            }
        }
    }
}

fn limit() -> usize {
    let descriptors = getrlimit(Resource::RLIMIT_NOFILE)
        .map_or(limits::CONNECTIONS * limits::CONNECTIONS_SHARE, |(soft, _)| soft);
    let limit = (descriptors / limits::CONNECTIONS_SHARE).clamp(1, limits::CONNECTIONS);
    usize::try_from(limit).expect("it is small")
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};
    use std::rc::Rc;

    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn a_new_connection_at_the_limit_closes_the_oldest_one() {
        let count = limit() + 3;
        let mut closed = Vec::new();
        let mut streams = Vec::new();
        for _ in 0..count {
            let (sender, receiver) = oneshot::channel::<()>();
            streams.push(sender);
            closed.push(receiver);
        }
        let streams = RefCell::new(streams.into_iter());
        let accepted = Rc::new(Cell::new(0));
        let accept = async || {
            let next = streams.borrow_mut().next();
            match next {
                Some(stream) => {
                    accepted.set(accepted.get() + 1);
                    tokio::task::yield_now().await;
                    Ok(stream)
                }
                None => std::future::pending().await,
            }
        };
        // None of the connections ends by itself.
        let idle = |stream: oneshot::Sender<()>| async move {
            let _open = stream;
            std::future::pending::<()>().await;
        };
        let local = tokio::task::LocalSet::new();
        let work = async {
            tokio::select! {
                () = serve("a test", accept, idle) => unreachable!("it has no end"),
                () = async {
                    for early in &mut closed[..3] {
                        assert!(early.await.is_err(), "it was closed");
                    }
                } => {}
            }
        };
        local.run_until(work).await;
        assert_eq!(accepted.get(), count);
        for late in &mut closed[3..] {
            assert!(
                late.try_recv() == Err(oneshot::error::TryRecvError::Empty),
                "it is open"
            );
        }
    }
}
