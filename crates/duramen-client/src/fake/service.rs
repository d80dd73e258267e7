//! The services of a fake node.

use std::sync::Arc;

use duramen_env::Env;
use duramen_proto::v1::admin_service_server::AdminService;
use duramen_proto::v1::log_service_server::LogService;
use duramen_proto::v1::{self, ErrorCode, fetch_position, fetch_response, produce_request};
use prost::Message as _;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::MetadataValue;
use tonic::{Request, Response, Status, Streaming};

use super::{Fault, FetchFault, Shared};

/// One fake node.
#[derive(Clone)]
pub(super) struct FakeNode {
    pub(super) id: u64,
    pub(super) env: Env,
    pub(super) shared: Arc<Shared>,
}

pub(super) type Reply<T> = Result<Response<T>, Status>;

/// A refused call, with the typed error in its trailer.
pub(super) fn refusal(error: &v1::Error) -> Status {
    let mut status = Status::failed_precondition(error.message.clone());
    let value = MetadataValue::from_bytes(&error.encode_to_vec());
    status.metadata_mut().insert_bin(v1::ERROR_TRAILER, value);
    status
}

fn error(code: ErrorCode) -> v1::Error {
    v1::Error { code: code.into(), message: "as the test wants it".into(), ..v1::Error::default() }
}

impl FakeNode {
    /// Does an admin call's work, before or after or without a fault.
    pub(super) fn admin<T>(
        &self,
        work: impl FnOnce(&mut super::State) -> Result<T, ErrorCode>,
    ) -> Reply<T> {
        let mut state = self.shared.lock();
        let fault = state.admin_faults.pop_front();
        if let Some(Fault::Refuse(code)) = fault {
            return Err(refusal(&error(code)));
        }
        let done = work(&mut state).map_err(|code| refusal(&error(code)))?;
        match fault {
            Some(Fault::StoreAndRefuse(code)) => Err(refusal(&error(code))),
            Some(Fault::StoreAndDrop) => Err(Status::unavailable("gone")),
            _ => Ok(Response::new(done)),
        }
    }

    fn topic(state: &super::State, name: &str) -> Result<v1::TopicReply, ErrorCode> {
        let topic = state.describe(name).ok_or(ErrorCode::UnknownTopic)?;
        Ok(v1::TopicReply { topic: Some(topic), metadata_index: state.metadata_index })
    }

    /// Serves one produce request; `None` ends the stream.
    async fn serve_produce(
        &self,
        request: &v1::ProduceRequest,
    ) -> Option<Option<v1::ProduceResponse>> {
        use v1::produce_response::Result as Outcome;
        let fault = {
            let mut state = self.shared.lock();
            state.produce_requests.push(request.metadata_index);
            state.produce_sequences.extend(super::first_sequence(request));
            state.faults.pop_front().unwrap_or(Fault::None)
        };
        if let Fault::Hold(gate) = &fault {
            gate.acquire().await.unwrap().forget();
        }
        let refused = match &fault {
            Fault::Refuse(code) => Some(error(*code)),
            Fault::Drop => return None,
            Fault::Forget => return Some(None),
            _ => None,
        };
        let stored = || {
            let mut state = self.shared.lock();
            let (topic, id) = (&request.topic, &request.topic_id);
            let Some(produce_request::Payload::Batches(bytes)) = &request.payload else {
                return Err(error(ErrorCode::InvalidRequest));
            };
            let is_in = |value: &&str| bytes.windows(value.len()).any(|at| at == value.as_bytes());
            if state.too_large.is_some_and(|value| is_in(&value)) {
                return Err(error(ErrorCode::RecordTooLarge));
            }
            let partition = state.led(self.id, topic, id, request.partition)?;
            partition.append(bytes).map_err(error)
        };
        let outcome = match refused {
            Some(refused) => Err(refused),
            None => stored(),
        };
        self.shared.changed.notify_waiters();
        let outcome = match (fault, outcome) {
            (Fault::StoreAndRefuse(code), Ok(_)) => Err(error(code)),
            (Fault::StoreAndDrop, Ok(_)) => return None,
            (Fault::StoreAndForget, Ok(_)) => return Some(None),
            (_, outcome) => outcome,
        };
        let result = Some(match outcome {
            Ok(ack) => Outcome::Ack(ack),
            Err(error) => Outcome::Error(error),
        });
        Some(Some(v1::ProduceResponse { correlation_id: request.correlation_id, result }))
    }

    /// One answer of a fetch stream: its bytes are empty if there is nothing to send yet.
    fn read(
        &self,
        start: &v1::FetchRequest,
        next: u64,
        max_bytes: u64,
    ) -> Result<v1::FetchResponse, v1::Error> {
        let mut state = self.shared.lock();
        let partition = state.led(self.id, &start.topic, &start.topic_id, start.partition)?;
        if next < partition.log_start || next > partition.next {
            return Err(v1::Error {
                log_start_offset: Some(partition.log_start),
                high_watermark: Some(partition.next),
                ..error(ErrorCode::OffsetOutOfRange)
            });
        }
        let mut bytes = Vec::new();
        let mut end = next;
        for batch in &partition.batches {
            let after = batch.header().next_offset().get();
            if after <= next {
                continue;
            }
            if !bytes.is_empty() && (bytes.len() + batch.bytes().len()) as u64 > max_bytes {
                break;
            }
            bytes.extend_from_slice(batch.bytes());
            end = after;
        }
        Ok(v1::FetchResponse {
            topic_id: start.topic_id.clone(),
            partition: start.partition,
            leader_epoch: partition.epoch,
            log_start_offset: partition.log_start,
            high_watermark: partition.next,
            start_offset: next,
            next_offset: end,
            data: Some(fetch_response::Data::Batches(bytes.into())),
        })
    }

    async fn serve_fetch(
        self,
        mut inbound: Streaming<v1::FetchStreamRequest>,
        answers: mpsc::Sender<Result<v1::FetchResponse, Status>>,
        fault: Option<FetchFault>,
    ) {
        let Ok(Some(first)) = inbound.message().await else { return };
        let start = first.start.unwrap();
        let Some(fetch_position::Position::Offset(mut next)) = start.position.unwrap().position
        else {
            return;
        };
        let mut credit = i64::try_from(first.credit_bytes).unwrap();
        let mut sent = 0;
        loop {
            let changed = self.shared.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            match &fault {
                Some(FetchFault::End(after)) if sent == *after => return,
                Some(FetchFault::Refuse(after, code)) if sent == *after => {
                    return fail(&answers, error(*code)).await;
                }
                _ => {}
            }
            if credit > 0 {
                let asked = next;
                if matches!(fault, Some(FetchFault::Earlier)) && sent == 0 {
                    next = 0;
                }
                let max_bytes = u64::from(start.max_bytes).min(credit.unsigned_abs());
                let mut answer = match self.read(&start, next, max_bytes) {
                    Ok(answer) => answer,
                    Err(error) => return fail(&answers, error).await,
                };
                answer.start_offset = asked;
                let Some(fetch_response::Data::Batches(bytes)) = &answer.data else { return };
                if !bytes.is_empty() {
                    credit -= i64::try_from(bytes.len()).unwrap();
                    next = answer.next_offset;
                    self.shared.lock().fetched_bytes += bytes.len() as u64;
                    if matches!(&fault, Some(FetchFault::Corrupt(after)) if sent == *after) {
                        let mut damaged = bytes.to_vec();
                        // The last byte of the last value.
                        let place = damaged.len() - 2;
                        damaged[place] ^= 1;
                        answer.data = Some(fetch_response::Data::Batches(damaged.into()));
                    }
                    sent += 1;
                    if answers.send(Ok(answer)).await.is_err() {
                        return;
                    }
                    continue;
                }
            }
            tokio::select! {
                () = changed => {}
                more = inbound.message() => match more {
                    Ok(Some(more)) => credit += i64::try_from(more.credit_bytes).unwrap(),
                    _ => return,
                },
            }
        }
    }
}

async fn fail(answers: &mpsc::Sender<Result<v1::FetchResponse, Status>>, error: v1::Error) {
    let data = Some(fetch_response::Data::Error(error));
    drop(answers.send(Ok(v1::FetchResponse { data, ..v1::FetchResponse::default() })).await);
}

#[tonic::async_trait]
impl AdminService for FakeNode {
    async fn create_topic(
        &self,
        request: Request<v1::CreateTopicRequest>,
    ) -> Reply<v1::TopicReply> {
        let request = request.into_inner();
        self.admin(|state| {
            if state.topics.contains_key(&request.name) {
                return Err(ErrorCode::TopicExists);
            }
            state.create(&request.name, request.partitions.max(1));
            Self::topic(state, &request.name)
        })
    }

    async fn alter_topic(&self, request: Request<v1::AlterTopicRequest>) -> Reply<v1::TopicReply> {
        let request = request.into_inner();
        self.admin(|state| {
            let topic = state.topics.get_mut(&request.name).ok_or(ErrorCode::UnknownTopic)?;
            topic.config.extend(request.set);
            topic.config.retain(|name, _| !request.unset.contains(name));
            Self::topic(state, &request.name)
        })
    }

    async fn delete_topic(
        &self,
        request: Request<v1::DeleteTopicRequest>,
    ) -> Reply<v1::DeleteTopicResponse> {
        let request = request.into_inner();
        self.admin(|state| {
            let topic = state.topics.get(&request.name).ok_or(ErrorCode::UnknownTopic)?;
            if topic.id[..] != request.id {
                return Err(ErrorCode::UnknownTopicId);
            }
            state.topics.remove(&request.name);
            state.metadata_index += 1;
            Ok(v1::DeleteTopicResponse { metadata_index: state.metadata_index })
        })
    }

    async fn list_topics(
        &self,
        _request: Request<v1::ListTopicsRequest>,
    ) -> Reply<v1::ListTopicsResponse> {
        self.admin(|state| {
            let topics = state.topics.keys().filter_map(|name| state.describe(name)).collect();
            Ok(v1::ListTopicsResponse { topics, metadata_index: state.metadata_index })
        })
    }

    async fn move_replica(
        &self,
        _request: Request<v1::MoveReplicaRequest>,
    ) -> Reply<v1::TopicReply> {
        Err(Status::unimplemented("the fake moves nothing"))
    }

    async fn describe_topic(
        &self,
        request: Request<v1::DescribeTopicRequest>,
    ) -> Reply<v1::TopicReply> {
        let mut state = self.shared.lock();
        state.describes += 1;
        self.shared.changed.notify_waiters();
        let reply = Self::topic(&state, &request.into_inner().name);
        reply.map(Response::new).map_err(|code| refusal(&error(code)))
    }

    async fn describe_cluster(
        &self,
        _request: Request<v1::DescribeClusterRequest>,
    ) -> Reply<v1::DescribeClusterResponse> {
        let state = self.shared.lock();
        let nodes = state.addresses.iter().map(|(id, address)| v1::ClusterNode {
            node: Some(v1::Node { id: *id, address: address.clone(), ..v1::Node::default() }),
            alive: true,
            ..v1::ClusterNode::default()
        });
        Ok(Response::new(v1::DescribeClusterResponse {
            cluster_id: vec![9; 16].into(),
            nodes: nodes.collect(),
            this_node: self.id,
            metadata_index: state.metadata_index,
            ..v1::DescribeClusterResponse::default()
        }))
    }
}

#[tonic::async_trait]
impl LogService for FakeNode {
    type ProduceStreamStream = ReceiverStream<Result<v1::ProduceResponse, Status>>;
    type FetchStreamStream = ReceiverStream<Result<v1::FetchResponse, Status>>;

    async fn produce(&self, _request: Request<v1::ProduceRequest>) -> Reply<v1::ProduceResponse> {
        Err(Status::unimplemented("the client uses streams"))
    }

    async fn produce_stream(
        &self,
        request: Request<Streaming<v1::ProduceRequest>>,
    ) -> Reply<Self::ProduceStreamStream> {
        let (answers, receiver) = mpsc::channel(64);
        let node = self.clone();
        let mut inbound = request.into_inner();
        self.env.tasks.connection("fake-produce", async move {
            while let Ok(Some(request)) = inbound.message().await {
                match node.serve_produce(&request).await {
                    None => return,
                    Some(None) => {}
                    Some(Some(answer)) => {
                        if answers.send(Ok(answer)).await.is_err() {
                            return;
                        }
                    }
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn fetch(&self, _request: Request<v1::FetchRequest>) -> Reply<v1::FetchResponse> {
        Err(Status::unimplemented("the client uses streams"))
    }

    async fn fetch_stream(
        &self,
        request: Request<Streaming<v1::FetchStreamRequest>>,
    ) -> Reply<Self::FetchStreamStream> {
        let fault = {
            let mut state = self.shared.lock();
            state.fetch_streams += 1;
            state.fetch_faults.pop_front()
        };
        if let Some(FetchFault::Hold(gate)) = &fault {
            gate.acquire().await.unwrap().forget();
        }
        let (answers, receiver) = mpsc::channel(1);
        let serving = self.clone().serve_fetch(request.into_inner(), answers, fault);
        self.env.tasks.connection("fake-fetch", serving);
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn list_offsets(
        &self,
        request: Request<v1::ListOffsetsRequest>,
    ) -> Reply<v1::ListOffsetsResponse> {
        use fetch_position::Position;
        let request = request.into_inner();
        let mut state = self.shared.lock();
        let partitions = request.partitions.iter().map(|asked| {
            let found = state.led(self.id, &request.topic, &request.topic_id, asked.partition);
            let partition = match found {
                Ok(partition) => partition,
                Err(error) => {
                    return v1::PartitionOffsets {
                        partition: asked.partition,
                        error: Some(error),
                        ..v1::PartitionOffsets::default()
                    };
                }
            };
            let offset = match asked.position.unwrap().position.unwrap() {
                Position::First(_) => partition.log_start,
                Position::Last(count) => {
                    partition.next.saturating_sub(count).max(partition.log_start)
                }
                Position::Offset(offset) => offset,
                // Records of the fake are 100 ms apart.
                Position::Timestamp(millis) => u64::try_from(millis).unwrap().div_ceil(100),
            };
            v1::PartitionOffsets {
                partition: asked.partition,
                offset,
                log_start_offset: partition.log_start,
                high_watermark: partition.next,
                leader_epoch: partition.epoch,
                error: None,
            }
        });
        let partitions = partitions.collect();
        Ok(Response::new(v1::ListOffsetsResponse { topic_id: request.topic_id, partitions }))
    }

    async fn init_producer(
        &self,
        _request: Request<v1::InitProducerRequest>,
    ) -> Reply<v1::InitProducerResponse> {
        let mut state = self.shared.lock();
        state.next_producer += 1;
        let producer_id = state.next_producer;
        Ok(Response::new(v1::InitProducerResponse { producer_id, producer_epoch: 0 }))
    }
}
