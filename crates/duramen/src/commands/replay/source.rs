//! The records of a replay, in an order that every run of the same plan gives within a partition;
//! merged by timestamp, it is the same over all partitions.

use std::collections::BTreeMap;

use duramen_client::{
    Client, Consumer, ConsumerOptions, ConsumerRecord, End, Offset, PartitionId, Start,
};
use futures::StreamExt;

use super::plan::Plan;
use crate::error::CliError;

/// Bytes that all partitions together buffer.
const BUFFER_BYTES: usize = 32 << 20;

/// The records of a plan from where it has come to.
#[derive(Debug)]
pub(super) struct Source {
    plan: Plan,
    lanes: Vec<Lane>,
}

/// One consumer, and the record that it gives next.
#[derive(Debug)]
struct Lane {
    consumer: Consumer,
    head: Option<ConsumerRecord>,
}

impl Source {
    /// Opens the consumers: one for all partitions, or with `merge` one each.
    pub(super) async fn open(
        client: &Client,
        topic: &str,
        plan: &Plan,
        merge: bool,
    ) -> Result<Self, CliError> {
        let open = plan.ranges.iter().filter(|(_, range)| range.next < range.end);
        let open: Vec<(u32, u64, u64)> =
            open.map(|(partition, range)| (*partition, range.next, range.end)).collect();
        let groups: Vec<&[(u32, u64, u64)]> = match merge {
            _ if open.is_empty() => Vec::new(),
            true => open.chunks(1).collect(),
            false => vec![&open],
        };
        let mut lanes = Vec::with_capacity(groups.len());
        for group in &groups {
            let options = options(group, BUFFER_BYTES / groups.len());
            lanes.push(Lane { consumer: client.consumer(topic, options).await?, head: None });
        }
        Ok(Self { plan: plan.clone(), lanes })
    }

    /// The next record; `None` when all ranges are at their end. Cancel safe.
    pub(super) async fn next(&mut self) -> Result<Option<ConsumerRecord>, CliError> {
        let plan = &self.plan;
        for lane in &mut self.lanes {
            while lane.head.is_none() {
                let Some(record) = lane.consumer.next().await else { break };
                lane.head = Some(record?).filter(|record| plan.takes(record.timestamp));
            }
        }
        self.lanes.retain(|lane| lane.head.is_some());
        let heads = self.lanes.iter().map(|lane| lane.head.as_ref().map(order));
        Ok(earliest(heads).and_then(|place| self.lanes.get_mut(place)?.head.take()))
    }
}

fn options(group: &[(u32, u64, u64)], buffer_bytes: usize) -> ConsumerOptions {
    let ids = group.iter().map(|(partition, ..)| PartitionId::new(*partition));
    let start = |(id, next, _): &(u32, u64, u64)| {
        (PartitionId::new(*id), Start::Offset(Offset::new(*next)))
    };
    let end = |(id, _, end): &(u32, u64, u64)| (PartitionId::new(*id), Offset::new(*end));
    ConsumerOptions {
        partitions: Some(ids.collect()),
        starts: group.iter().map(start).collect(),
        end: End::Offsets(group.iter().map(end).collect::<BTreeMap<_, _>>()),
        buffer_bytes,
        ..ConsumerOptions::default()
    }
}

/// What records are merged by. Offsets come into it only within a partition, where the order is
/// the log's in any case.
fn order(record: &ConsumerRecord) -> (i64, u32) {
    (record.timestamp.as_millis(), record.partition.get())
}

/// The place of the smallest.
fn earliest<T: Ord>(heads: impl Iterator<Item = Option<T>>) -> Option<usize> {
    let heads = heads.enumerate().filter_map(|(place, head)| Some((head?, place)));
    heads.min().map(|(_, place)| place)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_earliest_head_is_next_and_the_first_of_equals() {
        assert_eq!(earliest([Some((5, 0)), Some((3, 1)), None, Some((3, 2))].into_iter()), Some(1));
        assert_eq!(earliest([None::<u32>, None].into_iter()), None);
    }

    #[test]
    fn a_consumer_reads_what_is_left_of_its_ranges() {
        let options = options(&[(2, 10, 20), (5, 0, 7)], 64);
        assert_eq!(options.partitions, Some(vec![PartitionId::new(2), PartitionId::new(5)]));
        assert_eq!(options.starts[&PartitionId::new(2)], Start::Offset(Offset::new(10)));
        let ends = [(PartitionId::new(2), Offset::new(20)), (PartitionId::new(5), Offset::new(7))];
        assert_eq!(options.end, End::Offsets(ends.into()));
    }
}
