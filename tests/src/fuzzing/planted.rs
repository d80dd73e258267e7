//! Decoders that are broken on purpose, to prove that the driver notices.

use duramen_env::fuzz::{Decoder, MemoryLimit, Verdict};

/// One of each kind of failure, and one that never ends.
pub(super) const DECODERS: &[Decoder] = &[
    planted("planted-panic", |bytes| {
        let length = bytes.first().copied().unwrap_or_default();
        assert!(length < 250, "a length that nobody checked");
        Verdict::Refused
    }),
    planted("planted-memory", |bytes| {
        let claimed = usize::from(bytes.first().copied().unwrap_or_default()) << 16;
        let room: Vec<u8> = Vec::with_capacity(claimed);
        if room.capacity() > 8 << 20 { Verdict::Refused } else { Verdict::Accepted }
    }),
    planted("planted-loss", |bytes| match bytes {
        [250..=255, ..] => Verdict::Broken("a value is lost"),
        _ => Verdict::Accepted,
    }),
    planted("planted-hang", |bytes| {
        let mut steps = u64::from(bytes.first().copied().unwrap_or_default());
        while steps > 128 {
            steps = std::hint::black_box(steps);
        }
        Verdict::Refused
    }),
];

const fn planted(name: &'static str, run: fn(&[u8]) -> Verdict) -> Decoder {
    Decoder { name, run, seeds: || vec![vec![1, 2, 3]], seal: None, memory: MemoryLimit::FIELDS }
}
