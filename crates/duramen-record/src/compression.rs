//! The codecs of a batch payload, compressing whole payloads and decompressing under a cap.

mod lz4;
mod snappy;

use std::borrow::Cow;
use std::fmt;
use std::io::{self, Read, Write};
use std::str::FromStr;

use thiserror::Error;

use crate::BatchError;

/// How a payload is compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Compression {
    /// Not at all.
    #[default]
    None,
    /// RFC 1952.
    Gzip,
    /// Snappy: written in the block stream of Java clients, read so or as one raw block.
    Snappy,
    /// The LZ4 frame format.
    Lz4,
    /// RFC 8878.
    Zstd,
}

impl Compression {
    /// Every codec.
    pub const ALL: [Self; 5] = [Self::None, Self::Gzip, Self::Snappy, Self::Lz4, Self::Zstd];

    /// The codec's number in the attributes of a batch.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::None => 0,
            Self::Gzip => 1,
            Self::Snappy => 2,
            Self::Lz4 => 3,
            Self::Zstd => 4,
        }
    }

    /// The codec of this number.
    ///
    /// # Errors
    /// [`BatchError::UnsupportedCompression`] for a number that no codec has.
    pub const fn from_code(code: u8) -> Result<Self, BatchError> {
        match code {
            0 => Ok(Self::None),
            1 => Ok(Self::Gzip),
            2 => Ok(Self::Snappy),
            3 => Ok(Self::Lz4),
            4 => Ok(Self::Zstd),
            codec => Err(BatchError::UnsupportedCompression { codec }),
        }
    }

    /// The name as configuration spells it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A name that is no codec's.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("compression is one of none, gzip, snappy, lz4, zstd")]
pub struct UnknownCompression;

impl FromStr for Compression {
    type Err = UnknownCompression;

    fn from_str(name: &str) -> Result<Self, UnknownCompression> {
        Self::ALL.into_iter().find(|codec| codec.name() == name).ok_or(UnknownCompression)
    }
}

/// Appends the compressed form of `payload` to `output`.
pub(crate) fn compress(
    compression: Compression,
    payload: &[u8],
    output: &mut Vec<u8>,
) -> io::Result<()> {
    match compression {
        Compression::None => output.write_all(payload),
        Compression::Gzip => {
            let level = flate2::Compression::default();
            let mut encoder = flate2::write::GzEncoder::new(output, level);
            encoder.write_all(payload)?;
            encoder.finish().map(drop)
        }
        Compression::Snappy => snappy::compress(payload, output),
        Compression::Lz4 => lz4::compress(payload, output),
        Compression::Zstd => {
            let mut encoder = zstd::stream::write::Encoder::new(output, ZSTD_LEVEL)?;
            encoder.set_pledged_src_size(Some(payload.len() as u64))?;
            encoder.write_all(payload)?;
            encoder.finish().map(drop)
        }
    }
}

/// Decompresses a payload into at most `limit` bytes, as it streams: memory grows with what comes
/// out, not with what a header promises.
pub(crate) fn decompress(
    compression: Compression,
    payload: &[u8],
    limit: usize,
) -> Result<Cow<'_, [u8]>, BatchError> {
    let output = match compression {
        Compression::None if payload.len() > limit => {
            return Err(BatchError::TooLargeDecompressed { limit });
        }
        Compression::None => return Ok(Cow::Borrowed(payload)),
        Compression::Gzip => read_capped(flate2::bufread::MultiGzDecoder::new(payload), limit),
        Compression::Snappy => snappy::decompress(payload, limit),
        Compression::Lz4 => lz4::decompress(payload, limit),
        Compression::Zstd => zstd_decoder(payload, limit)
            .map_err(Failure::from)
            .and_then(|decoder| read_capped(decoder, limit)),
    };
    output.map(Cow::Owned).map_err(|failure| match failure {
        Failure::Limit => BatchError::TooLargeDecompressed { limit },
        Failure::Malformed => BatchError::Decompress { compression },
    })
}

/// The level at which zstd compresses: its own default.
const ZSTD_LEVEL: i32 = 3;

/// The largest window that ordinary zstd levels use (level 19): 8 MiB.
const ZSTD_WINDOW_LOG_MIN: u32 = 23;
/// The largest window that the decoder takes at all: 128 MiB.
const ZSTD_WINDOW_LOG_MAX: u32 = 27;

/// A decoder that takes no window larger than the output may become.
fn zstd_decoder(
    payload: &[u8],
    limit: usize,
) -> io::Result<zstd::stream::read::Decoder<'static, &[u8]>> {
    let mut decoder = zstd::stream::read::Decoder::with_buffer(payload)?;
    let window = usize::BITS - limit.leading_zeros();
    decoder.window_log_max(window.clamp(ZSTD_WINDOW_LOG_MIN, ZSTD_WINDOW_LOG_MAX))?;
    Ok(decoder)
}

/// Why a payload was not decompressed.
enum Failure {
    Limit,
    Malformed,
}

impl From<io::Error> for Failure {
    fn from(_: io::Error) -> Self {
        Self::Malformed
    }
}

/// Reads to the end, but no more than `limit` bytes.
fn read_capped(reader: impl Read, limit: usize) -> Result<Vec<u8>, Failure> {
    let mut output = Vec::new();
    reader.take((limit as u64).saturating_add(1)).read_to_end(&mut output)?;
    if output.len() > limit { Err(Failure::Limit) } else { Ok(output) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_codec() -> impl Strategy<Value = Compression> {
        prop::sample::select(Compression::ALL.to_vec())
    }

    #[test]
    fn a_bomb_is_an_error_and_not_an_allocation() {
        let zeros = vec![0; 8 << 20];
        for codec in Compression::ALL {
            let mut bomb = Vec::new();
            compress(codec, &zeros, &mut bomb).unwrap();
            assert_eq!(
                decompress(codec, &bomb, 64 << 10),
                Err(BatchError::TooLargeDecompressed { limit: 64 << 10 }),
                "{codec}"
            );
            assert_eq!(decompress(codec, &bomb, zeros.len()).unwrap(), zeros, "{codec}");
        }
    }

    #[test]
    fn names_and_codes_round_trip() {
        for codec in Compression::ALL {
            assert_eq!(codec.name().parse(), Ok(codec));
            assert_eq!(Compression::from_code(codec.code()), Ok(codec));
        }
        assert_eq!("brotli".parse::<Compression>(), Err(UnknownCompression));
        for codec in 5..8 {
            let error = BatchError::UnsupportedCompression { codec };
            assert_eq!(Compression::from_code(codec), Err(error));
        }
    }

    proptest! {
        #[test]
        fn payloads_round_trip(codec in any_codec(), payload: Vec<u8>, times in 1_usize..2000) {
            let payload = payload.repeat(times);
            let mut compressed = Vec::new();
            compress(codec, &payload, &mut compressed).unwrap();
            prop_assert_eq!(decompress(codec, &compressed, payload.len()).unwrap(), payload);
        }

        #[test]
        fn any_bytes_give_a_value_or_an_error(codec in any_codec(), bytes: Vec<u8>) {
            if let Ok(output) = decompress(codec, &bytes, 1 << 16) {
                prop_assert!(output.len() <= 1 << 16);
            }
        }

        #[test]
        fn damaged_bytes_give_a_value_or_an_error(
            codec in any_codec(),
            payload in prop::collection::vec(0_u8..4, 0..2000),
            hits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        ) {
            let mut compressed = Vec::new();
            compress(codec, &payload, &mut compressed).unwrap();
            for (place, byte) in hits {
                if !compressed.is_empty() {
                    let place = place.index(compressed.len());
                    compressed[place] = byte;
                }
            }
            if let Ok(output) = decompress(codec, &compressed, 1 << 16) {
                prop_assert!(output.len() <= 1 << 16);
            }
        }
    }
}
