//! The elements of the format, see there.

use duramen_types::{Timestamp, TopicId};

use crate::epoch::MemberEpoch;
use crate::error::DecodeError;
use crate::name::{GroupName, InstanceId, MemberId};

/// Writes elements.
#[derive(Debug, Default)]
pub(super) struct Writer(Vec<u8>);

impl Writer {
    pub(super) fn finish(self) -> Vec<u8> {
        self.0
    }

    pub(super) fn byte(&mut self, byte: u8) {
        self.0.push(byte);
    }

    pub(super) fn flag(&mut self, flag: bool) {
        self.byte(u8::from(flag));
    }

    pub(super) fn number(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.byte(u8::try_from(number & 0x7f).unwrap_or(0) | 0x80);
            number >>= 7;
        }
        self.byte(u8::try_from(number).unwrap_or(0));
    }

    pub(super) fn signed(&mut self, number: i64) {
        let sign = if number < 0 { u64::MAX } else { 0 };
        self.number((number.cast_unsigned() << 1) ^ sign);
    }

    pub(super) fn len(&mut self, len: usize) {
        self.number(len as u64);
    }

    pub(super) fn text(&mut self, text: &str) {
        self.len(text.len());
        self.0.extend_from_slice(text.as_bytes());
    }

    pub(super) fn topic(&mut self, topic: TopicId) {
        self.0.extend_from_slice(topic.as_bytes());
    }

    pub(super) fn time(&mut self, time: Timestamp) {
        self.signed(time.as_millis());
    }

    pub(super) fn epoch(&mut self, epoch: MemberEpoch) {
        self.number(epoch.get());
    }

    pub(super) fn option<T>(&mut self, value: Option<T>, write: impl FnOnce(&mut Self, T)) {
        self.flag(value.is_some());
        if let Some(value) = value {
            write(self, value);
        }
    }
}

/// Reads elements.
#[derive(Debug)]
pub(super) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Checks that nothing is left.
    pub(super) fn finish(self) -> Result<(), DecodeError> {
        match self.0.len() {
            0 => Ok(()),
            bytes => Err(DecodeError::LeftOver { bytes }),
        }
    }

    pub(super) fn byte(&mut self) -> Result<u8, DecodeError> {
        let (byte, rest) = self.0.split_first().ok_or(DecodeError::Truncated)?;
        self.0 = rest;
        Ok(*byte)
    }

    pub(super) fn flag(&mut self) -> Result<bool, DecodeError> {
        match self.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(DecodeError::Field { field: "flag" }),
        }
    }

    pub(super) fn number(&mut self) -> Result<u64, DecodeError> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if (bits << shift) >> shift != bits {
                break;
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(DecodeError::Field { field: "number" })
    }

    pub(super) fn small(&mut self) -> Result<u32, DecodeError> {
        u32::try_from(self.number()?).map_err(|_| DecodeError::Field { field: "number" })
    }

    pub(super) fn signed(&mut self) -> Result<i64, DecodeError> {
        let number = self.number()?;
        let sign = if number & 1 == 1 { u64::MAX } else { 0 };
        Ok(((number >> 1) ^ sign).cast_signed())
    }

    /// The number of elements of a list. So many bytes at least follow for each, so that what is
    /// allocated for them is bounded by what is there.
    pub(super) fn count(&mut self, bytes_each: usize) -> Result<usize, DecodeError> {
        let count = usize::try_from(self.number()?).map_err(|_| DecodeError::Truncated)?;
        let fits = count.checked_mul(bytes_each).is_some_and(|bytes| bytes <= self.0.len());
        if fits { Ok(count) } else { Err(DecodeError::Truncated) }
    }

    pub(super) fn text(&mut self) -> Result<&'a str, DecodeError> {
        let count = self.count(1)?;
        let (text, rest) = self.0.split_at_checked(count).ok_or(DecodeError::Truncated)?;
        self.0 = rest;
        std::str::from_utf8(text).map_err(|_| DecodeError::Field { field: "text" })
    }

    pub(super) fn topic(&mut self) -> Result<TopicId, DecodeError> {
        let (topic, rest) = self.0.split_first_chunk().ok_or(DecodeError::Truncated)?;
        self.0 = rest;
        Ok(TopicId::from_bytes(*topic))
    }

    pub(super) fn time(&mut self) -> Result<Timestamp, DecodeError> {
        Ok(Timestamp::from_millis(self.signed()?))
    }

    pub(super) fn epoch(&mut self) -> Result<MemberEpoch, DecodeError> {
        Ok(MemberEpoch::new(self.number()?))
    }

    pub(super) fn group(&mut self) -> Result<GroupName, DecodeError> {
        GroupName::new(self.text()?).ok_or(DecodeError::Field { field: "group" })
    }

    pub(super) fn member(&mut self) -> Result<MemberId, DecodeError> {
        MemberId::new(self.text()?).ok_or(DecodeError::Field { field: "member" })
    }

    pub(super) fn instance(&mut self) -> Result<InstanceId, DecodeError> {
        InstanceId::new(self.text()?).ok_or(DecodeError::Field { field: "instance" })
    }

    pub(super) fn option<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Option<T>, DecodeError> {
        if self.flag()? { read(self).map(Some) } else { Ok(None) }
    }
}
