//! The node's copy of the metadata, and how it is changed: by commands that the leader of the
//! metadata group proposes, wherever they were planned.

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use bytes::Bytes;
use duramen_metadata::{Command, Outcome, Refusal, State};
use duramen_net::Channel;
use duramen_proto::internal as pb;
use duramen_proto::internal::peer_service_client::PeerServiceClient;
use duramen_raft::{
    FailStop, Group, GroupId, Proposal, ProposalKind, ProposeError, RaftHost, RestoreError,
    StateMachine,
};
use duramen_types::{ClusterId, MetadataIndex, ReplicaId, Timestamp};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::error::BrokerError;
use crate::identity::Founder;
use crate::limits;

/// The metadata as this node has applied it.
#[derive(Debug)]
pub(crate) struct MetadataCopy {
    state: RwLock<State>,
    applied: watch::Sender<MetadataIndex>,
}

impl MetadataCopy {
    pub(crate) fn new() -> Arc<Self> {
        let applied = watch::Sender::new(MetadataIndex::ZERO);
        Arc::new(Self { state: RwLock::new(State::default()), applied })
    }

    /// The state; not to be held across an await.
    pub(crate) fn state(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn applied(&self) -> MetadataIndex {
        *self.applied.borrow()
    }

    pub(crate) fn changes(&self) -> watch::Receiver<MetadataIndex> {
        self.applied.subscribe()
    }

    /// Waits until everything up to an index is applied here.
    pub(crate) async fn wait_for(&self, index: MetadataIndex) -> Result<(), BrokerError> {
        if self.applied() >= index {
            return Ok(());
        }
        let mut applied = self.applied.subscribe();
        let waited = applied.wait_for(|applied| *applied >= index);
        match tokio::time::timeout(limits::METADATA_WAIT, waited).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(BrokerError::ShuttingDown),
            Err(_) => Err(BrokerError::MetadataUnavailable {
                reason: format!("this node has not heard of metadata index {index} yet"),
            }),
        }
    }

    /// The state machine that keeps this copy.
    pub(crate) fn machine(self: &Arc<Self>, fail_stop: FailStop) -> Box<dyn StateMachine> {
        Box::new(Machine { copy: Arc::clone(self), fail_stop })
    }
}

struct Machine {
    copy: Arc<MetadataCopy>,
    fail_stop: FailStop,
}

fn decode(state: &[u8]) -> Result<State, RestoreError> {
    State::decode(state).map_err(|source| RestoreError { source: source.into() })
}

impl StateMachine for Machine {
    fn apply(&mut self, index: MetadataIndex, command: &[u8]) -> Bytes {
        match Command::decode(command) {
            Ok(command) => {
                let mut state = self.copy.state.write().unwrap_or_else(PoisonError::into_inner);
                state.apply(index, &command).encode()
            }
            Err(error) => {
                // A command of a later version: this node cannot know what it means.
                self.fail_stop.fail(format!("could not apply metadata index {index}: {error}"));
                Bytes::new()
            }
        }
    }

    fn snapshot(&self) -> Bytes {
        self.copy.state().encode()
    }

    fn check(&self, state: &[u8]) -> Result<(), RestoreError> {
        decode(state).map(|_| ())
    }

    fn restore(&mut self, state: &[u8]) -> Result<(), RestoreError> {
        let state = decode(state)?;
        *self.copy.state.write().unwrap_or_else(PoisonError::into_inner) = state;
        Ok(())
    }

    fn advanced(&mut self, index: MetadataIndex) {
        {
            let mut state = self.copy.state.write().unwrap_or_else(PoisonError::into_inner);
            if index > state.applied() {
                state.advance(index);
            }
        }
        self.copy.applied.send_replace(index);
    }
}

/// Changes the metadata.
#[derive(Clone, Debug)]
pub(crate) struct MetadataWriter {
    pub(crate) host: Arc<RaftHost>,
    pub(crate) copy: Arc<MetadataCopy>,
    pub(crate) env: duramen_env::Env,
    pub(crate) cluster: ClusterId,
    /// Where the founders' replicas were, until the metadata says where all are.
    pub(crate) founders: Vec<Founder>,
}

enum Attempt {
    Done(MetadataIndex, Outcome),
    /// Nothing was appended; perhaps that replica leads.
    Elsewhere(Option<ReplicaId>),
    /// It may have been appended: commands are such that trying again does no harm.
    Unknown(String),
}

impl MetadataWriter {
    /// Proposes a command wherever the leader is, until its outcome is known, and waits until this
    /// node has applied it.
    pub(crate) async fn propose(
        &self,
        command: &Command,
    ) -> Result<(MetadataIndex, Outcome), BrokerError> {
        let encoded = command.encode();
        let deadline = Instant::now() + limits::PROPOSE_TIMEOUT;
        let mut wait = Duration::from_millis(10);
        let mut uncertain = false;
        loop {
            let reason = match self.attempt(&encoded).await {
                Attempt::Done(index, outcome) => {
                    self.copy.wait_for(index).await?;
                    return Ok((index, settled(command, outcome, uncertain)));
                }
                Attempt::Elsewhere(_) => "the metadata group has no leader".to_owned(),
                Attempt::Unknown(reason) => {
                    uncertain = true;
                    reason
                }
            };
            if Instant::now() + wait > deadline {
                return Err(BrokerError::MetadataUnavailable { reason });
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(Duration::from_millis(500));
        }
    }

    async fn attempt(&self, command: &Bytes) -> Attempt {
        let Some(group) = self.host.group(GroupId::Metadata) else {
            return Attempt::Elsewhere(None);
        };
        let mut leader = match propose_here(&group, command.clone()).await {
            Attempt::Elsewhere(leader) => leader,
            done => return done,
        };
        // A redirect or two: what this node knows of the leader may be old.
        for _ in 0..2 {
            let Some(replica) = leader else { break };
            let Some(address) = self.peer_address(replica) else { break };
            match self.ask(&address, command.clone()).await {
                Attempt::Elsewhere(next) => leader = next.filter(|next| *next != replica),
                done => return done,
            }
        }
        Attempt::Elsewhere(None)
    }

    fn peer_address(&self, replica: ReplicaId) -> Option<String> {
        let known =
            self.copy.state().node_of_incarnation(replica).map(|node| node.peer_address.clone());
        let founded = || {
            let founder = self.founders.iter().find(|f| f.incarnation == replica.get());
            founder.map(|founder| founder.peer_address.clone())
        };
        known.or_else(founded)
    }

    async fn ask(&self, address: &str, command: Bytes) -> Attempt {
        let mut client = PeerServiceClient::new(Channel::new(&self.env, address));
        let cluster_id = Bytes::copy_from_slice(self.cluster.as_bytes());
        let request = pb::ProposeMetadataRequest { cluster_id, command };
        let asked = client.propose_metadata(request);
        let result = match tokio::time::timeout(limits::PROPOSE_TIMEOUT / 3, asked).await {
            Ok(Ok(response)) => response.into_inner().result,
            Ok(Err(status)) => return Attempt::Unknown(status.message().to_owned()),
            Err(_) => return Attempt::Unknown("the metadata leader did not answer".to_owned()),
        };
        use pb::propose_metadata_response::Result as Wire;
        match result {
            Some(Wire::Done(done)) => match Outcome::decode(&done.outcome) {
                Ok(outcome) => Attempt::Done(MetadataIndex::new(done.metadata_index), outcome),
                Err(error) => Attempt::Unknown(error.to_string()),
            },
            Some(Wire::LeaderReplica(0)) | None => Attempt::Elsewhere(None),
            Some(Wire::LeaderReplica(leader)) => Attempt::Elsewhere(Some(ReplicaId::new(leader))),
            Some(Wire::Refused(_)) => Attempt::Elsewhere(None),
            Some(Wire::Unknown(reason)) => Attempt::Unknown(reason),
        }
    }
}

async fn propose_here(group: &Group, command: Bytes) -> Attempt {
    let status = group.status();
    let Some(term) = group.serving_term() else { return Attempt::Elsewhere(status.leader) };
    let proposal = Proposal {
        kind: ProposalKind::Command,
        payload: command,
        records: 0,
        max_timestamp: Timestamp::MIN,
    };
    let outcome = match group.propose(proposal, term).await {
        Ok(proposed) => proposed.outcome().await,
        Err(error) => Err(error),
    };
    match outcome {
        Ok(applied) => match Outcome::decode(&applied.outcome) {
            Ok(outcome) => Attempt::Done(applied.index, outcome),
            Err(error) => Attempt::Unknown(error.to_string()),
        },
        Err(ProposeError::NotLeader { leader }) => Attempt::Elsewhere(leader),
        Err(ProposeError::Stopped) => Attempt::Elsewhere(None),
        Err(ProposeError::Unknown) => {
            Attempt::Unknown("the metadata leader changed in between".to_owned())
        }
    }
}

/// Answers another node that asks this one to propose.
pub(crate) async fn answer_propose(
    group: Option<Arc<Group>>,
    command: Bytes,
) -> pb::ProposeMetadataResponse {
    use pb::propose_metadata_response::Result as Wire;
    let Some(group) = group else {
        return pb::ProposeMetadataResponse { result: Some(Wire::LeaderReplica(0)) };
    };
    let result = match propose_here(&group, command).await {
        Attempt::Done(index, outcome) => {
            Wire::Done(pb::ProposeDone { metadata_index: index.get(), outcome: outcome.encode() })
        }
        Attempt::Elsewhere(leader) => Wire::LeaderReplica(leader.map_or(0, ReplicaId::get)),
        Attempt::Unknown(reason) => Wire::Unknown(reason),
    };
    pb::ProposeMetadataResponse { result: Some(result) }
}

/// After a try whose outcome is not known, a refusal may only say that the try had worked.
fn settled(command: &Command, outcome: Outcome, uncertain: bool) -> Outcome {
    match (command, outcome) {
        (Command::CreateTopic(new), Outcome::Refused(Refusal::TopicExists { topic }))
            if topic == new.id =>
        {
            Outcome::TopicCreated { topic }
        }
        (Command::DeleteTopic { topic, .. }, Outcome::Refused(Refusal::UnknownTopic))
            if uncertain =>
        {
            Outcome::TopicDeleted { topic: *topic }
        }
        (_, outcome) => outcome,
    }
}
