//! The data plane service: produce, fetch, list offsets.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use duramen_broker::{Broker, BrokerError, Caller, FetchLimits, PartitionName};
use duramen_env::Env;
use duramen_net::grpc::{Direct, Messages, respond};
use duramen_proto::v1;
use duramen_proto::v1::log_service_server::LogService;
use duramen_types::{MetadataIndex, PartitionId};
use futures::Stream;
use tonic::body::Body;
use tonic::{Request, Response, Status, Streaming};

use crate::error::status;
use crate::faults::{Call, CallFaults};
use crate::{fetch, limits, produce, translate};

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// The data plane of one node.
pub(crate) struct LogApi {
    env: Env,
    broker: Arc<Broker>,
    faults: Faults,
}

/// What goes wrong on purpose; usually nothing.
pub(crate) type Faults = Option<Arc<dyn CallFaults>>;

impl LogApi {
    pub(crate) const fn new(env: Env, broker: Arc<Broker>, faults: Faults) -> Self {
        Self { env, broker, faults }
    }

    /// Serves the streams that carry payloads, past the generated code, which would copy them;
    /// gives other requests back.
    pub(crate) fn direct(
        self: &Arc<Self>,
        request: http::Request<Body>,
    ) -> Result<Direct, Box<http::Request<Body>>> {
        let api = Arc::clone(self);
        let max = limits::REQUEST_BYTES_MAX;
        match request.uri().path() {
            "/duramen.v1.LogService/ProduceStream" => Ok(Box::pin(async move {
                let requests = Messages::of_request(request.into_body(), max);
                let answers = produce::stream(
                    &api.env,
                    Arc::clone(&api.broker),
                    api.faults.clone(),
                    requests,
                );
                respond(Ok(Box::pin(answers)))
            })),
            "/duramen.v1.LogService/FetchStream" => Ok(Box::pin(async move {
                let requests = Messages::of_request(request.into_body(), max);
                let answers =
                    fetch::stream(&api.env, Arc::clone(&api.broker), api.faults.clone(), requests);
                respond(answers.await.map(Box::pin))
            })),
            _ => Err(Box::new(request)),
        }
    }
}

/// What the generated code never meets: see [`LogApi::direct`].
fn served_directly() -> Status {
    Status::internal("this stream is served elsewhere")
}

/// Refuses a call if a fault says so.
pub(crate) fn admit(
    faults: &Faults,
    call: Call,
    partition: Option<(&str, u32)>,
) -> Result<(), BrokerError> {
    let refusal = faults.as_ref().and_then(|faults| faults.refusal(call, partition));
    refusal.map_or(Ok(()), Err)
}

/// What a client sees of a connection that broke.
pub(crate) fn broken() -> Status {
    Status::unavailable("the connection was reset")
}

/// Who calls: nobody is authenticated yet.
pub(crate) fn caller() -> Caller {
    Caller::default()
}

/// The partition that a fetch names.
pub(crate) fn partition_name(request: &v1::FetchRequest) -> Result<PartitionName, BrokerError> {
    Ok(PartitionName {
        topic: request.topic.clone(),
        topic_id: translate::topic_id(&request.topic_id)?,
        partition: PartitionId::new(request.partition),
        metadata_index: MetadataIndex::new(request.metadata_index),
    })
}

/// The limits that a fetch gives.
pub(crate) fn fetch_limits(request: &v1::FetchRequest) -> FetchLimits {
    FetchLimits {
        bytes_max: u64::from(request.max_bytes),
        bytes_min: u64::from(request.min_bytes),
        wait_max: Duration::from_millis(u64::from(request.max_wait_ms)),
    }
}

async fn list_offsets(
    broker: &Broker,
    request: v1::ListOffsetsRequest,
) -> Result<v1::ListOffsetsResponse, BrokerError> {
    let topic_id = translate::topic_id(&request.topic_id)?;
    let mut named = topic_id;
    let mut partitions = Vec::with_capacity(request.partitions.len());
    for asked in request.partitions {
        let name = PartitionName {
            topic: request.topic.clone(),
            topic_id,
            partition: PartitionId::new(asked.partition),
            metadata_index: MetadataIndex::new(request.metadata_index),
        };
        let position = translate::position(asked.position)?;
        let outcome = match broker.reader(&caller(), &name).await {
            Ok(reader) => {
                named = reader.topic_id();
                reader.locate(position).await
            }
            Err(error @ (BrokerError::UnknownTopic { .. } | BrokerError::TopicReplaced { .. })) => {
                return Err(error);
            }
            Err(error) => Err(error),
        };
        partitions.push(translate::listed(asked.partition, outcome));
    }
    Ok(v1::ListOffsetsResponse { topic_id: translate::topic_id_to_wire(named), partitions })
}

#[async_trait]
impl LogService for LogApi {
    type ProduceStreamStream = Answers<v1::ProduceResponse>;
    type FetchStreamStream = Answers<v1::FetchResponse>;

    async fn produce(
        &self,
        request: Request<v1::ProduceRequest>,
    ) -> Result<Response<v1::ProduceResponse>, Status> {
        let request = request.into_inner();
        let correlation_id = request.correlation_id;
        let produced = produce::once(&self.broker, &self.faults, request).await?;
        let ack = v1::produce_response::Result::Ack(translate::ack(&produced));
        Ok(Response::new(v1::ProduceResponse { correlation_id, result: Some(ack) }))
    }

    async fn produce_stream(
        &self,
        _request: Request<Streaming<v1::ProduceRequest>>,
    ) -> Result<Response<Self::ProduceStreamStream>, Status> {
        Err(served_directly())
    }

    async fn fetch(
        &self,
        request: Request<v1::FetchRequest>,
    ) -> Result<Response<v1::FetchResponse>, Status> {
        let answer = fetch::once(&self.broker, &self.faults, &request.into_inner()).await;
        answer.map(Response::new)
    }

    async fn fetch_stream(
        &self,
        _request: Request<Streaming<v1::FetchStreamRequest>>,
    ) -> Result<Response<Self::FetchStreamStream>, Status> {
        Err(served_directly())
    }

    async fn list_offsets(
        &self,
        request: Request<v1::ListOffsetsRequest>,
    ) -> Result<Response<v1::ListOffsetsResponse>, Status> {
        admit(&self.faults, Call::ListOffsets, None).map_err(|error| status(&error))?;
        let answer = list_offsets(&self.broker, request.into_inner()).await;
        answer.map(Response::new).map_err(|error| status(&error))
    }

    async fn init_producer(
        &self,
        _request: Request<v1::InitProducerRequest>,
    ) -> Result<Response<v1::InitProducerResponse>, Status> {
        admit(&self.faults, Call::InitProducer, None).map_err(|error| status(&error))?;
        let id = self.broker.init_producer(&caller()).await.map_err(|error| status(&error))?;
        let response = v1::InitProducerResponse { producer_id: id.get(), producer_epoch: 0 };
        Ok(Response::new(response))
    }
}
