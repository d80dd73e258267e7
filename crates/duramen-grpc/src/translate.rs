//! Between the wire's messages and the broker's requests, field by field.

use bytes::Bytes;
use duramen_broker::{
    BrokerError, ClusterDescription, ListedOffset, PlainRecord, Position, ProducePayload, Produced,
    ReplacementDescription, ReplacementState, TopicDescription,
};
use duramen_metadata::TopicRequest;
use duramen_proto::v1;
use duramen_record::ProducerStamp;
use duramen_types::{
    MetadataIndex, NodeId, Offset, ProducerEpoch, ProducerId, Sequence, Timestamp, TopicId,
};

use crate::error;

/// The error of a field that is not valid.
pub(crate) fn invalid(field: &'static str, rule: &str) -> BrokerError {
    BrokerError::InvalidRequest { field, rule: rule.to_owned() }
}

/// Reads a topic id; none given is the nil id.
pub(crate) fn topic_id(bytes: &[u8]) -> Result<TopicId, BrokerError> {
    if bytes.is_empty() {
        return Ok(TopicId::NIL);
    }
    TopicId::from_slice(bytes).ok_or_else(|| invalid("topic_id", "16 bytes, or none"))
}

pub(crate) fn topic_id_to_wire(id: TopicId) -> Bytes {
    Bytes::copy_from_slice(id.as_bytes())
}

pub(crate) fn position(position: Option<v1::FetchPosition>) -> Result<Position, BrokerError> {
    use v1::fetch_position::Position as Wire;
    match position.and_then(|position| position.position) {
        Some(Wire::Offset(offset)) => Ok(Position::Offset(Offset::new(offset))),
        Some(Wire::Timestamp(time)) => Ok(Position::Timestamp(Timestamp::from_millis(time))),
        Some(Wire::First(_)) => Ok(Position::First),
        Some(Wire::Last(count)) => Ok(Position::Last(count)),
        None => Err(invalid("position", "one of offset, timestamp, first, last")),
    }
}

pub(crate) fn payload(request: &mut v1::ProduceRequest) -> Result<ProducePayload, BrokerError> {
    use v1::produce_request::Payload;
    match request.payload.take() {
        Some(Payload::Batches(batches)) => Ok(ProducePayload::Batches(batches)),
        Some(Payload::Records(list)) if list.is_cut() => {
            let max = duramen_proto::limits::RECORD_ITEMS_MAX;
            Err(invalid("records", &format!("at most {max} records and headers")))
        }
        Some(Payload::Records(list)) => {
            if list.records.is_empty() {
                return Err(invalid("records", "at least one record"));
            }
            let records = list.records.into_iter().map(record_from_wire).collect();
            Ok(ProducePayload::Records { records, producer: producer(request)? })
        }
        None => Err(invalid("payload", "batches or records")),
    }
}

fn producer(request: &v1::ProduceRequest) -> Result<Option<ProducerStamp>, BrokerError> {
    if request.producer_id == 0 {
        return Ok(None);
    }
    let epoch = u16::try_from(request.producer_epoch)
        .ok()
        .filter(|epoch| *epoch <= i16::MAX.unsigned_abs())
        .ok_or_else(|| invalid("producer_epoch", "below 32,768"))?;
    if request.base_sequence > Sequence::MAX {
        return Err(invalid("base_sequence", "below 2^31"));
    }
    Ok(Some(ProducerStamp {
        id: ProducerId::new(request.producer_id),
        epoch: ProducerEpoch::new(epoch),
        base_sequence: Sequence::new(request.base_sequence),
    }))
}

pub(crate) fn record_from_wire(record: v1::Record) -> PlainRecord {
    PlainRecord {
        key: record.key,
        value: record.value,
        headers: record.headers.into_iter().map(|header| (header.key, header.value)).collect(),
        timestamp: Timestamp::from_millis(record.timestamp),
        offset: Offset::ZERO,
    }
}

pub(crate) fn record_to_wire(record: PlainRecord) -> v1::Record {
    let headers = record.headers.into_iter();
    v1::Record {
        key: record.key,
        value: record.value,
        headers: headers.map(|(key, value)| v1::Header { key, value }).collect(),
        timestamp: record.timestamp.as_millis(),
        offset: record.offset.get(),
    }
}

pub(crate) fn ack(produced: &Produced) -> v1::ProduceAck {
    v1::ProduceAck {
        base_offset: produced.base_offset.get(),
        last_offset: produced.last_offset.get(),
        append_time: produced.append_time.as_millis(),
        leader_epoch: produced.leader_epoch.get(),
        log_start_offset: produced.log_start_offset.get(),
        duplicate: produced.duplicate,
        synced_replicas: produced.synced_replicas,
        replicas: produced.replicas,
    }
}

/// A topic as a client asks for it.
pub(crate) fn topic_request(request: v1::CreateTopicRequest) -> TopicRequest {
    TopicRequest {
        name: request.name,
        partitions: request.partitions,
        replication_factor: request.replication_factor,
        settings: request.config.into_iter().collect(),
        ..TopicRequest::default()
    }
}

/// The answer for one partition of a list of offsets.
pub(crate) fn listed(
    partition: u32,
    outcome: Result<ListedOffset, BrokerError>,
) -> v1::PartitionOffsets {
    match outcome {
        Ok(listed) => v1::PartitionOffsets {
            partition,
            offset: listed.offset.get(),
            log_start_offset: listed.log_start_offset.get(),
            high_watermark: listed.high_watermark.get(),
            leader_epoch: listed.leader_epoch.get(),
            error: None,
        },
        Err(error) => v1::PartitionOffsets {
            partition,
            error: Some(error::to_wire(&error)),
            ..v1::PartitionOffsets::default()
        },
    }
}

fn count(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

pub(crate) fn topic(topic: TopicDescription) -> v1::Topic {
    let partitions = topic.partitions.into_iter().map(|partition| v1::Partition {
        id: partition.id.get(),
        leader: partition.leader.map_or(0, |(node, _)| node.get()),
        leader_epoch: partition.leader.map_or(0, |(_, term)| term.get()),
        replicas: partition.replicas.into_iter().map(NodeId::get).collect(),
        log_start_offset: partition.offsets.map(|(start, _)| start.get()),
        high_watermark: partition.offsets.map(|(_, high_watermark)| high_watermark.get()),
        in_sync: partition.in_sync.into_iter().map(NodeId::get).collect(),
        replacement: partition.replacement.map(replacement),
        problem: partition.problem.unwrap_or_default(),
    });
    let config = topic.config.into_iter().map(|value| v1::ConfigEntry {
        name: value.name.to_owned(),
        value: value.value,
        explicit: value.explicit,
        documentation: value.documentation.to_owned(),
    });
    v1::Topic {
        name: topic.name,
        id: topic_id_to_wire(topic.id),
        replication_factor: topic.replication_factor,
        partitions: partitions.collect(),
        config: config.collect(),
    }
}

fn replacement(replacement: ReplacementDescription) -> v1::Replacement {
    let state = match replacement.state {
        ReplacementState::Creating => v1::ReplacementState::Creating,
        ReplacementState::CatchingUp => v1::ReplacementState::CatchingUp,
        ReplacementState::Promoting => v1::ReplacementState::Promoting,
    };
    v1::Replacement {
        from: replacement.from.get(),
        to: replacement.to.get(),
        state: state.into(),
        lag_entries: replacement.lag_entries,
    }
}

pub(crate) fn topic_reply(described: TopicDescription, index: MetadataIndex) -> v1::TopicReply {
    v1::TopicReply { topic: Some(topic(described)), metadata_index: index.get() }
}

pub(crate) fn cluster(cluster: &ClusterDescription) -> v1::DescribeClusterResponse {
    let nodes = cluster.nodes.iter().map(|described| v1::ClusterNode {
        node: Some(error::node(&described.node)),
        peer_address: described.node.peer_address.clone(),
        version: described.node.version.clone(),
        metadata_voter: described.metadata_voter,
        alive: described.alive,
        leaders: count(described.leaders),
        replicas: count(described.replicas),
    });
    v1::DescribeClusterResponse {
        cluster_id: Bytes::copy_from_slice(cluster.cluster.as_bytes()),
        nodes: nodes.collect(),
        this_node: cluster.this_node.get(),
        controller: cluster.controller.map_or(0, NodeId::get),
        metadata_index: cluster.metadata_index.get(),
        topics: count(cluster.topics),
        partitions: count(cluster.partitions),
        leaderless_partitions: count(cluster.leaderless),
    }
}
