//! The bytes of commands, outcomes and snapshots: the messages of
//! `proto/duramen/internal/v1/metadata.proto`. The only files of this crate that know them.
//!
//! Decoders are total: any bytes give a value or a typed error.

mod command;
mod outcome;
mod snapshot;
#[cfg(test)]
mod tests;

use bytes::Bytes;
use duramen_proto::internal as proto;
use duramen_types::{ClusterId, NodeId, ReplicaId, TopicId};

use crate::config::Settings;
use crate::error::DecodeError;
use crate::limits::PARTITIONS_MAX;
use crate::topic::{Node, Partition, Replacement, Replica};

/// The version of commands, outcomes and snapshots that this crate writes and reads.
const VERSION: u32 = 1;

fn check_version(found: u32) -> Result<(), DecodeError> {
    if found == VERSION { Ok(()) } else { Err(DecodeError::UnknownVersion { found }) }
}

fn encode_id(id: &[u8; 16]) -> Bytes {
    Bytes::copy_from_slice(id)
}

fn decode_topic_id(bytes: &[u8]) -> Result<TopicId, DecodeError> {
    TopicId::from_slice(bytes).ok_or(DecodeError::Field { field: "topic_id" })
}

fn decode_cluster_id(bytes: &[u8]) -> Result<ClusterId, DecodeError> {
    ClusterId::from_slice(bytes).ok_or(DecodeError::Field { field: "cluster_id" })
}

fn encode_node(node: &Node) -> proto::MetadataNode {
    proto::MetadataNode {
        id: node.id.get(),
        incarnation: node.incarnation.get(),
        client_address: node.client_address.clone(),
        peer_address: node.peer_address.clone(),
        http_address: node.http_address.clone(),
        rack: node.rack.clone(),
        version: node.version.clone(),
    }
}

fn decode_node(node: proto::MetadataNode) -> Node {
    Node {
        id: NodeId::new(node.id),
        incarnation: ReplicaId::new(node.incarnation),
        client_address: node.client_address,
        peer_address: node.peer_address,
        http_address: node.http_address,
        rack: node.rack,
        version: node.version,
    }
}

fn encode_settings(settings: &Settings) -> Vec<proto::Setting> {
    let setting = |(key, value): (&String, &String)| proto::Setting {
        key: key.clone(),
        value: value.clone(),
    };
    settings.iter().map(setting).collect()
}

/// Keys are unique in what a writer writes; of two that are not, the later one counts.
fn decode_settings(settings: Vec<proto::Setting>) -> Settings {
    settings.into_iter().map(|setting| (setting.key, setting.value)).collect()
}

fn encode_partition(partition: &Partition) -> proto::MetadataPartition {
    let replacement = |replacement: Replacement| proto::MetadataReplacement {
        old_replica_id: replacement.old.get(),
        new_replica: Some(encode_replica(&replacement.new)),
        promoting: replacement.promoting,
    };
    proto::MetadataPartition {
        replicas: partition.replicas.iter().map(encode_replica).collect(),
        formed: partition.formed,
        replacement: partition.replacement.map(replacement),
    }
}

fn encode_replica(replica: &Replica) -> proto::MetadataReplica {
    proto::MetadataReplica {
        node_id: replica.node.get(),
        replica_id: replica.id.get(),
        formed: replica.formed,
    }
}

fn decode_replica(replica: &proto::MetadataReplica) -> Replica {
    Replica {
        node: NodeId::new(replica.node_id),
        id: ReplicaId::new(replica.replica_id),
        formed: replica.formed,
    }
}

fn decode_partition(partition: proto::MetadataPartition) -> Result<Partition, DecodeError> {
    let replicas: Vec<_> = partition.replicas.iter().map(decode_replica).collect();
    let replacement = match partition.replacement {
        None => None,
        Some(found) => {
            let bad = DecodeError::Field { field: "replacement" };
            let old = ReplicaId::new(found.old_replica_id);
            let new = decode_replica(found.new_replica.as_ref().ok_or(bad.clone())?);
            let is_old = |held: &Replica| held.id == old;
            let clashes =
                |held: &Replica| held.id == new.id || (held.node == new.node && held.id != old);
            if !replicas.iter().any(is_old) || replicas.iter().any(clashes) {
                return Err(bad);
            }
            Some(Replacement { old, new, promoting: found.promoting })
        }
    };
    Ok(Partition { replicas, formed: partition.formed, replacement })
}

fn decode_partitions(
    partitions: Vec<proto::MetadataPartition>,
) -> Result<Vec<Partition>, DecodeError> {
    if u32::try_from(partitions.len()).is_ok_and(|count| count <= PARTITIONS_MAX) {
        partitions.into_iter().map(decode_partition).collect()
    } else {
        Err(DecodeError::Field { field: "partitions" })
    }
}
