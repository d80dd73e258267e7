//! openraft's network traits, on top of links.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;
use duramen_proto::internal as pb;
use duramen_types::{NodeId, ReplicaId};
use futures::{FutureExt as _, Stream, StreamExt as _};
use openraft::base::{BoxFuture, BoxStream};
use openraft::errors::{RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{RPCOption, RaftNetworkFactory, RaftNetworkV2};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendResult,
    TransferLeaderError, TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
};

use super::acknowledged::{Acknowledged, Asked, Distrust};
use super::append_stream::pipelined;
use super::link::{Link, LinkError};
use super::links::Links;
use crate::limits;
use crate::types::{GroupId, LogId, RaftNodeId, Snapshot, TypeConfig, Vote};
use crate::wire;

/// Which node holds which replica of a group.
pub(crate) type Members = Arc<RwLock<BTreeMap<ReplicaId, NodeId>>>;

pub(super) fn unreachable(reason: &str) -> RPCError<TypeConfig> {
    RPCError::Unreachable(Unreachable::from_string(reason))
}

/// An answer that openraft is not to hear of: to it the replica is one that cannot be reached.
pub(super) fn distrusted(distrust: &Distrust) -> RPCError<TypeConfig> {
    RPCError::Unreachable(Unreachable::new(distrust))
}

/// Makes the network clients of one group.
#[derive(Clone, Debug)]
pub(crate) struct GroupNetworkFactory {
    links: Arc<Links>,
    group: GroupId,
    replica: ReplicaId,
    members: Members,
    acknowledged: Arc<Acknowledged>,
}

impl GroupNetworkFactory {
    pub(crate) fn new(
        links: Arc<Links>,
        group: GroupId,
        replica: ReplicaId,
        members: Members,
    ) -> Self {
        let acknowledged = Arc::new(Acknowledged::new(group));
        Self { links, group, replica, members, acknowledged }
    }

    /// What the other replicas acknowledge to this one.
    pub(crate) fn acknowledged(&self) -> Arc<Acknowledged> {
        Arc::clone(&self.acknowledged)
    }

    fn client(&self, target: RaftNodeId, heartbeat: bool) -> GroupNetwork {
        let to = ReplicaId::new(target);
        let target = Target { group: self.group, from: self.replica, to };
        GroupNetwork {
            links: Arc::clone(&self.links),
            members: Arc::clone(&self.members),
            acknowledged: Arc::clone(&self.acknowledged),
            target,
            heartbeat,
        }
    }
}

impl RaftNetworkFactory<TypeConfig> for GroupNetworkFactory {
    type Network = GroupNetwork;

    async fn new_client(&mut self, target: RaftNodeId, _node: &()) -> GroupNetwork {
        self.client(target, false)
    }

    async fn new_heartbeat_client(&mut self, target: RaftNodeId, _node: &()) -> GroupNetwork {
        self.client(target, true)
    }
}

/// One replica as seen from another one of its group.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target {
    group: GroupId,
    from: ReplicaId,
    to: ReplicaId,
}

impl Target {
    fn address(&self) -> pb::GroupAddress {
        wire::group_to_wire(self.group, self.from.get(), self.to.get())
    }

    /// Notes that an append goes out.
    pub(super) fn ask(
        &self,
        acknowledged: &Acknowledged,
        request: &AppendEntriesRequest<TypeConfig>,
    ) -> Asked {
        acknowledged.ask(self.to, request)
    }

    /// An append on the wire, and its bytes of payload.
    pub(super) fn append_message(
        &self,
        seq: u64,
        request: &AppendEntriesRequest<TypeConfig>,
    ) -> (pb::AppendRequest, usize) {
        let frames = request.entries.iter().filter_map(|entry| entry.frame.as_ref());
        let entries: Vec<_> = frames.map(wire::frame_to_wire).collect();
        let bytes = entries.iter().map(|entry| entry.payload.len()).sum();
        let message = pb::AppendRequest {
            stream: 0,
            seq,
            group: Some(self.address()),
            vote: Some(wire::vote_to_wire(&request.vote)),
            prev_log_id: request.prev_log_id.map(wire::log_id_to_wire),
            leader_commit: request.leader_commit.map(wire::log_id_to_wire),
            entries,
        };
        (message, bytes)
    }
}

/// Reaches one replica of a group.
#[derive(Debug)]
pub(crate) struct GroupNetwork {
    links: Arc<Links>,
    members: Members,
    acknowledged: Arc<Acknowledged>,
    target: Target,
    heartbeat: bool,
}

impl GroupNetwork {
    fn link(&self, class: pb::LinkClass) -> Result<Arc<Link>, RPCError<TypeConfig>> {
        let members = self.members.read().unwrap_or_else(PoisonError::into_inner);
        let node = members
            .get(&self.target.to)
            .copied()
            .ok_or_else(|| unreachable("the replica's node is not known here"))?;
        self.links.get(node, class).ok_or_else(|| unreachable("the node's address is not known"))
    }

    async fn call(
        &self,
        call: pb::raft_call::Call,
    ) -> Result<pb::raft_reply::Reply, RPCError<TypeConfig>> {
        let link = self.link(pb::LinkClass::Urgent)?;
        let reply = link.call(self.target.address(), call);
        let reply = tokio::time::timeout(limits::CALL_TIMEOUT, reply)
            .await
            .map_err(|_| unreachable("the replica did not answer in time"))?
            .map_err(|error| RPCError::Unreachable(Unreachable::new(&error)))?;
        match reply.reply {
            Some(pb::raft_reply::Reply::Refused(reason)) => Err(unreachable(&reason)),
            Some(reply) => Ok(reply),
            None => Err(unreachable("the replica sent an empty answer")),
        }
    }

    async fn vote_call(
        &self,
        call: pb::raft_call::Call,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        // It would vote for whom it knows no better than, and it forgot what it knew.
        self.acknowledged.trust(self.target.to).map_err(|distrust| distrusted(&distrust))?;
        match self.call(call).await? {
            pb::raft_reply::Reply::Vote(reply) => wire::vote_reply_from_wire(reply)
                .map_err(|error| RPCError::Unreachable(Unreachable::new(&error))),
            _ => Err(unreachable("the replica answered something else")),
        }
    }

    async fn heartbeat(
        &self,
        request: AppendEntriesRequest<TypeConfig>,
    ) -> Result<AppendEntriesResponse<TypeConfig>, RPCError<TypeConfig>> {
        let link = self.link(pb::LinkClass::Urgent)?;
        let asked = self.target.ask(&self.acknowledged, &request);
        let heartbeat = pb::Heartbeat {
            group: Some(self.target.address()),
            vote: Some(wire::vote_to_wire(&request.vote)),
            prev_log_id: request.prev_log_id.map(wire::log_id_to_wire),
            leader_commit: request.leader_commit.map(wire::log_id_to_wire),
        };
        let down = |error: LinkError| RPCError::Unreachable(Unreachable::new(&error));
        let result = link.heartbeat(heartbeat).await.map_err(down)?;
        match wire::append_result_from_wire(Some(result)) {
            Ok(wire::AppendAnswer::Raft(response)) => {
                let believed = self.acknowledged.answered(&asked, &response);
                if matches!(
                    (&believed, &response),
                    (Err(Distrust::Lost(_)), AppendEntriesResponse::Conflict)
                ) {
                    self.tell_lost(&request.vote, asked.prev).await;
                }
                believed.map(|()| response).map_err(|distrust| distrusted(&distrust))
            }
            Ok(wire::AppendAnswer::Refused(reason)) => Err(unreachable(&reason)),
            Err(error) => Err(RPCError::Unreachable(Unreachable::new(&error))),
        }
    }
}

impl GroupNetwork {
    /// Tells the replica that it does not have what it acknowledged: it cannot know. Told again with
    /// every heartbeat while it goes on.
    async fn tell_lost(&self, vote: &Vote, missing: Option<LogId>) {
        let lost = pb::LostCall {
            vote: Some(wire::vote_to_wire(vote)),
            missing: missing.map(wire::log_id_to_wire),
        };
        if let Err(error) = self.call(pb::raft_call::Call::Lost(lost)).await {
            tracing::debug!(replica = %self.target.to, %error, "the replica was told of its loss");
        }
    }
}

/// An append stream that cannot be opened. Openraft waits between attempts where it makes a
/// request: an error before the first one would be followed by the next attempt at once.
fn refused<S>(
    mut input: S,
    error: RPCError<TypeConfig>,
) -> impl Stream<Item = Result<StreamAppendResult<TypeConfig>, RPCError<TypeConfig>>> + Send
where
    S: Stream<Item = AppendEntriesRequest<TypeConfig>> + Send + Unpin + 'static,
{
    futures::stream::once(async move {
        drop(input.next().await);
        Err(error)
    })
}

type AppendStream<'s> = BoxStream<'s, Result<StreamAppendResult<TypeConfig>, RPCError<TypeConfig>>>;

impl RaftNetworkV2<TypeConfig> for GroupNetwork {
    type SnapshotData = Bytes;

    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<TypeConfig>, RPCError<TypeConfig>> {
        let once = futures::stream::iter([request]);
        let mut answers = self.stream_append(once, option).await?;
        let answer = answers.next().await.ok_or_else(|| unreachable("no answer"))??;
        Ok(answer.into())
    }

    fn stream_append<'s, S>(
        &'s mut self,
        mut input: S,
        _option: RPCOption,
    ) -> BoxFuture<'s, Result<AppendStream<'s>, RPCError<TypeConfig>>>
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig>> + Send + Unpin + 'static,
    {
        if self.heartbeat {
            let beats = async move {
                let Some(request) = input.next().await else {
                    return Ok(futures::stream::empty().boxed());
                };
                let prev = request.prev_log_id;
                let response = self.heartbeat(request).await?;
                if matches!(response, AppendEntriesResponse::Conflict) && prev.is_none() {
                    return Err(unreachable("the follower answered nonsense"));
                }
                let result = response.into_stream_result(prev, prev);
                Ok(futures::stream::iter([Ok(result)]).boxed())
            };
            return beats.boxed();
        }
        let opened = async move {
            match self.link(pb::LinkClass::Bulk) {
                Ok(link) => {
                    let told = (self.target, Arc::clone(&self.acknowledged));
                    Ok(pipelined(told, link, input).boxed())
                }
                Err(error) => Ok(refused(input, error).boxed()),
            }
        };
        opened.boxed()
    }

    async fn vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        _option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        self.vote_call(pb::raft_call::Call::Vote(wire::vote_call_to_wire(&request))).await
    }

    async fn pre_vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        _option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        self.vote_call(pb::raft_call::Call::PreVote(wire::vote_call_to_wire(&request))).await
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + Send + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        self.acknowledged
            .trust(self.target.to)
            .map_err(|distrust| StreamingError::Unreachable(Unreachable::new(&distrust)))?;
        let (sent, last) = (vote, snapshot.meta.last_log_id);
        let call = pb::raft_call::Call::Snapshot(pb::SnapshotCall {
            vote: Some(wire::vote_to_wire(&vote)),
            last_log_id: last.map(wire::log_id_to_wire),
            membership: Some(wire::membership_to_wire(&snapshot.meta.last_membership)),
            data: snapshot.snapshot,
        });
        let reply = tokio::select! {
            biased;
            closed = cancel => return Err(StreamingError::Closed(closed)),
            reply = self.call(call) => reply.map_err(StreamingError::from)?,
        };
        let pb::raft_reply::Reply::Snapshot(reply) = reply else {
            return Err(unreachable("the replica answered something else").into());
        };
        let vote = wire::vote_from_wire(reply.vote)
            .map_err(|error| StreamingError::Unreachable(Unreachable::new(&error)))?;
        if vote == sent {
            self.acknowledged.installed(self.target.to, &vote, last);
        }
        Ok(SnapshotResponse::new(vote))
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<TypeConfig>,
        _option: RPCOption,
    ) -> Result<TransferLeaderResponse<TypeConfig>, RPCError<TypeConfig>> {
        use pb::transfer_reply::Result as Wire;
        let call = pb::raft_call::Call::Transfer(pb::TransferCall {
            from_leader: Some(wire::vote_to_wire(request.from_leader())),
            to: *request.to_node_id(),
            last_log_id: request.last_log_id().copied().map(wire::log_id_to_wire),
        });
        let pb::raft_reply::Reply::Transfer(reply) = self.call(call).await? else {
            return Err(unreachable("the replica answered something else"));
        };
        match reply.result {
            Some(Wire::Accepted(_)) => Ok(Ok(())),
            Some(Wire::VoteChanged(vote)) => {
                let actual = wire::vote_from_wire(Some(vote))
                    .map_err(|error| RPCError::Unreachable(Unreachable::new(&error)))?;
                let expected = *request.from_leader();
                Ok(Err(TransferLeaderError::VoteChanged { expected, actual }))
            }
            Some(Wire::NotFlushed(state)) => {
                let actual = state.flushed.map(wire::log_id_from_wire).transpose();
                let actual =
                    actual.map_err(|error| RPCError::Unreachable(Unreachable::new(&error)))?;
                let expected = request.last_log_id().copied();
                Ok(Err(TransferLeaderError::LogNotFlushed { expected, actual }))
            }
            None => Err(unreachable("the replica sent an empty answer")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_that_cannot_be_opened_fails_only_once_a_request_was_made() {
        let waiting = futures::stream::pending::<AppendEntriesRequest<TypeConfig>>();
        let mut early = Box::pin(refused(waiting, unreachable("nobody is there")));
        assert!(early.next().now_or_never().is_none(), "the wait between attempts is not over");
        let asked = futures::stream::empty::<AppendEntriesRequest<TypeConfig>>();
        let mut late = Box::pin(refused(asked, unreachable("nobody is there")));
        assert!(matches!(late.next().now_or_never(), Some(Some(Err(_)))));
        assert!(matches!(late.next().now_or_never(), Some(None)));
    }
}
