//! A bounded replay: records from here to there once more, for a handler of a group, without a
//! word to the group itself.
//!
//! Its progress is committed under a name of its own, `GROUP.replay.ID`, with the end beside it: who
//! resumes it ends where the first run would have, wherever the partition ends by then.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use duramen_proto::v1::ErrorCode;
use duramen_types::{Offset, PartitionId};
use futures::StreamExt as _;
use tokio::time::Instant;

use crate::admin::groups::{GroupAdmin, GroupOffset, NamedPartition};
use crate::cluster::Cluster;
use crate::{
    ClientError, Consumer, ConsumerOptions, ConsumerRecord, End, OutOfRange, Start, limits,
};

/// What the metadata of a replay's offsets begins with; the end follows.
const END: &str = "replay-end=";

/// What to replay, and how fast.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplayOptions {
    /// Where it begins.
    pub from: Start,
    /// Before which place it ends. Default: the end of each partition when it was first begun.
    pub to: Start,
    /// The partitions; `None` = all.
    pub partitions: Option<Vec<PartitionId>>,
    /// Records a second; `None` = as fast as they come.
    pub records_per_second: Option<u32>,
}

impl Default for ReplayOptions {
    fn default() -> Self {
        Self { from: Start::First, to: Start::Last(0), partitions: None, records_per_second: None }
    }
}

/// A replay that is under way. The group's own offsets are left alone.
///
/// ```no_run
/// # async fn example(client: duramen_client::Client) -> Result<(), duramen_client::ClientError> {
/// use duramen_client::{ReplayOptions, Start};
///
/// let options = ReplayOptions { from: Start::Last(1_000), ..ReplayOptions::default() };
/// let mut replay = client.replay("billing", "monday", "orders", options).await?;
/// while let Some(record) = replay.next().await {
///     println!("{:?}", record?.value);
/// }
/// replay.close().await
/// # }
/// ```
#[derive(Debug)]
pub struct ReplayJob {
    admin: GroupAdmin,
    name: String,
    consumer: Consumer,
    ends: BTreeMap<PartitionId, Offset>,
    /// The next offset of what is processed and not yet committed.
    due: BTreeMap<PartitionId, NamedPartitionOffset>,
    last: Option<(PartitionId, Offset)>,
    committed_at: Instant,
    wait: Option<Duration>,
    next_at: Instant,
}

type NamedPartitionOffset = (NamedPartition, Offset);

impl ReplayJob {
    pub(crate) async fn new(
        cluster: Arc<Cluster>,
        (group, id, topic): (&str, &str, &str),
        options: ReplayOptions,
    ) -> Result<Self, ClientError> {
        if options.records_per_second == Some(0) {
            let rule = "must be at least one; leave it out for no limit";
            return Err(ClientError::InvalidOption { option: "records_per_second", rule });
        }
        let admin = GroupAdmin::new(Arc::clone(&cluster));
        let name = format!("{group}.replay.{id}");
        let pinned = cluster.pin_topic(topic).await?;
        let all = || (0..pinned.partitions).map(PartitionId::new).collect();
        let partitions: Vec<PartitionId> = options.partitions.clone().unwrap_or_else(all);
        let mut ranges = BTreeMap::new();
        match admin.describe(&name).await {
            Ok(found) => {
                for partition in found.partitions {
                    let (Some(committed), true) =
                        (partition.committed, partition.partition.topic_id == pinned.id)
                    else {
                        continue;
                    };
                    let end = committed.metadata.strip_prefix(END).and_then(|end| end.parse().ok());
                    let end = end.map_or(committed.offset, Offset::new);
                    ranges.insert(partition.partition.partition, (committed.offset, end));
                }
            }
            Err(error) if error.code() == Some(ErrorCode::UnknownGroup) => {}
            Err(error) => return Err(error),
        }
        ranges.retain(|partition, _| partitions.contains(partition));
        let fresh: Vec<PartitionId> =
            partitions.into_iter().filter(|id| !ranges.contains_key(id)).collect();
        if !fresh.is_empty() {
            let ask = |start| fresh.iter().map(|id| (*id, start)).collect::<BTreeMap<_, _>>();
            let from = cluster.list_offsets(&pinned, &ask(options.from)).await?;
            let to = cluster.list_offsets(&pinned, &ask(options.to)).await?;
            let mut begin = Vec::new();
            for id in &fresh {
                let (Some(from), Some(to)) = (from.get(id), to.get(id)) else { continue };
                let end = to.offset.min(to.high_watermark);
                let from = from.offset.clamp(from.log_start_offset.min(end), end);
                ranges.insert(*id, (from, end));
                let (topic, topic_id) = (Arc::clone(&pinned.name), pinned.id);
                let partition = NamedPartition { topic, topic_id, partition: *id };
                begin.push(offset(partition, from, end));
            }
            let refused = admin.commit(&name, &begin, None).await?;
            if let Some(refused) = refused.into_iter().next() {
                return Err(refused.error);
            }
        }
        let starts = ranges.iter().map(|(id, (from, _))| (*id, Start::Offset(*from))).collect();
        let ends: BTreeMap<_, _> = ranges.iter().map(|(id, (_, end))| (*id, *end)).collect();
        let consumer_options = ConsumerOptions {
            partitions: Some(ranges.keys().copied().collect()),
            starts,
            end: End::Offsets(ends.clone()),
            out_of_range: OutOfRange::First,
            ..ConsumerOptions::default()
        };
        let consumer = Consumer::new(cluster, topic, consumer_options).await?;
        let rate = options.records_per_second;
        let (due, last, now) = (BTreeMap::new(), None, Instant::now());
        let wait = rate.map(|rate| Duration::from_secs(1) / rate);
        Ok(Self { admin, name, consumer, ends, due, last, committed_at: now, wait, next_at: now })
    }

    /// The group that its progress is committed under. Delete it when the replay is of no more use.
    #[must_use]
    pub fn group(&self) -> &str {
        &self.name
    }

    /// The next record; `None` at the end of all partitions. The one before counts as processed.
    /// Cancel safe: what was given is given once.
    pub async fn next(&mut self) -> Option<Result<ConsumerRecord, ClientError>> {
        self.settle();
        if self.committed_at.elapsed() >= limits::COMMIT_INTERVAL
            && let Err(error) = self.commit().await
        {
            return Some(Err(error));
        }
        if self.wait.is_some() {
            tokio::time::sleep_until(self.next_at).await;
        }
        let record = self.consumer.next().await?;
        if let (Ok(record), wait) = (&record, self.wait.unwrap_or_default()) {
            self.next_at = Instant::now().max(self.next_at) + wait;
            self.last = Some((record.partition, record.offset));
        }
        Some(record)
    }

    fn settle(&mut self) {
        let Some((id, at)) = self.last.take() else { return };
        let topic_id = self.consumer.topic_id();
        let partition = NamedPartition { topic: Arc::from(""), topic_id, partition: id };
        self.due.insert(id, (partition, at.next()));
    }

    async fn commit(&mut self) -> Result<(), ClientError> {
        self.committed_at = Instant::now();
        if self.due.is_empty() {
            return Ok(());
        }
        let end = |id: &PartitionId| self.ends.get(id).copied().unwrap_or_default();
        let due = self.due.iter();
        let offsets: Vec<GroupOffset> =
            due.map(|(id, (partition, at))| offset(partition.clone(), *at, end(id))).collect();
        let refused = self.admin.commit(&self.name, &offsets, None).await?;
        self.due.clear();
        match refused.into_iter().next() {
            Some(refused) => Err(refused.error),
            None => Ok(()),
        }
    }

    /// Commits how far it has come: the record given last counts as processed. Another job of the
    /// same name goes on from there.
    ///
    /// # Errors
    /// As [`GroupAdmin::commit`].
    pub async fn close(mut self) -> Result<(), ClientError> {
        self.settle();
        self.commit().await
    }
}

fn offset(partition: NamedPartition, at: Offset, end: Offset) -> GroupOffset {
    GroupOffset { metadata: format!("{END}{end}"), ..GroupOffset::new(partition, at) }
}
