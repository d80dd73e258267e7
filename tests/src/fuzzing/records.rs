//! Record batches, and payloads of every codec, bombs among them.

use bytes::Bytes;
use duramen_env::fuzz::{Decoder, MemoryLimit, Verdict};
use duramen_record::fuzz::seal_batches;
use duramen_record::{
    BatchBuilder, BatchHeader, BatchView, Compression, HEADER_BYTES, HeaderRef, ProducerStamp,
    RecordRef, split_batches, stamp,
};
use duramen_types::{Offset, ProducerEpoch, ProducerId, Sequence, Term, Timestamp};

/// What a payload may become here.
const OUTPUT_BYTES_MAX: usize = 1 << 20;

/// A vector that grows to the cap is there twice; a codec's window is at most 8 MiB.
const OPENED: MemoryLimit = MemoryLimit { base: (8 << 20) + 4 * OUTPUT_BYTES_MAX, per_byte: 64 };

/// Batches whole, then payloads by codec.
pub(super) const DECODERS: &[Decoder] = &[
    Decoder {
        name: "record-batch",
        run: batches,
        seeds: || {
            let mut seeds: Vec<_> = Compression::ALL.into_iter().filter_map(built).collect();
            seeds.push(seeds.concat());
            seeds
        },
        seal: Some(seal_batches),
        memory: OPENED,
    },
    payload(
        "decompress-gzip",
        |bytes| opened(Compression::Gzip, bytes),
        || packed(Compression::Gzip),
    ),
    payload(
        "decompress-snappy",
        |bytes| opened(Compression::Snappy, bytes),
        || packed(Compression::Snappy),
    ),
    payload("decompress-lz4", |bytes| opened(Compression::Lz4, bytes), || packed(Compression::Lz4)),
    payload(
        "decompress-zstd",
        |bytes| opened(Compression::Zstd, bytes),
        || packed(Compression::Zstd),
    ),
];

const fn payload(
    name: &'static str,
    run: fn(&[u8]) -> Verdict,
    seeds: fn() -> Vec<Vec<u8>>,
) -> Decoder {
    Decoder { name, run, seeds, seal: None, memory: OPENED }
}

/// A run of batches: cut apart, validated, opened, walked, and stamped as a leader does.
fn batches(bytes: &[u8]) -> Verdict {
    let bytes = Bytes::copy_from_slice(bytes);
    let mut accepted = !bytes.is_empty();
    for batch in split_batches(bytes) {
        let Ok(batch) = batch else { return Verdict::Refused };
        let view = batch.view();
        let sound = view.validate().is_ok();
        if view.validate_produced().is_ok() && !sound {
            return Verdict::Broken("a produced batch is valid and the batch is not");
        }
        let walked: Result<Vec<Offset>, _> = match batch.payload(OUTPUT_BYTES_MAX) {
            Ok(payload) => {
                batch.records(&payload).map(|record| record.map(|one| one.offset)).collect()
            }
            Err(error) => Err(error),
        };
        accepted &= sound && walked.is_ok();
        if let Ok(offsets) = walked {
            if offsets.len() as u64 != u64::from(batch.header().record_count) {
                return Verdict::Broken("another number of records than the header says");
            }
            if offsets.windows(2).any(|pair| pair[0] >= pair[1] && pair[0].get() < u64::MAX) {
                return Verdict::Broken("offsets do not rise");
            }
        }
        if let Some(broken) = stamped(batch.header(), batch.bytes(), sound) {
            return broken;
        }
    }
    if accepted { Verdict::Accepted } else { Verdict::Refused }
}

/// The stamp of a leader changes its two fields and nothing else.
fn stamped(header: &BatchHeader, bytes: &[u8], sound: bool) -> Option<Verdict> {
    let mut copy = bytes.to_vec();
    stamp(&mut copy, Offset::new(77), Term::new(3)).ok()?;
    let Ok(view) = BatchView::parse(&copy) else {
        return Some(Verdict::Broken("a stamped batch cannot be read"));
    };
    let expected = BatchHeader {
        base_offset: Offset::new(77),
        leader_epoch: Some(Term::new(3)),
        ..header.clone()
    };
    if *view.header() != expected || (sound && view.verify_checksum().is_err()) {
        return Some(Verdict::Broken("a stamp changes more than its fields"));
    }
    None
}

/// A payload in a batch whose header is right.
fn opened(compression: Compression, bytes: &[u8]) -> Verdict {
    let Some(mut batch) = built(Compression::None) else { return Verdict::Refused };
    batch.truncate(HEADER_BYTES);
    batch.extend_from_slice(bytes);
    let Ok(length) = i32::try_from(batch.len() - 12) else { return Verdict::Refused };
    batch[8..12].copy_from_slice(&length.to_be_bytes());
    batch[21..23].copy_from_slice(&u16::from(compression.code()).to_be_bytes());
    seal_batches(&mut batch);
    let Ok(view) = BatchView::parse(&batch) else {
        return Verdict::Broken("a batch with a right header cannot be read");
    };
    if view.verify_checksum().is_err() {
        return Verdict::Broken("a sealed batch does not check");
    }
    match view.payload(OUTPUT_BYTES_MAX) {
        Ok(payload) if payload.len() > OUTPUT_BYTES_MAX => {
            Verdict::Broken("a payload is larger than its cap")
        }
        Ok(payload) => {
            // Whatever came out, walking it ends.
            drop(view.records(&payload).check());
            Verdict::Accepted
        }
        Err(_) => Verdict::Refused,
    }
}

/// A batch of twenty records, made by the product.
fn built(compression: Compression) -> Option<Vec<u8>> {
    let mut builder = BatchBuilder::new(compression);
    for place in 0..20_i64 {
        let record = RecordRef {
            key: (place % 3 != 0).then_some(b"key"),
            value: (place % 5 != 0).then_some(b"a value that repeats, a value that repeats"),
            timestamp: Timestamp::from_millis(1_700_000_000_000 + place * 7),
        };
        let headers =
            [HeaderRef { key: b"h", value: None }, HeaderRef { key: b"", value: Some(b"v") }];
        builder.append(record, headers.into_iter()).ok()?;
    }
    let producer = ProducerStamp {
        id: ProducerId::new(5),
        epoch: ProducerEpoch::new(1),
        base_sequence: Sequence::new(40),
    };
    builder.finish(Some(producer)).ok().map(|batch| batch.to_vec())
}

/// Compressed payloads: an ordinary one, and one that becomes just what is allowed.
fn packed(compression: Compression) -> Vec<Vec<u8>> {
    let zeros = |bytes| {
        let mut builder = BatchBuilder::new(compression);
        let record = RecordRef { value: Some(bytes), ..RecordRef::default() };
        builder.append(record, [].into_iter()).ok()?;
        builder.finish(None).ok().map(|batch| batch.to_vec())
    };
    let large = vec![0; OUTPUT_BYTES_MAX - 100];
    let batches = [built(compression), zeros(&large)].into_iter().flatten();
    batches.filter_map(|batch| Some(batch.get(HEADER_BYTES..)?.to_vec())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bomb_is_refused_by_every_codec() {
        for codec in Compression::ALL.into_iter().skip(1) {
            let zeros = vec![0; 2 * OUTPUT_BYTES_MAX];
            let mut builder = BatchBuilder::new(codec);
            let record = RecordRef { value: Some(&zeros), ..RecordRef::default() };
            builder.append(record, [].into_iter()).unwrap();
            let batch = builder.finish(None).unwrap();
            assert!(batch.len() < OUTPUT_BYTES_MAX / 8, "{codec}");
            assert_eq!(opened(codec, &batch[HEADER_BYTES..]), Verdict::Refused, "{codec}");
        }
    }
}
