//! A pipelined stream of appends to one follower.
//!
//! Requests go out while fewer than a window (in count and bytes) have no answer; answers are
//! yielded in the order of the requests, as openraft demands. The stream ends with an error when
//! its link is lost or the oldest request has waited too long.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use duramen_env::planted::{Planted, is_planted};
use duramen_proto::internal as pb;
use futures::{Stream, StreamExt as _};
use openraft::errors::{RPCError, Unreachable};
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse, StreamAppendResult};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::acknowledged::{Acknowledged, Asked};
use super::client::{Target, distrusted, unreachable};
use super::commits::with_entries;
use super::link::{AppendAnswer, AppendLane, Link};
use crate::limits;
use crate::types::TypeConfig;
use crate::wire;

struct Pending {
    seq: u64,
    asked: Asked,
    bytes: usize,
    sent: Instant,
}

struct State<S> {
    target: Target,
    acknowledged: Arc<Acknowledged>,
    input: S,
    input_ended: bool,
    lane: AppendLane,
    answers: mpsc::Receiver<AppendAnswer>,
    early: BTreeMap<u64, Option<pb::AppendResult>>,
    pending: VecDeque<Pending>,
    bytes: usize,
    next_seq: u64,
    answer_timeout: Duration,
    ended: bool,
}

type Item = Result<StreamAppendResult<TypeConfig>, RPCError<TypeConfig>>;

/// Sends the requests of `input` over a link, pipelined.
pub(super) fn pipelined<S>(
    (target, acknowledged): (Target, Arc<Acknowledged>),
    link: Arc<Link>,
    input: S,
) -> impl Stream<Item = Item> + Send
where
    S: Stream<Item = AppendEntriesRequest<TypeConfig>> + Send + Unpin + 'static,
{
    let (lane, answers) = Link::open_stream(link);
    let input = Box::pin(with_entries(input));
    let state = State {
        target,
        acknowledged,
        input,
        input_ended: false,
        lane,
        answers,
        early: BTreeMap::new(),
        pending: VecDeque::new(),
        bytes: 0,
        next_seq: 0,
        answer_timeout: limits::APPEND_ANSWER_TIMEOUT,
        ended: false,
    };
    futures::stream::unfold(state, |mut state| async move {
        if state.ended {
            return None;
        }
        let item = state.next().await?;
        // Openraft restarts the stream after anything but a full success.
        state.ended = !matches!(item, Ok(Ok(_)));
        Some((item, state))
    })
}

enum Step {
    Request(Option<AppendEntriesRequest<TypeConfig>>),
    Answer(Option<AppendAnswer>),
    TimedOut,
}

impl<S> State<S>
where
    S: Stream<Item = AppendEntriesRequest<TypeConfig>> + Send + Unpin,
{
    async fn next(&mut self) -> Option<Item> {
        loop {
            if let Some(item) = self.take_ready() {
                return Some(item);
            }
            if self.input_ended && self.pending.is_empty() {
                return None;
            }
            match self.step().await {
                Step::Request(None) => self.input_ended = true,
                Step::Request(Some(request)) => {
                    if let Err(error) = self.send(request).await {
                        return Some(Err(error));
                    }
                }
                Step::Answer(Some((seq, result))) => {
                    self.early.insert(seq, result);
                }
                Step::Answer(None) => {
                    // Openraft waits between attempts where it makes a request: see `refused`.
                    if self.next_seq == 0 && !self.input_ended {
                        drop(self.input.next().await);
                    }
                    return Some(Err(unreachable("the peer link was lost")));
                }
                Step::TimedOut => {
                    return Some(Err(unreachable("the follower stopped answering appends")));
                }
            }
        }
    }

    async fn step(&mut self) -> Step {
        let open = !self.input_ended
            && self.pending.len() < limits::APPENDS_IN_FLIGHT_MAX
            && self.bytes < limits::APPEND_BYTES_IN_FLIGHT_MAX;
        let oldest = self.pending.front().map(|pending| pending.sent);
        let deadline = oldest.unwrap_or_else(Instant::now) + self.answer_timeout;
        tokio::select! {
            biased;
            answer = self.answers.recv() => Step::Answer(answer),
            request = self.input.next(), if open => Step::Request(request),
            () = tokio::time::sleep_until(deadline), if oldest.is_some() => Step::TimedOut,
        }
    }

    async fn send(
        &mut self,
        request: AppendEntriesRequest<TypeConfig>,
    ) -> Result<(), RPCError<TypeConfig>> {
        let asked = self.target.ask(&self.acknowledged, &request);
        let seq = self.next_seq;
        self.next_seq += 1;
        let (message, bytes) = self.target.append_message(seq, &request);
        let sent = tokio::time::timeout(self.answer_timeout, self.lane.send(message)).await;
        match sent {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(RPCError::Unreachable(Unreachable::new(&error))),
            Err(_) => return Err(unreachable("the peer link takes no more")),
        }
        if is_planted(Planted::AcknowledgeWithoutMajority) {
            let result = pb::append_result::Result::Success(true);
            self.early.insert(seq, Some(pb::AppendResult { result: Some(result) }));
        }
        self.bytes += bytes;
        self.pending.push_back(Pending { seq, asked, bytes, sent: Instant::now() });
        Ok(())
    }

    /// The answer to the oldest request, if it is there.
    fn take_ready(&mut self) -> Option<Item> {
        let front = self.pending.front()?;
        let result = self.early.remove(&front.seq)?;
        let pending = self.pending.pop_front()?;
        self.bytes -= pending.bytes;
        Some(match wire::append_result_from_wire(result) {
            // Only an append that follows something can conflict.
            Ok(wire::AppendAnswer::Raft(AppendEntriesResponse::Conflict))
                if pending.asked.prev.is_none() =>
            {
                Err(unreachable("the follower answered nonsense"))
            }
            Ok(wire::AppendAnswer::Raft(response)) => {
                match self.acknowledged.answered(&pending.asked, &response) {
                    Ok(()) => {
                        Ok(response.into_stream_result(pending.asked.prev, pending.asked.last))
                    }
                    Err(distrust) => Err(distrusted(&distrust)),
                }
            }
            Ok(wire::AppendAnswer::Refused(reason)) => Err(unreachable(&reason)),
            Err(error) => Err(RPCError::Unreachable(Unreachable::new(&error))),
        })
    }
}
