//! Between openraft's types and the peer protocol's messages: total in both directions.

use duramen_log::{Frame, FrameHeader};
use duramen_proto::internal as pb;
use duramen_types::{
    LogIndex, NodeId, Offset, PartitionId, Term, Timestamp, TopicId, TopicPartition,
};
use openraft::raft::{AppendEntriesResponse, VoteRequest, VoteResponse};
use openraft::vote::leader_id_std::LeaderId;
use prost::Message as _;

use crate::entry;
use crate::types::{Entry, GroupId, LogId, Membership, StoredMembership, TypeConfig, Vote};

/// A message of a peer that does not hold together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum WireError {
    /// A required part is missing.
    #[error("could not read a peer's message: {part} is missing")]
    Missing {
        /// The part.
        part: &'static str,
    },
    /// A part has an impossible value.
    #[error("could not read a peer's message: {part} is invalid")]
    Invalid {
        /// The part.
        part: &'static str,
    },
}

fn missing(part: &'static str) -> WireError {
    WireError::Missing { part }
}

fn invalid(part: &'static str) -> WireError {
    WireError::Invalid { part }
}

pub(crate) fn vote_to_wire(vote: &Vote) -> pb::Vote {
    pb::Vote {
        term: vote.leader_id.term,
        voted_for: vote.leader_id.voted_for,
        committed: vote.committed,
    }
}

pub(crate) fn vote_from_wire(vote: Option<pb::Vote>) -> Result<Vote, WireError> {
    let vote = vote.ok_or(missing("vote"))?;
    Ok(Vote {
        leader_id: LeaderId { term: vote.term, voted_for: vote.voted_for },
        committed: vote.committed,
    })
}

pub(crate) fn log_id_to_wire(id: LogId) -> pb::LogId {
    pb::LogId { term: id.leader_id.term, index: id.index }
}

/// The largest index is no entry's: every entry has an index after it, which must be a number.
pub(crate) fn log_id_from_wire(id: pb::LogId) -> Result<LogId, WireError> {
    if id.index == u64::MAX {
        return Err(invalid("log index"));
    }
    Ok(LogId::new_term_index(id.term, id.index))
}

pub(crate) fn group_to_wire(group: GroupId, from: u64, to: u64) -> pb::GroupAddress {
    let (topic_id, partition) = match group {
        GroupId::Metadata => (TopicId::NIL, 0),
        GroupId::Partition(id) => (id.topic, id.partition.get()),
    };
    pb::GroupAddress {
        topic_id: bytes::Bytes::copy_from_slice(topic_id.as_bytes()),
        partition,
        from_replica: from,
        to_replica: to,
    }
}

pub(crate) fn group_from_wire(address: &pb::GroupAddress) -> Result<GroupId, WireError> {
    let topic = TopicId::from_slice(&address.topic_id).ok_or(invalid("topic id"))?;
    Ok(if topic.is_nil() {
        GroupId::Metadata
    } else {
        let partition = PartitionId::new(address.partition);
        GroupId::Partition(TopicPartition { topic, partition })
    })
}

pub(crate) fn vote_call_to_wire(request: &VoteRequest<TypeConfig>) -> pb::VoteCall {
    pb::VoteCall {
        vote: Some(vote_to_wire(&request.vote)),
        last_log_id: request.last_log_id.map(log_id_to_wire),
        leadership_transfer: request.leadership_transfer,
    }
}

pub(crate) fn vote_call_from_wire(
    call: pb::VoteCall,
) -> Result<VoteRequest<TypeConfig>, WireError> {
    Ok(VoteRequest {
        vote: vote_from_wire(call.vote)?,
        last_log_id: call.last_log_id.map(log_id_from_wire).transpose()?,
        leadership_transfer: call.leadership_transfer,
    })
}

pub(crate) fn vote_reply_to_wire(response: &VoteResponse<TypeConfig>) -> pb::VoteReply {
    pb::VoteReply {
        vote: Some(vote_to_wire(&response.vote)),
        granted: response.vote_granted,
        last_log_id: response.last_log_id.map(log_id_to_wire),
    }
}

pub(crate) fn vote_reply_from_wire(
    reply: pb::VoteReply,
) -> Result<VoteResponse<TypeConfig>, WireError> {
    let vote = vote_from_wire(reply.vote)?;
    let last_log_id = reply.last_log_id.map(log_id_from_wire).transpose()?;
    Ok(VoteResponse::new(vote, last_log_id, reply.granted))
}

pub(crate) fn membership_to_wire(stored: &StoredMembership) -> pb::Membership {
    let membership = stored.membership();
    pb::Membership {
        log_id: stored.log_id().map(log_id_to_wire),
        configs: membership
            .get_joint_config()
            .iter()
            .map(|voters| pb::VoterSet { voters: voters.iter().copied().collect() })
            .collect(),
        members: membership.nodes().map(|(id, ())| *id).collect(),
    }
}

pub(crate) fn membership_from_wire(
    membership: pb::Membership,
) -> Result<StoredMembership, WireError> {
    let configs: Vec<_> = membership
        .configs
        .into_iter()
        .map(|set| set.voters.into_iter().collect::<std::collections::BTreeSet<_>>())
        .collect();
    let members: std::collections::BTreeMap<u64, ()> =
        membership.members.into_iter().map(|id| (id, ())).collect();
    let log_id = membership.log_id.map(log_id_from_wire).transpose()?;
    if configs.is_empty() && members.is_empty() {
        return Ok(StoredMembership::new(log_id, Membership::default()));
    }
    let decoded = Membership::new(configs, members).map_err(|_| invalid("membership"))?;
    Ok(StoredMembership::new(log_id, decoded))
}

/// The payload of a membership entry, as logs hold it.
pub(crate) fn encode_membership(membership: &Membership) -> bytes::Bytes {
    let stored = StoredMembership::new(None, membership.clone());
    membership_to_wire(&stored).encode_to_vec().into()
}

/// Reads the payload of a membership entry.
pub(crate) fn decode_membership(payload: &[u8]) -> Result<Membership, WireError> {
    let wire = pb::Membership::decode(payload).map_err(|_| invalid("membership"))?;
    Ok(membership_from_wire(wire)?.membership().clone())
}

pub(crate) fn frame_to_wire(frame: &Frame) -> pb::LogEntry {
    let header = &frame.header;
    pb::LogEntry {
        kind: entry::kind_to_wire(header.kind),
        term: header.term.get(),
        leader: header.leader.get(),
        index: header.index.get(),
        base_offset: header.base_offset.get(),
        records: header.records,
        append_time: header.append_time.as_millis(),
        max_timestamp: header.max_timestamp.as_millis(),
        payload_crc: header.payload_crc,
        chain: header.chain,
        payload: frame.payload.clone(),
    }
}

pub(crate) fn entry_from_wire(wire: pb::LogEntry) -> Result<Entry, WireError> {
    log_id_from_wire(pb::LogId { term: wire.term, index: wire.index })?;
    let payload_len = u32::try_from(wire.payload.len()).map_err(|_| invalid("payload"))?;
    let header = FrameHeader {
        kind: entry::kind_from_wire(wire.kind).ok_or(invalid("frame kind"))?,
        term: Term::new(wire.term),
        leader: NodeId::new(wire.leader),
        index: LogIndex::new(wire.index),
        base_offset: Offset::new(wire.base_offset),
        records: wire.records,
        append_time: Timestamp::from_millis(wire.append_time),
        max_timestamp: Timestamp::from_millis(wire.max_timestamp),
        payload_len,
        payload_crc: wire.payload_crc,
        chain: wire.chain,
    };
    entry::from_frame(Frame { header, payload: wire.payload })
}

pub(crate) fn append_result_to_wire(
    response: &AppendEntriesResponse<TypeConfig>,
) -> pb::AppendResult {
    use pb::append_result::Result as Wire;
    let result = match response {
        AppendEntriesResponse::Success => Wire::Success(true),
        AppendEntriesResponse::PartialSuccess(matching) => {
            Wire::Partial(pb::PartialSuccess { matching: matching.map(log_id_to_wire) })
        }
        AppendEntriesResponse::Conflict => Wire::Conflict(true),
        AppendEntriesResponse::HigherVote(vote) => Wire::HigherVote(vote_to_wire(vote)),
    };
    pb::AppendResult { result: Some(result) }
}

/// What a follower answered to an append: a Raft answer, or that it does not take part.
pub(crate) enum AppendAnswer {
    Raft(AppendEntriesResponse<TypeConfig>),
    Refused(String),
}

pub(crate) fn append_result_from_wire(
    result: Option<pb::AppendResult>,
) -> Result<AppendAnswer, WireError> {
    use pb::append_result::Result as Wire;
    let result = result.and_then(|result| result.result).ok_or(missing("append result"))?;
    Ok(match result {
        Wire::Success(_) => AppendAnswer::Raft(AppendEntriesResponse::Success),
        Wire::Partial(partial) => AppendAnswer::Raft(AppendEntriesResponse::PartialSuccess(
            partial.matching.map(log_id_from_wire).transpose()?,
        )),
        Wire::Conflict(_) => AppendAnswer::Raft(AppendEntriesResponse::Conflict),
        Wire::HigherVote(vote) => {
            AppendAnswer::Raft(AppendEntriesResponse::HigherVote(vote_from_wire(Some(vote))?))
        }
        Wire::Refused(reason) => AppendAnswer::Refused(reason),
    })
}

#[cfg(test)]
mod tests {
    use duramen_proto::internal as pb;

    use super::*;
    use crate::snapshot::SnapshotFile;
    use crate::tracker::Checkpoint;

    const LARGEST: pb::LogId = pb::LogId { term: 1, index: u64::MAX };

    #[test]
    fn a_log_index_that_none_can_follow_is_refused_wherever_it_stands() {
        let wrong = WireError::Invalid { part: "log index" };
        let vote = Some(pb::Vote { term: 1, voted_for: 2, committed: false });
        let call = pb::VoteCall { vote, last_log_id: Some(LARGEST), leadership_transfer: false };
        assert_eq!(vote_call_from_wire(call).unwrap_err(), wrong);
        let reply = pb::VoteReply { vote, granted: true, last_log_id: Some(LARGEST) };
        assert_eq!(vote_reply_from_wire(reply).unwrap_err(), wrong);
        let partial = pb::PartialSuccess { matching: Some(LARGEST) };
        let result = Some(pb::append_result::Result::Partial(partial));
        let result = append_result_from_wire(Some(pb::AppendResult { result }));
        assert_eq!(result.err(), Some(wrong.clone()));
        let entry = pb::LogEntry { term: 1, index: u64::MAX, ..pb::LogEntry::default() };
        assert_eq!(entry_from_wire(entry).unwrap_err(), wrong);
        let membership = pb::Membership { log_id: Some(LARGEST), ..pb::Membership::default() };
        assert_eq!(membership_from_wire(membership).unwrap_err(), wrong);
    }

    #[test]
    fn a_snapshot_or_checkpoint_that_ends_at_the_largest_index_is_none() {
        let membership = Some(pb::Membership::default());
        let last_log_id = Some(LARGEST);
        let file = pb::SnapshotFile { last_log_id, membership, ..pb::SnapshotFile::default() };
        assert_eq!(SnapshotFile::decode(&file.encode_to_vec()), None);
        let (log_id, state) = (Some(LARGEST), Some(pb::ReplicaState::default()));
        let checkpoint = pb::Checkpoint { log_id, state, ..pb::Checkpoint::default() };
        assert_eq!(Checkpoint::decode(&checkpoint.encode_to_vec()), None);
    }
}
