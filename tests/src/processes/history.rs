//! What a producer was told, and whether the cluster keeps to it.

use std::collections::{BTreeMap, BTreeSet};

use duramen_client::{Client, ConsumerOptions, PartitionId, PartitionOffsets, Start};
use futures::StreamExt as _;
use tokio::time::Instant;

use super::Outcome;

/// What became of a record, as its producer was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is stored, at this offset, by the leader of this epoch.
    Acknowledged {
        /// The offset.
        offset: u64,
        /// The leader's epoch.
        epoch: u64,
    },
    /// It may or may not be stored.
    Unknown,
    /// It is not stored.
    Refused,
}

/// A record that was sent, and what its producer was told when.
#[derive(Clone, Debug)]
pub struct Sent {
    /// Its value, like no other.
    pub value: String,
    /// What became of it.
    pub fate: Fate,
    /// When the producer learned so.
    pub at: Instant,
}

impl Sent {
    /// Whether it was acknowledged at an earlier offset than this.
    const fn is_before(&self, offset: u64) -> bool {
        matches!(self.fate, Fate::Acknowledged { offset: stored, .. } if stored < offset)
    }
}

/// The records of one topic by partition, each partition's in the order in which they were sent.
#[derive(Clone, Debug, Default)]
pub struct History {
    partitions: BTreeMap<u32, Vec<Sent>>,
}

/// What [`History::check`] counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Records that were acknowledged, all of which were read.
    pub acknowledged: usize,
    /// Records of unknown outcome that turned out to be stored.
    pub unknown_stored: usize,
    /// Records of unknown outcome that are not stored.
    pub unknown_lost: usize,
}

/// What [`History::judge`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// What was sent, and what became of it.
    pub counts: Counts,
    /// Acknowledged records that are not at their offset.
    pub lost: usize,
    /// Values that are there more than once.
    pub duplicated: usize,
    /// Acknowledged records that are stored before one that was sent earlier.
    pub reordered: usize,
    /// Values that were refused or never sent, and gaps between offsets.
    pub foreign: usize,
    /// What is wrong, in words; of many the first.
    pub findings: Vec<String>,
}

/// Findings that are put into words.
const FINDINGS_MAX: usize = 10;

impl Verdict {
    fn find(&mut self, count: fn(&mut Self) -> &mut usize, what: impl FnOnce() -> String) {
        *count(self) += 1;
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(what());
        }
    }
}

impl History {
    /// Notes what became of the next record of a partition.
    pub fn push(&mut self, partition: u32, sent: Sent) {
        self.partitions.entry(partition).or_default().push(sent);
    }

    /// Goes on with what later producers of the same topic were told.
    pub fn extend(&mut self, later: Self) {
        for (partition, sent) in later.partitions {
            self.partitions.entry(partition).or_default().extend(sent);
        }
    }

    /// The records of a partition, in the order in which they were sent.
    #[must_use]
    pub fn of(&self, partition: u32) -> &[Sent] {
        self.partitions.get(&partition).map_or(&[], Vec::as_slice)
    }

    /// Records that were acknowledged, over all partitions.
    #[must_use]
    pub fn acknowledged(&self) -> usize {
        let all = self.partitions.values().flatten();
        all.filter(|sent| matches!(sent.fate, Fate::Acknowledged { .. })).count()
    }

    /// Records of unknown outcome, over all partitions.
    #[must_use]
    pub fn unknown(&self) -> usize {
        self.partitions.values().flatten().filter(|sent| sent.fate == Fate::Unknown).count()
    }

    /// Reads the whole topic back and compares: every acknowledged record is there, once, at its
    /// offset and in the order of sending; no value is there twice; nothing is there that was
    /// refused or never sent; offsets have no gaps. What retention has trimmed is left out.
    ///
    /// # Errors
    /// The topic cannot be read.
    ///
    /// # Panics
    /// If the cluster did not keep to what it said.
    pub async fn check(&self, client: &Client, topic: &str) -> Outcome<Counts> {
        let verdict = self.judge(client, topic).await?;
        assert_eq!(verdict.findings, [""; 0]);
        Ok(verdict.counts)
    }

    /// As [`check`](Self::check), with all that is wrong in the answer.
    ///
    /// # Errors
    /// The topic cannot be read.
    pub async fn judge(&self, client: &Client, topic: &str) -> Outcome<Verdict> {
        let mut verdict = Verdict::default();
        let read = read_all(client, topic, &mut verdict).await?;
        let empty = BTreeMap::new();
        for (partition, sent) in &self.partitions {
            let read = read.get(partition).unwrap_or(&empty);
            let first = read.first_key_value().map_or(0, |(first, _)| *first);
            let kept: Vec<_> = sent.iter().filter(|sent| !sent.is_before(first)).cloned().collect();
            judge_partition(*partition, &kept, read, &mut verdict);
        }
        for (partition, read) in &read {
            if !self.partitions.contains_key(partition) {
                judge_partition(*partition, &[], read, &mut verdict);
            }
        }
        Ok(verdict)
    }
}

/// All values of a topic, by partition and offset.
async fn read_all(
    client: &Client,
    topic: &str,
    verdict: &mut Verdict,
) -> Outcome<BTreeMap<u32, BTreeMap<u64, String>>> {
    let kept = log_starts(client, topic).await?;
    let options = ConsumerOptions::default().start(Start::First).until_high_watermark();
    let mut consumer = client.consumer(topic, options).await?;
    let mut read = BTreeMap::<u32, BTreeMap<u64, String>>::new();
    while let Some(record) = consumer.next().await {
        let record = record?;
        let value = String::from_utf8(record.value.unwrap_or_default().to_vec())?;
        let values = read.entry(record.partition.get()).or_default();
        let (partition, offset) = (record.partition, record.offset.get());
        if let Some((last, _)) = values.last_key_value()
            && offset != last + 1
        {
            let gap = || format!("partition {partition}: {offset} comes after {last}");
            verdict.find(|verdict| &mut verdict.foreign, gap);
        }
        values.insert(offset, value);
    }
    // Retention may have trimmed more meanwhile, and nothing else may be missing at the front.
    let still_kept = log_starts(client, topic).await?;
    for (partition, values) in &read {
        let first = values.first_key_value().map_or(0, |(first, _)| *first);
        let starts = (kept.get(partition).copied(), still_kept.get(partition).copied());
        if starts.0 > Some(first) || Some(first) > starts.1 {
            let wrong =
                || format!("partition {partition} begins at {first}, its log at {starts:?}");
            verdict.find(|verdict| &mut verdict.foreign, wrong);
        }
    }
    Ok(read)
}

/// Where the log of each partition begins.
async fn log_starts(client: &Client, topic: &str) -> Outcome<BTreeMap<u32, u64>> {
    let found = client.admin().list_offsets(topic, &BTreeMap::new()).await?;
    let start =
        |(id, offsets): (PartitionId, PartitionOffsets)| (id.get(), offsets.log_start_offset.get());
    Ok(found.into_iter().map(start).collect())
}

fn judge_partition(
    partition: u32,
    sent: &[Sent],
    read: &BTreeMap<u64, String>,
    verdict: &mut Verdict,
) {
    let mut places = BTreeMap::new();
    for (offset, value) in read {
        if let Some(earlier) = places.insert(value.as_str(), *offset) {
            let twice =
                || format!("partition {partition}: {value:?} is at {earlier} and at {offset}");
            verdict.find(|verdict| &mut verdict.duplicated, twice);
        }
    }
    let mut expected = BTreeSet::new();
    let mut last = None;
    for Sent { value, fate, .. } in sent {
        let place = places.get(value.as_str()).copied();
        match fate {
            Fate::Acknowledged { offset, .. } => {
                if read.get(offset) != Some(value) {
                    let lost = || {
                        format!(
                            "partition {partition}: {value:?} was acknowledged at {offset} \
                             and is at {place:?}; there is {:?}",
                            read.get(offset)
                        )
                    };
                    verdict.find(|verdict| &mut verdict.lost, lost);
                }
                if last >= Some(*offset) {
                    let late = || {
                        format!("partition {partition}: {value:?} at {offset} is behind {last:?}")
                    };
                    verdict.find(|verdict| &mut verdict.reordered, late);
                }
                last = last.max(Some(*offset));
                expected.insert(value.as_str());
                verdict.counts.acknowledged += 1;
            }
            Fate::Unknown => {
                expected.insert(value.as_str());
                match place {
                    Some(_) => verdict.counts.unknown_stored += 1,
                    None => verdict.counts.unknown_lost += 1,
                }
            }
            // It must not be there: not expected.
            Fate::Refused => {}
        }
    }
    for (offset, value) in read {
        if !expected.contains(value.as_str()) {
            let foreign = || {
                format!("partition {partition}: {value:?} at {offset} was refused or never sent")
            };
            verdict.find(|verdict| &mut verdict.foreign, foreign);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(fates: &[Fate]) -> Vec<Sent> {
        let at = Instant::now();
        let record =
            |(number, fate): (usize, &Fate)| Sent { value: format!("v{number}"), fate: *fate, at };
        fates.iter().enumerate().map(record).collect()
    }

    fn read(values: &[&str]) -> BTreeMap<u64, String> {
        (0..).zip(values.iter().map(|value| (*value).to_owned())).collect()
    }

    const fn ok(offset: u64) -> Fate {
        Fate::Acknowledged { offset, epoch: 1 }
    }

    fn judge(fates: &[Fate], values: &[&str]) -> Verdict {
        let mut verdict = Verdict::default();
        judge_partition(0, &sent(fates), &read(values), &mut verdict);
        verdict
    }

    fn is_fine(fates: &[Fate], values: &[&str]) -> bool {
        judge(fates, values).findings.is_empty()
    }

    #[test]
    fn what_was_acknowledged_must_be_there_once_at_its_offset_in_order() {
        assert!(is_fine(&[ok(0), ok(1)], &["v0", "v1"]));
        assert!(!is_fine(&[ok(0), ok(1)], &["v0"]), "lost");
        assert!(!is_fine(&[ok(0), ok(1)], &["v1", "v0"]), "elsewhere");
        assert!(!is_fine(&[ok(0), ok(1)], &["v0", "v1", "v0"]), "twice");
        assert!(!is_fine(&[ok(1), ok(0)], &["v1", "v0"]), "out of order");
        let verdict = judge(&[ok(0), ok(1), ok(2)], &["v0", "v2", "v0"]);
        assert_eq!((verdict.lost, verdict.duplicated, verdict.foreign), (2, 1, 0));
    }

    #[test]
    fn what_is_unknown_may_be_there_once_and_what_was_refused_may_not() {
        assert!(is_fine(&[ok(0), Fate::Unknown], &["v0"]));
        assert!(is_fine(&[ok(0), Fate::Unknown], &["v0", "v1"]));
        assert!(!is_fine(&[ok(0), Fate::Unknown], &["v0", "v1", "v1"]));
        assert!(!is_fine(&[ok(0), Fate::Refused], &["v0", "v1"]));
        assert!(!is_fine(&[ok(0)], &["v0", "never sent"]));
    }
}
