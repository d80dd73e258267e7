//! What a decoder of bytes from disk or network shows to the fuzzer.
//!
//! Most decoders are private to their crate. A crate with such decoders has a module `fuzz`, built
//! only with its feature `fuzz`, so that neither its interface nor the shipped program has them;
//! the module lists [`Decoder`]s, and the test programs put all lists together.

/// What became of one input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// A typed error.
    Refused,
    /// A value, for which everything holds that must.
    Accepted,
    /// A value for which this does not hold.
    Broken(&'static str),
}

/// How much memory one input may take at its peak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryLimit {
    /// For any input, in bytes.
    pub base: usize,
    /// For each byte of the input, in bytes.
    pub per_byte: usize,
}

impl MemoryLimit {
    /// Layouts of fixed fields: what is decoded is about as long as its bytes.
    pub const FIELDS: Self = Self { base: 64 << 10, per_byte: 16 };

    /// Protocol Buffers and JSON: an element of two bytes becomes a structure of a few hundred,
    /// twice while a vector grows.
    pub const MESSAGES: Self = Self { base: 64 << 10, per_byte: 512 };

    /// The limit for an input of this length, in bytes.
    #[must_use]
    pub const fn of(self, input_bytes: usize) -> usize {
        self.base.saturating_add(self.per_byte.saturating_mul(input_bytes))
    }
}

/// A decoder under test.
#[derive(Clone, Copy, Debug)]
pub struct Decoder {
    /// Its name on command lines: `log-frame`.
    pub name: &'static str,
    /// Decodes an input and checks what must hold. It must not panic.
    pub run: fn(&[u8]) -> Verdict,
    /// Valid inputs, made by the product's own encoders.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Makes the checksums in an input right, so that what lies behind them is reached.
    pub seal: Option<fn(&mut [u8])>,
    /// What one input may take.
    pub memory: MemoryLimit,
}

/// Decodes, encodes and decodes again: the value must come back.
pub fn round_trip<T, B>(
    bytes: &[u8],
    decode: impl Fn(&[u8]) -> Option<T>,
    encode: impl Fn(&T) -> B,
) -> Verdict
where
    T: PartialEq,
    B: AsRef<[u8]>,
{
    let Some(value) = decode(bytes) else { return Verdict::Refused };
    if decode(encode(&value).as_ref()) == Some(value) {
        Verdict::Accepted
    } else {
        Verdict::Broken("the value does not survive its encoding")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_that_its_encoding_loses_is_noticed() {
        let decode = |bytes: &[u8]| bytes.first().copied();
        assert_eq!(round_trip(&[], decode, |byte| [*byte]), Verdict::Refused);
        assert_eq!(round_trip(&[7], decode, |byte| [*byte]), Verdict::Accepted);
        assert!(matches!(round_trip(&[7], decode, |_| [0]), Verdict::Broken(_)));
    }

    #[test]
    fn a_memory_limit_grows_with_the_input_and_does_not_overflow() {
        let limit = MemoryLimit { base: 10, per_byte: 3 };
        assert_eq!(limit.of(0), 10);
        assert_eq!(limit.of(4), 22);
        assert_eq!(limit.of(usize::MAX), usize::MAX);
    }
}
