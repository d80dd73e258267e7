//! What a node reads about itself, and the batches that it opens, for the fuzzer.

use std::path::Path;

use bytes::Bytes;
use duramen_env::fuzz::{Decoder, MemoryLimit, Verdict, round_trip};
use duramen_env::{SeededRandom, SimDisk};
use duramen_record::fuzz::seal_batches;
use duramen_types::{ClusterId, NodeId, Offset, Timestamp};

use crate::identity::{Founder, Identity, Phase};
use crate::produce;

/// A node's identity, and what is produced.
pub const DECODERS: &[Decoder] = &[
    Decoder {
        name: "node-identity",
        run: identity,
        seeds: identities,
        seal: None,
        memory: MemoryLimit::MESSAGES,
    },
    Decoder {
        name: "produced-batches",
        run: produced,
        seeds: || batches().into_iter().collect(),
        seal: Some(seal_batches),
        memory: MemoryLimit { base: 64 << 10, per_byte: 64 },
    },
];

fn identity(bytes: &[u8]) -> Verdict {
    let decode = |bytes: &[u8]| serde_json::from_slice::<Identity>(bytes).ok();
    if let Some(identity) = decode(bytes) {
        // What a starting node asks of it.
        if identity.cluster().is_some() && *identity.phase() == Phase::Empty {
            return Verdict::Broken("an empty node belongs to a cluster");
        }
    }
    round_trip(bytes, decode, |identity| serde_json::to_vec_pretty(identity).unwrap_or_default())
}

fn identities() -> Vec<Vec<u8>> {
    let disk = SimDisk::new(1);
    let random = SeededRandom::new(1);
    let opened = Identity::open(&disk, &random, Path::new("/node"), NodeId::new(1));
    let Ok(mut identity) = opened else { return Vec::new() };
    let cluster = ClusterId::from_bytes([5; 16]).to_string();
    let founder = Founder { node: 1, incarnation: 2, peer_address: "127.0.0.1:7651".into() };
    let founders = vec![founder.clone(), Founder { node: 2, ..founder }];
    let phases = [
        Phase::Empty,
        Phase::Forming { cluster: cluster.clone(), founders: founders.clone(), first: true },
        Phase::Joining { cluster: cluster.clone(), founders: founders.clone() },
        Phase::Member { cluster, founders },
    ];
    let mut seeds = Vec::new();
    for phase in phases {
        if identity.enter(&disk, Path::new("/node"), phase).is_ok() {
            seeds.push(serde_json::to_vec_pretty(&identity).unwrap_or_default());
        }
    }
    seeds
}

/// Batches as the node validates them, and as it opens them for clients without batch code.
fn produced(bytes: &[u8]) -> Verdict {
    let bytes = Bytes::copy_from_slice(bytes);
    let Some(records) = produce::validated_records(bytes.clone()) else {
        return Verdict::Refused;
    };
    let (from, below) = (Offset::ZERO, Offset::new(u64::MAX));
    match crate::plain_records(&[bytes], from, below) {
        Ok(plain)
            if plain.next_offset == below && plain.records.len() as u64 != u64::from(records) =>
        {
            Verdict::Broken("a validated batch has another number of records than it says")
        }
        Ok(_) => Verdict::Accepted,
        // What is compressed is opened by its readers, who may find it damaged.
        Err(_) => Verdict::Refused,
    }
}

fn batches() -> Option<Vec<u8>> {
    let record = crate::PlainRecord {
        key: Some(Bytes::from_static(b"key")),
        value: Some(Bytes::from_static(b"a value, a value, a value")),
        headers: vec![("h".to_owned(), None)],
        ..crate::PlainRecord::default()
    };
    let now = Timestamp::from_millis(1_700_000_000_000);
    let one = produce::build(&[record.clone(), record], None, now).ok()?;
    Some([&one[..], &one[..]].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_seed_is_accepted() {
        for decoder in DECODERS {
            let seeds = (decoder.seeds)();
            assert!(!seeds.is_empty(), "{}", decoder.name);
            for seed in seeds {
                assert_eq!((decoder.run)(&seed), Verdict::Accepted, "{}", decoder.name);
            }
        }
    }
}
