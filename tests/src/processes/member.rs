//! A member of a consumer group that speaks the wire protocol by hand: it does what a test says and
//! nothing else.

use std::collections::BTreeSet;
use std::time::Duration;

use duramen_proto::v1;
use duramen_proto::v1::member_request::Request;
use duramen_proto::v1::member_response::Response;
use futures::channel::mpsc;
use tonic::Streaming;

use super::{Cluster, Outcome, Wire, eventually, refused};

/// How long an answer may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// The node that coordinates a group, and its calls.
///
/// # Errors
/// Nobody could say in time.
pub async fn coordinator(cluster: &Cluster, group: &str) -> Outcome<(u64, Wire)> {
    let request = v1::FindCoordinatorRequest { group: group.to_owned() };
    eventually("a group has a coordinator", async || {
        for address in cluster.addresses() {
            let mut wire = Wire::new(&address);
            if let Ok(found) = wire.groups.find_coordinator(request.clone()).await {
                let node = found.into_inner().coordinator.ok_or("an answer without a node")?;
                let wire = Wire::new(&node.address);
                let asked = v1::DescribeGroupRequest { group: group.to_owned() };
                let coordinates = match wire.groups.clone().describe_group(asked).await {
                    Ok(_) => true,
                    Err(status) => refused(&status)?.code() == v1::ErrorCode::UnknownGroup,
                };
                if coordinates {
                    return Ok((node.id, wire));
                }
            }
        }
        Err("nobody coordinates it yet".into())
    })
    .await
}

/// A member.
pub struct Member {
    /// Its id.
    pub id: String,
    /// The last assignment that it was told.
    pub told: v1::MemberAssignment,
    requests: mpsc::UnboundedSender<v1::MemberRequest>,
    answers: Streaming<v1::MemberResponse>,
}

impl std::fmt::Debug for Member {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Member").field("id", &self.id).field("told", &self.told).finish()
    }
}

/// A request to join, of a session of ten seconds.
fn join_of(group: &str, id: &str, topics: &[&str]) -> v1::JoinGroup {
    v1::JoinGroup {
        group: group.to_owned(),
        member_id: id.to_owned(),
        client: "test".to_owned(),
        subscription: Some(v1::Subscription {
            topics: topics.iter().map(ToString::to_string).collect(),
            pattern: String::new(),
        }),
        ..v1::JoinGroup::default()
    }
}

impl Member {
    /// Joins a group to read topics.
    ///
    /// # Errors
    /// It was refused.
    pub async fn join(cluster: &Cluster, group: &str, id: &str, topics: &[&str]) -> Outcome<Self> {
        Self::join_as(cluster, join_of(group, id, topics)).await
    }

    /// Joins a group to read the topics that match a pattern.
    ///
    /// # Errors
    /// It was refused.
    pub async fn join_matching(
        cluster: &Cluster,
        group: &str,
        id: &str,
        pattern: &str,
    ) -> Outcome<Self> {
        let mut join = join_of(group, id, &[]);
        join.subscription = Some(v1::Subscription { topics: vec![], pattern: pattern.to_owned() });
        Self::join_as(cluster, join).await
    }

    /// Joins a group as a static member.
    ///
    /// # Errors
    /// It was refused.
    pub async fn join_static(
        cluster: &Cluster,
        group: &str,
        (id, instance): (&str, &str),
        topics: &[&str],
    ) -> Outcome<Self> {
        let join = join_of(group, id, topics);
        Self::join_as(cluster, v1::JoinGroup { instance_id: instance.to_owned(), ..join }).await
    }

    /// Joins with a session of its own length, in milliseconds.
    ///
    /// # Errors
    /// It was refused.
    pub async fn join_for(
        cluster: &Cluster,
        group: &str,
        (id, session_ms): (&str, u32),
        topics: &[&str],
    ) -> Outcome<Self> {
        let join = join_of(group, id, topics);
        Self::join_as(cluster, v1::JoinGroup { session_ms, ..join }).await
    }

    /// Opens a stream with a first message.
    ///
    /// # Errors
    /// It was refused.
    pub async fn join_as(cluster: &Cluster, join: v1::JoinGroup) -> Outcome<Self> {
        let (_, mut wire) = coordinator(cluster, &join.group).await?;
        let (requests, sent) = mpsc::unbounded();
        let id = join.member_id.clone();
        requests.unbounded_send(v1::MemberRequest { request: Some(Request::Join(join)) })?;
        let answers = wire.groups.member(sent).await?.into_inner();
        let mut member = Self { id, told: v1::MemberAssignment::default(), requests, answers };
        member.assigned().await?;
        Ok(member)
    }

    /// Sends a request. Where the stream has ended, the answers say why.
    pub fn send(&self, request: Request) {
        drop(self.requests.unbounded_send(v1::MemberRequest { request: Some(request) }));
    }

    /// The next answer; assignments are remembered.
    ///
    /// # Errors
    /// The stream ended, or there is none in time.
    pub async fn answer(&mut self) -> Outcome<Response> {
        let answer = tokio::time::timeout(ANSWER_WITHIN, self.answers.message()).await??;
        let response = answer.and_then(|answer| answer.response).ok_or("the stream ended")?;
        if let Response::Assignment(assignment) = &response
            && assignment.epoch >= self.told.epoch
        {
            self.told = assignment.clone();
        }
        Ok(response)
    }

    /// Waits for the next assignment.
    ///
    /// # Errors
    /// The stream ended.
    pub async fn assigned(&mut self) -> Outcome<&v1::MemberAssignment> {
        loop {
            match self.answer().await? {
                Response::Assignment(_) => return Ok(&self.told),
                Response::Error(error) => return Err(error.message.into()),
                _ => {}
            }
        }
    }

    /// Waits until it reads just so many partitions and has nothing to give back.
    ///
    /// # Errors
    /// The stream ended.
    pub async fn reads(&mut self, count: usize) -> Outcome<BTreeSet<(String, u32)>> {
        while self.told.granted.len() != count || !self.told.revoked.is_empty() {
            self.assigned().await?;
        }
        Ok(self.partitions())
    }

    /// The partitions that it reads.
    #[must_use]
    pub fn partitions(&self) -> BTreeSet<(String, u32)> {
        let granted = self.told.granted.iter().filter_map(|granted| granted.partition.as_ref());
        granted.map(|partition| (partition.topic.clone(), partition.partition)).collect()
    }

    /// Waits until it has something to give back.
    ///
    /// # Errors
    /// The stream ended.
    pub async fn revoked(&mut self) -> Outcome<BTreeSet<(String, u32)>> {
        while self.told.revoked.is_empty() {
            self.assigned().await?;
        }
        let revoked = self.told.revoked.iter();
        Ok(revoked.map(|partition| (partition.topic.clone(), partition.partition)).collect())
    }

    /// Gives back what was revoked.
    pub fn give_back(&self) {
        self.send(Request::Acknowledge(v1::Acknowledge { epoch: self.told.epoch }));
    }

    /// Follows its assignment until it reads just so many partitions.
    ///
    /// # Errors
    /// The stream ended.
    pub async fn settle(&mut self, count: usize) -> Outcome<BTreeSet<(String, u32)>> {
        loop {
            if !self.told.revoked.is_empty() {
                self.give_back();
            } else if self.told.granted.len() == count {
                return Ok(self.partitions());
            }
            self.assigned().await?;
        }
    }

    /// Sends a heartbeat and waits for its answer.
    ///
    /// # Errors
    /// The stream ended.
    pub async fn beat(&mut self, sequence: u64) -> Outcome<Result<v1::HeartbeatReply, v1::Error>> {
        let epoch = self.told.epoch;
        self.send(Request::Heartbeat(v1::Heartbeat { sequence, epoch }));
        loop {
            match self.answer().await? {
                Response::Heartbeat(reply) if reply.sequence == sequence => return Ok(Ok(reply)),
                Response::Error(error) => return Ok(Err(error)),
                _ => {}
            }
        }
    }

    /// Commits an offset under an epoch: the code of its refusal, if it is refused.
    ///
    /// # Errors
    /// The stream ended.
    pub async fn commit(
        &mut self,
        (topic, partition): (&str, u32),
        offset: u64,
        epoch: u64,
    ) -> Outcome<Option<v1::ErrorCode>> {
        let partition = v1::TopicPartition {
            topic: topic.to_owned(),
            partition,
            ..v1::TopicPartition::default()
        };
        let offsets =
            vec![v1::OffsetCommit { partition: Some(partition), offset, ..Default::default() }];
        self.send(Request::Commit(v1::Commit { correlation_id: offset, epoch, offsets }));
        loop {
            match self.answer().await? {
                Response::Commit(reply) if reply.correlation_id == offset => {
                    let one = reply.refused.into_iter().find_map(|refused| refused.error);
                    return Ok(reply.error.or(one).map(|error| error.code()));
                }
                Response::Error(error) => return Ok(Some(error.code())),
                _ => {}
            }
        }
    }

    /// Leaves, and waits until it has.
    ///
    /// # Errors
    /// The stream ended before.
    pub async fn leave(mut self, returns: bool) -> Outcome {
        self.send(Request::Leave(v1::Leave { epoch: self.told.epoch, returns }));
        loop {
            match self.answer().await? {
                Response::Left(_) => return Ok(()),
                Response::Error(error) => return Err(error.message.into()),
                _ => {}
            }
        }
    }
}
