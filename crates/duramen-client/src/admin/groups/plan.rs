//! Resets of a group's offsets, worked out first and applied as they were shown.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use duramen_proto::v1::ErrorCode;
use duramen_types::{Offset, PartitionId, Term, Timestamp, TopicId};

use super::{GroupAdmin, GroupDescription, GroupOffset, NamedPartition};
use crate::cluster::PinnedTopic;
use crate::{ClientError, PartitionOffsets, Start};

/// Where to reset to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResetTo {
    /// This offset.
    Offset(Offset),
    /// The first record kept.
    Earliest,
    /// The end.
    Latest,
    /// The first record from which on none is older.
    Timestamp(Timestamp),
    /// So many records forward, or back if negative.
    Shift(i64),
    /// Where the group is: commits again what is committed.
    Current,
    /// What was exported.
    Exported(Vec<ExportedOffset>),
}

/// Which partitions to reset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResetScope {
    /// All that the group reads or has committed; those in the list for [`ResetTo::Exported`].
    All,
    /// These; all of a topic where no partition is named. The group need not know them yet.
    Only(Vec<(String, Option<PartitionId>)>),
}

/// A committed offset outside of the cluster: plain numbers and text, to be written down in
/// whatever format.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ExportedOffset {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: u32,
    /// The next offset that the group will read.
    pub offset: u64,
    /// Leader epoch of the record before it; 0 = not known.
    pub leader_epoch: u64,
    /// What was kept with it.
    pub metadata: String,
}

/// A reset as it would be done: look at it, then [`apply`](GroupAdmin::apply) it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResetPlan {
    /// The group.
    pub group: String,
    /// The group's fence when the plan was made; `None` if there was no such group.
    pub fence: Option<u64>,
    /// What is to be set, by topic and partition.
    pub steps: Vec<ResetStep>,
    /// What is left as it is, and why.
    pub skipped: Vec<(NamedPartition, SkipReason)>,
}

/// One partition of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResetStep {
    /// What is to be committed.
    pub to: GroupOffset,
    /// What is committed now.
    pub from: Option<Offset>,
    /// Whether and why it is not the offset that was asked for.
    pub clamped: Option<Clamp>,
    /// The first record kept.
    pub log_start_offset: Offset,
    /// One past the last record that can be read.
    pub high_watermark: Offset,
}

/// Why a step does not go where it was asked to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clamp {
    /// This lies before the first record kept.
    ToLogStart(i128),
    /// This lies past the end.
    ToHighWatermark(i128),
}

/// Why a partition is left as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SkipReason {
    /// Nothing was ever committed that could be shifted or committed again.
    NeverCommitted,
    /// The topic was deleted, or is another one by now.
    TopicGone,
    /// The topic has no such partition.
    UnknownPartition,
    /// It is not in the exported list.
    NotExported,
}

/// What is known of a partition before a reset.
struct Known {
    partition: NamedPartition,
    committed: Option<(Offset, Term, String)>,
}

impl GroupAdmin {
    /// The group's committed offsets, to be kept or carried elsewhere. Deleted topics are left out.
    ///
    /// # Errors
    /// As [`describe`](Self::describe).
    pub async fn export(&self, group: &str) -> Result<Vec<ExportedOffset>, ClientError> {
        let found = self.describe(group).await?;
        let mut exported = Vec::new();
        for known in found.partitions {
            let Some(committed) = known.committed else { continue };
            if known.partition.topic.is_empty() {
                continue;
            }
            exported.push(ExportedOffset {
                topic: known.partition.topic.to_string(),
                partition: known.partition.partition.get(),
                offset: committed.offset.get(),
                leader_epoch: committed.leader_epoch.get(),
                metadata: committed.metadata,
            });
        }
        exported.sort();
        Ok(exported)
    }

    /// Works out a reset: from what the group has committed and what the partitions keep. Nothing
    /// is changed. Every offset lies within what its partition keeps; a step says if it was asked
    /// to go elsewhere.
    ///
    /// # Errors
    /// [`ClientError::UnknownTopic`] for a topic that is named in the scope;
    /// [`ClientError::Refused`] with `UNKNOWN_GROUP` if there is no such group and the scope names
    /// nothing; [`ClientError::Timeout`].
    pub async fn plan_reset(
        &self,
        group: &str,
        scope: &ResetScope,
        to: &ResetTo,
    ) -> Result<ResetPlan, ClientError> {
        let names_all = matches!(scope, ResetScope::All) && !matches!(to, ResetTo::Exported(_));
        let described = match self.describe(group).await {
            Err(error) if error.code() == Some(ErrorCode::UnknownGroup) && !names_all => None,
            result => Some(result?),
        };
        let mut plan = ResetPlan {
            group: group.to_owned(),
            fence: described.as_ref().map(|found| found.fence),
            steps: Vec::new(),
            skipped: Vec::new(),
        };
        for (topic, known) in self.in_scope(described.as_ref(), scope, to).await? {
            self.plan_topic(&mut plan, &topic, known, to).await?;
        }
        let key = |partition: &NamedPartition| (Arc::clone(&partition.topic), partition.partition);
        plan.steps.sort_by_key(|step| key(&step.to.partition));
        plan.skipped.sort_by_key(|(partition, _)| key(partition));
        Ok(plan)
    }

    /// Does what a plan says. Unless `force` is set nothing is done if the group has changed since
    /// the plan was made. Gives the new fence.
    ///
    /// # Errors
    /// [`ClientError::GroupChanged`]: plan again. Others as [`reset`](Self::reset).
    pub async fn apply(&self, plan: &ResetPlan, force: bool) -> Result<u64, ClientError> {
        let offsets: Vec<GroupOffset> = plan.steps.iter().map(|step| step.to.clone()).collect();
        let fence = plan.fence.filter(|_| !force);
        match plan.fence {
            // There is nothing to do, and a group is not to come of it.
            Some(fence) if offsets.is_empty() => Ok(fence),
            None if offsets.is_empty() => Ok(0),
            _ => self.reset(&plan.group, &offsets, fence).await,
        }
    }

    /// The partitions to plan for, by topic.
    async fn in_scope(
        &self,
        described: Option<&GroupDescription>,
        scope: &ResetScope,
        to: &ResetTo,
    ) -> Result<BTreeMap<Arc<str>, Vec<Known>>, ClientError> {
        let mut by_topic: BTreeMap<Arc<str>, Vec<Known>> = BTreeMap::new();
        let mut add = |partition: NamedPartition| {
            let known = known(described, partition);
            by_topic.entry(Arc::clone(&known.partition.topic)).or_default().push(known);
        };
        match (scope, to) {
            (ResetScope::Only(names), _) => {
                for (name, partition) in names {
                    for partition in self.named(name, *partition).await? {
                        add(partition);
                    }
                }
            }
            (ResetScope::All, ResetTo::Exported(list)) => {
                let unique: BTreeSet<(&str, u32)> =
                    list.iter().map(|one| (one.topic.as_str(), one.partition)).collect();
                for (topic, partition) in unique {
                    add(NamedPartition::new(topic, PartitionId::new(partition)));
                }
            }
            (ResetScope::All, _) => {
                for found in described.iter().flat_map(|found| &found.partitions) {
                    add(found.partition.clone());
                }
            }
        }
        Ok(by_topic)
    }

    async fn named(
        &self,
        topic: &str,
        partition: Option<PartitionId>,
    ) -> Result<Vec<NamedPartition>, ClientError> {
        if let Some(partition) = partition {
            return Ok(vec![NamedPartition::new(topic, partition)]);
        }
        let pinned = self.cluster.pin_topic(topic).await?;
        let ids = (0..pinned.partitions).map(PartitionId::new);
        Ok(ids.map(|id| NamedPartition::new(topic, id)).collect())
    }

    /// Plans the partitions of one topic.
    async fn plan_topic(
        &self,
        plan: &mut ResetPlan,
        topic: &Arc<str>,
        known: Vec<Known>,
        to: &ResetTo,
    ) -> Result<(), ClientError> {
        let pinned = match topic.is_empty() {
            true => None,
            false => match self.cluster.pin_topic(topic).await {
                Err(ClientError::UnknownTopic { .. }) if plan.fence.is_some() => None,
                result => Some(result?),
            },
        };
        let mut asked = BTreeMap::new();
        let mut wanted = Vec::new();
        for known in known {
            match (usable(&known, pinned.as_ref()), want(&known, to)) {
                (Err(reason), _) | (_, Err(reason)) => {
                    plan.skipped.push((known.partition, reason));
                }
                (Ok(()), Ok(want)) => {
                    asked.insert(known.partition.partition, want.start());
                    wanted.push((known, want));
                }
            }
        }
        let Some(pinned) = pinned.filter(|_| !asked.is_empty()) else { return Ok(()) };
        let found = self.cluster.list_offsets(&pinned, &asked).await?;
        for (known, want) in wanted {
            if let Some(found) = found.get(&known.partition.partition) {
                plan.steps.push(step(&pinned, known, want, found));
            }
        }
        Ok(())
    }
}

/// What is committed in a partition.
fn known(described: Option<&GroupDescription>, partition: NamedPartition) -> Known {
    let same = |found: &NamedPartition| {
        found.partition == partition.partition
            && found.topic == partition.topic
            && (partition.topic_id.is_nil() || found.topic_id == partition.topic_id)
    };
    let mut all = described.iter().flat_map(|found| &found.partitions);
    let Some(found) = all.find(|found| same(&found.partition)) else {
        return Known { partition, committed: None };
    };
    let committed = found.committed.as_ref();
    Known {
        partition: found.partition.clone(),
        committed: committed.map(|at| (at.offset, at.leader_epoch, at.metadata.clone())),
    }
}

/// Whether the topic is the one that the group has read.
fn usable(known: &Known, pinned: Option<&PinnedTopic>) -> Result<(), SkipReason> {
    let id = known.partition.topic_id;
    match pinned {
        None => Err(SkipReason::TopicGone),
        Some(pinned) if id != TopicId::NIL && id != pinned.id => Err(SkipReason::TopicGone),
        Some(pinned) if known.partition.partition.get() >= pinned.partitions => {
            Err(SkipReason::UnknownPartition)
        }
        Some(_) => Ok(()),
    }
}

/// Where a partition is to go: to a place that its leader knows, or to an offset of ours.
enum Want {
    Place(Start),
    Exactly { offset: i128, leader_epoch: Term, metadata: String },
}

impl Want {
    fn start(&self) -> Start {
        match self {
            Self::Place(start) => *start,
            Self::Exactly { .. } => Start::First,
        }
    }
}

fn want(known: &Known, to: &ResetTo) -> Result<Want, SkipReason> {
    let plain =
        |offset: i128| Want::Exactly { offset, leader_epoch: Term::ZERO, metadata: String::new() };
    match to {
        ResetTo::Earliest => Ok(Want::Place(Start::First)),
        ResetTo::Latest => Ok(Want::Place(Start::Last(0))),
        ResetTo::Timestamp(timestamp) => Ok(Want::Place(Start::Timestamp(*timestamp))),
        ResetTo::Offset(offset) => Ok(plain(offset.get().into())),
        ResetTo::Shift(by) => match &known.committed {
            None => Err(SkipReason::NeverCommitted),
            Some((offset, ..)) => Ok(plain(i128::from(offset.get()) + i128::from(*by))),
        },
        ResetTo::Current => match &known.committed {
            None => Err(SkipReason::NeverCommitted),
            Some((offset, leader_epoch, metadata)) => Ok(Want::Exactly {
                offset: offset.get().into(),
                leader_epoch: *leader_epoch,
                metadata: metadata.clone(),
            }),
        },
        ResetTo::Exported(list) => {
            let (topic, partition) = (&*known.partition.topic, known.partition.partition.get());
            let found = list.iter().find(|one| one.topic == topic && one.partition == partition);
            found.ok_or(SkipReason::NotExported).map(|one| Want::Exactly {
                offset: one.offset.into(),
                leader_epoch: Term::new(one.leader_epoch),
                metadata: one.metadata.clone(),
            })
        }
    }
}

/// One step, within what the partition keeps.
fn step(pinned: &PinnedTopic, known: Known, want: Want, found: &PartitionOffsets) -> ResetStep {
    let (low, high) = (found.log_start_offset, found.high_watermark.max(found.log_start_offset));
    let (asked, leader_epoch, metadata) = match want {
        Want::Place(_) => (i128::from(found.offset.get()), Term::ZERO, String::new()),
        Want::Exactly { offset, leader_epoch, metadata } => (offset, leader_epoch, metadata),
    };
    let clamped = if asked < i128::from(low.get()) {
        Some((low, Clamp::ToLogStart(asked)))
    } else if asked > i128::from(high.get()) {
        Some((high, Clamp::ToHighWatermark(asked)))
    } else {
        None
    };
    let partition = NamedPartition {
        topic: Arc::clone(&pinned.name),
        topic_id: pinned.id,
        partition: known.partition.partition,
    };
    let to = match clamped {
        // The leader epoch is of the record before the offset asked for, not of this one.
        Some((offset, _)) => GroupOffset { metadata, ..GroupOffset::new(partition, offset) },
        None => {
            let offset = u64::try_from(asked).map_or(low, Offset::new);
            GroupOffset { partition, offset, leader_epoch, metadata }
        }
    };
    ResetStep {
        to,
        from: known.committed.map(|(offset, ..)| offset),
        clamped: clamped.map(|(_, clamp)| clamp),
        log_start_offset: low,
        high_watermark: high,
    }
}
