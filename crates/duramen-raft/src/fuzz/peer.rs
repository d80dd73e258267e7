//! Frames of a link between nodes: every message, and what either side makes of it.

use bytes::Bytes;
use duramen_env::fuzz::Verdict;
use duramen_log::{Frame as LogFrame, FrameHeader, FrameKind};
use duramen_proto::internal::peer_frame::Frame;
use duramen_proto::internal::raft_call::Call;
use duramen_proto::internal::raft_reply::Reply;
use duramen_proto::internal::{self as pb};
use duramen_record::{BatchBuilder, Compression, ProducerStamp, RecordRef};
use duramen_types::{
    LogIndex, NodeId, Offset, ProducerEpoch, ProducerId, Sequence, Term, Timestamp,
};
use openraft::raft::{AppendEntriesResponse, VoteRequest, VoteResponse};
use prost::Message as _;

use super::{membership, partition, snapshot_file, stored_membership, vote};
use crate::hibernation::call_from_wire;
use crate::network::append_request;
use crate::snapshot::SnapshotFile;
use crate::tracker::Tracker;
use crate::types::LogId;
use crate::{entry, wire};

const LOSSY: Verdict = Verdict::Broken("a message does not survive its translation");

/// Reads one frame as the side that receives it.
pub(super) fn frame(bytes: &[u8]) -> Verdict {
    let Ok(pb::PeerFrame { frame: Some(frame) }) = pb::PeerFrame::decode(bytes) else {
        return Verdict::Refused;
    };
    match frame {
        Frame::Hello(hello) if hello.class() == pb::LinkClass::Unspecified => Verdict::Refused,
        Frame::Hello(_) => Verdict::Accepted,
        Frame::Append(request) => append(request),
        Frame::Heartbeats(batch) => every(batch.heartbeats, |beat| {
            let request = pb::AppendRequest {
                group: beat.group,
                vote: beat.vote,
                prev_log_id: beat.prev_log_id,
                leader_commit: beat.leader_commit,
                ..pb::AppendRequest::default()
            };
            append(request)
        }),
        Frame::HeartbeatReplies(replies) => every(replies.results, |one| append_result(Some(one))),
        Frame::AppendReply(reply) => append_result(reply.result),
        Frame::Call(call) => {
            if call.group.as_ref().is_some_and(|group| !address_survives(group)) {
                return LOSSY;
            }
            call.call.map_or(Verdict::Refused, self::call)
        }
        Frame::Reply(reply) => reply.reply.map_or(Verdict::Refused, self::reply),
        Frame::Beat(beat) => {
            if !beat.awake.iter().all(address_survives) {
                return LOSSY;
            }
            every(beat.hibernate, hibernate)
        }
        Frame::BeatReply(reply) => {
            if reply.awake.iter().all(address_survives) {
                Verdict::Accepted
            } else {
                LOSSY
            }
        }
    }
}

/// The worst of several verdicts.
fn every<T>(items: Vec<T>, judge: impl Fn(T) -> Verdict) -> Verdict {
    let mut worst = Verdict::Accepted;
    for item in items {
        match judge(item) {
            broken @ Verdict::Broken(_) => return broken,
            Verdict::Refused => worst = Verdict::Refused,
            Verdict::Accepted => {}
        }
    }
    worst
}

fn address_survives(address: &pb::GroupAddress) -> bool {
    let Ok(group) = wire::group_from_wire(address) else { return true };
    let again = wire::group_to_wire(group, address.from_replica, address.to_replica);
    wire::group_from_wire(&again) == Ok(group)
}

fn append(request: pb::AppendRequest) -> Verdict {
    if request.group.as_ref().is_some_and(|group| !address_survives(group)) {
        return LOSSY;
    }
    let sent = request.entries.clone();
    let Ok(request) = append_request(request) else { return Verdict::Refused };
    let mut tracker = Tracker::default();
    for (entry, sent) in request.entries.iter().zip(&sent) {
        let Some(frame) = &entry.frame else { return Verdict::Broken("an entry without a frame") };
        if wire::frame_to_wire(frame) != *sent {
            return LOSSY;
        }
        // A frame whose batches cannot be read is refused there.
        drop(tracker.appended(frame));
    }
    Verdict::Accepted
}

fn append_result(result: Option<pb::AppendResult>) -> Verdict {
    match wire::append_result_from_wire(result.clone()) {
        Err(_) => Verdict::Refused,
        Ok(wire::AppendAnswer::Refused(_)) => Verdict::Accepted,
        Ok(wire::AppendAnswer::Raft(response)) => {
            let again = wire::append_result_to_wire(&response);
            match wire::append_result_from_wire(Some(again)) {
                Ok(wire::AppendAnswer::Raft(same)) if same == response => Verdict::Accepted,
                _ => LOSSY,
            }
        }
    }
}

fn hibernate(call: pb::HibernateCall) -> Verdict {
    let Ok(read) = call_from_wire(call.clone()) else { return Verdict::Refused };
    let again = pb::HibernateCall {
        group: Some(read.address),
        vote: Some(wire::vote_to_wire(&read.vote)),
        last_log_id: Some(wire::log_id_to_wire(read.last)),
    };
    if again == call { Verdict::Accepted } else { LOSSY }
}

fn call(call: Call) -> Verdict {
    match call {
        Call::Vote(call) | Call::PreVote(call) => match wire::vote_call_from_wire(call) {
            Err(_) => Verdict::Refused,
            Ok(request) => {
                let again = wire::vote_call_from_wire(wire::vote_call_to_wire(&request));
                if again == Ok(request) { Verdict::Accepted } else { LOSSY }
            }
        },
        Call::Transfer(call) => {
            let from = wire::vote_from_wire(call.from_leader);
            let last = call.last_log_id.map(wire::log_id_from_wire).transpose();
            if from.is_ok() && last.is_ok() { Verdict::Accepted } else { Verdict::Refused }
        }
        Call::Lost(call) => match crate::network::lost_call(call) {
            Ok(_) => Verdict::Accepted,
            Err(_) => Verdict::Refused,
        },
        Call::Snapshot(call) => {
            let stored = call.membership.map(wire::membership_from_wire);
            let (Some(Ok(stored)), Ok(_)) = (stored, wire::vote_from_wire(call.vote)) else {
                return Verdict::Refused;
            };
            if wire::membership_from_wire(wire::membership_to_wire(&stored)) != Ok(stored) {
                return LOSSY;
            }
            match SnapshotFile::decode(&call.data) {
                Some(snapshot) => {
                    snapshot.log_start(true);
                    Verdict::Accepted
                }
                None => Verdict::Refused,
            }
        }
    }
}

fn reply(reply: Reply) -> Verdict {
    match reply {
        Reply::Vote(reply) => match wire::vote_reply_from_wire(reply) {
            Err(_) => Verdict::Refused,
            Ok(response) => {
                let again = wire::vote_reply_from_wire(wire::vote_reply_to_wire(&response));
                if again == Ok(response) { Verdict::Accepted } else { LOSSY }
            }
        },
        Reply::Snapshot(reply) => match wire::vote_from_wire(reply.vote) {
            Ok(_) => Verdict::Accepted,
            Err(_) => Verdict::Refused,
        },
        Reply::Transfer(reply) => {
            if reply.result.is_some() {
                Verdict::Accepted
            } else {
                Verdict::Refused
            }
        }
        Reply::Refused(_) => Verdict::Accepted,
    }
}

/// Makes the checksums of appended payloads right.
pub(super) fn seal(bytes: &mut [u8]) {
    let Ok(mut message) = pb::PeerFrame::decode(&bytes[..]) else { return };
    let Some(Frame::Append(append)) = &mut message.frame else { return };
    for entry in &mut append.entries {
        entry.payload_crc = crc32fast::hash(&entry.payload);
    }
    let sealed = message.encode_to_vec();
    if sealed.len() == bytes.len() {
        bytes.copy_from_slice(&sealed);
    }
}

fn batch() -> Bytes {
    let mut builder = BatchBuilder::new(Compression::None);
    for value in ["one", "two"] {
        let record = RecordRef { value: Some(value.as_bytes()), ..RecordRef::default() };
        // A seed that could not be built would be missing below.
        drop(builder.append(record, [].into_iter()));
    }
    let producer = ProducerStamp {
        id: ProducerId::new(5),
        epoch: ProducerEpoch::new(0),
        base_sequence: Sequence::new(0),
    };
    builder.finish(Some(producer)).unwrap_or_default()
}

fn entries() -> Vec<pb::LogEntry> {
    let kinds = [
        (FrameKind::Internal(entry::BLANK), Bytes::new()),
        (FrameKind::Internal(entry::MEMBERSHIP), wire::encode_membership(&membership())),
        (FrameKind::Data, batch()),
        (FrameKind::Internal(entry::COMMAND), Bytes::from_static(b"command")),
        (FrameKind::Internal(entry::LOG_START), entry::encode_log_start(LogIndex::new(3))),
    ];
    let entry = |(index, (kind, payload)): (u64, (FrameKind, Bytes))| {
        let header = FrameHeader {
            kind,
            term: Term::new(3),
            leader: NodeId::new(2),
            index: LogIndex::new(index),
            base_offset: Offset::new(90),
            records: if kind == FrameKind::Data { 2 } else { 0 },
            append_time: Timestamp::from_millis(1_000),
            max_timestamp: Timestamp::MIN,
            payload_len: u32::try_from(payload.len()).unwrap_or(0),
            payload_crc: crc32fast::hash(&payload),
            chain: 0x0123_4567,
        };
        wire::frame_to_wire(&LogFrame { header, payload })
    };
    (40..).zip(kinds).map(entry).collect()
}

/// A beat, and an answer to one.
fn beats() -> [Frame; 2] {
    let group = Some(wire::group_to_wire(partition(), 1, 2));
    let hibernate = pb::HibernateCall {
        group: group.clone(),
        vote: Some(wire::vote_to_wire(&vote(3))),
        last_log_id: Some(wire::log_id_to_wire(LogId::new_term_index(3, 39))),
    };
    let awake: Vec<_> = group.into_iter().collect();
    let beat = pb::Beat { id: 1, seq: 2, awake: awake.clone(), hibernate: vec![hibernate] };
    [Frame::Beat(beat), Frame::BeatReply(pb::BeatReply { id: 1, lost: false, awake })]
}

/// One frame of each kind, and of each kind of call and reply.
pub(super) fn frames() -> Vec<Vec<u8>> {
    let group = Some(wire::group_to_wire(partition(), 1, 2));
    let id = LogId::new_term_index(3, 39);
    let (log_id, wire_vote) = (Some(wire::log_id_to_wire(id)), Some(wire::vote_to_wire(&vote(3))));
    let vote_request = VoteRequest::new(vote(3), Some(id));
    let vote_call = wire::vote_call_to_wire(&vote_request);
    let vote_reply = wire::vote_reply_to_wire(&VoteResponse::new(vote(3), Some(id), true));
    let result = |response| Some(wire::append_result_to_wire(&response));
    let beat = pb::Heartbeat {
        group: group.clone(),
        vote: wire_vote,
        prev_log_id: log_id,
        leader_commit: log_id,
    };
    let call = |call| Frame::Call(pb::RaftCall { id: 1, group: group.clone(), call: Some(call) });
    let reply = |reply| Frame::Reply(pb::RaftReply { id: 1, reply: Some(reply) });
    let snapshot = pb::SnapshotCall {
        vote: wire_vote,
        last_log_id: log_id,
        membership: Some(wire::membership_to_wire(&stored_membership())),
        data: snapshot_file().encode(),
    };
    let append = pb::AppendRequest {
        group: group.clone(),
        stream: 1,
        seq: 2,
        vote: wire_vote,
        prev_log_id: log_id,
        leader_commit: log_id,
        entries: entries(),
    };
    let lost = pb::LostCall { vote: wire_vote, missing: log_id };
    let transfer = pb::TransferCall { from_leader: wire_vote, to: 2, last_log_id: log_id };
    let transferred =
        pb::TransferReply { result: Some(pb::transfer_reply::Result::Accepted(true)) };
    let hello = pb::Hello {
        cluster_id: Bytes::from_static(&[9; 16]),
        class: pb::LinkClass::Bulk.into(),
        ..pb::Hello::default()
    };
    let results = vec![
        AppendEntriesResponse::Success,
        AppendEntriesResponse::PartialSuccess(Some(id)),
        AppendEntriesResponse::Conflict,
        AppendEntriesResponse::HigherVote(vote(8)),
    ];
    let replies = results.into_iter().filter_map(result).collect();
    let frames = [
        Frame::Hello(hello),
        Frame::Append(append),
        Frame::Heartbeats(pb::HeartbeatBatch { id: 1, heartbeats: vec![beat.clone(), beat] }),
        Frame::HeartbeatReplies(pb::HeartbeatReplies { id: 1, results: replies }),
        Frame::AppendReply(pb::AppendReply {
            stream: 1,
            seq: 2,
            result: result(AppendEntriesResponse::Success),
        }),
        call(Call::Vote(vote_call)),
        call(Call::PreVote(vote_call)),
        call(Call::Transfer(transfer)),
        call(Call::Lost(lost)),
        call(Call::Snapshot(snapshot)),
        reply(Reply::Vote(vote_reply)),
        reply(Reply::Snapshot(pb::SnapshotReply { vote: wire_vote })),
        reply(Reply::Transfer(transferred)),
        reply(Reply::Refused("no replica is served here".to_owned())),
    ];
    let encode = |frame| pb::PeerFrame { frame: Some(frame) }.encode_to_vec();
    frames.into_iter().chain(beats()).map(encode).collect()
}
