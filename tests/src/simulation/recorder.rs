//! Writes down what the clients ask for and are told, for the checker.
//!
//! A record's value is a number like no other, and its bytes follow from the number, so that a
//! changed byte is seen.

use bytes::Bytes;
use duramen_checker::{Call, History, Key, OpId, Outcome, Placed, Process, Record, Value};

/// The history of a run, and the numbers it gives out.
#[derive(Debug, Default)]
pub(super) struct Recorder {
    pub(super) history: History,
    processes: Process,
    values: Value,
    pub(super) acknowledged: u64,
    pub(super) failed: u64,
    pub(super) unknown: u64,
    pub(super) read: u64,
}

impl Recorder {
    /// A number for a new client.
    pub(super) fn process(&mut self) -> Process {
        self.processes += 1;
        self.processes
    }

    /// A value that no record has.
    pub(super) fn value(&mut self) -> Value {
        self.values += 1;
        self.values
    }

    pub(super) fn send(&mut self, process: Process, at: u64, key: Key, value: Value) -> OpId {
        self.history.invoke(process, at, Call::Send(&[(key, value)]))
    }

    pub(super) fn sent(&mut self, op: OpId, at: u64, outcome: SendOutcome) {
        match outcome {
            SendOutcome::Stored { offset, epoch } => {
                self.acknowledged += 1;
                let placed = Placed { offset: Some(offset), epoch };
                self.history.complete(op, at, Outcome::Sent(&[placed]));
            }
            SendOutcome::NotStored => {
                self.failed += 1;
                self.history.complete(op, at, Outcome::Failed);
            }
            SendOutcome::Unknown => {
                self.unknown += 1;
                self.history.complete(op, at, Outcome::Unknown);
            }
        }
    }

    pub(super) fn poll(&mut self, process: Process, at: u64) -> OpId {
        self.history.invoke(process, at, Call::Poll)
    }

    pub(super) fn polled(&mut self, op: OpId, at: u64, records: &[Record]) {
        self.read += u64::try_from(records.len()).unwrap_or(0);
        self.history.complete(op, at, Outcome::Polled(records));
    }

    pub(super) fn assign(&mut self, process: Process, at: u64, keys: &[Key], from_start: bool) {
        let op = self.history.invoke(process, at, Call::Assign { keys, from_start });
        self.history.complete(op, at, Outcome::Done);
    }

    pub(super) fn seek(&mut self, process: Process, at: u64, key: Key) {
        let op = self.history.invoke(process, at, Call::Seek(key));
        self.history.complete(op, at, Outcome::Done);
    }
}

/// What a producer was told.
#[derive(Clone, Copy, Debug)]
pub(super) enum SendOutcome {
    Stored { offset: u64, epoch: u64 },
    NotStored,
    Unknown,
}

/// The bytes of a value, so many or a few more.
pub(super) fn bytes_of(value: Value, bytes: u64) -> Bytes {
    let len = usize::try_from(bytes).unwrap_or(0).max(8);
    let mut content = value.to_be_bytes().to_vec();
    let mut state = value | 1;
    while content.len() < len {
        // Any sequence that compression does not swallow and that differs from value to value.
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        content.extend_from_slice(&state.to_be_bytes()[..4]);
    }
    content.into()
}

/// The value of these bytes, if they are exactly those of a value.
pub(super) fn value_of(bytes: &[u8]) -> Option<Value> {
    let value = Value::from_be_bytes(*bytes.first_chunk()?);
    let len = u64::try_from(bytes.len()).ok()?;
    (bytes_of(value, len) == bytes).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_byte_is_seen() {
        for bytes in [8, 16, 400] {
            let good = bytes_of(77, bytes).to_vec();
            assert_eq!(value_of(&good), Some(77));
            let mut bad = good.clone();
            *bad.last_mut().unwrap() ^= 1;
            assert_ne!(value_of(&bad), Some(77));
        }
        assert_eq!(value_of(b"short"), None);
    }
}
