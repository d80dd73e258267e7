//! Records in plain form on the wire: as `prost` would derive it, but that it takes a bounded number of
//! records and headers. Those beyond are counted and skipped, so that the receiver can refuse the
//! message by a typed error, and what it refuses costs no memory.

use bytes::{Buf, BufMut, Bytes};
use prost::encoding::{self, DecodeContext, WireType};
use prost::{DecodeError, Message};

use crate::limits::RECORD_ITEMS_MAX;
use crate::v1::Record;

/// Field number of the records in this message.
const RECORDS: u32 = 1;

/// Field number of the headers in a record.
const HEADERS: u32 = 3;

/// The message `duramen.v1.RecordList`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RecordList {
    /// The records that were taken.
    pub records: Vec<Record>,
    /// Records and headers that were taken.
    items: usize,
    /// Records and headers that were not.
    beyond: usize,
}

impl RecordList {
    /// A list to be sent.
    #[must_use]
    pub fn new(records: Vec<Record>) -> Self {
        let items = records.iter().map(|record| 1 + record.headers.len()).sum();
        Self { records, items, beyond: 0 }
    }

    /// Whether more records and headers came than are taken: then this is not the whole list.
    #[must_use]
    pub const fn is_cut(&self) -> bool {
        self.beyond > 0
    }
}

/// How many fields of a number a message has. Makes no memory.
fn count(mut message: Bytes, field: u32) -> Result<usize, DecodeError> {
    let mut found = 0;
    while message.has_remaining() {
        let (tag, wire_type) = encoding::decode_key(&mut message)?;
        encoding::skip_field(wire_type, tag, &mut message, DecodeContext::default())?;
        found += usize::from(tag == field);
    }
    Ok(found)
}

impl Message for RecordList {
    fn encode_raw(&self, buf: &mut impl BufMut) {
        encoding::message::encode_repeated(RECORDS, &self.records, buf);
    }

    fn merge_field(
        &mut self,
        tag: u32,
        wire_type: WireType,
        buf: &mut impl Buf,
        ctx: DecodeContext,
    ) -> Result<(), DecodeError> {
        if tag != RECORDS {
            return encoding::skip_field(wire_type, tag, buf, ctx);
        }
        let mut record = Bytes::new();
        encoding::bytes::merge(wire_type, &mut record, buf, ctx)?;
        let items = 1 + count(record.clone(), HEADERS)?;
        if self.items + items > RECORD_ITEMS_MAX {
            self.beyond += items;
            return Ok(());
        }
        self.items += items;
        self.records.push(Record::decode(record)?);
        Ok(())
    }

    fn encoded_len(&self) -> usize {
        encoding::message::encoded_len_repeated(RECORDS, &self.records)
    }

    fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::v1::{Header, ProduceRequest, produce_request::Payload};

    fn record(headers: usize) -> Record {
        let headers = vec![Header::default(); headers];
        let key = Some(Bytes::from_static(b"k"));
        Record { key, headers, timestamp: 7, ..Record::default() }
    }

    #[test]
    fn a_list_is_what_was_sent() {
        let sent = vec![record(0), record(2), Record::default()];
        let payload = Some(Payload::Records(RecordList::new(sent.clone())));
        let request = ProduceRequest { payload, correlation_id: 9, ..ProduceRequest::default() };
        let encoded = request.encode_to_vec();
        assert_eq!(encoded.len(), request.encoded_len());
        let decoded = ProduceRequest::decode(encoded.as_slice()).unwrap();
        assert_eq!(decoded.correlation_id, 9);
        let Some(Payload::Records(list)) = decoded.payload else { panic!("{decoded:?}") };
        assert!(list.records == sent && !list.is_cut());
        for len in 1..encoded.len() {
            // Any prefix gives a value or an error.
            drop(ProduceRequest::decode(&encoded[..len]));
        }
    }

    #[test]
    fn so_many_records_and_headers_are_taken_and_no_more() {
        let full = RecordList::new(vec![Record::default(); RECORD_ITEMS_MAX]);
        let decoded = RecordList::decode(full.encode_to_vec().as_slice()).unwrap();
        assert!(decoded.records.len() == RECORD_ITEMS_MAX && !decoded.is_cut());
        let over = RecordList::new(vec![Record::default(); RECORD_ITEMS_MAX + 1]);
        let decoded = RecordList::decode(over.encode_to_vec().as_slice()).unwrap();
        assert!(decoded.records.len() == RECORD_ITEMS_MAX && decoded.is_cut());
        let headers = RecordList::new(vec![record(RECORD_ITEMS_MAX), record(3)]);
        let decoded = RecordList::decode(headers.encode_to_vec().as_slice()).unwrap();
        assert!(decoded.records == [record(3)] && decoded.is_cut());
    }
}
