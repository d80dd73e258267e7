//! The receiving side of one link: hands requests to their groups, in order, and answers.
//!
//! A group is never awaited in line: its future is polled once, which enqueues the request in
//! order, and parked. When too many are parked the link is not read, and the sender waits.

use std::pin::Pin;
use std::sync::Arc;

use duramen_net::grpc::Messages;
use duramen_proto::internal as pb;
use duramen_proto::internal::peer_frame::Frame;
use duramen_types::ReplicaId;
use futures::stream::FuturesUnordered;
use futures::{FutureExt as _, StreamExt as _};
use openraft::raft::{AppendEntriesRequest, TransferLeaderError, TransferLeaderRequest};
use tokio::sync::mpsc;
use tonic::Status;

use crate::group::Group;
use crate::hibernation::Sleepers;
use crate::host::Groups;
use crate::limits;
use crate::types::{LogId, Snapshot, SnapshotMeta, TypeConfig, Vote};
use crate::wire::{self, WireError};

type Parked = Pin<Box<dyn Future<Output = Frame> + Send>>;

/// Serves one link until it is lost.
pub(super) async fn serve(
    groups: Arc<Groups>,
    mut incoming: Messages<pb::PeerFrame>,
    out: mpsc::Sender<Result<pb::PeerFrame, Status>>,
) {
    let mut parked: FuturesUnordered<Parked> = FuturesUnordered::new();
    let mut sleepers = Sleepers::default();
    loop {
        let room = parked.len() < limits::LINK_APPENDS_PARKED_MAX;
        tokio::select! {
            biased;
            Some(frame) = parked.next(), if !parked.is_empty() => {
                if out.send(Ok(pb::PeerFrame { frame: Some(frame) })).await.is_err() {
                    return;
                }
            }
            message = incoming.message(), if room => match message {
                // In their order, at once.
                Ok(Some(pb::PeerFrame { frame: Some(Frame::Beat(beat)) })) => {
                    let reply = Frame::BeatReply(sleepers.beat(&groups, beat));
                    if out.send(Ok(pb::PeerFrame { frame: Some(reply) })).await.is_err() {
                        return;
                    }
                }
                Ok(Some(pb::PeerFrame { frame: Some(frame) })) => {
                    parked.extend(park(&groups, frame));
                }
                Ok(Some(pb::PeerFrame { frame: None })) => {}
                Ok(None) | Err(_) => return,
            },
        }
    }
}

/// The work that a frame asks for.
fn park(groups: &Arc<Groups>, frame: Frame) -> Option<Parked> {
    let groups = Arc::clone(groups);
    match frame {
        Frame::Append(request) => Some(append(groups, request).boxed()),
        Frame::Heartbeats(batch) => Some(heartbeats(groups, batch).boxed()),
        Frame::Call(call) => Some(call_group(groups, call).boxed()),
        // Answers travel on the link of their request; a second greeting says nothing new.
        Frame::Hello(_)
        | Frame::Reply(_)
        | Frame::HeartbeatReplies(_)
        | Frame::AppendReply(_)
        | Frame::Beat(_)
        | Frame::BeatReply(_) => None,
    }
}

fn find(groups: &Groups, address: Option<&pb::GroupAddress>) -> Result<Arc<Group>, String> {
    let address = address.ok_or_else(|| "the group is not named".to_owned())?;
    let id = wire::group_from_wire(address).map_err(|error| error.to_string())?;
    let group = groups.get(id).ok_or_else(|| format!("no replica of {id} is served here"))?;
    if group.replica() == ReplicaId::new(address.to_replica) {
        Ok(group)
    } else {
        Err(format!("the replica of {id} here is a later one"))
    }
}

fn refused(reason: String) -> pb::AppendResult {
    pb::AppendResult { result: Some(pb::append_result::Result::Refused(reason)) }
}

async fn append(groups: Arc<Groups>, request: pb::AppendRequest) -> Frame {
    let (stream, seq) = (request.stream, request.seq);
    let result = match find(&groups, request.group.as_ref()) {
        Ok(group) => match append_request(request) {
            Ok(request) => append_to(&group, request).await,
            Err(error) => refused(error.to_string()),
        },
        Err(reason) => refused(reason),
    };
    Frame::AppendReply(pb::AppendReply { stream, seq, result: Some(result) })
}

pub(crate) fn append_request(
    request: pb::AppendRequest,
) -> Result<AppendEntriesRequest<TypeConfig>, WireError> {
    let entries = request.entries.into_iter().map(wire::entry_from_wire);
    Ok(AppendEntriesRequest {
        vote: wire::vote_from_wire(request.vote)?,
        prev_log_id: request.prev_log_id.map(wire::log_id_from_wire).transpose()?,
        leader_commit: request.leader_commit.map(wire::log_id_from_wire).transpose()?,
        entries: entries.collect::<Result<_, _>>()?,
    })
}

async fn append_to(group: &Group, request: AppendEntriesRequest<TypeConfig>) -> pb::AppendResult {
    // Only records: a full node must still take a change of leader, of members, of the log start.
    let bytes: usize = request.entries.iter().map(|entry| entry.record_bytes()).sum();
    if bytes > 0 && !group.has_room_for(bytes) {
        return refused("the disk is full".to_owned());
    }
    // Noted before the answer, which may wait for a slow disk; not for a leader of the past.
    if request.vote.committed && request.vote.leader_id.term >= group.status().term.get() {
        group.led();
    }
    match group.raft().append_entries(request).await {
        Ok(response) => wire::append_result_to_wire(&response),
        Err(error) => refused(error.to_string()),
    }
}

async fn heartbeats(groups: Arc<Groups>, batch: pb::HeartbeatBatch) -> Frame {
    let answers = batch.heartbeats.into_iter().map(|beat| {
        let groups = Arc::clone(&groups);
        async move {
            let group = match find(&groups, beat.group.as_ref()) {
                Ok(group) => group,
                Err(reason) => return refused(reason),
            };
            let request = pb::AppendRequest {
                vote: beat.vote,
                prev_log_id: beat.prev_log_id,
                leader_commit: beat.leader_commit,
                ..pb::AppendRequest::default()
            };
            match append_request(request) {
                Ok(request) => append_to(&group, request).await,
                Err(error) => refused(error.to_string()),
            }
        }
    });
    let results = futures::future::join_all(answers).await;
    Frame::HeartbeatReplies(pb::HeartbeatReplies { id: batch.id, results })
}

async fn call_group(groups: Arc<Groups>, call: pb::RaftCall) -> Frame {
    let reply = match find(&groups, call.group.as_ref()) {
        Ok(group) => match answer(&group, call.call).await {
            Ok(reply) => reply,
            Err(reason) => pb::raft_reply::Reply::Refused(reason),
        },
        Err(reason) => pb::raft_reply::Reply::Refused(reason),
    };
    Frame::Reply(pb::RaftReply { id: call.id, reply: Some(reply) })
}

/// What a replica answers to a call, or why it refuses it.
pub(crate) async fn answer(
    group: &Group,
    call: Option<pb::raft_call::Call>,
) -> Result<pb::raft_reply::Reply, String> {
    use pb::raft_call::Call;
    use pb::raft_reply::Reply;
    let raft = group.raft();
    match call.ok_or_else(|| "the call is empty".to_owned())? {
        Call::Vote(call) => {
            let request = wire::vote_call_from_wire(call).map_err(text)?;
            let response = raft.vote(request).await.map_err(text)?;
            if response.vote_granted {
                group.heard_from_leader();
            }
            Ok(Reply::Vote(wire::vote_reply_to_wire(&response)))
        }
        Call::PreVote(_) if group.is_settled() => Err("its leader is alive".to_owned()),
        Call::PreVote(call) => {
            let request = wire::vote_call_from_wire(call).map_err(text)?;
            let response = raft.pre_vote(request).await.map_err(text)?;
            Ok(Reply::Vote(wire::vote_reply_to_wire(&response)))
        }
        Call::Transfer(call) => transfer(group, call).await.map(Reply::Transfer),
        Call::Lost(call) => {
            let (leader, missing) = lost_call(call).map_err(text)?;
            let is_so = group.give_up(&leader, missing).await;
            let answer = if is_so { "the replica takes no part any more" } else { "it is not so" };
            Ok(Reply::Refused(answer.to_owned()))
        }
        Call::Snapshot(call) => {
            let vote = wire::vote_from_wire(call.vote).map_err(text)?;
            let membership = call.membership.ok_or("the membership is missing")?;
            let last = call.last_log_id.map(wire::log_id_from_wire).transpose().map_err(text)?;
            group.replica.check_snapshot(&call.data, last).map_err(text)?;
            let meta = SnapshotMeta {
                last_log_id: last,
                last_membership: wire::membership_from_wire(membership).map_err(text)?,
            };
            let snapshot = Snapshot { meta, snapshot: call.data };
            let response = raft.install_full_snapshot(vote, snapshot).await.map_err(text)?;
            Ok(Reply::Snapshot(pb::SnapshotReply {
                vote: Some(wire::vote_to_wire(&response.vote)),
            }))
        }
    }
}

/// Whose word it is, and which entry the replica is said to have lost.
pub(crate) fn lost_call(call: pb::LostCall) -> Result<(Vote, LogId), WireError> {
    let missing = call.missing.ok_or(WireError::Missing { part: "lost log id" })?;
    Ok((wire::vote_from_wire(call.vote)?, wire::log_id_from_wire(missing)?))
}

async fn transfer(group: &Group, call: pb::TransferCall) -> Result<pb::TransferReply, String> {
    use pb::transfer_reply::Result as Wire;
    let from = wire::vote_from_wire(call.from_leader).map_err(text)?;
    let last = call.last_log_id.map(wire::log_id_from_wire).transpose().map_err(text)?;
    let request = TransferLeaderRequest::new(from, call.to, last);
    // It may lead before the next beat says so.
    group.hibernation().set_vouched(false);
    let result = match group.raft().handle_transfer_leader(request).await.map_err(text)? {
        Ok(()) => Wire::Accepted(true),
        Err(TransferLeaderError::VoteChanged { actual, .. }) => {
            Wire::VoteChanged(wire::vote_to_wire(&actual))
        }
        Err(TransferLeaderError::LogNotFlushed { actual, .. }) => {
            Wire::NotFlushed(pb::NotFlushed { flushed: actual.map(wire::log_id_to_wire) })
        }
    };
    Ok(pb::TransferReply { result: Some(result) })
}

fn text<E: std::fmt::Display>(error: E) -> String {
    error.to_string()
}
