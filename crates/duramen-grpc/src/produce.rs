//! Produce over gRPC: one call, or a stream of requests with many in flight.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;
use std::time::Duration;

use duramen_broker::{Broker, BrokerError, ProduceRequest, Produced, Queued};
use duramen_env::{Env, TaskHandle};
use duramen_net::grpc::Messages;
use duramen_proto::v1;
use duramen_types::{MetadataIndex, PartitionId};
use futures::stream::FuturesUnordered;
use futures::{Stream, StreamExt as _};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tonic::Status;

use crate::faults::{Call, ProduceFault};
use crate::service::{Faults, broken, caller};
use crate::{error, limits, translate};

/// Translates and queues one request of somebody who has been refused for so long.
pub(crate) async fn queue(
    broker: &Broker,
    mut request: v1::ProduceRequest,
    refused_for: Duration,
) -> Result<Queued, BrokerError> {
    let payload = translate::payload(&mut request)?;
    let request = ProduceRequest {
        topic_id: translate::topic_id(&request.topic_id)?,
        topic: request.topic,
        partition: PartitionId::new(request.partition),
        payload,
        timeout: Duration::from_millis(u64::from(request.timeout_ms)),
        refused_for,
        metadata_index: MetadataIndex::new(request.metadata_index),
    };
    broker.queue_produce(&caller(), request).await
}

fn response(correlation_id: u64, outcome: &Result<Produced, BrokerError>) -> v1::ProduceResponse {
    let result = match outcome {
        Ok(produced) => v1::produce_response::Result::Ack(translate::ack(produced)),
        Err(error) => v1::produce_response::Result::Error(error::to_wire(error)),
    };
    v1::ProduceResponse { correlation_id, result: Some(result) }
}

/// Serves one request.
pub(crate) async fn once(
    broker: &Broker,
    faults: &Faults,
    request: v1::ProduceRequest,
) -> Result<Produced, Status> {
    let taken = take_in(broker, faults, request, Duration::ZERO).await;
    let (queued, fault) = taken.map_err(|error| error::status(&error))?;
    let outcome = queued.answer().await;
    if !fault.delay.is_zero() {
        tokio::time::sleep(fault.delay).await;
    }
    if fault.lost {
        return Err(broken());
    }
    outcome.map_err(|error| error::status(&error))
}

/// Serves a stream of requests: they are queued in their order and answered as they finish.
pub(crate) fn stream(
    env: &Env,
    broker: Arc<Broker>,
    faults: Faults,
    requests: Messages<v1::ProduceRequest>,
) -> impl Stream<Item = Result<v1::ProduceResponse, Status>> + Send + use<> {
    let (out, answers) = mpsc::channel(limits::STREAM_REQUESTS_MAX);
    let task = env.tasks.critical("produce-stream", serve(broker, faults, requests, out));
    owned(answers, task)
}

async fn serve(
    broker: Arc<Broker>,
    faults: Faults,
    mut requests: Messages<v1::ProduceRequest>,
    out: mpsc::Sender<Result<v1::ProduceResponse, Status>>,
) {
    let mut waiting = FuturesUnordered::new();
    let mut turns = Turns::default();
    let mut refusals = Refusals::default();
    let mut open = true;
    let stopping = broker.stopping();
    tokio::pin!(stopping);
    while open || !waiting.is_empty() {
        let room = open && waiting.len() < limits::STREAM_REQUESTS_MAX;
        tokio::select! {
            biased;
            Some(answer) = waiting.next(), if !waiting.is_empty() => {
                let answer: Result<v1::ProduceResponse, Status> = answer;
                let is_broken = answer.is_err();
                if out.send(answer).await.is_err() || is_broken {
                    return;
                }
            }
            // Clients keep their streams open: what they have sent is answered, and no more taken.
            () = &mut stopping, if open => open = false,
            request = requests.message(), if room => match request {
                Ok(Some(request)) => {
                    let correlation_id = request.correlation_id;
                    let turn = faults.as_ref().map(|_| turns.next(&request));
                    let place = Refusals::place(&request);
                    let refused_for = refusals.last_for(place);
                    let taken = take_in(&broker, &faults, request, refused_for).await;
                    refusals.note(place, taken.as_ref().err());
                    match taken {
                        Ok((queued, fault)) => waiting.push(async move {
                            let outcome = queued.answer().await;
                            if let Some(turn) = turn {
                                turn.pass(fault.delay).await;
                            }
                            let answer = response(correlation_id, &outcome);
                            if fault.lost { Err(broken()) } else { Ok(answer) }
                        }),
                        Err(error) => {
                            let refused = response(correlation_id, &Err(error));
                            if out.send(Ok(refused)).await.is_err() {
                                return;
                            }
                        }
                    }
                }
                Ok(None) => open = false,
                Err(status) => {
                    // A request that cannot be read (too long, malformed) ends the stream, with
                    // what is in flight unanswered: its outcome is not known to the client.
                    drop(out.send(Err(status)).await);
                    return;
                }
            },
        }
    }
}

/// Queues a request, and says what goes wrong with its answer on purpose.
async fn take_in(
    broker: &Broker,
    faults: &Faults,
    request: v1::ProduceRequest,
    refused_for: Duration,
) -> Result<(Queued, ProduceFault), BrokerError> {
    let Some(faults) = faults else {
        return Ok((queue(broker, request, refused_for).await?, ProduceFault::default()));
    };
    let (topic, partition) = (request.topic.clone(), request.partition);
    if let Some(refusal) = faults.refusal(Call::Produce, Some((&topic, partition))) {
        return Err(refusal);
    }
    let queued = queue(broker, request, refused_for).await?;
    Ok((queued, faults.produce(&topic, partition)))
}

/// Since when partitions have had no room for what comes on a stream.
#[derive(Default)]
struct Refusals {
    since: BTreeMap<u64, Instant>,
}

impl Refusals {
    /// Stands for a partition. Two that have the same only share what they have waited.
    fn place(request: &v1::ProduceRequest) -> u64 {
        let mut hasher = DefaultHasher::new();
        (&request.topic, request.partition).hash(&mut hasher);
        hasher.finish()
    }

    /// How long ago the first of the refusals was that nothing was taken in since.
    fn last_for(&self, place: u64) -> Duration {
        self.since.get(&place).map(Instant::elapsed).unwrap_or_default()
    }

    /// A request was taken in, or failed.
    fn note(&mut self, place: u64, error: Option<&BrokerError>) {
        match error {
            Some(BrokerError::Overloaded) => {
                if self.since.len() < limits::STREAM_REFUSED_MAX {
                    self.since.entry(place).or_insert_with(Instant::now);
                }
            }
            _ => drop(self.since.remove(&place)),
        }
    }
}

/// Keeps answers of a partition in their order while some of them are late on purpose.
#[derive(Default)]
struct Turns {
    last: BTreeMap<(String, u32), oneshot::Receiver<()>>,
}

/// The turn of one answer: after the one before, before the one after.
struct Turn {
    before: Option<oneshot::Receiver<()>>,
    _after: oneshot::Sender<()>,
}

impl Turns {
    fn next(&mut self, request: &v1::ProduceRequest) -> Turn {
        let (after, next) = oneshot::channel();
        let before = self.last.insert((request.topic.clone(), request.partition), next);
        Turn { before, _after: after }
    }
}

impl Turn {
    /// Waits for the delay and for the answer before; its own drop lets the next one go.
    async fn pass(self, delay: Duration) {
        tokio::time::sleep(delay).await;
        if let Some(before) = self.before {
            drop(before.await);
        }
    }
}

/// Answers that end their task when they are dropped.
pub(crate) fn owned<T: Send + 'static>(
    answers: mpsc::Receiver<T>,
    task: TaskHandle<()>,
) -> impl Stream<Item = T> + Send + use<T> {
    futures::stream::unfold((answers, task), |(mut answers, task)| async move {
        let answer = answers.recv().await?;
        Some((answer, (answers, task)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(topic: &str, partition: u32) -> v1::ProduceRequest {
        v1::ProduceRequest { topic: topic.to_owned(), partition, ..v1::ProduceRequest::default() }
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_refused_is_known_to_have_waited_until_something_is_taken_in() {
        let mut refusals = Refusals::default();
        let place = Refusals::place(&request("rings", 1));
        let others = [request("rings", 2), request("bark", 1)].map(|one| Refusals::place(&one));
        for waited in [0, 3, 6] {
            refusals.note(place, Some(&BrokerError::Overloaded));
            assert_eq!(refusals.last_for(place), Duration::from_secs(waited), "from the first");
            tokio::time::advance(Duration::from_secs(3)).await;
        }
        assert_eq!(others.map(|other| refusals.last_for(other)), [Duration::ZERO; 2]);
        refusals.note(others[0], None);
        assert_eq!(refusals.last_for(place), Duration::from_secs(9));
        // What fails for another reason does not wait for room.
        for end in [None, Some(BrokerError::NoLeader)] {
            refusals.note(place, Some(&BrokerError::Overloaded));
            refusals.note(place, end.as_ref());
            tokio::time::advance(Duration::from_secs(3)).await;
            assert_eq!(refusals.last_for(place), Duration::ZERO);
        }
    }

    #[tokio::test]
    async fn a_stream_remembers_so_many_refusals_and_no_more() {
        let mut refusals = Refusals::default();
        for place in 0..2_000 {
            refusals.note(place, Some(&BrokerError::Overloaded));
        }
        assert_eq!(refusals.since.len(), limits::STREAM_REFUSED_MAX);
    }
}
