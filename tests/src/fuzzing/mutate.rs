//! Inputs of a decoder: valid ones, and what becomes of them. The nth input is a function of the
//! seed, the decoder and n, so that any one can be made again.

use duramen_env::fuzz::Decoder;
use duramen_env::{Random, SeededRandom};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::corpus;

/// The longest input: long enough for a batch that needs several blocks of any codec.
const INPUT_BYTES_MAX: usize = 256 << 10;

/// Most inputs stay this close to a valid one.
const STEPS_MAX: u64 = 6;

/// Numbers at the edges of lengths, counts and indexes, little- and big-endian alike.
const EDGES: [u64; 13] = [
    0,
    1,
    0x7f,
    0x80,
    0xff,
    0x7fff,
    0xffff,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    0x7fff_ffff_ffff_ffff,
    0x8000_0000_0000_0000,
    0xffff_ffff_ffff_ffff,
];

/// Variable-length integers that are too long, too large, or never end.
const VARINTS: [&[u8]; 5] = [
    &[0xff, 0xff, 0xff, 0xff, 0x0f],
    &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
    &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f],
    &[0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80],
    &[0x80, 0x00],
];

/// The inputs of one decoder under a seed.
pub struct Inputs {
    decoder: Decoder,
    seed: u64,
    valid: Vec<Vec<u8>>,
}

impl Inputs {
    /// Starts from the decoder's valid inputs and those of the stored corpus.
    #[must_use]
    pub fn new(decoder: Decoder, seed: u64) -> Self {
        let mut valid = (decoder.seeds)();
        valid.extend(corpus::stored(decoder.name));
        Self { decoder, seed, valid }
    }

    /// How many inputs it starts from.
    #[must_use]
    pub fn stored(&self) -> u64 {
        self.valid.len() as u64
    }

    /// The nth input; the first ones are those it starts from.
    #[must_use]
    pub fn nth(&self, n: u64) -> Vec<u8> {
        if let Some(valid) = usize::try_from(n).ok().and_then(|n| self.valid.get(n)) {
            return valid.clone();
        }
        let draw = xxh3_64_with_seed(self.decoder.name.as_bytes(), self.seed ^ n.rotate_left(32));
        let mut mutation = Mutation { random: SeededRandom::new(draw), valid: &self.valid };
        mutation.input(self.decoder.seal)
    }
}

/// The making of one input.
struct Mutation<'a> {
    random: SeededRandom,
    valid: &'a [Vec<u8>],
}

impl Mutation<'_> {
    fn input(&mut self, seal: Option<fn(&mut [u8])>) -> Vec<u8> {
        if self.one_in(64) {
            return self.noise();
        }
        let mut bytes = self.some_valid();
        for _ in 0..=self.random.below(STEPS_MAX) {
            self.step(&mut bytes);
        }
        bytes.truncate(INPUT_BYTES_MAX);
        if let Some(seal) = seal.filter(|_| !self.one_in(3)) {
            seal(&mut bytes);
            // One more mistake, behind checksums that are right.
            if self.one_in(4) {
                self.step(&mut bytes);
            }
        }
        bytes
    }

    fn one_in(&mut self, chances: u64) -> bool {
        self.random.below(chances) == 0
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.random.below((end as u64).max(1))).unwrap_or(0)
    }

    fn byte(&mut self) -> u8 {
        self.random.next_u64().to_le_bytes()[0]
    }

    fn noise(&mut self) -> Vec<u8> {
        let len = self.below(300);
        (0..len).map(|_| self.byte()).collect()
    }

    fn some_valid(&mut self) -> Vec<u8> {
        let which = self.below(self.valid.len());
        self.valid.get(which).cloned().unwrap_or_default()
    }

    /// A range of at most `most` bytes.
    fn range(&mut self, bytes: &[u8], most: usize) -> std::ops::Range<usize> {
        let begin = self.below(bytes.len() + 1);
        let len = self.below(most.min(bytes.len() - begin) + 1);
        begin..begin + len
    }

    fn step(&mut self, bytes: &mut Vec<u8>) {
        match self.random.below(12) {
            0 | 1 => {
                let place = self.below(bytes.len());
                let bit = self.random.below(8);
                if let Some(byte) = bytes.get_mut(place) {
                    *byte ^= 1 << bit;
                }
            }
            2 => {
                let (place, value) = (self.below(bytes.len()), self.byte());
                if let Some(byte) = bytes.get_mut(place) {
                    *byte = value;
                }
            }
            3 | 4 => self.edge(bytes),
            5 => {
                let len = self.below(bytes.len() + 1);
                bytes.truncate(len);
            }
            6 => {
                let range = self.range(bytes, 64);
                bytes.drain(range);
            }
            7 => {
                let range = self.range(bytes, 4096);
                let copy = bytes.get(range).unwrap_or_default().to_vec();
                self.insert(bytes, &copy);
            }
            8 => {
                let other = self.some_valid();
                let range = self.range(&other, 4096);
                let part = other.get(range).unwrap_or_default().to_vec();
                self.insert(bytes, &part);
            }
            9 => {
                let which = self.below(VARINTS.len());
                self.overwrite(bytes, VARINTS.get(which).copied().unwrap_or_default());
            }
            10 => {
                let (len, value) = (self.below(64), self.byte());
                self.insert(bytes, &vec![value; len]);
            }
            _ => self.nudge(bytes),
        }
    }

    /// Puts a number at an edge, of any width and order.
    fn edge(&mut self, bytes: &mut [u8]) {
        let which = self.below(EDGES.len());
        let number = EDGES.get(which).copied().unwrap_or_default();
        let (little, big) = (number.to_le_bytes(), number.to_be_bytes());
        let width = 1_usize << self.random.below(4);
        let number = if self.one_in(2) { &little[..width] } else { &big[8 - width..] };
        self.overwrite(bytes, number);
    }

    /// Adds a little to a number of any width and order, or takes it away.
    fn nudge(&mut self, bytes: &mut [u8]) {
        let place = self.below(bytes.len());
        let by = u32::try_from(self.random.below(17)).unwrap_or(0).wrapping_sub(8);
        let big = self.one_in(2);
        if let Some(number) = bytes.get_mut(place..).and_then(<[u8]>::first_chunk_mut::<4>) {
            *number = if big {
                u32::from_be_bytes(*number).wrapping_add(by).to_be_bytes()
            } else {
                u32::from_le_bytes(*number).wrapping_add(by).to_le_bytes()
            };
        }
    }

    fn overwrite(&mut self, bytes: &mut [u8], with: &[u8]) {
        let place = self.below(bytes.len());
        for (byte, new) in bytes.iter_mut().skip(place).zip(with) {
            *byte = *new;
        }
    }

    fn insert(&mut self, bytes: &mut Vec<u8>, part: &[u8]) {
        let place = self.below(bytes.len() + 1);
        drop(bytes.splice(place..place, part.iter().copied()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fuzzing::find;

    #[test]
    fn an_input_is_a_function_of_seed_decoder_and_number() {
        let inputs = |seed| Inputs::new(find("log-frame").unwrap(), seed);
        let (one, same, other) = (inputs(1), inputs(1), inputs(2));
        let first = one.valid.len() as u64;
        for n in 0..200 {
            assert_eq!(one.nth(n), same.nth(n));
        }
        assert!((first..200).any(|n| one.nth(n) != other.nth(n)));
    }

    #[test]
    fn mutations_get_behind_checksums_and_do_not_all_fail_there() {
        let decoder = find("log-frame").unwrap();
        let inputs = Inputs::new(decoder, 3);
        let mut decoded = 0;
        for n in 100..1_100 {
            let input = inputs.nth(n);
            let accepted = (decoder.run)(&input) == duramen_env::fuzz::Verdict::Accepted;
            decoded += u32::from(accepted && !inputs.valid.contains(&input));
        }
        assert!((100..900).contains(&decoded), "{decoded} of 1000 inputs were decoded");
    }
}
