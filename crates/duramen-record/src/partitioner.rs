//! Kafka's default partitioner: murmur2 of the key, so that keys of different clients meet in one
//! partition.

use duramen_types::PartitionId;

const SEED: u32 = 0x9747_b28c;
const MULTIPLIER: u32 = 0x5bd1_e995;
const SHIFT: u32 = 24;

/// The partition that Kafka's clients choose for this key, of `partitions` many.
///
/// With zero partitions the answer is partition 0.
#[must_use]
pub fn partition_for_key(key: &[u8], partitions: u32) -> PartitionId {
    let positive = murmur2(key) & 0x7fff_ffff;
    PartitionId::new(positive.checked_rem(partitions).unwrap_or(0))
}

/// The 32-bit murmur2 hash with the seed of Kafka's clients (`Utils.murmur2`).
#[must_use]
pub fn murmur2(data: &[u8]) -> u32 {
    #[expect(clippy::cast_possible_truncation, reason = "the hash takes the length modulo 2^32")]
    let mut hash = SEED ^ data.len() as u32;
    let (words, tail) = data.as_chunks::<4>();
    for word in words {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(MULTIPLIER);
        k ^= k >> SHIFT;
        hash = hash.wrapping_mul(MULTIPLIER) ^ k.wrapping_mul(MULTIPLIER);
    }
    if !tail.is_empty() {
        for (place, byte) in tail.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * place);
        }
        hash = hash.wrapping_mul(MULTIPLIER);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(MULTIPLIER);
    hash ^ (hash >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The vectors of Apache Kafka's `UtilsTest.testMurmur2`.
    #[test]
    fn hashes_equal_those_of_kafka() {
        for (key, expected) in [
            ("21", -973_932_308_i32),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
        ] {
            assert_eq!(murmur2(key.as_bytes()).cast_signed(), expected, "{key}");
        }
    }

    #[test]
    fn the_sign_bit_is_dropped_before_the_remainder() {
        let positive = (-973_932_308_i32 & 0x7fff_ffff).cast_unsigned();
        assert_eq!(partition_for_key(b"21", 12).get(), positive % 12);
        assert_eq!(partition_for_key(b"21", 0).get(), 0);
    }
}
