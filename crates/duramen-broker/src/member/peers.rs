//! What this node answers to its peers, Raft apart.

use std::sync::Arc;

use async_trait::async_trait;
use duramen_proto::internal as pb;
use duramen_raft::{GroupId, PeerHandler};
use duramen_types::{NodeId, ReplicaId};

use super::Member;
use crate::groups::answer_bounds;
use crate::metadata::answer_propose;

/// Answers peers on behalf of a member.
pub(super) struct Handler {
    member: Arc<Member>,
}

impl Handler {
    pub(super) const fn new(member: Arc<Member>) -> Self {
        Self { member }
    }

    fn members(&self) -> Vec<pb::Member> {
        let state = self.member.metadata().state();
        let nodes = state.nodes().map(|node| pb::Member {
            node_id: node.id.get(),
            incarnation: node.incarnation.get(),
            peer_address: node.peer_address.clone(),
        });
        nodes.collect()
    }

    /// Adds the replica as a learner, if this node leads the metadata group.
    async fn take_in(&self, joining: &pb::Member) -> Result<(), String> {
        let group = self.member.host.group(GroupId::Metadata).ok_or("no metadata replica here")?;
        if group.serving_term().is_none() {
            return Err("the metadata group's leader is another node, or none".to_owned());
        }
        let (node, replica) = (NodeId::new(joining.node_id), ReplicaId::new(joining.incarnation));
        if self.member.metadata().state().is_retired(replica) {
            return Err("this incarnation was replaced by a later one".to_owned());
        }
        self.member.host.set_node_address(node, &joining.peer_address);
        self.member.is_joining(replica, node);
        self.member.host.set_members(GroupId::Metadata, self.member.metadata_members());
        let known = group.membership();
        if known.voters.contains(&replica) || known.learners.contains(&replica) {
            return Ok(());
        }
        group.add_learner(replica).await.map_err(|error| error.to_string())
    }
}

#[async_trait]
impl PeerHandler for Handler {
    async fn propose(&self, request: pb::ProposeMetadataRequest) -> pb::ProposeMetadataResponse {
        answer_propose(self.member.host.group(GroupId::Metadata), request.command).await
    }

    async fn form(&self, request: pb::FormRequest) -> pb::FormResponse {
        let own = self.member.host.local().incarnation.get();
        let agrees = request.members.iter().any(|founder| founder.incarnation == own);
        let reason = if agrees { "" } else { "this node's data directory was replaced meanwhile" };
        pb::FormResponse { accepted: agrees, reason: reason.to_owned() }
    }

    async fn bounds(&self, request: pb::BoundsRequest) -> pb::BoundsResponse {
        answer_bounds(&self.member, request).await
    }

    async fn join(&self, request: pb::JoinRequest) -> pb::JoinResponse {
        let outcome = match &request.member {
            Some(joining) => self.take_in(joining).await,
            None => Err("the request names no member".to_owned()),
        };
        let leader = self.member.host.group(GroupId::Metadata).and_then(|g| g.status().leader);
        let (accepted, reason) = match outcome {
            Ok(()) => (true, String::new()),
            Err(reason) => (false, reason),
        };
        pb::JoinResponse {
            accepted,
            reason,
            leader_replica: leader.map_or(0, ReplicaId::get),
            members: self.members(),
        }
    }
}
