//! The whole state as one message.

use std::sync::Arc;

use bytes::Bytes;
use duramen_proto::internal as proto;
use duramen_types::{MetadataIndex, NodeId, ReplicaId};
use prost::Message;

use super::command::decode_new_topic;
use super::{
    VERSION, check_version, decode_cluster_id, decode_node, decode_topic_id, encode_id,
    encode_node, encode_partition, encode_settings,
};
use crate::error::DecodeError;
use crate::limits::{
    DELETED_TOPICS_MAX, PRODUCER_ID_END, REMOVED_REPLICAS_MAX, RETIRED_INCARNATIONS_MAX,
};
use crate::state::State;
use crate::topic::Topic;

impl State {
    /// The bytes of a snapshot.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let snapshot = proto::MetadataSnapshot {
            version: VERSION,
            applied: self.applied.get(),
            cluster_id: self.cluster.map(|id| encode_id(id.as_bytes())).unwrap_or_default(),
            nodes: self.nodes.values().map(encode_node).collect(),
            retired_incarnations: self.retired.iter().map(ReplicaId::get).collect(),
            topics: self.topics.values().map(|topic| encode_topic(topic)).collect(),
            deleted_topics: self.deleted.iter().map(|id| encode_id(id.as_bytes())).collect(),
            next_producer_id: self.next_producer,
            removed_replicas: self.removed.iter().map(ReplicaId::get).collect(),
        };
        snapshot.encode_to_vec().into()
    }

    /// Reads what [`State::encode`] wrote and checks the invariants of the state.
    ///
    /// # Errors
    /// Anything that no version up to this one writes.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let message = proto::MetadataSnapshot::decode(bytes)?;
        check_version(message.version)?;
        let mut state = Self {
            applied: MetadataIndex::new(message.applied),
            next_producer: message.next_producer_id,
            ..Self::default()
        };
        if state.next_producer > PRODUCER_ID_END {
            return Err(DecodeError::Field { field: "next_producer_id" });
        }
        if !message.cluster_id.is_empty() {
            state.cluster = Some(decode_cluster_id(&message.cluster_id)?);
        }
        for incarnation in message.retired_incarnations {
            state.retired.push(ReplicaId::new(incarnation), RETIRED_INCARNATIONS_MAX);
        }
        for id in message.deleted_topics {
            state.deleted.push(decode_topic_id(&id)?, DELETED_TOPICS_MAX);
        }
        for replica in message.removed_replicas {
            state.removed.push(ReplicaId::new(replica), REMOVED_REPLICAS_MAX);
        }
        state.decode_nodes(message.nodes)?;
        for topic in message.topics {
            state.decode_topic(topic)?;
        }
        Ok(state)
    }

    fn decode_nodes(&mut self, nodes: Vec<proto::MetadataNode>) -> Result<(), DecodeError> {
        let bad = DecodeError::Field { field: "nodes" };
        for node in nodes {
            let node = decode_node(node);
            if node.id == NodeId::ZERO
                || self.retired.contains(&node.incarnation)
                || self.node_of_incarnation(node.incarnation).is_some()
                || self.nodes.insert(node.id, node).is_some()
            {
                return Err(bad);
            }
        }
        Ok(())
    }

    fn decode_topic(&mut self, topic: proto::CreateTopic) -> Result<(), DecodeError> {
        let topic = Topic::from(decode_new_topic(topic)?);
        if self.deleted.contains(&topic.id)
            || self.names.insert(topic.name.clone(), topic.id).is_some()
            || self.topics.insert(topic.id, Arc::new(topic)).is_some()
        {
            return Err(DecodeError::Field { field: "topics" });
        }
        Ok(())
    }
}

fn encode_topic(topic: &Topic) -> proto::CreateTopic {
    proto::CreateTopic {
        name: topic.name.clone(),
        topic_id: encode_id(topic.id.as_bytes()),
        replication_factor: topic.replication_factor,
        partitions: topic.partitions.iter().map(encode_partition).collect(),
        settings: encode_settings(&topic.settings),
        created_at: topic.created_at.as_millis(),
    }
}
