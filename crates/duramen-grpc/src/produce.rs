//! Produce over gRPC: one call, or a stream of requests with many in flight.

use std::collections::BTreeMap;
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
use tonic::Status;

use crate::faults::{Call, ProduceFault};
use crate::service::{Faults, broken, caller};
use crate::{error, limits, translate};

/// Translates and queues one request.
pub(crate) async fn queue(
    broker: &Broker,
    mut request: v1::ProduceRequest,
) -> Result<Queued, BrokerError> {
    let payload = translate::payload(&mut request)?;
    let request = ProduceRequest {
        topic_id: translate::topic_id(&request.topic_id)?,
        topic: request.topic,
        partition: PartitionId::new(request.partition),
        payload,
        timeout: Duration::from_millis(u64::from(request.timeout_ms)),
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
    let taken = take_in(broker, faults, request).await;
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
                    match take_in(&broker, &faults, request).await {
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
) -> Result<(Queued, ProduceFault), BrokerError> {
    let Some(faults) = faults else {
        return Ok((queue(broker, request).await?, ProduceFault::default()));
    };
    let (topic, partition) = (request.topic.clone(), request.partition);
    if let Some(refusal) = faults.refusal(Call::Produce, Some((&topic, partition))) {
        return Err(refusal);
    }
    let queued = queue(broker, request).await?;
    Ok((queued, faults.produce(&topic, partition)))
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
