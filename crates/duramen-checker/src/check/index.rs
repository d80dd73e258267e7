//! What follows from a history: who wrote and read what, and what each log looks like.

use std::collections::BTreeMap;

use crate::history::{End, History, Key, Kind, OpId, Pair, Value};

/// A value of a send.
#[derive(Clone, Copy, Debug)]
pub(super) struct Write {
    pub(super) value: Value,
    pub(super) op: usize,
    pub(super) pair: usize,
}

/// A record of a poll.
#[derive(Clone, Copy, Debug)]
pub(super) struct Read {
    pub(super) value: Value,
    pub(super) offset: u64,
    pub(super) op: usize,
}

/// What is known of one key.
#[derive(Debug, Default)]
pub(super) struct KeyIndex {
    /// By value, then by operation.
    pub(super) writes: Vec<Write>,
    /// By value, then by offset, then by operation.
    pub(super) reads: Vec<Read>,
    /// Offsets and the values that they hold: of sends that must have committed and of all reads.
    /// Ascending, none twice.
    pub(super) log: Vec<(u64, Value)>,
    /// The same by value.
    pub(super) places: Vec<(Value, u64)>,
    /// The highest log start that was observed.
    pub(super) log_start: u64,
    /// The highest high watermark that was observed.
    pub(super) high_watermark: Option<u64>,
}

impl KeyIndex {
    /// Whether a value was read.
    pub(super) fn is_read(&self, value: Value) -> bool {
        self.reads.binary_search_by_key(&value, |read| read.value).is_ok()
    }

    /// The first and the last offset of a value, if it must be stored and its offset is known.
    pub(super) fn place(&self, value: Value) -> Option<(u64, u64)> {
        let start = self.places.partition_point(|place| place.0 < value);
        let length = self.places[start..].partition_point(|place| place.0 == value);
        let places = &self.places[start..start + length];
        Some((places.first()?.1, places.last()?.1))
    }

    /// Whether there is a record from one offset to before another.
    pub(super) fn has_within(&self, low: u64, high: u64) -> bool {
        let at = self.log.partition_point(|(offset, _)| *offset < low);
        self.log.get(at).is_some_and(|(offset, _)| *offset < high)
    }

    /// The offsets of all records from one offset to before another.
    pub(super) fn offsets(&self, low: u64, high: u64) -> impl Iterator<Item = u64> + '_ {
        let at = self.log.partition_point(|(offset, _)| *offset < low);
        let from_low = self.log[at..].iter().map(|(offset, _)| *offset);
        from_low.take_while(move |offset| *offset < high)
    }

    /// One past the last offset that is known.
    pub(super) fn end(&self) -> Option<u64> {
        let last = self.log.last().map(|(offset, _)| offset + 1);
        last.max(self.high_watermark)
    }
}

/// What is known of all keys.
#[derive(Debug, Default)]
pub(super) struct Index {
    pub(super) keys: BTreeMap<Key, KeyIndex>,
}

impl Index {
    pub(super) fn new(history: &History) -> Self {
        let mut index = Self::default();
        index.gather(history);
        for key in index.keys.values_mut() {
            key.writes.sort_unstable_by_key(|write| (write.value, write.op));
            key.reads.sort_unstable_by_key(|read| (read.value, read.offset, read.op));
        }
        index.build_logs(history);
        for seen in &history.observed {
            let key = index.keys.entry(seen.key).or_default();
            key.log_start = key.log_start.max(seen.what.log_start.unwrap_or(0));
            key.high_watermark = key.high_watermark.max(seen.what.high_watermark);
        }
        for dump in &history.dumps {
            let key = index.keys.entry(dump.key).or_default();
            key.log_start = key.log_start.max(dump.log_start);
        }
        index
    }

    fn gather(&mut self, history: &History) {
        for (id, op) in history.ops.iter().enumerate() {
            match op.kind {
                Kind::Send => {
                    for pair in op.payload.clone() {
                        let Pair { key, value, .. } = history.pairs[pair];
                        let key = self.keys.entry(key).or_default();
                        key.writes.push(Write { value, op: id, pair });
                    }
                }
                Kind::Poll => {
                    for record in &history.records[op.payload.clone()] {
                        let key = self.keys.entry(record.key).or_default();
                        key.reads.push(Read { value: record.value, offset: record.offset, op: id });
                    }
                }
                Kind::Assign { .. } | Kind::Subscribe | Kind::Seek | Kind::Crash => {}
            }
        }
    }

    fn build_logs(&mut self, history: &History) {
        for key in self.keys.values_mut() {
            let acknowledged = key.writes.iter().filter_map(|write| {
                let is_ok = history.ops[write.op].end == End::Ok;
                let offset = history.pairs[write.pair].offset();
                offset.filter(|_| is_ok).map(|offset| (offset, write.value))
            });
            let read = key.reads.iter().map(|read| (read.offset, read.value));
            key.log = acknowledged.chain(read).collect();
            key.log.sort_unstable();
            key.log.dedup();
            key.places = key.log.iter().map(|(offset, value)| (*value, *offset)).collect();
            key.places.sort_unstable();
        }
    }

    /// Whether a send has happened: it was acknowledged, or one of its values was read.
    pub(super) fn must_commit(&self, history: &History, op: usize) -> bool {
        let op = &history.ops[op];
        match op.end {
            End::Ok => true,
            End::Failed => false,
            End::Unknown => history.pairs[op.payload.clone()].iter().any(|pair| {
                let key = self.keys.get(&pair.key);
                key.is_some_and(|key| key.is_read(pair.value))
            }),
        }
    }
}

/// The operation as others name it.
pub(super) const fn id(op: usize) -> OpId {
    OpId(op)
}
