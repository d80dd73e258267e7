//! Why a group, or one partition of it, makes no progress: as far as state and sessions can know.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use duramen_types::{Offset, Timestamp, TopicId, TopicPartition};

use crate::group::Group;
use crate::holdings::Holding;
use crate::name::{GroupName, MemberId};
use crate::sessions::Sessions;
use crate::state::State;

/// What of a partition's log a group could read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionBounds {
    /// The first offset kept.
    pub log_start: Offset,
    /// One past the last that can be read.
    pub high_watermark: Offset,
}

/// Why there is no progress, or that there is nothing in its way. Times are in milliseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// There is no group of this name.
    UnknownGroup,
    /// The group has no members.
    NoMembers {
        /// For how long it has had none and no commits.
        for_ms: u64,
    },
    /// A subscription is not looked up in the metadata yet.
    NotResolved,
    /// No topic that exists is subscribed to.
    NothingMatches,
    /// No member subscribes to the topic.
    NotSubscribed {
        /// The topic.
        topic: TopicId,
    },
    /// The topic has fewer partitions, as far as the group knows.
    UnknownPartition {
        /// How many.
        count: u32,
    },
    /// Members, subscriptions or topics changed, and the coordinator has not said yet who reads
    /// what.
    TargetDue,
    /// A partition waits for its last holder to give it back.
    WaitsForRevocation {
        /// The partition.
        partition: TopicPartition,
        /// Who has it still.
        holder: MemberId,
        /// Who gets it then, if anybody.
        next: Option<MemberId>,
        /// For how long the holder has had something to give back, as far as this coordinator saw.
        waiting_ms: Option<u64>,
        /// When the holder is removed if it does not.
        removed_in_ms: Option<u64>,
    },
    /// A member has not been heard of for more than half of its session.
    Silent {
        /// The member.
        member: MemberId,
        /// For how long.
        silent_ms: u64,
        /// When its session ends and its partitions go to others.
        expires_in_ms: u64,
    },
    /// A static member said that it will be back, and is not yet.
    Away {
        /// The member.
        member: MemberId,
        /// When others get its partitions, if known.
        expires_in_ms: Option<u64>,
    },
    /// A consumer calls that is no member any more: it does not know yet, or does not listen.
    Fenced {
        /// The id under which it calls.
        member: MemberId,
        /// How long ago it did.
        ago_ms: u64,
    },
    /// Members have nothing to read: there are more of them than partitions.
    Idle {
        /// How many.
        members: usize,
    },
    /// A member reads the partition and has never committed.
    NeverCommitted {
        /// The partition.
        partition: TopicPartition,
        /// The member.
        holder: MemberId,
    },
    /// What the group would read next is gone.
    BelowLogStart {
        /// The partition.
        partition: TopicPartition,
        /// The committed offset.
        committed: Offset,
        /// The first offset kept.
        log_start: Offset,
    },
    /// The group has committed more than there is: the topic lost records, or it is another one.
    PastEnd {
        /// The partition.
        partition: TopicPartition,
        /// The committed offset.
        committed: Offset,
        /// One past the last record.
        high_watermark: Offset,
    },
    /// All there is was read.
    AtEnd {
        /// The partition.
        partition: TopicPartition,
        /// The committed offset.
        committed: Offset,
    },
    /// A member holds the partition and is heard of: nothing is in its way that is known here.
    Reading {
        /// The partition.
        partition: TopicPartition,
        /// The member.
        holder: MemberId,
        /// Records that it has not committed, if the bounds are known.
        lag: Option<u64>,
        /// How long ago it committed.
        committed_ago_ms: u64,
    },
}

impl Reason {
    /// The reason in words, with topics by their names where those are known.
    pub fn named<'a>(&'a self, names: &'a BTreeMap<TopicId, String>) -> impl fmt::Display + 'a {
        Named { reason: self, names }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        static NONE: BTreeMap<TopicId, String> = BTreeMap::new();
        self.named(&NONE).fmt(f)
    }
}

struct Named<'a> {
    reason: &'a Reason,
    names: &'a BTreeMap<TopicId, String>,
}

impl Named<'_> {
    fn topic(&self, topic: TopicId) -> String {
        self.names.get(&topic).cloned().unwrap_or_else(|| topic.to_string())
    }

    fn partition(&self, of: TopicPartition) -> String {
        format!("{}-{}", self.topic(of.topic), of.partition)
    }
}

impl fmt::Display for Named<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use Reason as R;
        match self.reason {
            R::UnknownGroup => write!(f, "there is no group of this name"),
            R::NoMembers { for_ms } => write!(f, "no member for {}", Span(*for_ms)),
            R::NotResolved => write!(f, "a subscription is not looked up yet"),
            R::NothingMatches => write!(f, "no subscription matches a topic that exists"),
            R::NotSubscribed { topic } => {
                let topic = self.topic(*topic);
                write!(f, "no member subscribes to topic {topic}")
            }
            R::UnknownPartition { count } => write!(f, "the topic has {count} partitions"),
            R::TargetDue => write!(f, "the coordinator has not said yet who reads what"),
            R::WaitsForRevocation { partition, holder, next, waiting_ms, removed_in_ms } => {
                let partition = self.partition(*partition);
                write!(f, "{partition} waits for {holder} to give it back")?;
                waiting_ms.iter().try_for_each(|ms| write!(f, ", for {} now", Span(*ms)))?;
                next.iter().try_for_each(|next| write!(f, ", then {next} gets it"))?;
                removed_in_ms.iter().try_for_each(|ms| {
                    write!(f, "; {holder} is removed in {} otherwise", Span(*ms))
                })
            }
            R::Silent { member, silent_ms, expires_in_ms } => write!(
                f,
                "{member} was not heard of for {}, and is removed in {}",
                Span(*silent_ms),
                Span(*expires_in_ms)
            ),
            R::Away { member, expires_in_ms } => {
                write!(f, "{member} is away and said that it will be back")?;
                expires_in_ms
                    .iter()
                    .try_for_each(|ms| write!(f, "; its partitions go to others in {}", Span(*ms)))
            }
            R::Fenced { member, ago_ms } => {
                let ago = Span(*ago_ms);
                write!(f, "{member} is no member any more and still called {ago} ago")
            }
            R::Idle { members } => {
                write!(f, "{members} members have no partition: there are more than partitions")
            }
            R::NeverCommitted { partition, holder } => {
                let partition = self.partition(*partition);
                write!(f, "{holder} reads {partition} and has never committed")
            }
            R::BelowLogStart { partition, committed, log_start } => write!(
                f,
                "{} is committed up to {committed} and begins at {log_start} now",
                self.partition(*partition)
            ),
            R::PastEnd { partition, committed, high_watermark } => {
                let partition = self.partition(*partition);
                write!(f, "{partition} is committed up to {committed} and ends at {high_watermark}")
            }
            R::AtEnd { partition, committed } => {
                let partition = self.partition(*partition);
                write!(f, "{partition} is read to its end at {committed}")
            }
            R::Reading { partition, holder, lag, committed_ago_ms } => {
                let (partition, ago) = (self.partition(*partition), Span(*committed_ago_ms));
                write!(f, "{holder} reads {partition}, committed {ago} ago")?;
                lag.iter().try_for_each(|lag| write!(f, ", {lag} records behind"))
            }
        }
    }
}

/// A time in milliseconds, for people.
struct Span(u64);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            ms @ 0..10_000 => write!(f, "{ms} ms"),
            ms @ 10_000..120_000 => write!(f, "{} s", ms / 1_000),
            ms @ 120_000..7_200_000 => write!(f, "{} min", ms / 60_000),
            ms @ 7_200_000..172_800_000 => write!(f, "{} h", ms / 3_600_000),
            ms => write!(f, "{} d", ms / 86_400_000),
        }
    }
}

/// Answers why. Pure: everything it knows is in here.
pub struct Explainer<'a> {
    /// The state.
    pub state: &'a State,
    /// The coordinator's sessions and its monotonic clock; `None` elsewhere.
    pub sessions: Option<(&'a Sessions, Duration)>,
    /// The wall clock.
    pub now: Timestamp,
    /// The bounds of partitions, as far as the caller knows them.
    pub bounds: &'a dyn Fn(TopicPartition) -> Option<PartitionBounds>,
}

impl fmt::Debug for Explainer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Explainer").field("now", &self.now).finish_non_exhaustive()
    }
}

impl Explainer<'_> {
    /// Why a group makes no progress, what concerns all of it first. Empty if nothing is in its way
    /// that is known here.
    #[must_use]
    pub fn group(&self, name: &GroupName) -> Vec<Reason> {
        let Some(group) = self.state.group(name) else { return vec![Reason::UnknownGroup] };
        let mut reasons: Vec<Reason> = self.whole(group).into_iter().collect();
        reasons.extend(self.fenced(name));
        if group.members.is_empty() {
            return reasons;
        }
        let silent = group.members.keys().filter_map(|id| self.absent(name, group, id));
        reasons.extend(silent);
        let busy: BTreeSet<&MemberId> = group.target.values().collect();
        let idle = group.members.len().saturating_sub(busy.len());
        if idle > 0 && group.target_epoch == group.epoch && !busy.is_empty() {
            reasons.push(Reason::Idle { members: idle });
        }
        for (partition, holding) in group.holdings() {
            let reason = self.held(name, group, partition, holding);
            let is_fine = matches!(reason, Reason::Reading { .. } | Reason::AtEnd { .. });
            let is_said = matches!(reason, Reason::Silent { .. } | Reason::Away { .. });
            if !is_fine && !is_said {
                reasons.push(reason);
            }
        }
        reasons
    }

    /// Why a partition makes no progress, the first cause; or that there is nothing in its way.
    #[must_use]
    pub fn partition(&self, name: &GroupName, partition: TopicPartition) -> Reason {
        let Some(group) = self.state.group(name) else { return Reason::UnknownGroup };
        if let Some(holding) = group.holding(partition) {
            return self.held(name, group, partition, holding);
        }
        if group.members.is_empty() {
            return self.no_members(group);
        }
        let is_read = group.resolution.partitions.get(&partition.topic);
        match is_read {
            None if group.is_resolved() => Reason::NotSubscribed { topic: partition.topic },
            None => Reason::NotResolved,
            Some(count) if partition.partition.get() >= *count => {
                Reason::UnknownPartition { count: *count }
            }
            // What has a target and no holder is granted at once, so that there is none yet.
            Some(_) => Reason::TargetDue,
        }
    }

    fn no_members(&self, group: &Group) -> Reason {
        Reason::NoMembers { for_ms: self.now.millis_since(group.idle_since) }
    }

    /// What concerns all of a group.
    fn whole(&self, group: &Group) -> Option<Reason> {
        if group.members.is_empty() {
            Some(self.no_members(group))
        } else if !group.is_resolved() {
            Some(Reason::NotResolved)
        } else if group.resolution.partitions.is_empty() {
            Some(Reason::NothingMatches)
        } else if group.target_epoch != group.epoch {
            Some(Reason::TargetDue)
        } else {
            None
        }
    }

    fn fenced(&self, name: &GroupName) -> Option<Reason> {
        let (sessions, now) = self.sessions?;
        let (member, when) = sessions.last_fenced(name)?;
        Some(Reason::Fenced { member: member.clone(), ago_ms: millis(now.saturating_sub(when)) })
    }

    /// Whether a member is away, or was not heard of for long.
    fn absent(&self, name: &GroupName, group: &Group, id: &MemberId) -> Option<Reason> {
        let session = self.sessions.and_then(|(sessions, now)| {
            let (heard, end) = sessions.session(name, id)?;
            Some((now.saturating_sub(heard), end.saturating_sub(now)))
        });
        let member = id.clone();
        if group.member(id).is_some_and(|found| found.away) {
            let expires_in_ms = session.map(|(_, left)| millis(left));
            return Some(Reason::Away { member, expires_in_ms });
        }
        let (silent, left) = session.filter(|(silent, left)| silent > left)?;
        let (silent_ms, expires_in_ms) = (millis(silent), millis(left));
        Some(Reason::Silent { member, silent_ms, expires_in_ms })
    }

    fn held(
        &self,
        name: &GroupName,
        group: &Group,
        partition: TopicPartition,
        holding: &Holding,
    ) -> Reason {
        let holder = holding.member.clone();
        if holding.revoked.is_some() {
            let times = self.sessions.map(|(sessions, now)| {
                let until = sessions.revocation_end(name, &holder);
                let session = sessions.session(name, &holder).map(|(_, end)| end);
                let allowed = group.member(&holder).map_or(0, |member| member.revocation_ms);
                let allowed = Duration::from_millis(u64::from(allowed));
                let began = until.map(|until| until.saturating_sub(allowed));
                let end = until.into_iter().chain(session).min();
                (
                    began.map(|began| millis(now.saturating_sub(began))),
                    end.map(|end| millis(end.saturating_sub(now))),
                )
            });
            let (waiting_ms, removed_in_ms) = times.unwrap_or_default();
            let next = group.target(partition).cloned();
            return Reason::WaitsForRevocation {
                partition,
                holder,
                next,
                waiting_ms,
                removed_in_ms,
            };
        }
        if let Some(absent) = self.absent(name, group, &holder) {
            return absent;
        }
        let bounds = (self.bounds)(partition);
        let Some(found) = group.committed(partition) else {
            return Reason::NeverCommitted { partition, holder };
        };
        let committed = found.offset;
        match bounds {
            Some(PartitionBounds { log_start, .. }) if committed < log_start => {
                Reason::BelowLogStart { partition, committed, log_start }
            }
            Some(PartitionBounds { high_watermark, .. }) if committed > high_watermark => {
                Reason::PastEnd { partition, committed, high_watermark }
            }
            Some(PartitionBounds { high_watermark, .. }) if committed == high_watermark => {
                Reason::AtEnd { partition, committed }
            }
            _ => Reason::Reading {
                partition,
                holder,
                lag: bounds.map(|bounds| bounds.high_watermark.distance_from(committed)),
                committed_ago_ms: self.now.millis_since(found.at),
            },
        }
    }

    /// Why each partition that some member reads makes no progress, or that nothing is in its way.
    #[must_use]
    pub fn partitions(&self, name: &GroupName) -> BTreeMap<TopicPartition, Reason> {
        let Some(group) = self.state.group(name) else { return BTreeMap::new() };
        let input = group.assign_input();
        let topics = group.resolution.partitions.keys();
        let all = topics.flat_map(|topic| input.partitions_of(*topic));
        all.map(|partition| (partition, self.partition(name, partition))).collect()
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
