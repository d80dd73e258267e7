//! The bytes on disk, pinned: a change of any of these is a new format version.

use bytes::Bytes;
use duramen_types::{LogIndex, NodeId, Offset, Term, Timestamp};
use proptest::prelude::{any, proptest};

use super::identity;
use crate::boundary::Boundary;
use crate::format::frame::{Envelope, chain_after, decode_canonical, decode_head, encode_head};
use crate::format::index::{IndexHead, decode_entry, encode_entries};
use crate::format::meta::MetaRecord;
use crate::format::segment::SegmentHead;
use crate::format::start::StartFile;
use crate::format::{index, meta, segment, start};
use crate::segment::SegmentId;
use crate::sparse::SparseEntry;
use crate::{FrameFault, FrameHeader, FrameKind, LogStart};

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Compares in pieces of eight bytes, so that a difference shows where it is.
fn check(bytes: &[u8], expected: &[&str]) {
    let found: Vec<String> = bytes.chunks(8).map(hex).collect();
    assert_eq!(found, expected, "{found:#?}");
}

const ID: SegmentId = SegmentId([0xa5; 16]);

fn header() -> FrameHeader {
    let mut header = FrameHeader {
        kind: FrameKind::Data,
        term: Term::new(0x11),
        leader: NodeId::new(0x22),
        index: LogIndex::new(0x33),
        base_offset: Offset::new(0x44),
        records: 0x55,
        append_time: Timestamp::from_millis(0x66),
        max_timestamp: Timestamp::MIN,
        payload_len: 3,
        payload_crc: crc32fast::hash(b"abc"),
        chain: 0,
    };
    header.chain = chain_after(0x77, &header);
    header
}

fn boundary() -> Boundary {
    Boundary {
        index: LogIndex::new(1),
        offset: Offset::new(2),
        term: Some(Term::new(3)),
        chain: 4,
        append_time: Timestamp::from_millis(5),
    }
}

#[test]
fn a_frame_head_is_these_bytes() {
    let envelope = Envelope { segment: ID, generation: 6, durable_end: LogIndex::new(7) };
    let bytes = encode_head(&envelope, &header());
    check(
        &bytes,
        &[
            "4446524d01000000",
            "a5a5a5a5a5a5a5a5",
            "a5a5a5a5a5a5a5a5",
            "0600000000000000",
            "0700000000000000",
            "4199660100000000",
            "0100000055000000",
            "1100000000000000",
            "2200000000000000",
            "3300000000000000",
            "4400000000000000",
            "6600000000000000",
            "0000000000000080",
            "03000000c2412435",
            "d6f5bbb12111e706",
        ],
    );
    assert_eq!(decode_head(&bytes), Ok((envelope, header())));
    assert_eq!(FrameHeader::decode(&header().encode()), Ok(header()));
}

#[test]
fn a_segment_head_is_these_bytes() {
    let head = SegmentHead { id: ID, base: boundary() };
    let bytes = segment::encode(&head);
    check(
        &bytes,
        &[
            "4455525345474d54",
            "0100000001000000",
            "a5a5a5a5a5a5a5a5",
            "a5a5a5a5a5a5a5a5",
            "0100000000000000",
            "0200000000000000",
            "0300000000000000",
            "0400000000000000",
            "0500000000000000",
            "0000000000000000",
            "0000000000000000",
            "0000000000000000",
            "0000000000000000",
            "0000000000000000",
            "0000000000000000",
            "00000000667c2e71",
        ],
    );
    assert_eq!(segment::decode(&bytes), Ok(head));
}

#[test]
fn a_meta_slot_is_these_bytes() {
    let record = MetaRecord {
        identity: identity(1),
        sequence: 2,
        generation: 3,
        durable_end: LogIndex::new(4),
        committed_end: LogIndex::new(5),
        clean: true,
        cut_end: Some(LogIndex::new(6)),
    };
    let bytes = meta::encode(&record);
    check(
        &bytes[..88],
        &[
            "4455524c4d455441",
            "0100000003000000",
            "0909090909090909",
            "0909090909090909",
            "0100000000000000",
            "0200000000000000",
            "0300000000000000",
            "0400000000000000",
            "0500000000000000",
            "0600000000000000",
            "0000000000000000",
        ],
    );
    check(&bytes[4088..], &["00000000011781b6"]);
    assert!(bytes[88..4092].iter().all(|byte| *byte == 0));
    assert_eq!(meta::decode(&bytes), Ok(record));
}

#[test]
fn a_log_start_is_these_bytes() {
    let start = LogStart { state: Bytes::from_static(b"state"), ..LogStart::at(boundary()) };
    let file = StartFile { identity: identity(1), start, reset: true };
    let bytes = start::encode(&file);
    check(
        &bytes,
        &[
            "4455525354415254",
            "0100000003000000",
            "0909090909090909",
            "0909090909090909",
            "0100000000000000",
            "0100000000000000",
            "0200000000000000",
            "0300000000000000",
            "0400000000000000",
            "0500000000000000",
            "050000003f5ab2a7",
            "7374617465",
        ],
    );
    assert_eq!(start::decode(&bytes), Ok(file));
}

#[test]
fn an_index_is_these_bytes() {
    let entry = SparseEntry {
        index: LogIndex::new(1),
        offset: Offset::new(2),
        position: 3,
        max_before: Timestamp::from_millis(4),
        term: Term::new(5),
        payload_len: 6,
        payload_crc: 7,
    };
    let entries = encode_entries(&[entry]);
    check(
        &entries,
        &[
            "0100000000000000",
            "0200000000000000",
            "0300000000000000",
            "0400000000000000",
            "0500000000000000",
            "0600000007000000",
        ],
    );
    assert_eq!(decode_entry(&entries, 0), Some(entry));
    let head = IndexHead {
        id: ID,
        generation: 8,
        bytes: 9,
        sealed: true,
        base: boundary(),
        end: Boundary::ORIGIN,
        first_append_time: Timestamp::from_millis(10),
        max_timestamp: Timestamp::from_millis(11),
        terms: vec![(Term::new(12), LogIndex::new(13))],
        entries: 1,
        entries_crc: crc32fast::hash(&entries),
    };
    let bytes = index::encode_head(&head);
    check(
        &bytes,
        &[
            "445552494e444558",
            "0100000003000000",
            "a5a5a5a5a5a5a5a5",
            "a5a5a5a5a5a5a5a5",
            "0800000000000000",
            "0900000000000000",
            "0100000000000000",
            "0200000000000000",
            "0300000000000000",
            "0400000000000000",
            "0500000000000000",
            "0000000000000000",
            "0000000000000000",
            "0000000000000000",
            "0000000000000000",
            "0000000000000080",
            "0a00000000000000",
            "0b00000000000000",
            "0100000001000000",
            "4e0739cb05dcf49c",
            "0c00000000000000",
            "0d00000000000000",
        ],
    );
    assert_eq!(index::head_bytes(&bytes), Some(bytes.len() as u64));
    assert_eq!(index::decode_head(&bytes), Some(head));
}

#[test]
fn every_flipped_bit_of_a_head_is_noticed() {
    let envelope = Envelope { segment: ID, generation: 6, durable_end: LogIndex::new(7) };
    let sound = encode_head(&envelope, &header());
    for bit in 0..sound.len() * 8 {
        let mut bytes = sound;
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert!(decode_head(&bytes).is_err(), "bit {bit}");
    }
}

#[test]
fn a_header_of_an_unknown_kind_is_refused() {
    let mut bytes = header().encode();
    bytes[0] = 9;
    assert_eq!(decode_canonical(&bytes), Err(FrameFault::Kind(9)));
    assert_eq!(FrameHeader::decode(&bytes[1..]), Err(FrameFault::Short));
}

proptest! {
    #[test]
    fn decoders_take_any_bytes(bytes: Vec<u8>, magic in 0..6usize) {
        let magics: [&[u8]; 6] =
            [b"", b"DFRM", b"DURSEGMT", b"DURLMETA", b"DURSTART", b"DURINDEX"];
        let bytes = [magics[magic], &bytes[..]].concat();
        let decoded = [
            decode_head(&bytes).is_ok(),
            segment::decode(&bytes).is_ok(),
            meta::decode(&bytes).is_ok(),
            start::decode(&bytes).is_ok(),
            index::decode_head(&bytes).is_some(),
        ];
        // All of them carry a checksum.
        assert_eq!(decoded, [false; 5]);
        let _any = (index::head_bytes(&bytes), decode_entry(&bytes, 0));
    }

    #[test]
    fn a_header_survives_its_encoding(
        kind in any::<Option<u8>>(), term: u64, leader: u64, index: u64, base_offset: u64,
        times: (i64, i64), numbers: (u32, u32, u32, u64),
    ) {
        let header = FrameHeader {
            kind: kind.map_or(FrameKind::Data, FrameKind::Internal),
            term: Term::new(term),
            leader: NodeId::new(leader),
            index: LogIndex::new(index),
            base_offset: Offset::new(base_offset),
            records: numbers.0,
            append_time: Timestamp::from_millis(times.0),
            max_timestamp: Timestamp::from_millis(times.1),
            payload_len: numbers.1,
            payload_crc: numbers.2,
            chain: numbers.3,
        };
        assert_eq!(FrameHeader::decode(&header.encode()), Ok(header));
    }
}
