//! One partition in a member's hands, and the task that finds its position and fetches.

use std::sync::{Arc, Weak};

use duramen_env::TaskHandle;
use duramen_proto::v1::ErrorCode;
use duramen_types::{Offset, PartitionId, Term, TopicPartition};
use futures::task::AtomicWaker;
use tokio::time::Instant;

use super::progress::Progress;
use super::shared::Shared;
use crate::cluster::{Cluster, PinnedTopic};
use crate::consumer::fetcher::{Credit, Fetcher};
use crate::consumer::slot::Slot;
use crate::retry::Backoff;
use crate::{ClientError, GroupOptions, NamedPartition, OutOfRange, Start};

/// A partition in a member's hands.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) name: NamedPartition,
    /// The epoch that the coordinator knows the grant by.
    pub(super) since: u64,
    /// Changes with every loss of the position: a record of an earlier life says nothing.
    pub(super) life: u64,
    pub(super) stage: Stage,
    pub(super) progress: Progress,
    pub(super) slot: Arc<Slot>,
    pub(super) task: Option<TaskHandle<()>>,
    pub(super) paused: bool,
    /// To be given back: nothing more is handed out.
    pub(super) revoked: bool,
    /// The coordinator has refused a commit: what is read is for nothing.
    pub(super) void: bool,
}

/// How far a partition is from giving records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Its position is looked up.
    Locating,
    /// The initial position is known and must be committed first: a restart begins there too.
    Initial,
    /// Records may be given.
    Ready,
}

impl Part {
    pub(super) fn new(
        name: NamedPartition,
        since: u64,
        life: u64,
        committed: Option<Offset>,
        waker: &Arc<AtomicWaker>,
    ) -> Self {
        let begin = committed.unwrap_or_default();
        let slot = Arc::new(Slot::new(name.partition, begin, None, Arc::clone(waker)));
        let stage = if committed.is_some() { Stage::Ready } else { Stage::Locating };
        let progress = Progress::new(begin, Term::ZERO, committed);
        let (task, paused, revoked, void) = (None, false, false, false);
        Self { name, since, life, stage, progress, slot, task, paused, revoked, void }
    }

    /// Whether records of it may be handed out.
    pub(super) fn gives(&self) -> bool {
        self.stage == Stage::Ready && !self.paused && !self.revoked && !self.void
    }

    /// What ought to be committed of it.
    pub(super) fn due(&self) -> Option<(Offset, Term)> {
        if self.void || self.stage == Stage::Locating {
            return None;
        }
        self.progress.due()
    }

    /// Ends fetching and drops what is queued.
    pub(super) fn stop(&mut self) {
        self.task = None;
        self.slot.stop();
    }

    pub(super) fn pinned(&self) -> PinnedTopic {
        pinned(&self.name)
    }
}

fn pinned(name: &NamedPartition) -> PinnedTopic {
    let partitions = name.partition.get().saturating_add(1);
    PinnedTopic { name: Arc::clone(&name.topic), id: name.topic_id, partitions }
}

/// A partition to be located and fetched.
#[derive(Debug)]
pub(super) struct StartPart {
    pub(super) key: TopicPartition,
    pub(super) life: u64,
    pub(super) name: NamedPartition,
    pub(super) slot: Arc<Slot>,
    pub(super) committed: Option<Offset>,
}

/// What all of a consumer's partitions share.
#[derive(Clone, Debug)]
pub(super) struct Terms {
    pub(super) cluster: Arc<Cluster>,
    pub(super) credit: Credit,
    pub(super) start: Start,
    pub(super) out_of_range: OutOfRange,
}

impl Terms {
    pub(super) fn new(cluster: Arc<Cluster>, options: &GroupOptions) -> Self {
        let (start, out_of_range) = (options.start, options.out_of_range);
        Self { cluster, credit: Credit::default(), start, out_of_range }
    }
}

/// Locates a partition and fetches it until it is aborted.
pub(super) async fn run(terms: Terms, shared: Weak<Shared>, start: StartPart) {
    let topic = pinned(&start.name);
    match locate(&terms, &topic, &start).await {
        Ok(Located { offset, leader_epoch }) => {
            let is_wanted = shared.upgrade().is_some_and(|shared| {
                let fresh = start.committed.is_none();
                shared.located(&start, fresh.then_some((offset, leader_epoch)))
            });
            // Otherwise somebody has sought a place meanwhile.
            if is_wanted {
                let at_first = start.committed.is_none() && terms.start == Start::First;
                start.slot.begin(offset, at_first);
            }
        }
        Err(error) => start.slot.fail(error),
    }
    let Terms { cluster, credit, out_of_range, .. } = terms;
    Fetcher { cluster, topic, slot: start.slot, credit, out_of_range }.run().await;
}

struct Located {
    offset: Offset,
    leader_epoch: Term,
}

/// Learns who leads the partition, and where to begin if nothing is committed. Tries for as long as
/// a call may take: a node that hears late of a topic gives a wrong answer for a moment.
async fn locate(
    terms: &Terms,
    topic: &PinnedTopic,
    start: &StartPart,
) -> Result<Located, ClientError> {
    let cluster = &terms.cluster;
    let deadline = Instant::now() + cluster.options.request_timeout;
    let mut backoff = Backoff::default();
    loop {
        let error = match locate_once(terms, topic, start).await {
            Ok(located) => return Ok(located),
            Err(error) => error,
        };
        let wait = backoff.next(cluster.random());
        if error.code() == Some(ErrorCode::Denied) || Instant::now() + wait >= deadline {
            return Err(error);
        }
        tracing::debug!(%error, "could not locate a partition; trying again");
        tokio::time::sleep(wait).await;
    }
}

async fn locate_once(
    terms: &Terms,
    topic: &PinnedTopic,
    start: &StartPart,
) -> Result<Located, ClientError> {
    terms.cluster.refresh(topic).await?;
    if let Some(offset) = start.committed {
        return Ok(Located { offset, leader_epoch: Term::ZERO });
    }
    let partition: PartitionId = start.name.partition;
    let asked = [(partition, terms.start)].into();
    let found = terms.cluster.list_offsets(topic, &asked).await?;
    let found =
        found.get(&partition).ok_or(ClientError::Protocol { what: "no offset of a partition" })?;
    // The leader epoch is of the record before, which nobody has looked at.
    Ok(Located { offset: found.offset, leader_epoch: Term::ZERO })
}
