//! What can be read of partitions, wherever they are led: for the lag of groups.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use duramen_net::Channel;
use duramen_proto::internal as pb;
use duramen_proto::internal::peer_service_client::PeerServiceClient;
use duramen_types::{NodeId, Offset, PartitionId, Timestamp, TopicId, TopicPartition};

use crate::limits;
use crate::member::Member;

/// What can be read of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bounds {
    pub(super) log_start: Offset,
    pub(super) high_watermark: Offset,
    /// When the first record was appended that the group has not committed.
    pub(super) appended_at: Option<Timestamp>,
}

/// Partitions, and where some group reads next in each.
pub(super) type Questions = BTreeSet<(TopicPartition, Offset)>;

/// What can be read, by question.
pub(super) type Answers = BTreeMap<(TopicPartition, Offset), Bounds>;

/// Asks the leaders of partitions; those that do not answer are missing in the answer.
pub(super) async fn ask(member: &Arc<Member>, questions: &Questions) -> Answers {
    let mut found = BTreeMap::new();
    let mut open: BTreeMap<NodeId, Questions> = BTreeMap::new();
    for (partition, offset) in questions {
        if let Some(bounds) = here(member, *partition, *offset).await {
            found.insert((*partition, *offset), bounds);
        } else if let Some(node) = likely_leader(member, *partition) {
            open.entry(node).or_default().insert((*partition, *offset));
        }
    }
    // A redirect or two: what this node knows of leaders may be old.
    for _ in 0..2 {
        let asked = open.iter().map(|(node, questions)| ask_node(member, *node, questions));
        let answers = futures::future::join_all(asked).await;
        let mut redirected: BTreeMap<NodeId, Questions> = BTreeMap::new();
        for ((node, questions), answer) in open.iter().zip(answers) {
            for (question, bounds) in questions.iter().zip(answer) {
                let leader = NodeId::new(bounds.leader_node);
                if bounds.known {
                    found.insert(*question, from_wire(&bounds));
                } else if bounds.leader_node != 0 && leader != *node {
                    redirected.entry(leader).or_default().insert(*question);
                }
            }
        }
        open = redirected;
        if open.is_empty() {
            break;
        }
    }
    found
}

fn from_wire(bounds: &pb::Bounds) -> Bounds {
    Bounds {
        log_start: Offset::new(bounds.log_start_offset),
        high_watermark: Offset::new(bounds.high_watermark),
        appended_at: bounds.appended_at.map(Timestamp::from_millis),
    }
}

/// The node that leads a partition as far as known here, or one that has a replica and will know.
fn likely_leader(member: &Member, id: TopicPartition) -> Option<NodeId> {
    let state = member.metadata().state();
    let partition = state.partition(id)?;
    let known = member.partition(id).and_then(|handle| handle.group.status().leader);
    if let Some(replica) = known.and_then(|leader| partition.member(leader)) {
        return Some(replica.node);
    }
    let own = member.host.local().node;
    let others = partition.members().map(|replica| replica.node).filter(|node| *node != own);
    let others: Vec<NodeId> = others.collect();
    let up = others.iter().find(|node| member.host.is_node_up(**node));
    up.or(others.first()).copied()
}

/// What this node knows of a partition that it leads.
async fn here(member: &Member, id: TopicPartition, offset: Offset) -> Option<Bounds> {
    let handle = member.partition(id)?;
    handle.group.serving_term()?;
    let progress = *handle.group.progress().borrow();
    let (log_start, high_watermark) = (progress.log_start_offset, progress.high_watermark);
    let next = offset.max(log_start);
    let appended_at = if next < high_watermark {
        handle.group.appended_at(next).await.map(|(_, time)| time)
    } else {
        None
    };
    Some(Bounds { log_start, high_watermark, appended_at })
}

/// What a node says, in the order of the questions; less where it does not answer any more.
async fn ask_node(member: &Member, node: NodeId, questions: &Questions) -> Vec<pb::Bounds> {
    let Some(address) = member.host.node_address(node) else { return Vec::new() };
    let mut client = PeerServiceClient::new(Channel::new(&member.env, &address));
    let queries = questions.iter().map(|(id, offset)| pb::BoundsQuery {
        topic_id: Bytes::copy_from_slice(id.topic.as_bytes()),
        partition: id.partition.get(),
        offset: offset.get(),
    });
    let queries: Vec<pb::BoundsQuery> = queries.collect();
    let mut bounds = Vec::with_capacity(queries.len());
    for queries in queries.chunks(limits::BOUNDS_QUERIES_MAX) {
        let cluster_id = Bytes::copy_from_slice(member.writer.cluster.as_bytes());
        let asked = client.bounds(pb::BoundsRequest { cluster_id, queries: queries.to_vec() });
        match tokio::time::timeout(limits::BOUNDS_TIMEOUT, asked).await {
            Ok(Ok(answer)) if answer.get_ref().bounds.len() == queries.len() => {
                bounds.extend(answer.into_inner().bounds);
            }
            Ok(Err(error)) => {
                tracing::debug!(%node, %error, "a node did not say what can be read");
                break;
            }
            Ok(Ok(_)) | Err(_) => break,
        }
    }
    bounds
}

/// Answers another node.
pub(crate) async fn answer(member: &Member, request: pb::BoundsRequest) -> pb::BoundsResponse {
    let mut bounds = Vec::new();
    for query in request.queries.into_iter().take(limits::BOUNDS_QUERIES_MAX) {
        bounds.push(answer_one(member, &query).await);
    }
    pb::BoundsResponse { bounds }
}

async fn answer_one(member: &Member, query: &pb::BoundsQuery) -> pb::Bounds {
    let Some(topic) = TopicId::from_slice(&query.topic_id) else { return pb::Bounds::default() };
    let id = TopicPartition { topic, partition: PartitionId::new(query.partition) };
    match here(member, id, Offset::new(query.offset)).await {
        Some(bounds) => pb::Bounds {
            known: true,
            log_start_offset: bounds.log_start.get(),
            high_watermark: bounds.high_watermark.get(),
            appended_at: bounds.appended_at.map(Timestamp::as_millis),
            leader_node: 0,
        },
        None => pb::Bounds {
            leader_node: likely_leader(member, id).map_or(0, NodeId::get),
            ..pb::Bounds::default()
        },
    }
}
