//! Tokio as openraft's runtime, with randomness that a simulation can seed, turns instead of the
//! shortest sleeps, and small channels.

mod mpsc;

use std::cell::RefCell;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::Either;
use openraft::{AsyncRuntime, Instant as _, OptionalSend};
use openraft_rt_tokio::{TokioMutex, TokioOneshot, TokioRuntime, TokioWatch};
use rand::SeedableRng;
use rand::rngs::SmallRng;

use self::mpsc::BoxedMpsc;

thread_local! {
    static SEEDED: RefCell<Option<SmallRng>> = const { RefCell::new(None) };
}

/// Makes this thread's elections draw from a seed instead of the operating system; for
/// simulations, which run a whole cluster in one thread.
pub fn seed_elections(seed: u64) {
    SEEDED.with_borrow_mut(|rng| *rng = Some(SmallRng::seed_from_u64(seed)));
}

/// What is no longer than this is a turn of other tasks and no sleep: tokio's timers count whole
/// milliseconds. Openraft gathers completed syncs for a microsecond, and an acknowledgement waits
/// for that.
const TURN_MAX: Duration = Duration::from_micros(100);

/// A sleep, or for a very short one a turn of the tasks that wait.
type Sleep = Either<<TokioRuntime as AsyncRuntime>::Sleep, Turn>;

/// Lets the tasks that wait have their turn, once.
#[derive(Debug, Default)]
pub(crate) struct Turn {
    is_over: bool,
}

impl Future for Turn {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if std::mem::replace(&mut self.is_over, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

/// Tokio, with seedable randomness.
pub(crate) struct EnvRuntime(TokioRuntime);

impl fmt::Debug for EnvRuntime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("EnvRuntime").field(&self.0).finish()
    }
}

impl AsyncRuntime for EnvRuntime {
    type JoinError = <TokioRuntime as AsyncRuntime>::JoinError;
    type JoinHandle<T: OptionalSend + 'static> = <TokioRuntime as AsyncRuntime>::JoinHandle<T>;
    type Sleep = Sleep;
    type Instant = <TokioRuntime as AsyncRuntime>::Instant;
    type TimeoutError = <TokioRuntime as AsyncRuntime>::TimeoutError;
    type Timeout<R, T: Future<Output = R> + OptionalSend> =
        <TokioRuntime as AsyncRuntime>::Timeout<R, T>;
    type ThreadLocalRng = SmallRng;
    type Mpsc = BoxedMpsc;
    type Watch = TokioWatch;
    type Oneshot = TokioOneshot;
    type Mutex<T: OptionalSend + 'static> = TokioMutex<T>;

    fn spawn<T>(future: T) -> Self::JoinHandle<T::Output>
    where
        T: Future + OptionalSend + 'static,
        T::Output: OptionalSend + 'static,
    {
        TokioRuntime::spawn(future)
    }

    fn sleep(duration: Duration) -> Self::Sleep {
        if duration <= TURN_MAX {
            return Either::Right(Turn::default());
        }
        Either::Left(TokioRuntime::sleep(duration))
    }

    fn sleep_until(deadline: Self::Instant) -> Self::Sleep {
        if deadline <= Self::Instant::now() + TURN_MAX {
            return Either::Right(Turn::default());
        }
        Either::Left(TokioRuntime::sleep_until(deadline))
    }

    fn timeout<R, F>(duration: Duration, future: F) -> Self::Timeout<R, F>
    where
        F: Future<Output = R> + OptionalSend,
    {
        TokioRuntime::timeout(duration, future)
    }

    fn timeout_at<R, F>(deadline: Self::Instant, future: F) -> Self::Timeout<R, F>
    where
        F: Future<Output = R> + OptionalSend,
    {
        TokioRuntime::timeout_at(deadline, future)
    }

    fn is_panic(error: &Self::JoinError) -> bool {
        TokioRuntime::is_panic(error)
    }

    fn thread_rng() -> Self::ThreadLocalRng {
        SEEDED.with_borrow_mut(|seeded| match seeded {
            Some(rng) => SmallRng::from_rng(rng),
            None => rand::make_rng(),
        })
    }

    fn new(threads: usize) -> Self {
        Self(TokioRuntime::new(threads))
    }

    fn block_on<F, T>(&mut self, future: F) -> T
    where
        F: Future<Output = T>,
    {
        self.0.block_on(future)
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;
    use openraft_rt_tokio::TokioInstant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_microsecond_is_a_turn_and_not_a_tick_of_the_timer() {
        let begin = TokioInstant::now();
        let mut turn = Box::pin(EnvRuntime::sleep_until(begin + Duration::from_micros(1)));
        assert_eq!((&mut turn).now_or_never(), None, "others have their turn");
        turn.await;
        EnvRuntime::sleep(Duration::from_nanos(1)).await;
        EnvRuntime::sleep_until(begin).await;
        assert_eq!(begin.elapsed(), Duration::ZERO);
        EnvRuntime::sleep(Duration::from_millis(2)).await;
        EnvRuntime::sleep_until(begin + Duration::from_millis(4)).await;
        assert!(begin.elapsed() >= Duration::from_millis(4));
    }
}
