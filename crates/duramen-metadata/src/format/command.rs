//! Commands as the metadata log holds them.

use bytes::Bytes;
use duramen_proto::internal as proto;
use duramen_types::{PartitionId, ReplicaId, Timestamp};
use prost::Message;
use proto::metadata_command::Command as Wire;

use super::{
    VERSION, check_version, decode_cluster_id, decode_node, decode_partitions, decode_replica,
    decode_settings, decode_topic_id, encode_id, encode_node, encode_partition, encode_replica,
    encode_settings,
};
use crate::command::{
    AdvanceReplacement, Command, FormedMark, NewTopic, ReplaceReplica, ReplacementStep, TopicChange,
};
use crate::error::DecodeError;

impl Command {
    /// The bytes for the log.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let command = match self {
            Self::FormCluster { cluster } => {
                Wire::FormCluster(proto::FormCluster { cluster_id: encode_id(cluster.as_bytes()) })
            }
            Self::RegisterNode(node) => Wire::RegisterNode(encode_node(node)),
            Self::CreateTopic(topic) => Wire::CreateTopic(encode_new_topic(topic)),
            Self::AlterTopic(change) => Wire::AlterTopic(proto::AlterTopic {
                name: change.name.clone(),
                topic_id: encode_id(change.topic.as_bytes()),
                set: encode_settings(&change.set),
                unset: change.unset.clone(),
            }),
            Self::DeleteTopic { name, topic } => Wire::DeleteTopic(proto::DeleteTopic {
                name: name.clone(),
                topic_id: encode_id(topic.as_bytes()),
            }),
            Self::MarkFormed(marks) => Wire::MarkFormed(proto::MarkFormed {
                marks: marks.iter().map(encode_mark).collect(),
            }),
            Self::ReplaceReplica(replace) => Wire::ReplaceReplica(encode_replace(replace)),
            Self::AdvanceReplacement(advance) => Wire::AdvanceReplacement(encode_advance(advance)),
            Self::AllocateProducers { count } => {
                Wire::AllocateProducers(proto::AllocateProducers { count: *count })
            }
        };
        proto::MetadataCommand { version: VERSION, command: Some(command) }.encode_to_vec().into()
    }

    /// Reads the bytes of an entry.
    ///
    /// # Errors
    /// Anything that [`Command::encode`] of this or an earlier version does not write.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let message = proto::MetadataCommand::decode(bytes)?;
        check_version(message.version)?;
        match message.command.ok_or(DecodeError::Unknown { what: "the metadata command" })? {
            Wire::FormCluster(form) => {
                Ok(Self::FormCluster { cluster: decode_cluster_id(&form.cluster_id)? })
            }
            Wire::RegisterNode(node) => Ok(Self::RegisterNode(decode_node(node))),
            Wire::CreateTopic(topic) => Ok(Self::CreateTopic(decode_new_topic(topic)?)),
            Wire::AlterTopic(change) => Ok(Self::AlterTopic(TopicChange {
                name: change.name,
                topic: decode_topic_id(&change.topic_id)?,
                set: decode_settings(change.set),
                unset: change.unset,
            })),
            Wire::DeleteTopic(delete) => Ok(Self::DeleteTopic {
                name: delete.name,
                topic: decode_topic_id(&delete.topic_id)?,
            }),
            Wire::MarkFormed(formed) => formed
                .marks
                .into_iter()
                .map(decode_mark)
                .collect::<Result<_, _>>()
                .map(Self::MarkFormed),
            Wire::ReplaceReplica(replace) => decode_replace(&replace).map(Self::ReplaceReplica),
            Wire::AdvanceReplacement(advance) => {
                decode_advance(&advance).map(Self::AdvanceReplacement)
            }
            Wire::AllocateProducers(allocate) => {
                Ok(Self::AllocateProducers { count: allocate.count })
            }
        }
    }
}

pub(super) fn encode_new_topic(topic: &NewTopic) -> proto::CreateTopic {
    proto::CreateTopic {
        name: topic.name.clone(),
        topic_id: encode_id(topic.id.as_bytes()),
        replication_factor: topic.replication_factor,
        partitions: topic.partitions.iter().map(encode_partition).collect(),
        settings: encode_settings(&topic.settings),
        created_at: topic.created_at.as_millis(),
    }
}

pub(super) fn decode_new_topic(topic: proto::CreateTopic) -> Result<NewTopic, DecodeError> {
    Ok(NewTopic {
        id: decode_topic_id(&topic.topic_id)?,
        name: topic.name,
        replication_factor: topic.replication_factor,
        partitions: decode_partitions(topic.partitions)?,
        settings: decode_settings(topic.settings),
        created_at: Timestamp::from_millis(topic.created_at),
    })
}

fn encode_mark(mark: &FormedMark) -> proto::FormedMark {
    proto::FormedMark {
        topic_id: encode_id(mark.topic.as_bytes()),
        partition: mark.partition.get(),
        replica_id: mark.replica.map(ReplicaId::get),
    }
}

fn decode_mark(mark: proto::FormedMark) -> Result<FormedMark, DecodeError> {
    Ok(FormedMark {
        topic: decode_topic_id(&mark.topic_id)?,
        partition: PartitionId::new(mark.partition),
        replica: mark.replica_id.map(ReplicaId::new),
    })
}

fn encode_replace(replace: &ReplaceReplica) -> proto::ReplaceReplica {
    proto::ReplaceReplica {
        topic_id: encode_id(replace.topic.as_bytes()),
        partition: replace.partition.get(),
        old_replica_id: replace.old.get(),
        new_replica: Some(encode_replica(&replace.new)),
        instead_of: replace.instead_of.map(ReplicaId::get),
    }
}

fn decode_replace(replace: &proto::ReplaceReplica) -> Result<ReplaceReplica, DecodeError> {
    let new = replace.new_replica.as_ref().ok_or(DecodeError::Field { field: "new_replica" })?;
    Ok(ReplaceReplica {
        topic: decode_topic_id(&replace.topic_id)?,
        partition: PartitionId::new(replace.partition),
        old: ReplicaId::new(replace.old_replica_id),
        new: decode_replica(new),
        instead_of: replace.instead_of.map(ReplicaId::new),
    })
}

fn encode_advance(advance: &AdvanceReplacement) -> proto::AdvanceReplacement {
    let step = match advance.step {
        ReplacementStep::Promote => proto::ReplacementStep::Promote,
        ReplacementStep::Finish => proto::ReplacementStep::Finish,
        ReplacementStep::Cancel => proto::ReplacementStep::Cancel,
    };
    proto::AdvanceReplacement {
        topic_id: encode_id(advance.topic.as_bytes()),
        partition: advance.partition.get(),
        old_replica_id: advance.old.get(),
        new_replica_id: advance.new.get(),
        step: step.into(),
    }
}

fn decode_advance(advance: &proto::AdvanceReplacement) -> Result<AdvanceReplacement, DecodeError> {
    let unknown = DecodeError::Unknown { what: "the step of a replacement" };
    let step = match proto::ReplacementStep::try_from(advance.step) {
        Ok(proto::ReplacementStep::Promote) => ReplacementStep::Promote,
        Ok(proto::ReplacementStep::Finish) => ReplacementStep::Finish,
        Ok(proto::ReplacementStep::Cancel) => ReplacementStep::Cancel,
        Ok(proto::ReplacementStep::Unspecified) | Err(_) => return Err(unknown),
    };
    Ok(AdvanceReplacement {
        topic: decode_topic_id(&advance.topic_id)?,
        partition: PartitionId::new(advance.partition),
        old: ReplicaId::new(advance.old_replica_id),
        new: ReplicaId::new(advance.new_replica_id),
        step,
    })
}
