//! Every request of the public API, for the fuzzer.

use bytes::Bytes;
use duramen_broker::ProducePayload;
use duramen_env::fuzz::{Decoder, MemoryLimit, Verdict, round_trip};
use duramen_metadata::{
    Command, Node, Outcome, State, plan_alter_topic, plan_create_topic, plan_delete_topic,
};
use duramen_proto::v1;
use duramen_types::{ClusterId, MetadataIndex, NodeId, ReplicaId, Timestamp};
use prost::Message;

use crate::service::{fetch_limits, partition_name};
use crate::{group, translate};

/// One message type: how it is read, and a valid one.
struct Request {
    run: fn(&[u8]) -> Verdict,
    seed: fn() -> Vec<u8>,
}

/// A topic of the largest number of partitions is planned in memory of its own size.
const MEMORY: MemoryLimit = MemoryLimit { base: 16 << 20, per_byte: 512 };

/// The requests of clients.
pub const DECODERS: &[Decoder] =
    &[Decoder { name: "grpc-request", run: request, seeds, seal: None, memory: MEMORY }];

/// The first byte of an input says which of these follows.
const REQUESTS: &[Request] = &[
    Request { run: produce, seed: produce_batches },
    Request { run: produce, seed: produce_records },
    Request { run: fetch, seed: || fetch_request().encode_to_vec() },
    Request { run: fetch_stream, seed: fetch_stream_request },
    Request { run: list_offsets, seed: list_offsets_request },
    Request { run: create_topic, seed: create_topic_request },
    Request { run: alter_topic, seed: alter_topic_request },
    Request { run: delete_topic, seed: delete_topic_request },
    Request { run: plain::<v1::MoveReplicaRequest>, seed: || vec![10, 1, b't', 24, 1, 32, 2] },
    Request { run: plain::<v1::ListTopicsRequest>, seed: || vec![8, 1] },
    Request { run: plain::<v1::DescribeTopicRequest>, seed: || vec![10, 1, b't', 16, 1] },
    Request { run: plain::<v1::DescribeClusterRequest>, seed: || vec![8, 1] },
    Request { run: plain::<v1::InitProducerRequest>, seed: Vec::new },
    Request { run: plain::<v1::IdentifyRequest>, seed: Vec::new },
    Request { run: member, seed: join_request },
    Request { run: member, seed: commit_request },
    Request { run: plain::<v1::CommitOffsetsRequest>, seed: commit_offsets_request },
    Request { run: plain::<v1::ResetOffsetsRequest>, seed: commit_offsets_request },
    Request { run: plain::<v1::DeleteOffsetsRequest>, seed: || vec![10, 1, b'g', 18, 2, 24, 1] },
    Request { run: plain::<v1::RemoveMemberRequest>, seed: || vec![10, 1, b'g', 18, 1, b'm'] },
];

fn request(bytes: &[u8]) -> Verdict {
    let Some((which, message)) = bytes.split_first() else { return Verdict::Refused };
    match REQUESTS.get(usize::from(*which)) {
        Some(request) => (request.run)(message),
        None => Verdict::Refused,
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let seed = |(which, request): (u8, &Request)| [vec![which], (request.seed)()].concat();
    (0..).zip(REQUESTS).map(seed).collect()
}

/// A message that is taken as it is.
fn plain<M: Message + Default + PartialEq>(bytes: &[u8]) -> Verdict {
    round_trip(bytes, |bytes| M::decode(bytes).ok(), M::encode_to_vec)
}

fn verdict(translated: bool) -> Verdict {
    if translated { Verdict::Accepted } else { Verdict::Refused }
}

fn produce(bytes: &[u8]) -> Verdict {
    let Ok(mut request) = v1::ProduceRequest::decode(bytes) else { return Verdict::Refused };
    let sent = request.payload.clone();
    let topic = translate::topic_id(&request.topic_id).is_ok();
    match translate::payload(&mut request) {
        Err(_) => Verdict::Refused,
        Ok(ProducePayload::Batches(_)) => verdict(topic),
        Ok(ProducePayload::Records { records, .. }) => {
            let Some(v1::produce_request::Payload::Records(list)) = sent else {
                return Verdict::Broken("batches became records");
            };
            let same = records.into_iter().zip(list.records).all(|(record, sent)| {
                translate::record_to_wire(record) == v1::Record { offset: 0, ..sent }
            });
            if same { verdict(topic) } else { Verdict::Broken("a record was changed") }
        }
    }
}

fn member(bytes: &[u8]) -> Verdict {
    use v1::member_request::Request;
    match v1::MemberRequest::decode(bytes) {
        Ok(v1::MemberRequest { request: Some(Request::Join(join)) }) => {
            verdict(group::translate::join(join).is_ok())
        }
        Ok(_) => plain::<v1::MemberRequest>(bytes),
        Err(_) => Verdict::Refused,
    }
}

fn join_request() -> Vec<u8> {
    let subscription = v1::Subscription { topics: vec!["t".to_owned()], pattern: "t.*".to_owned() };
    let join = v1::JoinGroup {
        group: "g".to_owned(),
        member_id: "m".to_owned(),
        instance_id: "i".to_owned(),
        rack: "r".to_owned(),
        subscription: Some(subscription),
        session_ms: 10_000,
        ..v1::JoinGroup::default()
    };
    v1::MemberRequest { request: Some(v1::member_request::Request::Join(join)) }.encode_to_vec()
}

fn offset_commit() -> v1::OffsetCommit {
    let topic_id = Bytes::from_static(&[7; 16]);
    let partition = v1::TopicPartition { topic_id, topic: String::new(), partition: 1 };
    let metadata = "metadata".to_owned();
    v1::OffsetCommit { partition: Some(partition), offset: 5, leader_epoch: 2, metadata }
}

fn commit_request() -> Vec<u8> {
    let offsets = vec![offset_commit(), offset_commit()];
    let commit = v1::Commit { correlation_id: 1, epoch: 2, offsets };
    v1::MemberRequest { request: Some(v1::member_request::Request::Commit(commit)) }.encode_to_vec()
}

/// Of the same shape as a reset.
fn commit_offsets_request() -> Vec<u8> {
    let (group, offsets) = ("g".to_owned(), vec![offset_commit()]);
    v1::CommitOffsetsRequest { group, offsets, fence: Some(3) }.encode_to_vec()
}

fn fetch(bytes: &[u8]) -> Verdict {
    v1::FetchRequest::decode(bytes).map_or(Verdict::Refused, |request| fetched(&request))
}

fn fetched(request: &v1::FetchRequest) -> Verdict {
    let limits = fetch_limits(request);
    let position = translate::position(request.position).is_ok();
    let known = v1::FetchFormat::try_from(request.format).is_ok();
    verdict(partition_name(request).is_ok() && position && known && limits.bytes_max < 1 << 32)
}

fn fetch_stream(bytes: &[u8]) -> Verdict {
    match v1::FetchStreamRequest::decode(bytes) {
        Ok(v1::FetchStreamRequest { start: Some(start), .. }) => fetched(&start),
        Ok(_) | Err(_) => Verdict::Refused,
    }
}

fn list_offsets(bytes: &[u8]) -> Verdict {
    let Ok(request) = v1::ListOffsetsRequest::decode(bytes) else { return Verdict::Refused };
    let positions = request.partitions.iter().map(|asked| translate::position(asked.position));
    verdict(
        translate::topic_id(&request.topic_id).is_ok() && positions.into_iter().all(|p| p.is_ok()),
    )
}

/// Applies a planned command; it must not be refused, for nothing happened in between.
fn applied(mut state: State, command: &Command) -> Verdict {
    if Command::decode(&command.encode()).as_ref() != Ok(command) {
        return Verdict::Broken("a planned command does not survive its encoding");
    }
    match state.apply(MetadataIndex::new(4), command) {
        Outcome::Refused(_) => Verdict::Broken("a planned command is refused"),
        _ if State::decode(&state.encode()) == Ok(state) => Verdict::Accepted,
        _ => Verdict::Broken("a state does not survive its encoding"),
    }
}

fn create_topic(bytes: &[u8]) -> Verdict {
    let Ok(request) = v1::CreateTopicRequest::decode(bytes) else { return Verdict::Refused };
    let (state, mut drawn) = (state(), 100);
    let mut random = || {
        drawn += 1;
        drawn
    };
    let request = translate::topic_request(request);
    match plan_create_topic(&state, &request, Timestamp::EPOCH, &mut random) {
        Ok(command) => applied(state, &command),
        Err(_) => Verdict::Refused,
    }
}

fn alter_topic(bytes: &[u8]) -> Verdict {
    let Ok(request) = v1::AlterTopicRequest::decode(bytes) else { return Verdict::Refused };
    let (state, set) = (state(), request.set.into_iter().collect());
    match plan_alter_topic(&state, &request.name, &set, &request.unset) {
        Ok(command) => applied(state, &command),
        Err(_) => Verdict::Refused,
    }
}

fn delete_topic(bytes: &[u8]) -> Verdict {
    let Ok(request) = v1::DeleteTopicRequest::decode(bytes) else { return Verdict::Refused };
    let Ok(id) = translate::topic_id(&request.id) else { return Verdict::Refused };
    let state = state();
    match plan_delete_topic(&state, &request.name, id) {
        Ok(command) => applied(state, &command),
        Err(_) => Verdict::Refused,
    }
}

/// A cluster of one node with a topic `t`.
fn state() -> State {
    let mut state = State::default();
    let node = Node {
        id: NodeId::new(1),
        incarnation: ReplicaId::new(11),
        client_address: "127.0.0.1:7650".into(),
        peer_address: "127.0.0.1:7651".into(),
        http_address: String::new(),
        rack: String::new(),
        version: "0".into(),
    };
    let form = Command::FormCluster { cluster: ClusterId::from_bytes([9; 16]) };
    state.apply(MetadataIndex::new(1), &form);
    state.apply(MetadataIndex::new(2), &Command::RegisterNode(node));
    let topic = v1::CreateTopicRequest { name: "t".into(), ..v1::CreateTopicRequest::default() };
    let topic = translate::topic_request(topic);
    if let Ok(command) = plan_create_topic(&state, &topic, Timestamp::EPOCH, &mut || 7) {
        state.apply(MetadataIndex::new(3), &command);
    }
    state
}

fn produce_batches() -> Vec<u8> {
    let payload = v1::produce_request::Payload::Batches(Bytes::from_static(b"batches"));
    v1::ProduceRequest { payload: Some(payload), ..produce_head() }.encode_to_vec()
}

fn produce_records() -> Vec<u8> {
    let record = v1::Record {
        key: Some(Bytes::from_static(b"key")),
        value: None,
        headers: vec![v1::Header { key: "h".into(), value: Some(Bytes::new()) }],
        timestamp: 1_700_000_000_000,
        offset: 0,
    };
    let list = v1::RecordList::new(vec![record.clone(), record]);
    let payload = v1::produce_request::Payload::Records(list);
    v1::ProduceRequest { payload: Some(payload), ..produce_head() }.encode_to_vec()
}

fn produce_head() -> v1::ProduceRequest {
    v1::ProduceRequest {
        correlation_id: 7,
        topic: "t".into(),
        topic_id: Bytes::from_static(&[3; 16]),
        partition: 1,
        timeout_ms: 1_000,
        producer_id: 5,
        producer_epoch: 1,
        base_sequence: 20,
        metadata_index: 3,
        payload: None,
    }
}

fn fetch_request() -> v1::FetchRequest {
    v1::FetchRequest {
        topic: "t".into(),
        topic_id: Bytes::from_static(&[3; 16]),
        partition: 1,
        position: position(),
        max_bytes: 1 << 20,
        min_bytes: 1,
        max_wait_ms: 500,
        format: v1::FetchFormat::Records.into(),
        metadata_index: 3,
    }
}

fn position() -> Option<v1::FetchPosition> {
    Some(v1::FetchPosition { position: Some(v1::fetch_position::Position::Timestamp(77)) })
}

fn fetch_stream_request() -> Vec<u8> {
    let start = Some(fetch_request());
    v1::FetchStreamRequest { start, credit_bytes: 1 << 20 }.encode_to_vec()
}

fn list_offsets_request() -> Vec<u8> {
    v1::ListOffsetsRequest {
        topic: "t".into(),
        topic_id: Bytes::new(),
        partitions: vec![v1::PartitionPosition { partition: 1, position: position() }],
        metadata_index: 3,
    }
    .encode_to_vec()
}

fn create_topic_request() -> Vec<u8> {
    v1::CreateTopicRequest {
        name: "orders".into(),
        partitions: 3,
        replication_factor: 1,
        config: [("retention.ms".to_owned(), "7d".to_owned())].into(),
        validate_only: false,
    }
    .encode_to_vec()
}

fn alter_topic_request() -> Vec<u8> {
    v1::AlterTopicRequest {
        name: "t".into(),
        set: [("retention.bytes".to_owned(), "1GiB".to_owned())].into(),
        unset: vec!["segment.ms".into()],
        validate_only: false,
    }
    .encode_to_vec()
}

fn delete_topic_request() -> Vec<u8> {
    v1::DeleteTopicRequest { name: "t".into(), id: Bytes::new() }.encode_to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_seed_is_accepted() {
        for seed in seeds() {
            assert_eq!(request(&seed), Verdict::Accepted, "{}", seed[0]);
        }
    }
}
