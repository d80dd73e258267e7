//! Coordinators of a fake cluster: real fencing, and everything else as the test says.

use std::collections::{BTreeMap, VecDeque};

use duramen_proto::v1::{self, ErrorCode, member_request, member_response};
use tokio::sync::mpsc;
use tonic::Status;

use super::{Fake, State};

type Answers = mpsc::Sender<Result<v1::MemberResponse, Status>>;

/// Heartbeats are due so often, and sessions last so long, in milliseconds.
pub(crate) const SESSION_MS: u32 = 10_000;

/// What goes wrong with one commit of a member.
#[derive(Clone, Copy, Debug)]
pub(crate) enum CommitFault {
    /// Done, and the stream ends before the answer.
    DoneAndBreak,
    /// Not done, and the stream ends.
    Break,
    /// Refused as a whole.
    Refuse(ErrorCode),
    /// Never answered.
    Forget,
}

/// What a coordinator was told, without ids that nobody can know before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    Join,
    GoOn(u64),
    Heartbeat(u64),
    Commit(u64, Vec<(u32, u64)>),
    Acknowledge(u64),
    Subscribe(u64, Vec<String>),
    Leave(bool),
}

#[derive(Debug)]
pub(crate) struct FakeMember {
    joined: u64,
    pub(crate) epoch: u64,
    /// Partitions of topic `t`, with the epoch of the grant.
    pub(crate) granted: BTreeMap<u32, u64>,
    pub(crate) revoked: BTreeMap<u32, u64>,
    answers: Option<Answers>,
}

#[derive(Debug)]
pub(crate) struct FakeGroup {
    pub(crate) coordinator: u64,
    pub(crate) fence: u64,
    pub(crate) members: BTreeMap<String, FakeMember>,
    pub(crate) committed: BTreeMap<u32, v1::CommittedOffset>,
    pub(crate) seen: Vec<Seen>,
    /// What those who join are given, one after the other; then nothing.
    pub(crate) grants: VecDeque<Vec<u32>>,
    pub(crate) commit_faults: VecDeque<CommitFault>,
    pub(crate) silent: bool,
    /// So many joins are refused for now.
    pub(crate) joins_refused: u32,
    pub(crate) unsure_ms: u32,
    pub(crate) ids: Vec<String>,
}

impl FakeGroup {
    pub(crate) fn new() -> Self {
        Self {
            coordinator: 1,
            fence: 0,
            members: BTreeMap::new(),
            committed: BTreeMap::new(),
            seen: Vec::new(),
            grants: VecDeque::new(),
            commit_faults: VecDeque::new(),
            silent: false,
            joins_refused: 0,
            unsure_ms: 0,
            ids: Vec::new(),
        }
    }

    pub(crate) fn commits(&self) -> Vec<(u64, Vec<(u32, u64)>)> {
        let commits = self.seen.iter().filter_map(|seen| match seen {
            Seen::Commit(epoch, offsets) => Some((*epoch, offsets.clone())),
            _ => None,
        });
        commits.collect()
    }

    pub(crate) fn committed_offset(&self, partition: u32) -> Option<u64> {
        self.committed.get(&partition).map(|committed| committed.offset)
    }

    pub(crate) fn commit(&mut self, partition: u32, offset: u64) {
        let committed = v1::CommittedOffset { offset, ..v1::CommittedOffset::default() };
        self.committed.insert(partition, committed);
    }

    fn tick(&mut self) -> u64 {
        self.fence += 1;
        self.fence
    }
}

fn error(code: ErrorCode) -> v1::Error {
    v1::Error { code: code.into(), message: "as the test wants it".into(), ..v1::Error::default() }
}

fn send(answers: &Answers, response: member_response::Response) {
    drop(answers.try_send(Ok(v1::MemberResponse { response: Some(response) })));
}

fn end(answers: &Answers, error: v1::Error) {
    send(answers, member_response::Response::Error(error));
}

impl State {
    pub(crate) fn group(&mut self, name: &str) -> &mut FakeGroup {
        self.groups.entry(name.to_owned()).or_insert_with(FakeGroup::new)
    }

    pub(super) fn node(&self, id: u64) -> v1::Node {
        let address = self.addresses.get(&id).cloned().unwrap_or_default();
        v1::Node { id, address, ..v1::Node::default() }
    }

    pub(super) fn not_coordinator(&self, id: u64) -> v1::Error {
        v1::Error { leader: Some(self.node(id)), ..error(ErrorCode::NotLeader) }
    }

    fn topic_partition(&self, partition: u32) -> v1::TopicPartition {
        let topic_id = self.topics.get("t").map(|topic| topic.id.to_vec().into());
        let topic_id = topic_id.unwrap_or_default();
        v1::TopicPartition { topic_id, topic: "t".into(), partition }
    }

    /// Tells a member what is its.
    pub(crate) fn tell(&mut self, group: &str, id: &str) {
        let group = &self.groups[group];
        let Some(member) = group.members.get(id) else { return };
        let granted = member.granted.iter().map(|(partition, since)| v1::GrantedPartition {
            partition: Some(self.topic_partition(*partition)),
            since: *since,
            committed: group.committed.get(partition).cloned(),
        });
        let revoked = member.revoked.keys().map(|partition| self.topic_partition(*partition));
        let assignment = v1::MemberAssignment {
            epoch: member.epoch,
            granted: granted.collect(),
            revoked: revoked.collect(),
            session_ms: SESSION_MS,
            revocation_ms: 60_000,
            heartbeat_ms: SESSION_MS / 3,
        };
        if let Some(answers) = &member.answers {
            send(answers, member_response::Response::Assignment(assignment));
        }
    }

    /// The first message of a stream; the member if it is one.
    fn join(
        &mut self,
        join: &v1::JoinGroup,
        node: u64,
        answers: &Answers,
    ) -> Result<(), v1::Error> {
        let coordinator = self.group(&join.group).coordinator;
        if coordinator != node {
            return Err(self.not_coordinator(coordinator));
        }
        let group = self.group(&join.group);
        if join.epoch == 0 {
            if let Some(left) = group.joins_refused.checked_sub(1) {
                group.joins_refused = left;
                return Err(error(ErrorCode::Unavailable));
            }
            group.seen.push(Seen::Join);
            group.ids.push(join.member_id.clone());
            let epoch = group.tick();
            let grants = group.grants.pop_front().unwrap_or_default();
            let granted = grants.into_iter().map(|partition| (partition, epoch)).collect();
            let revoked = BTreeMap::new();
            let member = FakeMember { joined: epoch, epoch, granted, revoked, answers: None };
            group.members.insert(join.member_id.clone(), member);
        } else {
            group.seen.push(Seen::GoOn(join.epoch));
        }
        let member = group.members.get_mut(&join.member_id);
        let member = member.ok_or_else(|| error(ErrorCode::UnknownMember))?;
        if join.epoch != 0 && !(member.joined..=member.epoch).contains(&join.epoch) {
            return Err(error(ErrorCode::StaleMemberEpoch));
        }
        member.answers = Some(answers.clone());
        self.tell(&join.group, &join.member_id);
        Ok(())
    }

    /// A later message of a stream; `Err` ends it.
    fn talk(
        &mut self,
        (group_name, id): (&str, &str),
        request: member_request::Request,
        answers: &Answers,
    ) -> Result<(), Option<v1::Error>> {
        use member_request::Request;
        let group = self.group(group_name);
        let unknown = || Some(error(ErrorCode::UnknownMember));
        match request {
            Request::Join(_) => return Err(Some(error(ErrorCode::InvalidRequest))),
            Request::Heartbeat(heartbeat) => {
                group.seen.push(Seen::Heartbeat(heartbeat.epoch));
                if group.silent {
                    return Ok(());
                }
                let epoch = group.members.get(id).ok_or_else(unknown)?.epoch;
                let (sequence, unsure_ms) = (heartbeat.sequence, group.unsure_ms);
                let reply = v1::HeartbeatReply { sequence, epoch, unsure_ms };
                send(answers, member_response::Response::Heartbeat(reply));
            }
            Request::Acknowledge(v1::Acknowledge { epoch }) => {
                group.seen.push(Seen::Acknowledge(epoch));
                let next = group.fence + 1;
                let member = group.members.get_mut(id).ok_or_else(unknown)?;
                let before = member.revoked.len();
                member.revoked.retain(|_, revoked| *revoked > epoch);
                if member.revoked.len() < before {
                    member.epoch = next;
                    group.fence = next;
                    self.tell(group_name, id);
                }
            }
            Request::Commit(commit) => return self.commit((group_name, id), commit, answers),
            Request::Subscribe(subscribe) => {
                let topics = subscribe.subscription.unwrap_or_default().topics;
                group.seen.push(Seen::Subscribe(subscribe.epoch, topics));
                let member = group.members.get(id).ok_or_else(unknown)?;
                if member.epoch != subscribe.epoch {
                    return Err(Some(error(ErrorCode::StaleMemberEpoch)));
                }
            }
            Request::Leave(v1::Leave { returns, .. }) => {
                group.seen.push(Seen::Leave(returns));
                group.members.remove(id);
                send(answers, member_response::Response::Left(v1::Left {}));
                return Err(None);
            }
        }
        Ok(())
    }

    fn commit(
        &mut self,
        (group_name, id): (&str, &str),
        commit: v1::Commit,
        answers: &Answers,
    ) -> Result<(), Option<v1::Error>> {
        let fault = self.group(group_name).commit_faults.pop_front();
        let partition = |offset: &v1::OffsetCommit| offset.partition.as_ref().unwrap().partition;
        let told = commit.offsets.iter().map(|offset| (partition(offset), offset.offset));
        let told = told.collect();
        self.group(group_name).seen.push(Seen::Commit(commit.epoch, told));
        let mut reply =
            v1::CommitReply { correlation_id: commit.correlation_id, ..v1::CommitReply::default() };
        match fault {
            Some(CommitFault::Break) => return Err(None),
            Some(CommitFault::Forget) => return Ok(()),
            Some(CommitFault::Refuse(code)) => {
                reply.error = Some(error(code));
                send(answers, member_response::Response::Commit(reply));
                return Ok(());
            }
            Some(CommitFault::DoneAndBreak) | None => {}
        }
        for offset in commit.offsets {
            let at = partition(&offset);
            let group = self.group(group_name);
            let member = group.members.get(id).ok_or_else(|| Some(error(ErrorCode::UnknownMember)));
            let member = member?;
            let since = member.granted.get(&at).copied();
            let held = since.or(member.revoked.contains_key(&at).then_some(0));
            let code = if held.is_none_or(|since| since > commit.epoch) {
                Some(ErrorCode::PartitionNotHeld)
            } else if group.committed_offset(at).is_some_and(|before| before > offset.offset) {
                Some(ErrorCode::OffsetBehind)
            } else {
                group.commit(at, offset.offset);
                None
            };
            if let Some(code) = code {
                let partition = Some(self.topic_partition(at));
                reply.refused.push(v1::PartitionError { partition, error: Some(error(code)) });
            }
        }
        if matches!(fault, Some(CommitFault::DoneAndBreak)) {
            return Err(None);
        }
        send(answers, member_response::Response::Commit(reply));
        Ok(())
    }
}

/// Serves one member's stream on a node.
pub(super) async fn serve(
    node: super::service::FakeNode,
    mut requests: tonic::Streaming<v1::MemberRequest>,
    answers: Answers,
) {
    let Ok(Some(v1::MemberRequest { request: Some(member_request::Request::Join(join)) })) =
        requests.message().await
    else {
        return;
    };
    let joined = node.shared.lock().join(&join, node.id, &answers);
    node.shared.changed.notify_waiters();
    if let Err(error) = joined {
        return end(&answers, error);
    }
    let at = (join.group.as_str(), join.member_id.as_str());
    loop {
        let request = tokio::select! {
            request = requests.message() => request,
            // The test has ended it.
            () = answers.closed() => return,
        };
        let Ok(Some(v1::MemberRequest { request: Some(request) })) = request else { break };
        let talked = {
            let mut state = node.shared.lock();
            if state.group(at.0).coordinator != node.id {
                let coordinator = state.group(at.0).coordinator;
                Err(Some(state.not_coordinator(coordinator)))
            } else {
                state.talk(at, request, &answers)
            }
        };
        node.shared.changed.notify_waiters();
        match talked {
            Ok(()) => {}
            Err(None) => break,
            Err(Some(error)) => {
                end(&answers, error);
                break;
            }
        }
    }
    if let Some(member) = node.shared.lock().group(at.0).members.get_mut(at.1) {
        member.answers.take_if(|known| known.same_channel(&answers));
    }
}

impl Fake {
    /// What the coordinator of group `g` knows.
    pub(crate) fn with_group<T>(&self, f: impl FnOnce(&mut FakeGroup) -> T) -> T {
        let value = f(self.lock().group("g"));
        self.shared.changed.notify_waiters();
        value
    }

    /// Waits until something is so in group `g`.
    pub(crate) async fn until<T>(&self, mut f: impl FnMut(&mut FakeGroup) -> Option<T>) -> T {
        loop {
            let changed = self.shared.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if let Some(value) = f(self.lock().group("g")) {
                return value;
            }
            changed.await;
        }
    }

    /// The id of the latest member that joined group `g`.
    pub(crate) fn member(&self) -> String {
        self.with_group(|group| group.ids.last().cloned().unwrap())
    }

    /// Changes what a member of group `g` has, and tells it. Gives its new epoch.
    pub(crate) fn assign(&self, id: &str, grant: &[u32], revoke: &[u32]) -> u64 {
        let mut state = self.lock();
        let group = state.group("g");
        let epoch = group.tick();
        let member = group.members.get_mut(id).unwrap();
        member.epoch = epoch;
        for partition in revoke {
            member.granted.remove(partition);
            member.revoked.insert(*partition, epoch);
        }
        member.granted.extend(grant.iter().map(|partition| (*partition, epoch)));
        state.tell("g", id);
        epoch
    }

    /// Ends a member of group `g`, as its session's end does.
    pub(crate) fn expire(&self, id: &str) {
        let mut state = self.lock();
        let member = state.group("g").members.remove(id).unwrap();
        if let Some(answers) = member.answers {
            end(&answers, error(ErrorCode::UnknownMember));
        }
    }

    /// Makes another node the coordinator of group `g`; streams end.
    pub(crate) fn move_coordinator(&self, to: u64) {
        let mut state = self.lock();
        state.group("g").coordinator = to;
        let moved = state.not_coordinator(to);
        for member in state.group("g").members.values_mut() {
            if let Some(answers) = member.answers.take() {
                end(&answers, moved.clone());
            }
        }
    }

    /// Sets committed offsets of group `g`; whoever reads the partition is told.
    pub(crate) fn reset(&self, partition: u32, offset: u64) {
        let mut state = self.lock();
        let group = state.group("g");
        let epoch = group.tick();
        group.commit(partition, offset);
        let holds = |member: &FakeMember| member.granted.contains_key(&partition);
        let Some((id, member)) = group.members.iter_mut().find(|(_, member)| holds(member)) else {
            return;
        };
        member.epoch = epoch;
        member.granted.insert(partition, epoch);
        let id = id.clone();
        state.tell("g", &id);
    }
}
