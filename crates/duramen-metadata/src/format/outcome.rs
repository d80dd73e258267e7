//! Outcomes as the leader sends them to the node that proposed the command.

use bytes::Bytes;
use duramen_proto::internal as proto;
use duramen_types::{NodeId, PartitionId, ProducerId, ReplicaId};
use prost::Message;
use proto::MetadataRefusalCode as Code;
use proto::metadata_outcome::Outcome as Wire;

use super::{VERSION, check_version, decode_cluster_id, decode_topic_id, encode_id};
use crate::error::DecodeError;
use crate::outcome::{Outcome, Refusal};

impl Outcome {
    /// The bytes for the node that proposed the command.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let outcome = match self {
            Self::ClusterFormed { cluster } => Wire::ClusterFormed(encode_id(cluster.as_bytes())),
            Self::NodeRegistered { previous } => Wire::NodeRegistered(proto::NodeRegistered {
                previous: previous.map(ReplicaId::get),
            }),
            Self::TopicCreated { topic } => Wire::TopicCreated(encode_id(topic.as_bytes())),
            Self::TopicAltered { topic } => Wire::TopicAltered(encode_id(topic.as_bytes())),
            Self::TopicDeleted { topic } => Wire::TopicDeleted(encode_id(topic.as_bytes())),
            Self::MarksSet { unknown } => Wire::MarksSet(proto::MarksSet { unknown: *unknown }),
            Self::ProducersAllocated { first, count } => {
                let allocated = proto::ProducersAllocated { first: first.get(), count: *count };
                Wire::ProducersAllocated(allocated)
            }
            Self::ReplacementSet { replica } => Wire::ReplacementSet(replica.get()),
            Self::Refused(refusal) => Wire::Refused(encode_refusal(*refusal)),
        };
        proto::MetadataOutcome { version: VERSION, outcome: Some(outcome) }.encode_to_vec().into()
    }

    /// Reads what [`Outcome::encode`] wrote.
    ///
    /// # Errors
    /// Anything that no version up to this one writes.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let message = proto::MetadataOutcome::decode(bytes)?;
        check_version(message.version)?;
        match message.outcome.ok_or(DecodeError::Unknown { what: "the metadata outcome" })? {
            Wire::ClusterFormed(id) => Ok(Self::ClusterFormed { cluster: decode_cluster_id(&id)? }),
            Wire::NodeRegistered(node) => {
                Ok(Self::NodeRegistered { previous: node.previous.map(ReplicaId::new) })
            }
            Wire::TopicCreated(id) => Ok(Self::TopicCreated { topic: decode_topic_id(&id)? }),
            Wire::TopicAltered(id) => Ok(Self::TopicAltered { topic: decode_topic_id(&id)? }),
            Wire::TopicDeleted(id) => Ok(Self::TopicDeleted { topic: decode_topic_id(&id)? }),
            Wire::MarksSet(marks) => Ok(Self::MarksSet { unknown: marks.unknown }),
            Wire::ProducersAllocated(block) => Ok(Self::ProducersAllocated {
                first: ProducerId::new(block.first),
                count: block.count,
            }),
            Wire::ReplacementSet(replica) => {
                Ok(Self::ReplacementSet { replica: ReplicaId::new(replica) })
            }
            Wire::Refused(refusal) => decode_refusal(&refusal).map(Self::Refused),
        }
    }
}

fn encode_refusal(refusal: Refusal) -> proto::MetadataRefusal {
    let (code, id, number) = match refusal {
        Refusal::NotFormed => (Code::NotFormed, None, 0),
        Refusal::AlreadyFormed { cluster } => (Code::AlreadyFormed, Some(*cluster.as_bytes()), 0),
        Refusal::InvalidNode => (Code::InvalidNode, None, 0),
        Refusal::IncarnationInUse { node } => (Code::IncarnationInUse, None, node.get()),
        Refusal::IncarnationRetired => (Code::IncarnationRetired, None, 0),
        Refusal::TopicExists { topic } => (Code::TopicExists, Some(*topic.as_bytes()), 0),
        Refusal::TopicIdUsed => (Code::TopicIdUsed, None, 0),
        Refusal::UnknownTopic => (Code::UnknownTopic, None, 0),
        Refusal::TopicReplaced { current } => (Code::TopicReplaced, Some(*current.as_bytes()), 0),
        Refusal::UnknownNode { node } => (Code::UnknownNode, None, node.get()),
        Refusal::BadPlacement { partition } => {
            (Code::BadPlacement, None, u64::from(partition.get()))
        }
        Refusal::ProducersExhausted => (Code::ProducersExhausted, None, 0),
        Refusal::UnknownReplica { replica } => (Code::UnknownReplica, None, replica.get()),
        Refusal::ReplacementUnderWay { replica } => {
            (Code::ReplacementUnderWay, None, replica.get())
        }
        Refusal::BadReplacement => (Code::BadReplacement, None, 0),
        Refusal::NoReplacement => (Code::NoReplacement, None, 0),
        Refusal::ReplacementPromoting => (Code::ReplacementPromoting, None, 0),
    };
    let id = id.as_ref().map(encode_id).unwrap_or_default();
    proto::MetadataRefusal { code: code.into(), id, number }
}

fn decode_refusal(refusal: &proto::MetadataRefusal) -> Result<Refusal, DecodeError> {
    let unknown = DecodeError::Unknown { what: "the metadata refusal" };
    let node = NodeId::new(refusal.number);
    let replica = ReplicaId::new(refusal.number);
    match Code::try_from(refusal.code).map_err(|_| unknown.clone())? {
        Code::Unspecified => Err(unknown),
        Code::NotFormed => Ok(Refusal::NotFormed),
        Code::AlreadyFormed => {
            Ok(Refusal::AlreadyFormed { cluster: decode_cluster_id(&refusal.id)? })
        }
        Code::InvalidNode => Ok(Refusal::InvalidNode),
        Code::IncarnationInUse => Ok(Refusal::IncarnationInUse { node }),
        Code::IncarnationRetired => Ok(Refusal::IncarnationRetired),
        Code::TopicExists => Ok(Refusal::TopicExists { topic: decode_topic_id(&refusal.id)? }),
        Code::TopicIdUsed => Ok(Refusal::TopicIdUsed),
        Code::UnknownTopic => Ok(Refusal::UnknownTopic),
        Code::TopicReplaced => {
            Ok(Refusal::TopicReplaced { current: decode_topic_id(&refusal.id)? })
        }
        Code::UnknownNode => Ok(Refusal::UnknownNode { node }),
        Code::BadPlacement => {
            let partition = u32::try_from(refusal.number)
                .map_err(|_| DecodeError::Field { field: "number" })?;
            Ok(Refusal::BadPlacement { partition: PartitionId::new(partition) })
        }
        Code::ProducersExhausted => Ok(Refusal::ProducersExhausted),
        Code::UnknownReplica => Ok(Refusal::UnknownReplica { replica }),
        Code::ReplacementUnderWay => Ok(Refusal::ReplacementUnderWay { replica }),
        Code::BadReplacement => Ok(Refusal::BadReplacement),
        Code::NoReplacement => Ok(Refusal::NoReplacement),
        Code::ReplacementPromoting => Ok(Refusal::ReplacementPromoting),
    }
}
