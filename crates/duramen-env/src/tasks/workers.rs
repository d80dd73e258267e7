//! Threads for blocking work in the path of an acknowledgement: a sync.
//!
//! The runtime's own pool wakes a thread while it holds the lock that the thread wants first: the
//! thread falls asleep again at once, and two changes of threads are spent for one.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;

/// Threads at most; more work than that waits for one of them.
const THREADS_MAX: usize = 64;

/// How long a thread without work stays.
const IDLE_MAX: Duration = Duration::from_secs(10);

type Work = Box<dyn FnOnce() + Send>;

/// Threads that come and go with the work.
#[derive(Debug)]
pub(super) struct Workers {
    state: Mutex<State>,
    wake: Condvar,
}

#[derive(Debug)]
struct State {
    /// Bounded by the callers, who have a bound of how much they do at once.
    queue: VecDeque<Queued>,
    /// Threads that wait, or were woken and have not yet taken what they were woken for.
    idle: usize,
    threads: usize,
}

struct Queued {
    work: Work,
    /// Where the work may spawn tasks.
    runtime: Handle,
}

impl std::fmt::Debug for Queued {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Queued")
    }
}

impl Workers {
    pub(super) const fn new() -> Self {
        let state = State { queue: VecDeque::new(), idle: 0, threads: 0 };
        Self { state: Mutex::new(state), wake: Condvar::new() }
    }

    /// Has a thread do the work, within the caller's runtime.
    pub(super) fn run(&'static self, work: Work) {
        let is_thread_wanted = {
            let mut state = self.lock();
            state.queue.push_back(Queued { work, runtime: Handle::current() });
            let is_wanted = state.queue.len() > state.idle && state.threads < THREADS_MAX;
            state.threads += usize::from(is_wanted);
            is_wanted
        };
        if !is_thread_wanted {
            self.wake.notify_one();
        } else if let Err(error) = self.start() {
            self.do_without(&error);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn start(&'static self) -> std::io::Result<()> {
        let builder = std::thread::Builder::new().name("duramen-sync".into());
        builder.spawn(move || self.work()).map(drop)
    }

    /// The system gave no thread: one that there is comes to it, or the caller does it.
    fn do_without(&self, error: &std::io::Error) {
        tracing::warn!(%error, "the system gives no more threads");
        let left = {
            let mut state = self.lock();
            state.threads -= 1;
            if state.threads == 0 { std::mem::take(&mut state.queue) } else { VecDeque::new() }
        };
        for queued in left {
            (queued.work)();
        }
    }

    /// What a thread does until there has been nothing to do for a while.
    fn work(&self) {
        let mut state = self.lock();
        loop {
            while let Some(Queued { work, runtime }) = state.queue.pop_front() {
                drop(state);
                let entered = runtime.enter();
                work();
                drop(entered);
                state = self.lock();
            }
            state.idle += 1;
            let nothing = |state: &mut State| state.queue.is_empty();
            let waited = self.wake.wait_timeout_while(state, IDLE_MAX, nothing);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
            state.idle -= 1;
            if state.queue.is_empty() {
                state.threads -= 1;
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::{Arc, Barrier};

    use super::*;

    static WORKERS: Workers = Workers::new();

    #[tokio::test]
    async fn all_work_is_done_each_on_a_thread_of_its_own_while_there_are_some() {
        let (told, mut ended) = tokio::sync::mpsc::channel(500);
        let (together, most) = (Arc::new(Barrier::new(8)), Arc::new(AtomicUsize::new(0)));
        for _ in 0..50 {
            // Eight that wait for each other, each time, whether threads wait or are to be started.
            for _ in 0..8 {
                let (together, told) = (Arc::clone(&together), told.clone());
                WORKERS.run(Box::new(move || {
                    together.wait();
                    // Within the runtime.
                    drop(Handle::current());
                    told.try_send(()).unwrap();
                }));
            }
            for _ in 0..8 {
                ended.recv().await.unwrap();
            }
        }
        // More at once than there are threads.
        let running = Arc::new(AtomicUsize::new(0));
        for _ in 0..3 * THREADS_MAX {
            let (running, most, told) = (Arc::clone(&running), Arc::clone(&most), told.clone());
            WORKERS.run(Box::new(move || {
                let now = running.fetch_add(1, Ordering::SeqCst) + 1;
                most.fetch_max(now, Ordering::SeqCst);
                std::thread::yield_now();
                running.fetch_sub(1, Ordering::SeqCst);
                told.try_send(()).unwrap();
            }));
        }
        for _ in 0..3 * THREADS_MAX {
            ended.recv().await.unwrap();
        }
        assert!(most.load(Ordering::SeqCst) <= THREADS_MAX);
        assert!(WORKERS.lock().queue.is_empty());
    }
}
