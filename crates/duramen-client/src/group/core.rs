//! What a member of a group knows, and what it says next. Pure but for the slots that it stops:
//! time is an argument, messages are values, and one lock makes each step whole.
//!
//! ```text
//!              join                    assignment (epoch 0 → n)
//!   Run ──────────────▶ link open ─────────────────────────────▶ member: heartbeats, commits
//!    ▲                      ▲ link broken: the epoch stays                │
//!    │ the next call        └─────────────────────────────────────────────┤
//!   Parked ◀── Left ── Leave(Park) ◀── a record is out for too long ──────┤
//!   Ended  ◀── Left ── Leave(Close) ◀── close ────────────────────────────┘
//! ```
//!
//! Invariants:
//! - A record is handed out only of a part that is granted, at its present life, while the lease
//!   is sure, and while the intent is to run.
//! - At most one commit is under way, and a partition is given back only when nothing of it is
//!   out, due or under way.

mod assignment;
mod commits;
mod hands;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use duramen_proto::v1::{self, ErrorCode, member_request, member_response};
use duramen_types::TopicPartition;
use futures::task::AtomicWaker;
use tokio::time::Instant;

use super::event::{EventQueue, GroupEvent};
use super::lease::Lease;
use super::part::{Part, StartPart};
use crate::consumer::fetcher::Credit;
use crate::{ClientError, GroupOptions, GroupSubscription, NamedPartition, limits};
use commits::Commits;
use commits::is_lost;

/// What the consumer wants to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Intent {
    /// A member that reads.
    Run,
    /// No member: commits what was processed and leaves.
    Leave(Exit),
    /// No member until somebody asks for a record.
    Parked,
    /// Nothing any more.
    Ended,
}

/// Why it leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Exit {
    /// It was closed; a static member may come back.
    Close {
        /// Its partitions wait for it.
        returns: bool,
    },
    /// A record took too long.
    Park,
}

/// One stream to the coordinator.
#[derive(Debug)]
struct Link {
    join_sent: Instant,
    first_join: Instant,
    /// Whether it joined with this stream; otherwise it goes on.
    fresh: bool,
    /// Whether the first assignment has come.
    answered: bool,
    next_heartbeat: Instant,
    /// The subscription that the coordinator was told.
    subscribed: u64,
    /// Whether it was told another one on this stream.
    subscribing: bool,
    /// The epoch acknowledged since the last heartbeat.
    acknowledged: Option<u64>,
    left_at: Option<Instant>,
}

/// Why a stream is of no more use.
#[derive(Debug)]
pub(super) enum LinkEnd {
    /// The member has left.
    Left,
    /// The coordinator says no.
    Refused(Box<v1::Error>),
}

/// A member.
#[derive(Debug)]
pub(super) struct Core {
    pub(super) group: Arc<str>,
    pub(super) options: GroupOptions,
    client: String,
    pub(super) parts: BTreeMap<TopicPartition, Part>,
    /// What is to be given back, with the epoch at which that was first heard.
    revoked: BTreeMap<TopicPartition, u64>,
    pub(super) member_id: String,
    /// The highest epoch seen in this life; 0 = not joined.
    pub(super) epoch: u64,
    session: Duration,
    heartbeat: Duration,
    /// How long the coordinator may take to answer what it has to agree on with others.
    patience: Duration,
    pub(super) lease: Lease,
    subscription: GroupSubscription,
    /// Counts changes of the subscription.
    subscription_version: u64,
    /// When this life first asked to join, and with which subscription: a repeated join changes
    /// neither the session nor the subscription.
    first_join: Option<(Instant, u64)>,
    pub(super) commits: Commits,
    pub(super) intent: Intent,
    link: Option<Link>,
    lives: u64,
    /// Records that are out, or processed behind one that is not, over all parts.
    pub(super) held: usize,
    /// Since when a record is out and no other one was asked for.
    pub(super) busy_since: Option<Instant>,
    /// What the next call is told.
    failure: Option<ClientError>,
    rejoin: bool,
    pub(super) events: Arc<EventQueue>,
    waker: Arc<AtomicWaker>,
    credit: Credit,
}

/// What a core is made with.
pub(super) struct NewCore {
    pub(super) group: Arc<str>,
    pub(super) options: GroupOptions,
    pub(super) subscription: GroupSubscription,
    pub(super) client: String,
    pub(super) member_id: String,
    pub(super) patience: Duration,
    pub(super) credit: Credit,
    pub(super) waker: Arc<AtomicWaker>,
    pub(super) events: Arc<EventQueue>,
}

impl Core {
    pub(super) fn new(new: NewCore) -> Self {
        Self {
            group: new.group,
            client: new.client,
            parts: BTreeMap::new(),
            revoked: BTreeMap::new(),
            member_id: new.member_id,
            epoch: 0,
            session: new.options.session,
            heartbeat: new.options.session / 4,
            patience: new.patience,
            lease: Lease::default(),
            subscription: new.subscription,
            subscription_version: 0,
            first_join: None,
            commits: Commits::new(Instant::now()),
            intent: Intent::Run,
            link: None,
            lives: 0,
            held: 0,
            busy_since: None,
            failure: None,
            rejoin: false,
            events: new.events,
            waker: new.waker,
            credit: new.credit,
            options: new.options,
        }
    }

    /// Begins a stream: its first message.
    pub(super) fn join(&mut self, now: Instant) -> v1::MemberRequest {
        let fresh = self.epoch == 0;
        let (first_join, joined_version) =
            *self.first_join.get_or_insert((now, self.subscription_version));
        self.link = Some(Link {
            join_sent: now,
            first_join,
            fresh,
            answered: false,
            next_heartbeat: now,
            subscribed: joined_version,
            subscribing: false,
            acknowledged: None,
            left_at: None,
        });
        let millis = |time: Duration| u32::try_from(time.as_millis()).unwrap_or(u32::MAX);
        message(member_request::Request::Join(v1::JoinGroup {
            group: self.group.to_string(),
            member_id: self.member_id.clone(),
            instance_id: self.options.instance_id.clone().unwrap_or_default(),
            client: self.client.clone(),
            rack: self.options.rack.clone(),
            subscription: Some(self.subscription.to_wire()),
            session_ms: millis(self.options.session),
            revocation_ms: millis(self.options.revocation),
            epoch: self.epoch,
        }))
    }

    /// Takes in what the coordinator says; gives the partitions to start.
    pub(super) fn receive(
        &mut self,
        now: Instant,
        response: v1::MemberResponse,
    ) -> Result<Vec<StartPart>, LinkEnd> {
        match response.response {
            Some(member_response::Response::Assignment(assignment)) => {
                return Ok(self.assigned(now, assignment));
            }
            Some(member_response::Response::Heartbeat(reply)) => {
                let unsure = Duration::from_millis(reply.unsure_ms.into());
                if self.lease.answered(reply.sequence, self.session, unsure) {
                    self.waker.wake();
                }
            }
            Some(member_response::Response::Commit(reply)) => self.committed(now, reply)?,
            Some(member_response::Response::Left(v1::Left {})) => return Err(LinkEnd::Left),
            Some(member_response::Response::Error(error)) => {
                return Err(LinkEnd::Refused(Box::new(error)));
            }
            None => {}
        }
        Ok(Vec::new())
    }

    /// What is to be sent now, in this order.
    pub(super) fn drive(&mut self, now: Instant) -> Vec<v1::MemberRequest> {
        self.check_processing(now);
        let mut out = Vec::new();
        let epoch = self.epoch;
        let version = self.subscription_version;
        let Some(link) = self.link.as_mut().filter(|link| link.answered) else { return out };
        if link.left_at.is_some() {
            return out;
        }
        if link.subscribed != version {
            link.subscribed = version;
            link.subscribing = true;
            let subscription = Some(self.subscription.to_wire());
            out.push(message(member_request::Request::Subscribe(v1::Subscribe {
                epoch,
                subscription,
            })));
        }
        if let Some(commit) = self.plan_commit(now) {
            out.push(message(member_request::Request::Commit(commit)));
        }
        if let Some(epoch) = self.plan_acknowledgement() {
            out.push(message(member_request::Request::Acknowledge(v1::Acknowledge { epoch })));
        }
        if let Intent::Leave(exit) = self.intent
            && self.may_leave()
            && let Some(link) = &mut self.link
        {
            link.left_at = Some(now);
            let returns = exit == Exit::Close { returns: true };
            out.push(message(member_request::Request::Leave(v1::Leave { epoch, returns })));
            return out;
        }
        if let Some(link) = self.link.as_mut().filter(|link| now >= link.next_heartbeat) {
            link.next_heartbeat = now + self.heartbeat;
            // What was acknowledged and is asked for still is acknowledged again.
            link.acknowledged = None;
            let sequence = self.lease.sent(now);
            out.push(message(member_request::Request::Heartbeat(v1::Heartbeat {
                sequence,
                epoch,
            })));
        }
        out
    }

    /// When to look again if nothing happens.
    pub(super) fn deadline(&self, now: Instant) -> Instant {
        let mut deadline = now + self.heartbeat;
        let mut at = |time: Instant| deadline = deadline.min(time);
        if let Some(silent) = self.silent_at() {
            at(silent);
        }
        if let Some(link) = self.link.as_ref().filter(|link| link.answered) {
            if link.left_at.is_none() {
                at(link.next_heartbeat);
            }
            if let Some(commit) = self.commits.wakes_at(&self.options) {
                at(commit);
            }
        }
        if let Some(since) = self.busy_since.filter(|_| self.intent == Intent::Run) {
            at(since + self.options.max_processing);
        }
        // What was due before now waits for something else to happen.
        if deadline <= now { now + limits::MEMBER_TICK } else { deadline }
    }

    /// When the coordinator has been silent for too long.
    fn silent_at(&self) -> Option<Instant> {
        let link = self.link.as_ref()?;
        if !link.answered {
            return Some(link.join_sent + self.patience);
        }
        let silence = limits::MEMBER_SILENCE.max(self.session / 4);
        let heartbeat = self.lease.waiting_since().map(|sent| sent + silence);
        let commit = self.commits.waiting_since().map(|sent| sent + self.patience);
        let left = link.left_at.map(|sent| sent + self.patience);
        [heartbeat, commit, left].into_iter().flatten().min()
    }

    /// Whether another stream had better be opened.
    pub(super) fn is_silent(&self, now: Instant) -> bool {
        self.silent_at().is_some_and(|at| now >= at)
    }

    /// Whether the coordinator has answered on the present stream.
    pub(super) fn is_answered(&self) -> bool {
        self.link.as_ref().is_some_and(|link| link.answered)
    }

    /// Whether a refusal says that it is no member any more. A subscription that met another
    /// assignment on its way is refused as stale too: then the coordinator is asked once more.
    pub(super) fn is_over(&self, code: ErrorCode) -> bool {
        let subscribing = self.link.as_ref().is_some_and(|link| link.answered && link.subscribing);
        is_lost(code) && !(subscribing && code == ErrorCode::StaleMemberEpoch)
    }

    /// The stream is gone; membership may not be.
    pub(super) fn link_ended(&mut self) {
        self.link = None;
        self.lease.forget_sent();
        self.commits.link_ended();
    }

    /// It is a member no more, and all that it read is void.
    pub(super) fn lost(&mut self, next_id: String) {
        let lost = self.drop_parts();
        if !lost.is_empty() {
            self.events.push(GroupEvent::Lost(lost));
        }
        self.forget_membership(next_id);
        self.commits.fail(&ClientError::GroupFenced {
            group: Arc::clone(&self.group),
            code: ErrorCode::UnknownMember,
        });
    }

    /// It has left.
    pub(super) fn left(&mut self, next_id: String) {
        let parts = self.drop_parts();
        let parked = self.intent == Intent::Leave(Exit::Park);
        if !parts.is_empty() {
            let event = if parked { GroupEvent::Lost } else { GroupEvent::Released };
            self.events.push(event(parts));
        }
        self.forget_membership(next_id);
        self.commits.fail(&ClientError::Closed { what: "group consumer" });
    }

    fn forget_membership(&mut self, next_id: String) {
        self.link = None;
        self.revoked.clear();
        self.epoch = 0;
        self.first_join = None;
        self.lease.end();
        self.member_id = next_id;
        self.intent = match self.intent {
            Intent::Leave(Exit::Close { .. }) => Intent::Ended,
            Intent::Leave(Exit::Park) if !self.rejoin => Intent::Parked,
            Intent::Leave(Exit::Park) => Intent::Run,
            intent => intent,
        };
        if self.intent == Intent::Run {
            self.rejoin = false;
        }
        self.waker.wake();
    }

    fn drop_parts(&mut self) -> Vec<NamedPartition> {
        self.held = 0;
        self.busy_since = None;
        let parts = std::mem::take(&mut self.parts);
        parts
            .into_values()
            .map(|mut part| {
                part.stop();
                part.name
            })
            .collect()
    }

    /// Nothing can help any more.
    pub(super) fn fail(&mut self, error: ClientError) {
        let lost = self.drop_parts();
        if !lost.is_empty() {
            self.events.push(GroupEvent::Lost(lost));
        }
        self.commits.fail(&error);
        self.failure = Some(error);
        self.end();
    }

    /// Ends without a word to the coordinator.
    pub(super) fn end(&mut self) {
        drop(self.drop_parts());
        self.intent = Intent::Ended;
        self.link = None;
        self.lease.end();
        self.commits.fail(&ClientError::Closed { what: "group consumer" });
        self.events.end();
        self.waker.wake();
    }

    /// What the caller has to be told before anything else.
    pub(super) fn take_failure(&mut self) -> Option<ClientError> {
        let failure = self.failure.take()?;
        match self.intent {
            Intent::Parked => self.intent = Intent::Run,
            Intent::Leave(Exit::Park) => self.rejoin = true,
            _ => {}
        }
        Some(failure)
    }

    /// Leaves as soon as what was processed is committed.
    pub(super) fn close(&mut self, returns: bool) {
        match self.intent {
            Intent::Ended => {}
            Intent::Parked => self.end(),
            _ => self.intent = Intent::Leave(Exit::Close { returns }),
        }
    }

    pub(super) fn subscribe(&mut self, subscription: GroupSubscription) {
        if self.subscription != subscription {
            self.subscription = subscription;
            self.subscription_version += 1;
        }
    }

    /// Leaves if a record is out for too long.
    fn check_processing(&mut self, now: Instant) {
        let Some(since) = self.busy_since.filter(|_| self.intent == Intent::Run) else { return };
        if now < since + self.options.max_processing {
            return;
        }
        let mut parts = self.parts.values();
        let Some((name, offset)) = parts.find_map(|part| {
            part.progress.first_unprocessed().map(|offset| (part.name.clone(), offset))
        }) else {
            // All of it is processed: nobody else would do better.
            self.busy_since = None;
            return;
        };
        self.failure = Some(ClientError::ProcessingTimeout {
            topic: name.topic,
            partition: name.partition,
            offset,
            after: self.options.max_processing,
        });
        self.intent = Intent::Leave(Exit::Park);
        self.rejoin = false;
        self.waker.wake();
    }
}

fn message(request: member_request::Request) -> v1::MemberRequest {
    v1::MemberRequest { request: Some(request) }
}
