//! Goldens of our bytes and of another implementation's, and properties over damaged bytes.

use duramen_types::{Offset, ProducerEpoch, ProducerId, Sequence, Term, Timestamp};
use proptest::prelude::*;

use super::*;
use crate::{
    BatchBuilder, BuildError, ErrorKind, HeaderRef, ProducerStamp, RecordRef, record_bytes,
    restamp_producer, stamp,
};

/// Written by kafka-python 3.0.12: three records, producer 4242, epoch 3, sequence 17.
const PLAIN: &[u8] = include_bytes!("../../testdata/kafka-python-none.bin");

/// Written by kafka-python 3.0.12: forty records, in every codec.
const COMPRESSED: [(Compression, &[u8]); 4] = [
    (Compression::Gzip, include_bytes!("../../testdata/kafka-python-gzip.bin")),
    (Compression::Snappy, include_bytes!("../../testdata/kafka-python-snappy.bin")),
    (Compression::Lz4, include_bytes!("../../testdata/kafka-python-lz4.bin")),
    (Compression::Zstd, include_bytes!("../../testdata/kafka-python-zstd.bin")),
];

const LIMIT: usize = 1 << 20;
const FIRST: i64 = 1_700_000_000_000;

#[derive(Clone, Debug, PartialEq, Eq)]
struct Owned {
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    timestamp: i64,
    headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

fn headers_of(record: &Owned) -> impl ExactSizeIterator<Item = HeaderRef<'_>> + Clone {
    record.headers.iter().map(|(key, value)| HeaderRef { key, value: value.as_deref() })
}

fn build(
    records: &[Owned],
    compression: Compression,
    producer: Option<ProducerStamp>,
) -> Result<Bytes, BuildError> {
    let mut builder = BatchBuilder::new(compression);
    for record in records {
        let before = builder.size_bytes();
        let plain = RecordRef {
            key: record.key.as_deref(),
            value: record.value.as_deref(),
            timestamp: Timestamp::from_millis(record.timestamp),
        };
        builder.append(plain, headers_of(record))?;
        let bound = record_bytes(plain.key, plain.value, headers_of(record));
        assert!(builder.size_bytes() - before <= bound);
    }
    builder.finish(producer)
}

fn read(batch: &BatchView<'_>) -> Result<Vec<(Offset, Owned)>, BatchError> {
    let payload = batch.payload(LIMIT)?;
    let records = batch.records(&payload).map(|record| {
        let record = record?;
        let owned = Owned {
            key: record.key.map(<[u8]>::to_vec),
            value: record.value.map(<[u8]>::to_vec),
            timestamp: record.timestamp.as_millis(),
            headers: record
                .headers
                .map(|header| (header.key.to_vec(), header.value.map(<[u8]>::to_vec)))
                .collect(),
        };
        Ok((record.offset, owned))
    });
    records.collect()
}

fn bytes(text: &str) -> Vec<u8> {
    text.as_bytes().to_vec()
}

fn plain_records() -> Vec<Owned> {
    vec![
        Owned {
            key: Some(bytes("k1")),
            value: Some(bytes("v1")),
            timestamp: FIRST,
            headers: vec![(bytes("h"), Some(bytes("x"))), (bytes("n"), None)],
        },
        Owned { key: None, value: Some(vec![]), timestamp: FIRST - 5, headers: vec![] },
        Owned {
            key: Some(vec![]),
            value: None,
            timestamp: FIRST + 7,
            headers: vec![(bytes("h"), Some(vec![]))],
        },
    ]
}

fn producer() -> ProducerStamp {
    ProducerStamp {
        id: ProducerId::new(4242),
        epoch: ProducerEpoch::new(3),
        base_sequence: Sequence::new(17),
    }
}

/// Puts right the checksum of a batch that a test has changed.
fn reseal(batch: &mut [u8]) {
    let crc = format::checksum(batch);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
}

/// `PLAIN` with bytes replaced and the checksum put right.
fn changed(place: usize, with: &[u8]) -> Vec<u8> {
    let mut batch = PLAIN.to_vec();
    batch[place..place + with.len()].copy_from_slice(with);
    reseal(&mut batch);
    batch
}

fn refusal(batch: &[u8]) -> BatchError {
    BatchView::parse(batch).and_then(|view| view.validate_produced()).unwrap_err()
}

#[test]
fn our_bytes_equal_those_of_kafka_python() {
    let ours = build(&plain_records(), Compression::None, Some(producer())).unwrap();
    let mut theirs = PLAIN.to_vec();
    // kafka-python writes leader epoch 0 where Java clients write -1; both lie outside the CRC.
    theirs[12..16].copy_from_slice(&[0xff; 4]);
    assert_eq!(ours, theirs);
}

#[test]
fn every_header_field_is_read() {
    let view = BatchView::parse(PLAIN).unwrap();
    view.validate_produced().unwrap();
    let header = view.header();
    assert_eq!(header.base_offset, Offset::ZERO);
    assert_eq!(header.size_bytes, PLAIN.len());
    assert_eq!(header.leader_epoch, Some(Term::ZERO));
    assert_eq!(header.attributes.compression(), Ok(Compression::None));
    assert_eq!(header.last_offset_delta, 2);
    assert_eq!(header.base_timestamp, Timestamp::from_millis(FIRST));
    assert_eq!(header.max_timestamp, Timestamp::from_millis(FIRST + 7));
    assert_eq!(header.producer, Some(producer()));
    assert_eq!(header.record_count, 3);
    let records = read(&view).unwrap();
    assert_eq!(records.iter().map(|(offset, _)| offset.get()).collect::<Vec<_>>(), [0, 1, 2]);
    assert_eq!(records.into_iter().map(|(_, record)| record).collect::<Vec<_>>(), plain_records());
}

#[test]
fn batches_of_another_implementation_are_read_in_every_codec() {
    for (codec, batch) in COMPRESSED {
        let view = BatchView::parse(batch).unwrap();
        view.validate_produced().unwrap();
        assert_eq!(view.header().attributes.compression(), Ok(codec));
        let records = read(&view).unwrap();
        assert_eq!(records.len(), 40, "{codec}");
        for (i, (offset, record)) in records.iter().enumerate() {
            assert_eq!(offset.get(), i as u64, "{codec}");
            assert_eq!(record.key, Some(format!("key-{}", i % 4).into_bytes()), "{codec}");
            assert_eq!(record.value, Some(bytes("the same value again and again")), "{codec}");
            assert_eq!(record.headers, [(bytes("trace"), Some(bytes("abcdef")))], "{codec}");
        }
        assert_eq!(
            view.payload(100),
            Err(BatchError::TooLargeDecompressed { limit: 100 }),
            "{codec}"
        );
    }
}

#[test]
fn a_stamp_moves_the_offsets_and_leaves_the_checksum_valid() {
    let mut batch = PLAIN.to_vec();
    stamp(&mut batch, Offset::new(1000), Term::new(7)).unwrap();
    let view = BatchView::parse(&batch).unwrap();
    view.validate_produced().unwrap();
    assert_eq!(view.header().leader_epoch, Some(Term::new(7)));
    assert_eq!(view.header().last_offset(), Offset::new(1002));
    assert_eq!(view.header().next_offset(), Offset::new(1003));
    assert_eq!(read(&view).unwrap()[2].0, Offset::new(1002));
    let before = batch.clone();
    assert!(stamp(&mut batch, Offset::new(1 << 63), Term::ZERO).is_err());
    assert!(stamp(&mut batch, Offset::ZERO, Term::new(1 << 31)).is_err());
    assert_eq!(batch, before);
    assert!(stamp(&mut batch[..60], Offset::ZERO, Term::ZERO).is_err());
}

#[test]
fn another_producer_stamp_comes_with_its_checksum() {
    let plain = build(&plain_records(), Compression::None, None).unwrap();
    let mut batch = plain.to_vec();
    restamp_producer(&mut batch, producer()).unwrap();
    let direct = build(&plain_records(), Compression::None, Some(producer())).unwrap();
    assert_eq!(batch, direct);
    let beyond = ProducerStamp { epoch: ProducerEpoch::new(u16::MAX), ..producer() };
    assert!(restamp_producer(&mut batch, beyond).is_err());
    assert_eq!(batch, direct);
}

#[test]
fn one_flipped_bit_after_the_crc_is_found() {
    for place in 21..PLAIN.len() {
        let mut batch = PLAIN.to_vec();
        batch[place] ^= 1;
        let error = BatchView::parse(&batch).and_then(|view| view.validate()).unwrap_err();
        // A field that cannot be parsed is refused before the checksum is looked at.
        let header = matches!(error, BatchError::BadField { .. });
        assert!(header || matches!(error, BatchError::BadChecksum { .. }), "{place}: {error}");
    }
}

#[test]
fn a_walk_goes_on_from_its_cursor() {
    let view = BatchView::parse(PLAIN).unwrap();
    let payload = view.payload(LIMIT).unwrap();
    let mut walk = view.records(&payload);
    let first = walk.next().unwrap().unwrap();
    let cursor = walk.cursor();
    assert_eq!(first.offset, Offset::ZERO);
    let rest: Vec<_> = view.records(&payload).resume(cursor).map(Result::unwrap).collect();
    assert_eq!(rest.iter().map(|record| record.offset.get()).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(view.records(&payload[30..]).resume(cursor).count(), 0);
}

#[test]
fn a_batch_cut_anywhere_is_truncated() {
    for length in 0..PLAIN.len() {
        let error = BatchView::parse(&PLAIN[..length]).unwrap_err();
        assert!(matches!(error, BatchError::Truncated { .. }), "{length}: {error}");
    }
    let mut longer = PLAIN.to_vec();
    longer.push(0);
    assert_eq!(refusal(&longer), BatchError::TrailingBytes { trailing: 1 });
}

#[test]
fn rules_for_produced_batches_are_typed_errors() {
    let forbidden = |what| BatchError::Forbidden { what };
    assert_eq!(refusal(&changed(22, &[0x10])), forbidden("transactional"));
    assert_eq!(refusal(&changed(22, &[0x30])), forbidden("control"));
    assert_eq!(refusal(&changed(22, &[0x08])), forbidden("log append time"));
    assert_eq!(refusal(&changed(22, &[0x40])), forbidden("delete horizon"));
    let codec = BatchError::UnsupportedCompression { codec: 5 };
    assert_eq!(refusal(&changed(22, &[0x05])), codec);
    assert_eq!(codec.kind(), ErrorKind::Unsupported);
    let field = |field, value| BatchError::BadField { field, value };
    assert_eq!(refusal(&changed(22, &[0x80])), field("attributes", 0x80));
    assert_eq!(refusal(&changed(57, &[0, 0, 0, 0])), field("record count", 0));
    assert_eq!(refusal(&changed(23, &[0, 0, 0, 1])), field("last offset delta", 1));
    assert_eq!(refusal(&changed(23, &[0, 0, 0, 3])), field("last offset delta", 3));
    assert_eq!(refusal(&changed(23, &[0xff; 4])), field("last offset delta", -1));
    assert_eq!(refusal(&changed(51, &[0xff; 2])), field("producer epoch", -1));
    assert_eq!(refusal(&changed(16, &[1])), BatchError::UnsupportedMagic { magic: 1 });
    assert_eq!(refusal(&changed(8, &[0, 0, 0, 1])), BatchError::BadLength { length: 1 });
    let mut fewer = changed(57, &[0, 0, 0, 2]);
    fewer[23..27].copy_from_slice(&[0, 0, 0, 1]);
    reseal(&mut fewer);
    assert_eq!(refusal(&fewer), BatchError::RecordCount { expected: 2 });
}

#[test]
fn offset_deltas_out_of_order_are_refused() {
    // The second record begins 18 bytes into the payload; its offset delta is its fourth byte.
    let place = HEADER_BYTES + 18 + 3;
    assert_eq!(PLAIN[place], 0x02);
    let error = refusal(&changed(place, &[0x00]));
    assert_eq!(error, BatchError::BadRecord { index: 1, part: "offset delta" });
    assert_eq!(error.kind(), ErrorKind::Corrupt);
}

#[test]
fn a_stored_batch_may_have_holes_where_a_produced_one_may_not() {
    let batch = changed(23, &[0, 0, 0, 9]);
    let view = BatchView::parse(&batch).unwrap();
    view.validate().unwrap();
    assert_eq!(view.header().next_offset(), Offset::new(10));
    assert!(view.validate_produced().is_err());
}

#[test]
fn batches_back_to_back_are_cut_apart_without_copying() {
    let mut all = PLAIN.to_vec();
    all.extend_from_slice(COMPRESSED[2].1);
    all.extend_from_slice(PLAIN);
    let all = Bytes::from(all);
    let batches = split_batches(all.clone()).collect::<Result<Vec<_>, _>>().unwrap();
    assert_eq!(batches.iter().map(|b| b.header().record_count).collect::<Vec<_>>(), [3, 40, 3]);
    assert_eq!(batches[2].bytes().as_ptr(), all[all.len() - PLAIN.len()..].as_ptr());
    assert_eq!(batches[0].payload(LIMIT).unwrap().as_ptr(), all[HEADER_BYTES..].as_ptr());

    let cut = all.slice(..all.len() - 1);
    let items: Vec<_> = split_batches(cut).map(|item| item.is_ok()).collect();
    assert_eq!(items, [true, true, false]);
}

#[test]
fn an_empty_batch_and_a_timestamp_out_of_reach_are_not_built() {
    let empty = BatchBuilder::new(Compression::None);
    assert_eq!(empty.finish(None), Err(BuildError::Empty));
    let mut records = plain_records();
    records[0].timestamp = i64::MAX;
    records[1].timestamp = -2;
    let error = build(&records, Compression::None, None).unwrap_err();
    assert_eq!(error, BuildError::TimestampRange { timestamp: -2, base: i64::MAX });
}

#[test]
fn what_does_not_shrink_is_stored_as_it_is() {
    let batch = build(&plain_records()[1..2], Compression::Zstd, None).unwrap();
    let view = BatchView::parse(&batch).unwrap();
    assert_eq!(view.header().attributes.compression(), Ok(Compression::None));
    view.validate_produced().unwrap();
}

fn any_record() -> impl Strategy<Value = Owned> {
    let field = || prop::option::of(prop::collection::vec(any::<u8>(), 0..200));
    let name = prop::collection::vec(any::<u8>(), 0..10);
    let headers = prop::collection::vec((name, field()), 0..4);
    (field(), field(), -1_i64 << 60..1 << 60, headers)
        .prop_map(|(key, value, timestamp, headers)| Owned { key, value, timestamp, headers })
}

fn any_codec() -> impl Strategy<Value = Compression> {
    prop::sample::select(Compression::ALL.to_vec())
}

/// Every decoder on these bytes; a panic is the only failure.
fn decode_all(bytes: &[u8]) {
    for batch in split_batches(Bytes::copy_from_slice(bytes)).flatten() {
        let view = batch.view();
        drop(view.validate());
        drop(view.validate_produced());
        if let Ok(payload) = batch.payload(LIMIT) {
            for record in batch.records(&payload).flatten() {
                assert!(record.headers.clone().count() <= record.headers.len());
            }
        }
    }
}

proptest! {
    #[test]
    fn records_round_trip(
        records in prop::collection::vec(any_record(), 1..60),
        codec in any_codec(),
        stamped: bool,
    ) {
        let producer = stamped.then(producer);
        let batch = build(&records, codec, producer).unwrap();
        let view = BatchView::parse(&batch).unwrap();
        view.validate_produced().unwrap();
        prop_assert_eq!(view.header().producer, producer);
        let largest = records.iter().map(|record| record.timestamp).max().unwrap();
        prop_assert_eq!(view.header().max_timestamp.as_millis(), largest);
        let back: Vec<_> = read(&view).unwrap().into_iter().map(|(_, record)| record).collect();
        prop_assert_eq!(back, records);
    }

    #[test]
    fn no_bytes_make_a_decoder_panic(bytes: Vec<u8>) {
        decode_all(&bytes);
    }

    #[test]
    fn no_damage_makes_a_decoder_panic(
        records in prop::collection::vec(any_record(), 1..10),
        codec in any_codec(),
        hits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut batch = build(&records, codec, None).unwrap().to_vec();
        for (place, byte) in hits {
            let place = place.index(batch.len());
            batch[place] = byte;
        }
        decode_all(&batch);
        // With a right checksum the damage reaches the decoders behind it.
        reseal(&mut batch);
        decode_all(&batch);
    }
}
