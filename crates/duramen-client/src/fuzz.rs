//! The answers of a server that may say anything, for the fuzzer.

use std::sync::Arc;

use bytes::Bytes;
use duramen_env::fuzz::{Decoder, MemoryLimit, Verdict, round_trip};
use duramen_proto::v1;
use duramen_record::fuzz::seal_batches;
use duramen_record::{BatchBuilder, Compression, HeaderRef, RecordRef, split_batches};
use duramen_types::{Offset, PartitionId, Timestamp};
use prost::Message;
use tonic::metadata::MetadataValue;
use tonic::{Code, Status};

use crate::ConsumerBatch;
use crate::admin::{describe, describe_node};
use crate::failure::Failure;
use crate::metadata::Metadata;

/// One message type: how it is read, and valid ones.
struct Answer {
    run: fn(&[u8]) -> Verdict,
    seed: fn() -> Vec<u8>,
}

/// What a node answers.
pub const DECODERS: &[Decoder] = &[
    Decoder {
        name: "client-answer",
        run: answer,
        seeds,
        seal: None,
        memory: MemoryLimit::MESSAGES,
    },
    Decoder {
        name: "client-batches",
        run: batches,
        seeds: fetched,
        seal: Some(seal_batches),
        // A batch may be opened into 128 MiB; a vector that grows is there twice.
        memory: MemoryLimit { base: 416 << 20, per_byte: 64 },
    },
];

/// The first byte of an input says which of these follows.
const ANSWERS: &[Answer] = &[
    Answer { run: cluster, seed: || cluster_answer().encode_to_vec() },
    Answer { run: topic, seed: || topic_answer().encode_to_vec() },
    Answer { run: plain::<v1::ListTopicsResponse>, seed: topics_answer },
    Answer { run: plain::<v1::ProduceResponse>, seed: produce_answer },
    Answer { run: plain::<v1::ListOffsetsResponse>, seed: offsets_answer },
    Answer { run: plain::<v1::FetchResponse>, seed: fetch_answer },
    Answer { run: plain::<v1::InitProducerResponse>, seed: || vec![8, 1, 16, 1] },
    Answer { run: plain::<v1::DeleteTopicResponse>, seed: || vec![8, 1] },
    Answer { run: refusal, seed: || error().encode_to_vec() },
];

fn answer(bytes: &[u8]) -> Verdict {
    let Some((which, message)) = bytes.split_first() else { return Verdict::Refused };
    match ANSWERS.get(usize::from(*which)) {
        Some(answer) => (answer.run)(message),
        None => Verdict::Refused,
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let seed = |(which, answer): (u8, &Answer)| [vec![which], (answer.seed)()].concat();
    (0..).zip(ANSWERS).map(seed).collect()
}

fn plain<M: Message + Default + PartialEq>(bytes: &[u8]) -> Verdict {
    round_trip(bytes, |bytes| M::decode(bytes).ok(), M::encode_to_vec)
}

fn cluster(bytes: &[u8]) -> Verdict {
    let Ok(answer) = v1::DescribeClusterResponse::decode(bytes) else { return Verdict::Refused };
    let mut metadata = known();
    metadata.apply_cluster(&answer);
    let nodes = answer.nodes.len();
    drop(answer.nodes.into_iter().map(describe_node).collect::<Vec<_>>());
    if metadata.addresses().count() > nodes {
        return Verdict::Broken("nodes that nobody named");
    }
    Verdict::Accepted
}

fn topic(bytes: &[u8]) -> Verdict {
    let Ok(topic) = v1::Topic::decode(bytes) else { return Verdict::Refused };
    let mut metadata = known();
    let Some(id) = metadata.apply_topic(&topic) else { return Verdict::Refused };
    if metadata.topic(&topic.name).map(|(found, _)| found) != Some(id) {
        return Verdict::Broken("a topic that was described is not known");
    }
    let leader = v1::Node { id: 9, address: "h:1".into(), ..v1::Node::default() };
    for partition in [0, 1, u32::MAX].map(PartitionId::new) {
        metadata.learn_leader(&topic.name, partition, &leader, u64::MAX);
        for failures in [0, 1, u32::MAX] {
            drop(metadata.route(&topic.name, partition, failures));
        }
    }
    match describe(topic) {
        Ok(_) => Verdict::Accepted,
        Err(_) => Verdict::Broken("a topic is known and cannot be described"),
    }
}

/// A refusal as a trailer of bytes, and as the message in it.
fn refusal(bytes: &[u8]) -> Verdict {
    let mut status = Status::new(Code::Unavailable, "refused");
    status.metadata_mut().insert_bin(v1::ERROR_TRAILER, MetadataValue::from_bytes(bytes));
    let failure = Failure::from_status(&status, &Arc::from("h:1"));
    let is_typed = failure.code().is_some();
    if failure.is_damage() && !failure.is_transient() {
        return Verdict::Broken("a damaged replica is not asked for elsewhere");
    }
    drop(failure.into_error().to_string());
    if is_typed { Verdict::Accepted } else { Verdict::Refused }
}

/// Fetched batches, as the consumer takes them from a fetch answer.
fn batches(bytes: &[u8]) -> Verdict {
    let topic: Arc<str> = Arc::from("t");
    let mut seen = 0;
    for batch in split_batches(Bytes::copy_from_slice(bytes)) {
        let Ok(batch) = batch else { return Verdict::Refused };
        if batch.view().verify_checksum().is_err() {
            return Verdict::Refused;
        }
        let whole = (Offset::ZERO, Offset::new(u64::MAX));
        let opened = ConsumerBatch::open(&topic, PartitionId::ZERO, batch, whole);
        let Ok(opened) = opened else { return Verdict::Refused };
        if opened.record_count() > u64::from(opened.batch().header().record_count) {
            return Verdict::Broken("more records than the batch has");
        }
        let views = opened.views().count();
        let owned = opened.into_iter().map(|record| record.offset);
        if owned.count() != views {
            return Verdict::Broken("records differ between views and owned ones");
        }
        seen += views;
    }
    if seen > 0 { Verdict::Accepted } else { Verdict::Refused }
}

/// A cluster and a topic as they were before the answer.
fn known() -> Metadata {
    let mut metadata = Metadata::default();
    metadata.apply_cluster(&cluster_answer());
    metadata.apply_topic(&topic_answer());
    metadata
}

fn cluster_answer() -> v1::DescribeClusterResponse {
    let node = |id: u64| v1::ClusterNode {
        node: Some(v1::Node { id, address: format!("h:{id}"), ..v1::Node::default() }),
        alive: true,
        ..v1::ClusterNode::default()
    };
    v1::DescribeClusterResponse {
        cluster_id: Bytes::from_static(&[9; 16]),
        nodes: vec![node(1), node(2)],
        this_node: 1,
        controller: 2,
        ..v1::DescribeClusterResponse::default()
    }
}

fn topic_answer() -> v1::Topic {
    let partition = |id: u32| v1::Partition {
        id,
        leader: 1,
        leader_epoch: 4,
        replicas: vec![1, 2],
        log_start_offset: Some(0),
        high_watermark: Some(7),
        in_sync: vec![1],
        replacement: Some(v1::Replacement { from: 1, to: 2, ..v1::Replacement::default() }),
        ..v1::Partition::default()
    };
    v1::Topic {
        name: "t".into(),
        id: Bytes::from_static(&[3; 16]),
        replication_factor: 2,
        partitions: vec![partition(0), partition(1)],
        config: vec![v1::ConfigEntry { name: "retention.ms".into(), ..Default::default() }],
    }
}

fn topics_answer() -> Vec<u8> {
    let topics = vec![topic_answer(), topic_answer()];
    v1::ListTopicsResponse { topics, metadata_index: 5 }.encode_to_vec()
}

fn produce_answer() -> Vec<u8> {
    let ack = v1::ProduceAck { base_offset: 7, last_offset: 8, ..v1::ProduceAck::default() };
    let result = Some(v1::produce_response::Result::Ack(ack));
    v1::ProduceResponse { correlation_id: 1, result }.encode_to_vec()
}

fn offsets_answer() -> Vec<u8> {
    let partition = v1::PartitionOffsets { error: Some(error()), ..Default::default() };
    let partitions = vec![partition];
    v1::ListOffsetsResponse { topic_id: Bytes::from_static(&[3; 16]), partitions }.encode_to_vec()
}

fn fetch_answer() -> Vec<u8> {
    let data = Some(v1::fetch_response::Data::Batches(Bytes::from_static(b"batches")));
    let topic_id = Bytes::from_static(&[3; 16]);
    v1::FetchResponse { topic_id, high_watermark: 9, data, ..Default::default() }.encode_to_vec()
}

fn error() -> v1::Error {
    v1::Error {
        code: v1::ErrorCode::NotLeader.into(),
        message: "not the leader".into(),
        leader: Some(v1::Node { id: 2, address: "h:2".into(), ..v1::Node::default() }),
        leader_epoch: 4,
        ..v1::Error::default()
    }
}

/// A batch of each codec, alone and all together.
fn fetched() -> Vec<Vec<u8>> {
    let built = |compression| {
        let mut builder = BatchBuilder::new(compression);
        for place in 0..20_i64 {
            let value = b"a value that repeats, a value that repeats";
            let record = RecordRef {
                key: Some(b"key"),
                value: Some(value),
                timestamp: Timestamp::from_millis(1_700_000_000_000 + place),
            };
            let header = HeaderRef { key: b"h", value: None };
            builder.append(record, [header].into_iter()).ok()?;
        }
        builder.finish(None).ok().map(|batch| batch.to_vec())
    };
    let mut seeds: Vec<Vec<u8>> = Compression::ALL.into_iter().filter_map(built).collect();
    seeds.push(seeds.concat());
    seeds
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_seed_is_accepted() {
        for decoder in DECODERS {
            for seed in (decoder.seeds)() {
                assert_eq!((decoder.run)(&seed), Verdict::Accepted, "{} {seed:?}", decoder.name);
            }
        }
    }
}
