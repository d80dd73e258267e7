//! The group consumer: the members of a group share the partitions of its topics.

mod core;
mod event;
mod lease;
mod member;
mod options;
mod part;
mod place;
mod progress;
mod record;
mod shared;

#[cfg(test)]
mod tests;

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use duramen_env::TaskHandle;
use duramen_types::{Offset, TopicPartition};
use futures::Stream;
use futures::task::AtomicWaker;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::cluster::{Cluster, PinnedTopic};
use crate::consumer::ConsumerRecords;
use crate::consumer::slot::{Ready, Slot};
use crate::retry::Backoff;
use crate::{ClientError, GroupSubscription, NamedPartition, limits};
use core::{Core, Intent, NewCore};
use event::EventQueue;
use member::Member;
use part::Terms;
use shared::Shared;

pub use event::{GroupEvent, GroupEvents, RebalanceListener};
pub use options::{CommitMode, GroupOptions, Processing};
pub use record::{GroupRecord, Ticket};

/// What became of a commit of one partition.
#[derive(Clone, Debug)]
pub struct CommitOutcome {
    /// The partition.
    pub partition: NamedPartition,
    /// The next offset that the group will read.
    pub offset: Offset,
    /// [`ClientError::GroupFenced`] if the partition is this consumer's no more, or was reset.
    pub result: Result<(), ClientError>,
}

/// A member of a consumer group: a [`Stream`] of the records of the partitions that it is given.
///
/// - Within a partition records come in the order of their offsets, among partitions in turn. When
///   partitions move between members, the others are not disturbed.
/// - Committed is what was *processed*, never what was only fetched: after a crash records may come
///   again, none is left out.
/// - Heartbeats are sent by a task of its own, however long a record takes. Nothing is handed out
///   once the session may have ended, be it that the process was paused, until the coordinator has
///   confirmed it.
/// - If the session ended all the same, all positions are dropped, and it joins anew by itself.
///
/// Dropping it leaves the group without a word: its partitions wait until the session ends. Use
/// [`close`](Self::close).
///
/// ```no_run
/// # async fn example(client: duramen_client::Client) -> Result<(), duramen_client::ClientError> {
/// use duramen_client::{GroupOptions, GroupSubscription};
///
/// let topics = GroupSubscription::topics(["orders"]);
/// let mut consumer = client.group_consumer("billing", topics, GroupOptions::default()).await?;
/// while let Some(record) = consumer.next().await {
///     let record = record?;
///     println!("{}-{}: {:?}", record.partition, record.offset, record.value);
/// }
/// consumer.close().await
/// # }
/// ```
#[derive(Debug)]
pub struct GroupConsumer {
    shared: Arc<Shared>,
    explicit: bool,
    events: GroupEvents,
    /// The partition that had the last turn.
    turn: Option<TopicPartition>,
    /// The batch that the stream of records is in the middle of.
    current: Option<Current>,
    /// The last record, if asking for the next one says that it is processed.
    last: Option<(TopicPartition, u64, Offset)>,
    member: Option<TaskHandle<()>>,
    listener: Option<TaskHandle<()>>,
}

#[derive(Debug)]
struct Current {
    key: TopicPartition,
    life: u64,
    leader_epoch: duramen_types::Term,
    slot: Arc<Slot>,
    records: ConsumerRecords,
}

/// A partition that may have something to give.
struct Candidate {
    key: TopicPartition,
    life: u64,
    slot: Arc<Slot>,
    topic: PinnedTopic,
}

impl GroupConsumer {
    pub(crate) async fn new(
        cluster: Arc<Cluster>,
        group: &str,
        subscription: GroupSubscription,
        options: GroupOptions,
    ) -> Result<Self, ClientError> {
        options.validate()?;
        subscription.validate()?;
        let group: Arc<str> = Arc::from(group);
        let explicit = options.processing == Processing::Explicit;
        let waker = Arc::new(AtomicWaker::new());
        let events = Arc::new(EventQueue::default());
        let terms = Terms::new(Arc::clone(&cluster), &options);
        let core = Core::new(NewCore {
            group: Arc::clone(&group),
            options,
            subscription,
            client: cluster.options.client_id.clone(),
            member_id: member::random_id(cluster.random()),
            patience: cluster.options.request_timeout / limits::ATTEMPTS_PER_CALL,
            credit: terms.credit.clone(),
            waker: Arc::clone(&waker),
            events: Arc::clone(&events),
        });
        let shared = Arc::new(Shared::new(core, terms, waker));
        let backoff = Backoff::default();
        let member = Member { shared: Arc::clone(&shared), group, backoff, redirects: 0 };
        let member = cluster.env.tasks.critical("client-group-member", member.run());
        let consumer = Self {
            shared,
            explicit,
            events: GroupEvents(events),
            turn: None,
            current: None,
            last: None,
            member: Some(member),
            listener: None,
        };
        consumer.until_joined(&cluster).await?;
        Ok(consumer)
    }

    /// Waits for the first assignment, so that what cannot work is known at once.
    async fn until_joined(&self, cluster: &Cluster) -> Result<(), ClientError> {
        let after = cluster.options.request_timeout;
        let joined = async {
            loop {
                let joined = self.shared.joined.notified();
                tokio::pin!(joined);
                joined.as_mut().enable();
                {
                    let mut core = self.shared.lock();
                    if core.epoch != 0 {
                        return Ok(());
                    }
                    if core.intent == Intent::Ended {
                        let closed = ClientError::Closed { what: "group consumer" };
                        return Err(core.take_failure().unwrap_or(closed));
                    }
                }
                joined.await;
            }
        };
        let late =
            ClientError::Timeout { what: "join the group", after, maybe_done: true, last: None };
        tokio::time::timeout(after, joined).await.unwrap_or(Err(late))
    }

    /// The next record; `None` once it is closed or an error has ended it. Cancel safe.
    ///
    /// An error about one partition stops that partition until it is sought or reset; the others go
    /// on. [`ClientError::ProcessingTimeout`] says that it has left the group, and that the next
    /// call joins anew. Any other error ends it.
    pub async fn next(&mut self) -> Option<Result<GroupRecord, ClientError>> {
        std::future::poll_fn(|context| self.poll_record(context)).await
    }

    fn poll_record(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<GroupRecord, ClientError>>> {
        // First, so that whatever changes from here on is heard.
        self.shared.waker.register(context.waker());
        if let Some((key, life, offset)) = self.last.take() {
            self.shared.done(key, life, offset);
        }
        loop {
            let candidates = match self.hand_out() {
                HandOut::Record(record) => return Poll::Ready(Some(Ok(record))),
                HandOut::Failed(error) => {
                    self.shared.changed.notify_one();
                    return Poll::Ready(Some(Err(error)));
                }
                HandOut::NotYet => return Poll::Pending,
                HandOut::Over => return Poll::Ready(None),
                HandOut::Open(candidates) => candidates,
            };
            // Without the lock: what is opened may be large.
            match self.open(candidates) {
                Some(Ok(())) => {}
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => return Poll::Pending,
            }
        }
    }

    /// Gives a record of the current batch, if it may be given this very moment.
    fn hand_out(&mut self) -> HandOut {
        let mut core = self.shared.lock();
        core.busy_since = None;
        if let Some(error) = core.take_failure() {
            return HandOut::Failed(error);
        }
        match core.intent {
            Intent::Run => {}
            Intent::Ended => return HandOut::Over,
            Intent::Leave(_) | Intent::Parked => return HandOut::NotYet,
        }
        if core.held >= core.options.unprocessed_max || !core.lease.is_sure(Instant::now()) {
            return HandOut::NotYet;
        }
        let Some(mut current) = self.current.take() else {
            return HandOut::Open(candidates(&core, self.turn));
        };
        let (key, life) = (current.key, current.life);
        let Some(part) = core.parts.get_mut(&key).filter(|part| part.life == life) else {
            return HandOut::Open(candidates(&core, self.turn));
        };
        if !part.gives() {
            if part.paused {
                current.slot.put_back(current.records.into_batch());
            }
            return HandOut::Open(candidates(&core, self.turn));
        }
        let Some(record) = current.records.next() else {
            return HandOut::Open(candidates(&core, self.turn));
        };
        let leader_epoch = current.leader_epoch;
        part.progress.hand_out(record.offset, leader_epoch);
        core.held += 1;
        core.busy_since = Some(Instant::now());
        drop(core);
        self.current = Some(current);
        let place = (key, life, record.offset);
        if !self.explicit {
            self.last = Some(place);
        }
        let ticket = Ticket::new(&self.shared, place, self.explicit);
        HandOut::Record(GroupRecord::new(record, leader_epoch, ticket))
    }

    /// Opens the next batch, whosever turn it is; `None` if there is none.
    fn open(&mut self, candidates: Vec<Candidate>) -> Option<Result<(), ClientError>> {
        for Candidate { key, life, slot, topic } in candidates {
            loop {
                let ready = slot.pop(&topic);
                if let Some((from, to)) = slot.take_jump() {
                    let (topic, topic_id) = (Arc::clone(&topic.name), topic.id);
                    let partition = NamedPartition { topic, topic_id, partition: key.partition };
                    self.events.0.push(GroupEvent::Jumped { partition, from, to });
                }
                match ready {
                    Ready::Batch(batch) if !batch.has_records() => {}
                    Ready::Batch(batch) => {
                        self.turn = Some(key);
                        let leader_epoch = batch.batch().header().leader_epoch.unwrap_or_default();
                        let records = batch.into_iter();
                        self.current = Some(Current { key, life, leader_epoch, slot, records });
                        return Some(Ok(()));
                    }
                    Ready::Failed(error) => {
                        self.turn = Some(key);
                        return Some(Err(error));
                    }
                    Ready::NotYet | Ready::Over => break,
                }
            }
        }
        None
    }

    /// Commits what is processed by now and waits for the answer: one outcome for every partition
    /// that had something to commit. Of the record handed out last that is so only after
    /// [`done`](GroupRecord::done).
    ///
    /// # Errors
    /// [`ClientError::GroupFenced`] if it is no member any more, [`ClientError::Timeout`],
    /// [`ClientError::Closed`].
    pub async fn commit(&self) -> Result<Vec<CommitOutcome>, ClientError> {
        let closed = ClientError::Closed { what: "group consumer" };
        let after = self.shared.terms.cluster.options.request_timeout;
        let call = async {
            let Ok(_turn) = self.shared.commit_turns.acquire().await else {
                return Err(closed.clone());
            };
            let (sender, receiver) = oneshot::channel();
            {
                let mut core = self.shared.lock();
                if core.intent == Intent::Ended {
                    return Err(closed.clone());
                }
                core.commits.ask(Some(sender));
            }
            self.shared.changed.notify_one();
            receiver.await.unwrap_or(Err(closed.clone()))
        };
        let late = ClientError::Timeout { what: "commit", after, maybe_done: true, last: None };
        tokio::time::timeout(after, call).await.unwrap_or(Err(late))
    }

    /// Commits what is processed by now, in the background.
    pub fn commit_soon(&self) {
        self.shared.lock().commits.ask(None);
        self.shared.changed.notify_one();
    }

    /// What happens to it: partitions that come and go. Clones take events from each other.
    #[must_use]
    pub fn events(&self) -> GroupEvents {
        self.events.clone()
    }

    /// Tells a listener of all events from now on, in a task of its own. It takes the place of an
    /// earlier one, and of readers of [`events`](Self::events).
    pub fn listen(&mut self, listener: impl RebalanceListener) {
        let tasks = &self.shared.terms.cluster.env.tasks;
        let listening = event::listen(self.events.clone(), listener);
        self.listener = Some(tasks.critical("client-group-listener", listening));
    }

    /// The id that it is a member under. It changes when it joins anew.
    #[must_use]
    pub fn member_id(&self) -> String {
        self.shared.lock().member_id.clone()
    }

    /// Whether it surely is a member: it hands out records.
    #[must_use]
    pub fn is_sure(&self) -> bool {
        self.shared.lock().lease.is_sure(Instant::now())
    }

    /// Reads other topics from now on. Partitions that it keeps are not disturbed.
    ///
    /// # Errors
    /// [`ClientError::InvalidOption`]. A pattern that the coordinator refuses ends the consumer.
    pub fn subscribe(&self, subscription: GroupSubscription) -> Result<(), ClientError> {
        subscription.validate()?;
        self.shared.lock().subscribe(subscription);
        self.shared.changed.notify_one();
        Ok(())
    }

    /// Hands out nothing more, commits what was processed, and leaves: others go on at once. The
    /// record handed out last counts only if [`done`](GroupRecord::done) was called on it.
    ///
    /// # Errors
    /// [`ClientError::Timeout`] after [`GroupOptions::close_timeout`]: its session will end by
    /// itself.
    pub async fn close(self) -> Result<(), ClientError> {
        self.leave(false).await
    }

    /// As [`close`](Self::close), for a static member that will be back: its partitions wait for it
    /// for a session.
    ///
    /// # Errors
    /// As [`close`](Self::close).
    pub async fn close_for_restart(self) -> Result<(), ClientError> {
        self.leave(true).await
    }

    async fn leave(mut self, returns: bool) -> Result<(), ClientError> {
        let after = {
            let mut core = self.shared.lock();
            core.close(returns);
            core.options.close_timeout
        };
        self.shared.changed.notify_one();
        let Some(member) = self.member.take() else { return Ok(()) };
        let left = tokio::time::timeout(after, member.join()).await;
        self.shared.abandon();
        if let Some(listener) = self.listener.take() {
            // It has only to read what is there.
            drop(tokio::time::timeout(after, listener.join()).await);
        }
        left.map(drop).map_err(|_elapsed| ClientError::Timeout {
            what: "leave the group",
            after,
            maybe_done: true,
            last: None,
        })
    }
}

impl Stream for GroupConsumer {
    type Item = Result<GroupRecord, ClientError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_record(context)
    }
}

impl Drop for GroupConsumer {
    fn drop(&mut self) {
        self.member = None;
        self.shared.abandon();
    }
}

/// What asking for a record comes to.
enum HandOut {
    Record(GroupRecord),
    Failed(ClientError),
    /// Nothing may be given now.
    NotYet,
    /// Nothing will be given any more.
    Over,
    /// Another batch has to be opened, of one of these.
    Open(Vec<Candidate>),
}

/// The partitions that may give something, beginning behind the one that had the last turn.
fn candidates(core: &Core, turn: Option<TopicPartition>) -> Vec<Candidate> {
    let later = |key: &TopicPartition| turn.is_some_and(|turn| *key > turn);
    let behind = core.parts.iter().filter(|(key, _)| later(key));
    let others = core.parts.iter().filter(|(key, _)| !later(key));
    let all = behind.chain(others).filter(|(_, part)| part.gives());
    all.map(|(key, part)| Candidate {
        key: *key,
        life: part.life,
        slot: Arc::clone(&part.slot),
        topic: part.pinned(),
    })
    .collect()
}
