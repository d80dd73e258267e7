//! What a replay reads: of each partition a range of offsets, fixed at its start.

use std::collections::BTreeMap;

use duramen_client::{Client, Offset, PartitionId, Start, Timestamp, TopicDescription};
use serde::{Deserialize, Serialize};

use super::state::Selection;
use crate::error::CliError;

/// A range of one partition: `start <= next <= end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Range {
    /// The first offset.
    pub(super) start: u64,
    /// One past the last offset.
    pub(super) end: u64,
    /// Everything before it has been dealt with.
    pub(super) next: u64,
}

/// What a replay reads. Two runs of one plan read the same records.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Plan {
    /// The range of each partition.
    pub(super) ranges: BTreeMap<u32, Range>,
    /// Records with an earlier timestamp are left out, in milliseconds.
    pub(super) since_ms: Option<i64>,
    /// Records with this timestamp or a later one are left out, in milliseconds.
    pub(super) until_ms: Option<i64>,
}

impl Plan {
    /// Asks the leaders where the ranges begin and end.
    pub(super) async fn new(
        client: &Client,
        topic: &TopicDescription,
        selection: &Selection,
        since_ms: Option<i64>,
        until_ms: Option<i64>,
    ) -> Result<Self, CliError> {
        let start = match since_ms {
            Some(since) => Start::Timestamp(Timestamp::from_millis(since)),
            None => Start::First,
        };
        let all = topic.partitions.iter().map(|partition| partition.id);
        let named = selection.partitions.iter().copied().map(PartitionId::new);
        let partitions: Vec<PartitionId> =
            if selection.partitions.is_empty() { all.collect() } else { named.collect() };
        let asked: BTreeMap<_, _> = partitions.into_iter().map(|id| (id, start)).collect();
        let found = client.admin().list_offsets(&topic.name, &asked).await?;
        let mut ranges = BTreeMap::new();
        for (partition, offsets) in found {
            let range = range(selection, offsets.offset, offsets.high_watermark);
            ranges.insert(partition.get(), range);
        }
        Ok(Self { ranges, since_ms, until_ms })
    }

    /// Whether a record of a range is read, by its timestamp.
    pub(super) fn takes(&self, timestamp: Timestamp) -> bool {
        let millis = timestamp.as_millis();
        self.since_ms.is_none_or(|since| millis >= since)
            && self.until_ms.is_none_or(|until| millis < until)
    }
}

/// The range between what is asked for and what is there. A start before what is kept stays as it
/// is: to read there is an error, and not to be passed over.
fn range(selection: &Selection, found: Offset, high_watermark: Offset) -> Range {
    let high_watermark = high_watermark.get();
    let end = selection.to_offset.unwrap_or(u64::MAX).min(high_watermark);
    let start = match (selection.from_offset, &selection.since) {
        (Some(from), None) => from,
        (Some(from), Some(_)) => from.max(found.get()),
        (None, _) => found.get(),
    };
    let start = start.min(high_watermark);
    Range { start, end: end.max(start), next: start }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selection(from: Option<u64>, to: Option<u64>, since: Option<&str>) -> Selection {
        let since = since.map(str::to_owned);
        Selection { from_offset: from, to_offset: to, since, ..Selection::default() }
    }

    fn bounds(selection: &Selection, found: u64, high_watermark: u64) -> (u64, u64) {
        let range = range(selection, Offset::new(found), Offset::new(high_watermark));
        assert_eq!(range.next, range.start);
        (range.start, range.end)
    }

    #[test]
    fn a_range_lies_between_what_is_asked_for_and_what_is_there() {
        assert_eq!(bounds(&selection(None, None, None), 5, 100), (5, 100));
        assert_eq!(bounds(&selection(Some(10), Some(20), None), 5, 100), (10, 20));
        assert_eq!(bounds(&selection(Some(10), Some(200), None), 5, 100), (10, 100));
        assert_eq!(bounds(&selection(Some(200), None, None), 5, 100), (100, 100), "empty");
        assert_eq!(bounds(&selection(Some(20), Some(10), None), 5, 100), (20, 20), "empty");
    }

    #[test]
    fn a_time_and_an_offset_both_hold() {
        assert_eq!(bounds(&selection(Some(10), None, Some("1h")), 30, 100), (30, 100));
        assert_eq!(bounds(&selection(Some(50), None, Some("1h")), 30, 100), (50, 100));
    }

    #[test]
    fn a_start_that_is_no_longer_kept_is_not_passed_over() {
        assert_eq!(bounds(&selection(Some(1), None, None), 5, 100), (1, 100));
    }

    #[test]
    fn times_are_half_open() {
        let plan = Plan { since_ms: Some(10), until_ms: Some(20), ..Plan::default() };
        let takes = |millis| plan.takes(Timestamp::from_millis(millis));
        assert_eq!([9, 10, 19, 20].map(takes), [false, true, true, false]);
    }
}
