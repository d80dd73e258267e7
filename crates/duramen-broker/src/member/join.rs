//! Makes the metadata name this node as it is: founds the cluster's metadata, joins its group if
//! it is new, and registers.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use duramen_metadata::{Command, Outcome, plan_register_node};
use duramen_net::Channel;
use duramen_proto::internal as pb;
use duramen_proto::internal::peer_service_client::PeerServiceClient;
use duramen_types::NodeId;
use tokio::time::Instant;

use super::Member;
use crate::broker::{Broker, NodeError};
use crate::error::BrokerError;
use crate::identity::Phase;
use crate::limits;

/// Runs until this node is registered, then for ever: an address that the metadata has wrong is
/// put right.
pub(super) async fn run(member: &Arc<Member>, broker: &Broker) -> Result<(), NodeError> {
    let mut changes = member.metadata().changes();
    let mut noticed = Instant::now();
    loop {
        if let Err(error) = step(member, broker).await {
            if let BrokerError::Refused(refusal) = &error {
                return Err(NodeError::Failed(format!(
                    "the cluster does not take this node: {refusal}"
                )));
            }
            let reason = waiting(member, broker, &error);
            broker.report(reason.clone());
            if noticed.elapsed() >= limits::BOOTSTRAP_NOTICE {
                noticed = Instant::now();
                tracing::warn!(reason, "not serving yet");
            }
            tokio::time::sleep(limits::BOOTSTRAP_INTERVAL).await;
            continue;
        }
        broker.taken_in()?;
        if !member.registered.swap(true, Ordering::Relaxed) {
            tracing::info!("this node is a member of the cluster");
        }
        if changes.changed().await.is_err() {
            return Ok(());
        }
    }
}

/// What a node that is not registered waits for, in words.
fn waiting(member: &Member, broker: &Broker, error: &BrokerError) -> String {
    let cluster = member.writer.cluster;
    match broker.phase() {
        Phase::Joining { .. } => format!(
            "this node's data directory is new, and cluster {cluster} exists: it joins as a new \
             member, which needs a majority of the cluster's metadata voters ({error}). If their \
             data directories are lost, restore them; an empty directory cannot stand in"
        ),
        _ => format!("cluster {cluster}: {error}"),
    }
}

async fn step(member: &Member, broker: &Broker) -> Result<(), BrokerError> {
    // Asked again until it is registered: an entry that takes this node in may be here and be cut
    // from the log of the next leader, which then knows nothing of this node.
    if matches!(broker.phase(), Phase::Joining { .. }) {
        ask_to_join(member, broker).await?;
    }
    let (formed, register) = {
        let state = member.metadata().state();
        (state.cluster_id().is_some(), plan_register_node(&state, &member.node()))
    };
    let Some(register) = register else { return Ok(()) };
    if !formed {
        let command = Command::FormCluster { cluster: member.writer.cluster };
        settle(member.writer.propose(&command).await?.1)?;
    }
    settle(member.writer.propose(&register).await?.1)
}

fn settle(outcome: Outcome) -> Result<(), BrokerError> {
    match outcome {
        Outcome::Refused(refusal) => Err(refusal.into()),
        _ => Ok(()),
    }
}

async fn ask_to_join(member: &Member, broker: &Broker) -> Result<(), BrokerError> {
    let mut addresses: Vec<String> =
        broker.founders().into_iter().map(|founder| founder.peer_address).collect();
    let mut refusal = "no member answers".to_owned();
    let mut at = 0;
    // Answers name further members, to be asked as well.
    while let Some(address) = addresses.get(at).cloned() {
        at += 1;
        let answer = match join(member, &address).await {
            Ok(answer) => answer,
            Err(reason) => {
                refusal = reason;
                continue;
            }
        };
        for known in answer.members {
            member.host.set_node_address(NodeId::new(known.node_id), &known.peer_address);
            if !addresses.contains(&known.peer_address) {
                addresses.push(known.peer_address);
            }
        }
        if answer.accepted {
            return Ok(());
        }
        refusal = answer.reason;
    }
    Err(BrokerError::MetadataUnavailable { reason: refusal })
}

async fn join(member: &Member, address: &str) -> Result<pb::JoinResponse, String> {
    let mut client = PeerServiceClient::new(Channel::new(&member.env, address));
    let local = member.host.local();
    let request = pb::JoinRequest {
        cluster_id: Bytes::copy_from_slice(local.cluster.as_bytes()),
        member: Some(pb::Member {
            node_id: local.node.get(),
            incarnation: local.incarnation.get(),
            peer_address: member.options.peer_address.clone(),
        }),
    };
    match tokio::time::timeout(limits::BOOTSTRAP_CALL, client.join(request)).await {
        Ok(Ok(answer)) => Ok(answer.into_inner()),
        Ok(Err(status)) => Err(format!("{address}: {}", status.message())),
        Err(_) => Err(format!("{address} did not answer in time")),
    }
}
