//! The bytes of commands, outcomes and snapshots. The only files of this crate that know them.
//!
//! Decoders are total: any bytes give a value or a typed error, and what they allocate is bounded by
//! the bytes that are there. Checksums are the caller's: the log and the snapshot file have them.
//!
//! ```text
//! message    version (1 byte) · what follows is the message's
//! number     LEB128, least significant group first, at most 10 bytes; signed ones zigzag
//! text       number of bytes · UTF-8
//! option     0, or 1 and the value
//! list       number of elements · elements; a map is a list of keys with values, in order
//! topic      16 bytes
//! partitions number of partitions · runs of one topic, while there are any:
//!            topic · number of partitions · each as signed difference from the one before
//! ```

mod command;
mod outcome;
mod snapshot;
mod wire;

use duramen_types::{PartitionId, TopicPartition};

use crate::error::DecodeError;
use crate::format::wire::{Reader, Writer};
use crate::subscription::{Resolution, Subscription};

/// The version of commands, outcomes and snapshots that this crate writes and reads.
const VERSION: u8 = 1;

fn begin() -> Writer {
    let mut to = Writer::default();
    to.byte(VERSION);
    to
}

fn open(bytes: &[u8]) -> Result<Reader<'_>, DecodeError> {
    let mut from = Reader::new(bytes);
    match from.byte()? {
        VERSION => Ok(from),
        found => Err(DecodeError::UnknownVersion { found }),
    }
}

fn write_partitions(to: &mut Writer, partitions: &[TopicPartition]) {
    to.len(partitions.len());
    for run in partitions.chunk_by(|one, next| one.topic == next.topic) {
        if let Some(first) = run.first() {
            to.topic(first.topic);
        }
        to.len(run.len());
        let mut before = 0_i64;
        for partition in run {
            let number = i64::from(partition.partition.get());
            to.signed(number - before);
            before = number;
        }
    }
}

fn read_partitions(from: &mut Reader<'_>) -> Result<Vec<TopicPartition>, DecodeError> {
    const FIELD: DecodeError = DecodeError::Field { field: "partitions" };
    let count = from.count(1)?;
    let mut partitions = Vec::with_capacity(count);
    while partitions.len() < count {
        let topic = from.topic()?;
        let run = from.count(1)?;
        if run == 0 || run > count - partitions.len() {
            return Err(FIELD);
        }
        let mut before = 0_i64;
        for _ in 0..run {
            before = before.checked_add(from.signed()?).ok_or(FIELD)?;
            let partition = PartitionId::new(u32::try_from(before).map_err(|_| FIELD)?);
            partitions.push(TopicPartition { topic, partition });
        }
    }
    Ok(partitions)
}

fn write_subscription(to: &mut Writer, subscription: &Subscription) {
    to.len(subscription.names.len());
    subscription.names.iter().for_each(|name| to.text(name));
    to.option(subscription.pattern.as_ref(), |to, text| to.text(text));
}

fn read_subscription(from: &mut Reader<'_>) -> Result<Subscription, DecodeError> {
    let mut subscription = Subscription::default();
    for _ in 0..from.count(1)? {
        if !subscription.names.insert(from.text()?.into()) {
            return Err(DecodeError::Field { field: "names" });
        }
    }
    subscription.pattern = from.option(|from| Ok(from.text()?.into()))?;
    Ok(subscription)
}

fn write_resolution(to: &mut Writer, resolution: &Resolution) {
    to.number(resolution.index.get());
    to.len(resolution.names.len());
    for (name, topic) in &resolution.names {
        to.text(name);
        to.option(topic.as_ref(), |to, topic| to.topic(*topic));
    }
    to.len(resolution.patterns.len());
    for (text, topics) in &resolution.patterns {
        to.text(text);
        to.len(topics.len());
        topics.iter().for_each(|topic| to.topic(*topic));
    }
    to.len(resolution.partitions.len());
    for (topic, count) in &resolution.partitions {
        to.topic(*topic);
        to.number(u64::from(*count));
    }
}

fn read_resolution(from: &mut Reader<'_>) -> Result<Resolution, DecodeError> {
    const FIELD: DecodeError = DecodeError::Field { field: "resolution" };
    let mut resolution = Resolution {
        index: duramen_types::MetadataIndex::new(from.number()?),
        ..Resolution::default()
    };
    for _ in 0..from.count(2)? {
        let name = from.text()?.into();
        let topic = from.option(Reader::topic)?;
        if resolution.names.insert(name, topic).is_some() {
            return Err(FIELD);
        }
    }
    for _ in 0..from.count(2)? {
        let text = from.text()?.into();
        let topics = (0..from.count(16)?).map(|_| from.topic()).collect::<Result<_, _>>()?;
        if resolution.patterns.insert(text, topics).is_some() {
            return Err(FIELD);
        }
    }
    for _ in 0..from.count(17)? {
        let topic = from.topic()?;
        if resolution.partitions.insert(topic, from.small()?).is_some() {
            return Err(FIELD);
        }
    }
    Ok(resolution)
}

#[cfg(test)]
mod tests;
