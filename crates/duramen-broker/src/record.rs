//! Records in plain form, for listeners whose clients have no batch code.

use bytes::Bytes;
use duramen_record::{RecordView, split_batches};
use duramen_types::{Offset, Timestamp};

use crate::error::BrokerError;
use crate::limits;

/// One record. `None` is null, which is not empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PlainRecord {
    /// Its key.
    pub key: Option<Bytes>,
    /// Its value.
    pub value: Option<Bytes>,
    /// Its headers, in order.
    pub headers: Vec<(String, Option<Bytes>)>,
    /// Its time.
    pub timestamp: Timestamp,
    /// Its offset; set in what is read.
    pub offset: Offset,
}

/// Records in plain form.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PlainRecords {
    /// The records, in order.
    pub records: Vec<PlainRecord>,
    /// Where to go on: one past the last record given, if there were too many for one answer.
    pub next_offset: Offset,
}

/// Reads the records of stored batches from an offset on, up to (not including) another, or as many
/// as one answer may have ([`limits::PLAIN_ITEMS_MAX`], [`limits::PLAIN_BYTES_MAX`]).
///
/// # Errors
/// [`BrokerError::Batch`] if a batch does not hold together, [`BrokerError::TooManyHeaders`] if the
/// first record alone has more than one answer may have.
pub fn plain_records(
    batches: &[Bytes],
    from: Offset,
    below: Offset,
) -> Result<PlainRecords, BrokerError> {
    let mut plain = Vec::new();
    let (mut items, mut bytes) = (0, 0);
    for batch in batches.iter().cloned().flat_map(split_batches) {
        let batch = batch?;
        let payload = batch.payload(limits::DECOMPRESSED_BYTES_MAX)?;
        for record in batch.records(&payload) {
            let record = record?;
            if record.offset < from || record.offset >= below {
                continue;
            }
            items += 1 + record.headers.len();
            bytes += record_bytes(&record);
            if items > limits::PLAIN_ITEMS_MAX
                || (bytes > limits::PLAIN_BYTES_MAX && !plain.is_empty())
            {
                if plain.is_empty() {
                    let (offset, headers) = (record.offset, record.headers.len());
                    return Err(BrokerError::TooManyHeaders { offset, headers });
                }
                return Ok(PlainRecords { records: plain, next_offset: record.offset });
            }
            let mut headers = Vec::with_capacity(record.headers.len());
            for header in record.headers {
                let value = header.value.map(|value| payload.slice_ref(value));
                headers.push((String::from_utf8_lossy(header.key).into_owned(), value));
            }
            plain.push(PlainRecord {
                key: record.key.map(|key| payload.slice_ref(key)),
                value: record.value.map(|value| payload.slice_ref(value)),
                headers,
                timestamp: record.timestamp,
                offset: record.offset,
            });
        }
    }
    Ok(PlainRecords { records: plain, next_offset: below })
}

/// Bytes of a record's key, value and headers.
fn record_bytes(record: &RecordView<'_>) -> usize {
    let len = |bytes: Option<&[u8]>| bytes.map_or(0, <[u8]>::len);
    let headers = record.headers.clone().map(|header| header.key.len() + len(header.value));
    len(record.key) + len(record.value) + headers.sum::<usize>()
}

#[cfg(test)]
mod tests {
    use duramen_record::{BatchBuilder, Compression, HeaderRef, RecordRef};

    use super::*;

    /// A batch of records with a value each, and headers without a key.
    fn batch(count: usize, value: &[u8], headers: usize) -> Bytes {
        let mut builder = BatchBuilder::new(Compression::Zstd);
        for _ in 0..count {
            let record = RecordRef { value: Some(value), ..RecordRef::default() };
            let header = HeaderRef { key: &[], value: None };
            builder.append(record, std::iter::repeat_n(header, headers)).unwrap();
        }
        builder.finish(None).unwrap()
    }

    /// How many records each answer has, until all were given.
    fn answers(batch: &Bytes, count: usize) -> Vec<usize> {
        let below = Offset::new(count as u64);
        let mut counts = Vec::new();
        let mut from = Offset::ZERO;
        while from < below {
            let given = plain_records(std::slice::from_ref(batch), from, below).unwrap();
            assert_eq!(given.records[0].offset, from);
            from = given.next_offset;
            counts.push(given.records.len());
        }
        counts
    }

    #[test]
    fn an_answer_has_so_many_records_and_headers_and_the_next_goes_on_behind_them() {
        let max = limits::PLAIN_ITEMS_MAX;
        assert_eq!(answers(&batch(2 * max + 5, b"", 0), 2 * max + 5), [max, max, 5]);
        let with_header = batch(max, b"", 1);
        assert_eq!(answers(&with_header, max), [max / 2, max / 2]);
    }

    #[test]
    fn an_answer_has_so_many_bytes_and_a_larger_record_goes_alone() {
        let half = vec![b'x'; limits::PLAIN_BYTES_MAX / 2];
        assert_eq!(answers(&batch(5, &half, 0), 5), [2, 2, 1]);
        let larger = vec![b'x'; limits::PLAIN_BYTES_MAX + 1];
        assert_eq!(answers(&batch(2, &larger, 0), 2), [1, 1]);
    }

    #[test]
    fn a_record_with_more_headers_than_an_answer_may_have_is_refused() {
        let batch = batch(1, b"", limits::PLAIN_ITEMS_MAX);
        let refused = plain_records(&[batch], Offset::ZERO, Offset::new(1));
        let (offset, headers) = (Offset::ZERO, limits::PLAIN_ITEMS_MAX);
        assert!(matches!(
            refused,
            Err(BrokerError::TooManyHeaders { offset: at, headers: of }) if at == offset && of == headers
        ));
    }
}
