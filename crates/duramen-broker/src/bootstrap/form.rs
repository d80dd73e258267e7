//! The peer service of a node that belongs to no running cluster yet: it only agrees to be a
//! founder.

use std::sync::Arc;

use async_trait::async_trait;
use duramen_proto::internal as pb;
use duramen_proto::internal::peer_service_server::PeerService;
use duramen_types::ClusterId;
use futures::stream::Empty;
use tonic::{Request, Response, Status, Streaming};

use super::calls::member_from_wire;
use crate::identity::{Founder, Phase};
use crate::shared_identity::SharedIdentity;

/// Agrees to be a founder, durably, and refuses everything else.
pub(crate) struct FormServer {
    identity: Arc<SharedIdentity>,
}

impl FormServer {
    pub(crate) const fn new(identity: Arc<SharedIdentity>) -> Self {
        Self { identity }
    }

    fn agree(&self, request: pb::FormRequest) -> Result<(), String> {
        let cluster = ClusterId::from_slice(&request.cluster_id)
            .ok_or_else(|| "the cluster id is malformed".to_owned())?;
        let founders: Vec<Founder> = request.members.into_iter().map(member_from_wire).collect();
        let current = self.identity.get();
        let own = current.incarnation().get();
        if !founders.iter().any(|founder| founder.incarnation == own) {
            return Err("this node's data directory was replaced meanwhile".to_owned());
        }
        let next = Phase::Forming { cluster: cluster.to_string(), founders, first: false };
        match current.phase() {
            Phase::Empty => {}
            Phase::Forming { first: false, .. } if current.cluster() == Some(cluster) => {
                if *current.phase() == next {
                    return Ok(());
                }
            }
            _ => return Err("this node is founding or joining a cluster already".to_owned()),
        }
        self.identity.enter(next).map_err(|error| error.to_string())
    }
}

fn not_yet() -> Status {
    Status::unavailable("this node belongs to no running cluster yet")
}

#[async_trait]
impl PeerService for FormServer {
    type LinkStream = Empty<Result<pb::PeerFrame, Status>>;

    async fn link(
        &self,
        _request: Request<Streaming<pb::PeerFrame>>,
    ) -> Result<Response<Self::LinkStream>, Status> {
        Err(not_yet())
    }

    async fn propose_metadata(
        &self,
        _request: Request<pb::ProposeMetadataRequest>,
    ) -> Result<Response<pb::ProposeMetadataResponse>, Status> {
        Err(not_yet())
    }

    async fn form(
        &self,
        request: Request<pb::FormRequest>,
    ) -> Result<Response<pb::FormResponse>, Status> {
        let agreed = self.agree(request.into_inner());
        let (accepted, reason) = match agreed {
            Ok(()) => (true, String::new()),
            Err(reason) => (false, reason),
        };
        Ok(Response::new(pb::FormResponse { accepted, reason }))
    }

    async fn bounds(
        &self,
        _request: Request<pb::BoundsRequest>,
    ) -> Result<Response<pb::BoundsResponse>, Status> {
        Err(not_yet())
    }

    async fn join(
        &self,
        _request: Request<pb::JoinRequest>,
    ) -> Result<Response<pb::JoinResponse>, Status> {
        Err(not_yet())
    }
}
