//! A consumer of one stream: each request follows the last id of the one before it.

use std::time::Duration;

use redis::Value;
use redis::aio::MultiplexedConnection;

use super::stream;
use crate::{Error, Load};

/// Bytes of payload asked for at once.
const READ_BYTES: u32 = 1_000_000;

/// Reads a stream from its first record on.
pub(super) struct Reader {
    connection: MultiplexedConnection,
    key: String,
    /// The last id that was read.
    last: Vec<u8>,
    /// Records asked for at once.
    most: u32,
}

impl Reader {
    pub(super) fn new(connection: MultiplexedConnection, load: &Load, partition: u32) -> Self {
        let most = (READ_BYTES / load.size).max(1);
        Self { connection, key: stream(partition), last: b"0".to_vec(), most }
    }

    /// The values of the next records; none if there are none, after waiting for so long.
    pub(super) async fn next(&mut self, wait: Option<Duration>) -> Result<Vec<Vec<u8>>, Error> {
        let mut command = redis::cmd("XREAD");
        command.arg("COUNT").arg(self.most);
        if let Some(wait) = wait {
            // Zero would be for ever.
            command.arg("BLOCK").arg(u64::try_from(wait.as_millis())?.max(1));
        }
        command.arg("STREAMS").arg(&self.key).arg(&self.last);
        let answer: Value = command.query_async(&mut self.connection).await?;
        if answer == Value::Nil {
            return Ok(Vec::new());
        }
        let entries = entries(answer).ok_or("not the records of one stream")?;
        let mut values = Vec::with_capacity(entries.len());
        for entry in entries {
            let (id, value) = record(entry).ok_or("not a record with one field")?;
            self.last = id;
            values.push(value);
        }
        Ok(values)
    }
}

/// What is in an answer `[[key, entries]]`.
fn entries(answer: Value) -> Option<Vec<Value>> {
    let [stream] = array(answer)?;
    let [_, entries] = array(stream)?;
    let Value::Array(entries) = entries else { return None };
    Some(entries)
}

/// Id and value of an entry `[id, [field, value]]`.
fn record(entry: Value) -> Option<(Vec<u8>, Vec<u8>)> {
    let [id, fields] = array(entry)?;
    let [_, value] = array(fields)?;
    let (Value::BulkString(id), Value::BulkString(value)) = (id, value) else { return None };
    Some((id, value))
}

fn array<const N: usize>(value: Value) -> Option<[Value; N]> {
    let Value::Array(values) = value else { return None };
    values.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    #[test]
    fn an_answer_is_taken_apart() {
        let entry = Value::Array(vec![text("7-1"), Value::Array(vec![text("v"), text("value")])]);
        let stream = Value::Array(vec![text("bench-0"), Value::Array(vec![entry])]);
        let mut found = entries(Value::Array(vec![stream])).expect("one stream");
        let entry = found.pop().expect("one entry");
        assert_eq!(record(entry), Some((b"7-1".to_vec(), b"value".to_vec())));
        assert!(found.is_empty());
    }

    #[test]
    fn what_is_not_an_answer_is_refused() {
        assert!(entries(Value::Okay).is_none());
        assert!(entries(Value::Array(vec![])).is_none());
        assert!(record(Value::Array(vec![text("7-1"), Value::Nil])).is_none());
    }
}
