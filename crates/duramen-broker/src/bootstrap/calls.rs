//! The calls of the bootstrap: who are you, and be a founder.

use bytes::Bytes;
use duramen_env::Env;
use duramen_net::Channel;
use duramen_proto::internal as pb;
use duramen_proto::internal::peer_service_client::PeerServiceClient;
use duramen_proto::v1;
use duramen_proto::v1::discovery_service_client::DiscoveryServiceClient;
use duramen_types::ClusterId;
use tonic::Status;

use crate::identity::Founder;
use crate::limits;

/// Asks the node at a client address who it is.
pub(super) async fn identify(env: &Env, seed: &str) -> Result<v1::IdentifyResponse, Status> {
    let mut client = DiscoveryServiceClient::new(Channel::new(env, seed));
    let asked = client.identify(v1::IdentifyRequest {});
    match tokio::time::timeout(limits::BOOTSTRAP_CALL, asked).await {
        Ok(answer) => answer.map(tonic::Response::into_inner),
        Err(_) => Err(Status::deadline_exceeded("no answer in time")),
    }
}

pub(crate) fn member_to_wire(founder: &Founder) -> pb::Member {
    pb::Member {
        node_id: founder.node,
        incarnation: founder.incarnation,
        peer_address: founder.peer_address.clone(),
    }
}

pub(crate) fn member_from_wire(member: pb::Member) -> Founder {
    Founder {
        node: member.node_id,
        incarnation: member.incarnation,
        peer_address: member.peer_address,
    }
}

/// Asks a founder to agree to a cluster.
pub(super) async fn form(
    env: &Env,
    cluster: ClusterId,
    founder: &Founder,
    founders: &[Founder],
) -> Result<(), String> {
    let mut client = PeerServiceClient::new(Channel::new(env, &founder.peer_address));
    let request = pb::FormRequest {
        cluster_id: Bytes::copy_from_slice(cluster.as_bytes()),
        seeds: Vec::new(),
        members: founders.iter().map(member_to_wire).collect(),
    };
    let asked = client.form(request);
    let node = founder.node;
    match tokio::time::timeout(limits::BOOTSTRAP_CALL, asked).await {
        Ok(Ok(answer)) => {
            let answer = answer.into_inner();
            if answer.accepted {
                return Ok(());
            }
            Err(format!("node {node} does not agree to found the cluster: {}", answer.reason))
        }
        Ok(Err(status)) => Err(format!("node {node} could not be asked: {}", status.message())),
        Err(_) => Err(format!("node {node} did not answer in time")),
    }
}
