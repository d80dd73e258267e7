//! Spawning: every task is named, owned and joined.
//!
//! Two kinds of task: a *critical* one touches storage, Raft or shared state, and a panic in it
//! ends the process; a *connection* serves one peer or client, and a panic in it ends only that
//! connection. Work that blocks (a sync, a scan) goes through [`Tasks::blocking`].

mod delays;
mod workers;

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::task::JoinHandle;

pub use delays::SimDelays;
use workers::Workers;

/// Of the process, as the processor and the disk are.
static WORKERS: Workers = Workers::new();

/// Spawns tasks; the simulated ones run blocking work in the one thread there is, so that a seed
/// decides all order.
#[derive(Clone, Debug)]
pub struct Tasks {
    blocking: Blocking,
}

#[derive(Clone, Debug)]
enum Blocking {
    Pool,
    Inline,
    Delayed(SimDelays),
}

impl Tasks {
    /// Blocking work goes to a pool of threads.
    #[must_use]
    pub const fn real() -> Self {
        Self { blocking: Blocking::Pool }
    }

    /// Blocking work runs in place; for simulations in one thread.
    #[must_use]
    pub const fn inline() -> Self {
        Self { blocking: Blocking::Inline }
    }

    /// Blocking work takes its time before it runs and after it has run; for simulations in one
    /// thread. As on a thread, it goes on when nobody waits for it any more, and ends with the
    /// process.
    #[must_use]
    pub const fn delayed(delays: SimDelays) -> Self {
        Self { blocking: Blocking::Delayed(delays) }
    }

    /// Whether blocking work runs in place.
    #[must_use]
    pub const fn is_inline(&self) -> bool {
        matches!(self.blocking, Blocking::Inline)
    }

    /// Spawns a task whose panic ends the process. Dropping the handle aborts the task.
    pub fn critical<F>(&self, name: &'static str, future: F) -> TaskHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        TaskHandle { name, join: Some(spawn(Critical { name, future: Box::pin(future) })) }
    }

    /// Spawns the task of one connection: its panic is logged by the runtime's hook and ends only
    /// the task. It runs until it is done or the runtime ends.
    pub fn connection<F>(&self, name: &'static str, future: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let task = spawn(future);
        drop(task);
        tracing::trace!(name, "connection task started");
    }

    /// Runs work that blocks, away from the async threads.
    ///
    /// # Panics
    /// Ends the process if the work panics: it touches storage.
    pub async fn blocking<T, W>(&self, name: &'static str, work: W) -> T
    where
        T: Send + 'static,
        W: FnOnce() -> T + Send + 'static,
    {
        let join = match &self.blocking {
            Blocking::Inline => return work(),
            #[expect(clippy::disallowed_methods, reason = "this is the real side of the seam")]
            Blocking::Pool => tokio::task::spawn_blocking(work),
            Blocking::Delayed(delays) => {
                let delay = delays.draw(name);
                spawn(async move {
                    pause(delay.before).await;
                    let value = work();
                    pause(delay.after).await;
                    value
                })
            }
        };
        match join.await {
            Ok(value) => value,
            // A test wants its own failure message, not a dead process.
            Err(error) if error.is_panic() && cfg!(debug_assertions) => {
                std::panic::resume_unwind(error.into_panic())
            }
            Err(error) if error.is_panic() => abort_process(name),
            // The runtime is shutting down: nobody will poll this future again.
            Err(_) => std::future::pending().await,
        }
    }

    /// Runs work that blocks, away from the async threads, for nobody who waits: it tells itself
    /// whom it concerns. Ends the process if it panics. Whoever calls this bounds how much of it
    /// waits.
    pub fn blocking_detached<W>(&self, name: &'static str, work: W)
    where
        W: FnOnce() + Send + 'static,
    {
        let guarded = move || {
            if std::panic::catch_unwind(AssertUnwindSafe(work)).is_err() {
                abort_process(name);
            }
        };
        match &self.blocking {
            // Not in place: the caller does not expect it to have run already.
            Blocking::Inline => drop(spawn(async move { guarded() })),
            Blocking::Pool => WORKERS.run(Box::new(guarded)),
            Blocking::Delayed(delays) => {
                let delay = delays.draw(name);
                drop(spawn(async move {
                    pause(delay.before).await;
                    guarded();
                    pause(delay.after).await;
                }));
            }
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "this is the real side of the seam")]
fn spawn<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    tokio::spawn(future)
}

async fn pause(duration: std::time::Duration) {
    if !duration.is_zero() {
        tokio::time::sleep(duration).await;
    }
}

fn abort_process(name: &'static str) -> ! {
    tracing::error!(task = name, "a task that guards data panicked; the process ends");
    std::process::abort()
}

/// Polls a future and ends the process if it panics.
struct Critical<F> {
    name: &'static str,
    future: Pin<Box<F>>,
}

impl<F: Future> Future for Critical<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let future = &mut self.future;
        match std::panic::catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context))) {
            Ok(poll) => poll,
            // A test wants its own failure message, not a dead process.
            Err(panic) if cfg!(debug_assertions) => std::panic::resume_unwind(panic),
            Err(_) => abort_process(self.name),
        }
    }
}

/// Owner of a critical task: join it, or drop it to abort it.
#[derive(Debug)]
pub struct TaskHandle<T> {
    name: &'static str,
    join: Option<JoinHandle<T>>,
}

impl<T> TaskHandle<T> {
    /// The task's name.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Whether the task has ended.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.join.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Waits for the task's end; `None` if it was aborted.
    pub async fn join(mut self) -> Option<T> {
        match self.join.take()?.await {
            Ok(value) => Some(value),
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_) => None,
        }
    }

    /// Lets the task run on without an owner; only for tasks that end with the process.
    pub fn detach(mut self) {
        drop(self.join.take());
    }
}

impl<T> Drop for TaskHandle<T> {
    fn drop(&mut self) {
        if let Some(join) = &self.join {
            join.abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_task_gives_back_its_value() {
        let task = Tasks::real().critical("sum", async { 1 + 1 });
        assert_eq!(task.join().await, Some(2));
    }

    #[tokio::test]
    async fn blocking_work_gives_back_its_value() {
        assert_eq!(Tasks::real().blocking("work", || 3).await, 3);
        assert_eq!(Tasks::inline().blocking("work", || 3).await, 3);
    }

    #[tokio::test(start_paused = true)]
    async fn delayed_work_takes_time_and_goes_on_when_nobody_waits() {
        use std::sync::Arc;
        use std::sync::atomic::{AtomicBool, Ordering};

        let delays = SimDelays::new(1);
        delays.set_slow_ms(1_000);
        let tasks = Tasks::delayed(delays);
        let started = tokio::time::Instant::now();
        assert_eq!(tasks.blocking("a-sync", || 3).await, 3);
        assert!(started.elapsed() >= std::time::Duration::from_millis(250));
        let done = Arc::new(AtomicBool::new(false));
        let mark = Arc::clone(&done);
        let work = tasks.blocking("a-sync", move || mark.store(true, Ordering::SeqCst));
        let waited = tokio::time::timeout(std::time::Duration::from_millis(10), work).await;
        assert!(waited.is_err() && !done.load(Ordering::SeqCst));
        tokio::time::sleep(std::time::Duration::from_secs(2)).await;
        assert!(done.load(Ordering::SeqCst));
    }
}
