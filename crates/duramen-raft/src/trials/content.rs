//! What the trials write and read: small batches of records with known values.

use std::collections::BTreeMap;

use duramen_record::{BatchBuilder, Compression, ProducerStamp, RecordRef, split_batches};
use duramen_types::{Offset, ProducerEpoch, ProducerId, Sequence, Timestamp};

use crate::{Group, Proposal, ProposalKind};

/// Bytes of a record's value.
const VALUE_BYTES: usize = 200;

pub(super) fn value(number: u64) -> String {
    format!("{number:0VALUE_BYTES$}")
}

/// A proposal of one batch of one record.
pub(super) fn proposal(number: u64) -> Proposal {
    batch(&[number], None)
}

/// A proposal of one batch of an idempotent producer.
pub(super) fn stamped(producer: u64, base_sequence: u32, numbers: &[u64]) -> Proposal {
    let stamp = ProducerStamp {
        id: ProducerId::new(producer),
        epoch: ProducerEpoch::new(0),
        base_sequence: Sequence::new(base_sequence),
    };
    batch(numbers, Some(stamp))
}

fn batch(numbers: &[u64], producer: Option<ProducerStamp>) -> Proposal {
    let mut builder = BatchBuilder::new(Compression::None);
    for number in numbers {
        let value = value(*number);
        let record = RecordRef { value: Some(value.as_bytes()), ..RecordRef::default() };
        builder.append(record, [].into_iter()).unwrap();
    }
    Proposal {
        kind: ProposalKind::Batches,
        payload: builder.finish(producer).unwrap(),
        records: u32::try_from(numbers.len()).unwrap(),
        max_timestamp: Timestamp::EPOCH,
    }
}

pub(super) fn command(number: u64) -> Proposal {
    Proposal {
        kind: ProposalKind::Command,
        payload: value(number).into(),
        records: 0,
        max_timestamp: Timestamp::MIN,
    }
}

/// All committed records of a partition, by offset.
pub(super) async fn records(group: &Group) -> BTreeMap<Offset, String> {
    let mut records = BTreeMap::new();
    let mut next = group.progress().borrow().log_start_offset;
    loop {
        let fetched = group.read(next, 1 << 20).await.unwrap();
        if fetched.batches.is_empty() {
            return records;
        }
        next = fetched.next_offset;
        for batch in fetched.batches.into_iter().flat_map(split_batches) {
            let batch = batch.unwrap();
            batch.view().validate().unwrap();
            let payload = batch.payload(1 << 20).unwrap();
            for record in batch.records(&payload) {
                let record = record.unwrap();
                let value = String::from_utf8(record.value.unwrap().to_vec()).unwrap();
                assert_eq!(records.insert(record.offset, value), None, "an offset came twice");
            }
        }
    }
}
