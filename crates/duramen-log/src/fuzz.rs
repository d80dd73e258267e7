//! The decoders of the log's files, for the fuzzer.

mod directory;
mod seal;

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use duramen_env::fuzz::{Decoder, MemoryLimit, Verdict, round_trip};
use duramen_env::{Disk, OpenMode, SimDisk};
use duramen_types::{ClusterId, LogIndex, Offset, ReplicaId, Term, Timestamp};

use crate::boundary::Boundary;
use crate::format::index::{self, IndexHead};
use crate::format::meta::MetaRecord;
use crate::format::segment::SegmentHead;
use crate::format::start::StartFile;
use crate::format::{frame, meta, segment, start};
use crate::segment::SegmentId;
use crate::{FrameHeader, LogIdentity, LogStart, verify};

/// Recovery reads files in chunks of up to a mebibyte; the simulated disk keeps what was written
/// and what is durable apart.
const DIRECTORY: MemoryLimit = MemoryLimit { base: 1 << 20, per_byte: 64 };

/// Everything that the log reads from disk.
pub const DECODERS: &[Decoder] = &[
    Decoder {
        name: "log-frame",
        run: frame_head,
        seeds: directory::frames,
        seal: Some(seal::frame),
        memory: MemoryLimit::FIELDS,
    },
    Decoder {
        name: "log-header",
        run: |bytes| {
            round_trip(bytes, |bytes| FrameHeader::decode(bytes).ok(), FrameHeader::encode)
        },
        seeds: || directory::frames().iter().map(|bytes| bytes[48..120].to_vec()).collect(),
        seal: None,
        memory: MemoryLimit::FIELDS,
    },
    Decoder {
        name: "log-segment-head",
        run: |bytes| round_trip(bytes, |bytes| segment::decode(bytes).ok(), segment::encode),
        seeds: || vec![segment::encode(&SegmentHead { id: ID, base: base() }).to_vec()],
        seal: Some(seal::segment_head),
        memory: MemoryLimit::FIELDS,
    },
    Decoder {
        name: "log-index",
        run: index_file,
        seeds: || directory::files(".index"),
        seal: Some(seal::index),
        memory: MemoryLimit::FIELDS,
    },
    Decoder {
        name: "log-meta",
        run: |bytes| round_trip(bytes, |bytes| meta::decode(bytes).ok(), meta::encode),
        seeds: || vec![meta::encode(&meta_record()).to_vec()],
        seal: Some(seal::meta),
        memory: MemoryLimit::FIELDS,
    },
    Decoder {
        name: "log-start",
        run: |bytes| round_trip(bytes, |bytes| start::decode(bytes).ok(), start::encode),
        seeds: || vec![start::encode(&start_file())],
        seal: Some(seal::start),
        memory: MemoryLimit::FIELDS,
    },
    Decoder {
        name: "log-segment",
        run: segment_file,
        seeds: || directory::files(".log"),
        seal: Some(seal::segment),
        memory: DIRECTORY,
    },
    Decoder {
        name: "log-directory",
        run: directory::recover,
        seeds: directory::seeds,
        seal: Some(seal::directory),
        memory: DIRECTORY,
    },
];

const ID: SegmentId = SegmentId([7; 16]);

fn base() -> Boundary {
    Boundary {
        index: LogIndex::new(40),
        offset: Offset::new(90),
        term: Some(Term::new(3)),
        chain: 0x0123_4567_89ab_cdef,
        append_time: Timestamp::from_millis(1_700_000_000_000),
    }
}

fn identity() -> LogIdentity {
    LogIdentity { cluster: ClusterId::from_bytes([9; 16]), replica: ReplicaId::new(7) }
}

fn meta_record() -> MetaRecord {
    MetaRecord {
        identity: identity(),
        sequence: 12,
        generation: 2,
        durable_end: LogIndex::new(40),
        committed_end: LogIndex::new(38),
        clean: false,
        cut_end: Some(LogIndex::new(39)),
    }
}

fn start_file() -> StartFile {
    let state = Bytes::from_static(b"state of the caller");
    let start = LogStart { state, ..LogStart::at(base()) };
    StartFile { identity: identity(), start, reset: true }
}

fn frame_head(bytes: &[u8]) -> Verdict {
    let decode = |bytes: &[u8]| frame::decode_head(bytes).ok();
    if let Some((_, header)) = decode(bytes) {
        // What readers compute from a header before they trust anything else of the frame.
        let end = header.frame_bytes();
        if end < u64::from(header.payload_len) || header.end_offset() < header.base_offset {
            return Verdict::Broken("a frame ends before it begins");
        }
        frame::padding(&header);
        frame::chain_after(header.chain, &header);
    }
    round_trip(bytes, decode, |(envelope, header)| frame::encode_head(envelope, header))
}

fn index_file(bytes: &[u8]) -> Verdict {
    let Some(len) = index::head_bytes(bytes).and_then(|len| usize::try_from(len).ok()) else {
        return Verdict::Refused;
    };
    let Some((head, entries)) = bytes.split_at_checked(len) else { return Verdict::Refused };
    let decoded: Vec<_> = (0..).map_while(|at| index::decode_entry(entries, at)).collect();
    let whole = &entries[..decoded.len() * index::ENTRY_BYTES];
    if index::encode_entries(&decoded) != whole {
        return Verdict::Broken("sparse entries do not survive their encoding");
    }
    if let Some(head) = index::decode_head(head) {
        head.file_bytes();
    }
    round_trip(head, index::decode_head, |head: &IndexHead| index::encode_head(head))
}

/// One segment file of any log, as `dump` reads it.
fn segment_file(bytes: &[u8]) -> Verdict {
    let disk: Arc<dyn Disk> = Arc::new(SimDisk::new(1));
    let path = Path::new("/00000000000000000000.log");
    let written = disk.open(path, OpenMode::CreateNew).and_then(|file| file.write_at(bytes, 0));
    if written.is_err() {
        return Verdict::Broken("the simulated disk refused a file");
    }
    let mut sound = 0;
    let mut lie = None;
    let shown = verify::dump_file(&disk, path, &mut |sight| {
        sound += 1;
        if crc32fast::hash(sight.payload) != sight.header.payload_crc {
            lie = Some("a frame was shown whose payload does not check");
        }
    });
    match (shown, lie) {
        (_, Some(lie)) => Verdict::Broken(lie),
        (Ok(bad), None) if bad.is_empty() && sound > 0 => Verdict::Accepted,
        _ => Verdict::Refused,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_seed_is_accepted_also_after_it_was_sealed() {
        for decoder in DECODERS {
            let seeds = (decoder.seeds)();
            assert!(!seeds.is_empty(), "{}", decoder.name);
            for mut seed in seeds {
                assert_eq!((decoder.run)(&seed), Verdict::Accepted, "{}", decoder.name);
                let Some(seal) = decoder.seal else { continue };
                let before = seed.clone();
                seal(&mut seed);
                assert_eq!(seed, before, "sealing changes nothing that is sound: {}", decoder.name);
            }
        }
    }
}
