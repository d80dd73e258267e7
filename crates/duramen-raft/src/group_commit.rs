//! Group commit: whatever was asked for while one sync ran is covered by the next one.

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use duramen_env::Tasks;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::limits;

/// Called with the outcome of the sync that covered the request.
pub(crate) type OnSynced = Box<dyn FnOnce(Result<(), Arc<io::Error>>) + Send>;

/// What a sync came to that did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Synced {
    Done,
    /// The disk has no room for what is to be synced; nothing has happened.
    NoRoom,
}

/// A file or log that can be synced.
pub(crate) trait Sync: Send + std::marker::Sync + 'static {
    /// Makes durable all that was written before the call.
    fn sync(&self) -> io::Result<Synced>;

    /// What is to be done after a sync that nobody waits for.
    fn after_sync(&self) {}
}

impl<S> Sync for S
where
    S: Fn() -> io::Result<Synced> + Send + std::marker::Sync + 'static,
{
    fn sync(&self) -> io::Result<Synced> {
        self()
    }
}

/// Syncs one file or log, off the async threads, never twice at the same time.
#[derive(Clone)]
pub(crate) struct GroupCommit {
    shared: Arc<Shared>,
}

struct Shared {
    name: &'static str,
    tasks: Tasks,
    /// Bounds the syncs of all logs of a data directory that run at once.
    permits: Arc<Semaphore>,
    file: Box<dyn Sync>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    running: bool,
    /// Bounded by what Raft has in flight: every waiter is an append that it has not heard of.
    waiting: Vec<OnSynced>,
}

impl fmt::Debug for GroupCommit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GroupCommit").field("name", &self.shared.name).finish_non_exhaustive()
    }
}

impl GroupCommit {
    /// Commits by syncing a file or log. While there is no room for it, it is tried again, and
    /// everybody waits.
    pub(crate) fn new(
        name: &'static str,
        tasks: Tasks,
        permits: Arc<Semaphore>,
        file: impl Sync,
    ) -> Self {
        let state = Mutex::new(State::default());
        let shared = Shared { name, tasks, permits, file: Box::new(file), state };
        Self { shared: Arc::new(shared) }
    }

    /// Asks for a sync that begins after this call; `done` hears of it.
    pub(crate) fn request(&self, done: OnSynced) {
        let start = {
            let mut state = self.shared.lock();
            state.waiting.push(done);
            !std::mem::replace(&mut state.running, true)
        };
        if start {
            self.shared.start(Synced::Done);
        }
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has somebody sync, now if possible; `last` is what the last try came to.
    fn start(self: &Arc<Self>, last: Synced) {
        let shared = Arc::clone(self);
        match Arc::clone(&self.permits).try_acquire_owned() {
            Ok(permit) if last == Synced::Done => {
                self.tasks.blocking_detached(self.name, move || shared.run(permit));
            }
            _ => self.tasks.critical(self.name, shared.wait(last)).detach(),
        }
    }

    /// Waits for its turn, and for room where there was none.
    async fn wait(self: Arc<Self>, last: Synced) {
        if last == Synced::NoRoom {
            tokio::time::sleep(limits::NO_ROOM_WAIT).await;
        }
        // It is never closed.
        if let Ok(permit) = Arc::clone(&self.permits).acquire_owned().await {
            let shared = Arc::clone(&self);
            self.tasks.blocking_detached(self.name, move || shared.run(permit));
        }
    }

    /// Blocks for some rounds of syncs.
    fn run(self: Arc<Self>, permit: OwnedSemaphorePermit) {
        let last = self.sync_rounds();
        drop(permit);
        if self.is_wanted() {
            self.start(last);
        }
    }

    /// Whether somebody waits; if not, the next request starts anew.
    fn is_wanted(&self) -> bool {
        let mut state = self.lock();
        state.running = !state.waiting.is_empty();
        state.running
    }

    /// Syncs as long as somebody waits, but lets others have their turn after a while. Who waited is
    /// told from this thread: one change of threads less in the latency of an acknowledgement.
    fn sync_rounds(&self) -> Synced {
        for _ in 0..limits::SYNC_ROUNDS {
            let mut waiting = std::mem::take(&mut self.lock().waiting);
            if waiting.is_empty() {
                break;
            }
            let outcome = match self.file.sync() {
                Ok(Synced::Done) => Ok(()),
                Ok(Synced::NoRoom) => {
                    let mut state = self.lock();
                    waiting.append(&mut state.waiting);
                    state.waiting = waiting;
                    return Synced::NoRoom;
                }
                Err(error) => Err(Arc::new(error)),
            };
            for done in waiting {
                done(outcome.clone());
            }
            self.file.after_sync();
        }
        Synced::Done
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test]
    async fn requests_made_during_a_sync_share_the_next_one() {
        let syncs = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&syncs);
        let permits = Arc::new(Semaphore::new(1));
        let hold = Arc::clone(&permits).acquire_owned().await.unwrap();
        let commit = GroupCommit::new("test", Tasks::real(), permits, move || {
            counted.fetch_add(1, Ordering::SeqCst);
            Ok(Synced::Done)
        });
        let mut answers = Vec::new();
        for _ in 0..10 {
            let (done, answer) = tokio::sync::oneshot::channel();
            commit.request(Box::new(move |outcome| {
                done.send(outcome.is_ok()).unwrap();
            }));
            answers.push(answer);
            tokio::task::yield_now().await;
        }
        drop(hold);
        for answer in answers {
            assert!(answer.await.unwrap());
        }
        assert!(syncs.load(Ordering::SeqCst) <= 2, "ten requests need at most two syncs");
    }

    /// Notes what is done to it, in order.
    struct Noted(tokio::sync::mpsc::Sender<&'static str>);

    impl Sync for Noted {
        fn sync(&self) -> io::Result<Synced> {
            self.0.try_send("synced").unwrap();
            Ok(Synced::Done)
        }

        fn after_sync(&self) {
            self.0.try_send("settled").unwrap();
        }
    }

    #[tokio::test]
    async fn who_waits_is_told_before_the_rest_is_done() {
        let (note, mut notes) = tokio::sync::mpsc::channel(10);
        let permits = Arc::new(Semaphore::new(1));
        let commit = GroupCommit::new("test", Tasks::real(), permits, Noted(note.clone()));
        commit.request(Box::new(move |_| note.try_send("told").unwrap()));
        for expected in ["synced", "told", "settled"] {
            assert_eq!(notes.recv().await, Some(expected));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_room_is_told_when_there_is_some() {
        let tries = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&tries);
        let permits = Arc::new(Semaphore::new(1));
        let commit = GroupCommit::new("test", Tasks::real(), permits, move || {
            let is_full = counted.fetch_add(1, Ordering::SeqCst) < 3;
            Ok(if is_full { Synced::NoRoom } else { Synced::Done })
        });
        let (told, mut order) = tokio::sync::mpsc::channel(5);
        for number in 0..5 {
            let told = told.clone();
            commit.request(Box::new(move |outcome| {
                outcome.unwrap();
                told.try_send(number).unwrap();
            }));
            tokio::task::yield_now().await;
        }
        for number in 0..5 {
            assert_eq!(order.recv().await, Some(number));
        }
        assert!(tries.load(Ordering::SeqCst) > 3);
    }
}
