//! One node's produce stream: many requests under way, answers matched by correlation id.
//!
//! Every request that is submitted gets exactly one answer: the node's, or the stream's end.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use duramen_env::{Env, TaskHandle};
use duramen_proto::v1::{self, produce_response};
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;

use super::Node;
use crate::failure::Failure;
use crate::{ClientError, limits};

/// What became of a request.
pub(crate) type Answer = Result<v1::ProduceAck, Failure>;

/// How often requests that nobody waits for any more are forgotten.
const SWEEP_EVERY: u64 = 256;

/// A stream to one node. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct ProduceStream {
    address: Arc<str>,
    requests: mpsc::Sender<v1::ProduceRequest>,
    pending: Arc<Pending>,
    _reader: TaskHandle<()>,
}

/// Requests without an answer yet.
#[derive(Debug, Default)]
struct Pending {
    state: Mutex<PendingState>,
}

#[derive(Debug, Default)]
struct PendingState {
    next_id: u64,
    waiting: BTreeMap<u64, oneshot::Sender<Answer>>,
    /// Why the stream ended, once it has.
    ended: Option<Failure>,
}

impl ProduceStream {
    /// Opens a stream; a connection is made in the background.
    pub(crate) fn open(env: &Env, node: Arc<Node>) -> Self {
        let (requests, receiver) = mpsc::channel(limits::STREAM_QUEUE);
        let pending = Arc::new(Pending::default());
        let address = Arc::clone(node.address());
        let reader = read(node, receiver, Arc::clone(&pending));
        let _reader = env.tasks.critical("client-produce-stream", reader);
        Self { address, requests, pending, _reader }
    }

    /// The node's address.
    pub(crate) fn address(&self) -> &Arc<str> {
        &self.address
    }

    /// Whether the stream takes no more requests.
    pub(crate) fn has_ended(&self) -> bool {
        self.pending.lock().ended.is_some()
    }

    /// Sends a request, when there is room. The answer arrives at the receiver, also if the stream
    /// ends or this call is cancelled.
    pub(crate) async fn submit(
        &self,
        mut request: v1::ProduceRequest,
    ) -> oneshot::Receiver<Answer> {
        let (sender, receiver) = oneshot::channel();
        let Some(id) = self.pending.register(sender) else { return receiver };
        request.correlation_id = id;
        // It can only fail after the reader has ended, which answers everything registered.
        if self.requests.send(request).await.is_err() {
            tracing::trace!(id, "request met the end of its produce stream");
        }
        receiver
    }
}

impl Pending {
    fn lock(&self) -> std::sync::MutexGuard<'_, PendingState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A fresh id for a request; `None` if the stream has ended, which is then the answer.
    fn register(&self, sender: oneshot::Sender<Answer>) -> Option<u64> {
        let mut state = self.lock();
        if state.ended.is_some() {
            drop(state);
            answer(sender, Err(Failure::NotSent(ClientError::Closed { what: "stream" })));
            return None;
        }
        state.next_id += 1;
        if state.next_id.is_multiple_of(SWEEP_EVERY) {
            // Whoever stopped waiting sends again under another id.
            state.waiting.retain(|_, sender| !sender.is_closed());
        }
        let id = state.next_id;
        state.waiting.insert(id, sender);
        Some(id)
    }

    fn complete(&self, response: v1::ProduceResponse) {
        let Some(sender) = self.lock().waiting.remove(&response.correlation_id) else {
            // Its sender has stopped waiting and sends again.
            tracing::debug!(id = response.correlation_id, "answer that nobody waits for");
            return;
        };
        let result = match response.result {
            Some(produce_response::Result::Ack(ack)) => Ok(ack),
            Some(produce_response::Result::Error(error)) => Err(Failure::Refused(Box::new(error))),
            None => Err(Failure::Lost(ClientError::Protocol { what: "empty produce response" })),
        };
        answer(sender, result);
    }

    /// Ends the stream: everything that waits has failed.
    fn end(&self, failure: &Failure) {
        let mut state = self.lock();
        let waiting = std::mem::take(&mut state.waiting);
        state.ended = Some(failure.clone());
        drop(state);
        for sender in waiting.into_values() {
            answer(sender, Err(failure.clone()));
        }
    }
}

/// Gives an answer; a receiver that was dropped does not want it.
fn answer(sender: oneshot::Sender<Answer>, result: Answer) {
    drop(sender.send(result));
}

/// Reads answers until the stream ends.
async fn read(
    node: Arc<Node>,
    requests: mpsc::Receiver<v1::ProduceRequest>,
    pending: Arc<Pending>,
) {
    let failure = match node.produce_stream(ReceiverStream::new(requests)).await {
        Err(status) => Failure::from_status(&status, node.address()),
        Ok(mut answers) => loop {
            match answers.message().await {
                Ok(Some(answer)) => pending.complete(answer),
                Ok(None) => break Failure::Lost(node.stream_ended()),
                Err(status) => {
                    // Whatever the status is, requests may have arrived before it.
                    let failure = Failure::from_status(&status, node.address());
                    break Failure::Lost(failure.into_error());
                }
            }
        },
    };
    tracing::debug!(address = %node.address(), ?failure, "produce stream ended");
    pending.end(&failure);
}
