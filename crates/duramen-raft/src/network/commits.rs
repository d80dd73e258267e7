//! Tells followers what is committed together with the next entries, where some come soon.
//!
//! Openraft sends an append without entries whenever the committed end moved and nothing is to be
//! sent. Where entries follow each other closely that would be a second message and a second answer
//! for each of them, for something that nobody waits for: a follower serves no reads.

use futures::{Stream, StreamExt as _};
use openraft::raft::AppendEntriesRequest;
use tokio::time::Instant;

use crate::limits;
use crate::types::TypeConfig;

type Request = AppendEntriesRequest<TypeConfig>;

struct State<S> {
    input: S,
    is_first: bool,
    /// A request without entries, and until when it waits for one that says as much.
    held: Option<(Request, Instant)>,
}

impl<S> State<S>
where
    S: Stream<Item = Request> + Unpin,
{
    async fn next(&mut self) -> Option<Request> {
        loop {
            let next = match &self.held {
                None => self.input.next().await,
                Some((_, until)) => {
                    tokio::time::timeout_at(*until, self.input.next()).await.unwrap_or_default()
                }
            };
            let Some(request) = next else {
                // Time is up, or nothing comes any more.
                return self.held.take().map(|(request, _)| request);
            };
            let held = self.held.take();
            if self.is_first || !request.entries.is_empty() {
                self.is_first = false;
                return Some(request);
            }
            let until = held.map_or_else(|| Instant::now() + limits::COMMIT_HOLD, |(_, at)| at);
            self.held = Some((request, until));
        }
    }
}

/// The requests of `input`, those without entries later, or not at all if one that follows says
/// as much. The first one asks where the follower stands, and is never late.
pub(super) fn with_entries<S>(input: S) -> impl Stream<Item = Request> + Send
where
    S: Stream<Item = Request> + Send + Unpin,
{
    let state = State { input: input.fuse(), is_first: true, held: None };
    futures::stream::unfold(state, |mut state| async move {
        let request = state.next().await?;
        Some((request, state))
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::FutureExt as _;
    use tokio::sync::mpsc;

    use super::*;
    use crate::types::{Entry, LogId, LogPayload, Vote};

    fn id(index: u64) -> LogId {
        LogId::new_term_index(3, index)
    }

    /// A request for entries up to `last` that says that `committed` is.
    fn request(entries: &[u64], committed: u64) -> Request {
        let entries = entries.iter().map(|index| Entry {
            log_id: id(*index),
            payload: LogPayload::Blank,
            frame: None,
        });
        AppendEntriesRequest {
            vote: Vote::new_committed(3, 1),
            prev_log_id: None,
            entries: entries.collect(),
            leader_commit: Some(id(committed)),
        }
    }

    fn says(request: Option<Request>) -> Option<(usize, u64)> {
        let request = request?;
        Some((request.entries.len(), request.leader_commit?.index))
    }

    struct Lane {
        input: mpsc::Sender<Request>,
        output: futures::stream::BoxStream<'static, Request>,
    }

    fn lane() -> Lane {
        let (input, mut receiver) = mpsc::channel(8);
        let requests = futures::stream::poll_fn(move |context| receiver.poll_recv(context));
        let mut lane = Lane { input, output: with_entries(requests).boxed() };
        lane.input.try_send(request(&[], 0)).unwrap();
        assert_eq!(says(lane.now()), Some((0, 0)), "the first is not held");
        lane
    }

    impl Lane {
        fn now(&mut self) -> Option<Request> {
            self.output.next().now_or_never().flatten()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_commit_travels_with_the_entries_that_follow_it() {
        let mut lane = lane();
        lane.input.try_send(request(&[], 1)).unwrap();
        assert_eq!(says(lane.now()), None);
        lane.input.try_send(request(&[2], 1)).unwrap();
        assert_eq!(says(lane.now()), Some((1, 1)));
        drop(lane.input);
        assert_eq!(says(lane.output.next().await), None, "it is not said again");
    }

    #[tokio::test(start_paused = true)]
    async fn commits_that_nothing_follows_are_sent_as_one_and_soon() {
        let mut lane = lane();
        let begin = Instant::now();
        for committed in 1..=4 {
            lane.input.try_send(request(&[], committed)).unwrap();
            assert_eq!(says(lane.now()), None);
            tokio::time::advance(limits::COMMIT_HOLD / 5).await;
        }
        assert_eq!(says(lane.output.next().await), Some((0, 4)));
        assert!(begin.elapsed() <= limits::COMMIT_HOLD + Duration::from_millis(1));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_held_is_sent_when_the_requests_end() {
        let mut lane = lane();
        lane.input.try_send(request(&[], 1)).unwrap();
        drop(lane.input);
        assert_eq!(says(lane.output.next().now_or_never().flatten()), Some((0, 1)));
        assert_eq!(says(lane.output.next().await), None);
    }
}
