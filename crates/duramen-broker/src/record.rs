//! Records in plain form, for listeners whose clients have no batch code.

use bytes::Bytes;
use duramen_record::split_batches;
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

/// Reads the records of stored batches from an offset on, up to (not including) another.
///
/// # Errors
/// [`BrokerError::Batch`] if a batch does not hold together.
pub fn plain_records(
    batches: &[Bytes],
    from: Offset,
    below: Offset,
) -> Result<Vec<PlainRecord>, BrokerError> {
    let mut plain = Vec::new();
    for batch in batches.iter().cloned().flat_map(split_batches) {
        let batch = batch?;
        let payload = batch.payload(limits::DECOMPRESSED_BYTES_MAX)?;
        for record in batch.records(&payload) {
            let record = record?;
            if record.offset < from || record.offset >= below {
                continue;
            }
            let mut headers = Vec::new();
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
    Ok(plain)
}
