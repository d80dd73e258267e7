//! What an interrupted replay had written beyond its last note: found in the target itself.
//!
//! ```text
//!  target partition   … noted ][ w1  f  w2  w3 ][ end when the replay goes on
//!                              ▲ watermark in the state file
//!  source, in order            [ w1, w2, w3, w4, … ]
//! ```
//! A replay writes the records of a target partition in one order, and the producer stores them in
//! that order, so what had been written is a prefix of what is due. Walking both once finds it: each
//! due record is sought from where the one before it was found. Records of other writers (`f`) lie
//! between and match nothing. The first record that is not found ends the search: it and all after
//! it are written now.

use duramen_client::{ClientError, ConsumerRecord, Offset};
use futures::{Stream, StreamExt};

/// The end of a target partition, from its noted watermark on.
#[derive(Debug)]
pub(super) struct Tail<S> {
    records: Option<S>,
}

impl<S> Tail<S>
where
    S: Stream<Item = Result<ConsumerRecord, ClientError>> + Unpin,
{
    /// The records of a tail, in order.
    pub(super) const fn new(records: S) -> Self {
        Self { records: Some(records) }
    }

    /// Whether everything in it has been looked at.
    pub(super) const fn is_exhausted(&self) -> bool {
        self.records.is_none()
    }

    /// Where the next due record is, if it had been written. Call it with every due record, in
    /// order.
    pub(super) async fn find(
        &mut self,
        due: &ConsumerRecord,
    ) -> Result<Option<Offset>, ClientError> {
        let Some(records) = &mut self.records else { return Ok(None) };
        while let Some(found) = records.next().await {
            let found = found?;
            if is_same(&found, due) {
                return Ok(Some(found.offset));
            }
        }
        self.records = None;
        Ok(None)
    }
}

/// Whether two records are the same but for where they are.
fn is_same(one: &ConsumerRecord, other: &ConsumerRecord) -> bool {
    one.timestamp == other.timestamp
        && one.key == other.key
        && one.value == other.value
        && one.headers == other.headers
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use duramen_client::{PartitionId, RecordHeader, Timestamp};

    fn record(offset: u64, value: &'static str) -> ConsumerRecord {
        ConsumerRecord {
            topic: "t".into(),
            partition: PartitionId::new(0),
            offset: Offset::new(offset),
            timestamp: Timestamp::from_millis(7),
            key: None,
            value: Some(Bytes::from_static(value.as_bytes())),
            headers: vec![],
        }
    }

    /// Which of the due records are found, and where.
    async fn found(tail: &[&'static str], due: &[&'static str]) -> Vec<Option<u64>> {
        let records = (100..).zip(tail).map(|(offset, value)| Ok(record(offset, value)));
        let mut tail = Tail::new(futures::stream::iter(records));
        let mut places = Vec::new();
        for value in due {
            places.push(tail.find(&record(0, value)).await.unwrap().map(Offset::get));
        }
        places
    }

    #[tokio::test]
    async fn what_was_written_is_found_and_the_rest_is_not() {
        assert_eq!(
            found(&["a", "b"], &["a", "b", "c", "d"]).await,
            [Some(100), Some(101), None, None]
        );
    }

    #[tokio::test]
    async fn a_tail_is_exhausted_once_a_due_record_was_not_in_it() {
        let mut tail = Tail::new(futures::stream::iter([Ok(record(100, "a"))]));
        assert!(!tail.is_exhausted(), "nothing was looked at");
        tail.find(&record(0, "a")).await.unwrap();
        assert!(!tail.is_exhausted(), "there may be more");
        tail.find(&record(1, "b")).await.unwrap();
        assert!(tail.is_exhausted());
    }

    #[tokio::test]
    async fn an_empty_tail_has_nothing() {
        assert_eq!(found(&[], &["a"]).await, [None]);
    }

    #[tokio::test]
    async fn records_of_others_lie_between() {
        assert_eq!(
            found(&["x", "a", "y", "b", "z"], &["a", "b", "c"]).await,
            [Some(101), Some(103), None]
        );
    }

    #[tokio::test]
    async fn equal_records_are_counted_one_by_one() {
        assert_eq!(
            found(&["a", "a"], &["a", "a", "a", "b"]).await,
            [Some(100), Some(101), None, None]
        );
    }

    #[tokio::test]
    async fn after_the_first_gap_nothing_counts_as_written() {
        // "c" is another writer's: "b" comes before it in our order and is not there.
        assert_eq!(found(&["a", "c"], &["a", "b", "c"]).await, [Some(100), None, None]);
    }

    #[tokio::test]
    async fn every_part_of_a_record_counts() {
        let header = RecordHeader { key: "h".into(), value: None };
        let base = record(0, "a");
        let others = [
            ConsumerRecord { key: Some(Bytes::new()), ..base.clone() },
            ConsumerRecord { value: None, ..base.clone() },
            ConsumerRecord { timestamp: Timestamp::from_millis(8), ..base.clone() },
            ConsumerRecord { headers: vec![header], ..base.clone() },
        ];
        for other in others {
            let mut tail = Tail::new(futures::stream::iter([Ok(other)]));
            assert_eq!(tail.find(&base).await.unwrap(), None);
        }
        let elsewhere =
            ConsumerRecord { topic: "u".into(), partition: PartitionId::new(4), ..base.clone() };
        let mut tail = Tail::new(futures::stream::iter([Ok(elsewhere)]));
        assert_eq!(tail.find(&base).await.unwrap(), Some(Offset::ZERO));
    }
}
