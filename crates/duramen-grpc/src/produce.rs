//! Produce over gRPC: one call, or a stream of requests with many in flight.

use std::sync::Arc;
use std::time::Duration;

use duramen_broker::{Broker, BrokerError, ProduceRequest, Produced, Queued};
use duramen_env::{Env, TaskHandle};
use duramen_proto::v1;
use duramen_types::{MetadataIndex, PartitionId};
use futures::stream::FuturesUnordered;
use futures::{Stream, StreamExt as _};
use tokio::sync::mpsc;
use tonic::{Status, Streaming};

use crate::service::caller;
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

/// Serves a stream of requests: they are queued in their order and answered as they finish.
pub(crate) fn stream(
    env: &Env,
    broker: Arc<Broker>,
    requests: Streaming<v1::ProduceRequest>,
) -> impl Stream<Item = Result<v1::ProduceResponse, Status>> + Send + use<> {
    let (out, answers) = mpsc::channel(limits::STREAM_REQUESTS_MAX);
    let task = env.tasks.critical("produce-stream", serve(broker, requests, out));
    owned(answers, task)
}

async fn serve(
    broker: Arc<Broker>,
    mut requests: Streaming<v1::ProduceRequest>,
    out: mpsc::Sender<Result<v1::ProduceResponse, Status>>,
) {
    let mut waiting = FuturesUnordered::new();
    let mut open = true;
    while open || !waiting.is_empty() {
        let room = open && waiting.len() < limits::STREAM_REQUESTS_MAX;
        tokio::select! {
            biased;
            Some(answer) = waiting.next(), if !waiting.is_empty() => {
                if out.send(Ok(answer)).await.is_err() {
                    return;
                }
            }
            request = requests.message(), if room => match request {
                Ok(Some(request)) => {
                    let correlation_id = request.correlation_id;
                    match queue(&broker, request).await {
                        Ok(queued) => waiting.push(async move {
                            response(correlation_id, &queued.answer().await)
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
