//! Outcomes as they travel from the leader that applied to whoever proposed: version · kind · what
//! it says.

use duramen_types::{MetadataIndex, Offset, TopicPartition};

use super::wire::{Reader, Writer};
use super::{begin, open, read_partitions, write_partitions};
use crate::epoch::{GroupEpoch, MemberEpoch};
use crate::error::DecodeError;
use crate::outcome::{Bound, Outcome, Refusal, Text};

impl Outcome {
    /// The outcome as it travels.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut to = begin();
        match self {
            Self::Refused(refusal) => {
                to.byte(0);
                write_refusal(&mut to, *refusal);
            }
            Self::Joined { epoch } => write_number(&mut to, 1, epoch.get()),
            Self::Subscribed { epoch } => write_number(&mut to, 2, epoch.get()),
            Self::Left => to.byte(3),
            Self::Expired => to.byte(4),
            Self::Acknowledged { freed } => write_number(&mut to, 5, u64::from(*freed)),
            Self::Resolved { epoch } => write_number(&mut to, 6, epoch.get()),
            Self::Assigned { moving } => write_number(&mut to, 7, u64::from(*moving)),
            Self::Committed { refused } => {
                to.byte(8);
                write_refused(&mut to, refused);
            }
            Self::Reset { fence } => write_number(&mut to, 9, fence.get()),
            Self::OffsetsDeleted { refused } => {
                to.byte(10);
                write_refused(&mut to, refused);
            }
            Self::Deleted => to.byte(11),
            Self::TopicsForgotten { offsets } => write_number(&mut to, 12, *offsets),
        }
        to.finish()
    }

    /// Reads an outcome.
    ///
    /// # Errors
    /// [`DecodeError`] if the bytes are not an outcome of this version.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut from = open(bytes)?;
        let outcome = match from.byte()? {
            0 => Self::Refused(read_refusal(&mut from)?),
            1 => Self::Joined { epoch: from.epoch()? },
            2 => Self::Subscribed { epoch: from.epoch()? },
            3 => Self::Left,
            4 => Self::Expired,
            5 => Self::Acknowledged { freed: from.small()? },
            6 => Self::Resolved { epoch: GroupEpoch::new(from.number()?) },
            7 => Self::Assigned { moving: from.small()? },
            8 => Self::Committed { refused: read_refused(&mut from)? },
            9 => Self::Reset { fence: from.epoch()? },
            10 => Self::OffsetsDeleted { refused: read_refused(&mut from)? },
            11 => Self::Deleted,
            12 => Self::TopicsForgotten { offsets: from.number()? },
            found => return Err(DecodeError::Unknown { what: "outcome", found }),
        };
        from.finish()?;
        Ok(outcome)
    }
}

fn write_number(to: &mut Writer, kind: u8, number: u64) {
    to.byte(kind);
    to.number(number);
}

fn write_refused(to: &mut Writer, refused: &[(TopicPartition, Refusal)]) {
    let partitions: Vec<_> = refused.iter().map(|(partition, _)| *partition).collect();
    write_partitions(to, &partitions);
    refused.iter().for_each(|(_, refusal)| write_refusal(to, *refusal));
}

fn read_refused(from: &mut Reader<'_>) -> Result<Vec<(TopicPartition, Refusal)>, DecodeError> {
    let partitions = read_partitions(from)?;
    partitions.into_iter().map(|partition| Ok((partition, read_refusal(from)?))).collect()
}

fn write_refusal(to: &mut Writer, refusal: Refusal) {
    match refusal {
        Refusal::UnknownGroup => to.byte(0),
        Refusal::UnknownMember => to.byte(1),
        Refusal::WrongEpoch { current } => write_number(to, 2, current.get()),
        Refusal::NotHeld => to.byte(3),
        Refusal::Behind { committed } => write_number(to, 4, committed.get()),
        Refusal::GroupChanged { fence } => write_number(to, 5, fence.get()),
        Refusal::HasMembers => to.byte(6),
        Refusal::PartitionInUse => to.byte(7),
        Refusal::NotIdle => to.byte(8),
        Refusal::StaleMetadata { known } => write_number(to, 9, known.get()),
        Refusal::StaleTarget { current } => write_number(to, 10, current.get()),
        Refusal::BadTarget => to.byte(11),
        Refusal::BadResolution => to.byte(12),
        Refusal::OtherInstance => to.byte(13),
        Refusal::BadTime => to.byte(14),
        Refusal::TooLong { field } => {
            to.byte(15);
            to.byte(match field {
                Text::OffsetMetadata => 0,
                Text::Subscription => 1,
                Text::Label => 2,
            });
        }
        Refusal::TooMany { what } => {
            to.byte(16);
            to.byte(match what {
                Bound::Groups => 0,
                Bound::Members => 1,
                Bound::ShardMembers => 2,
                Bound::Topics => 3,
                Bound::Partitions => 4,
                Bound::Offsets => 5,
                Bound::ShardOffsets => 6,
                Bound::ShardText => 7,
            });
        }
    }
}

fn read_refusal(from: &mut Reader<'_>) -> Result<Refusal, DecodeError> {
    Ok(match from.byte()? {
        0 => Refusal::UnknownGroup,
        1 => Refusal::UnknownMember,
        2 => Refusal::WrongEpoch { current: from.epoch()? },
        3 => Refusal::NotHeld,
        4 => Refusal::Behind { committed: Offset::new(from.number()?) },
        5 => Refusal::GroupChanged { fence: MemberEpoch::new(from.number()?) },
        6 => Refusal::HasMembers,
        7 => Refusal::PartitionInUse,
        8 => Refusal::NotIdle,
        9 => Refusal::StaleMetadata { known: MetadataIndex::new(from.number()?) },
        10 => Refusal::StaleTarget { current: GroupEpoch::new(from.number()?) },
        11 => Refusal::BadTarget,
        12 => Refusal::BadResolution,
        13 => Refusal::OtherInstance,
        14 => Refusal::BadTime,
        15 => Refusal::TooLong {
            field: match from.byte()? {
                0 => Text::OffsetMetadata,
                1 => Text::Subscription,
                2 => Text::Label,
                found => return Err(DecodeError::Unknown { what: "text", found }),
            },
        },
        16 => Refusal::TooMany {
            what: match from.byte()? {
                0 => Bound::Groups,
                1 => Bound::Members,
                2 => Bound::ShardMembers,
                3 => Bound::Topics,
                4 => Bound::Partitions,
                5 => Bound::Offsets,
                6 => Bound::ShardOffsets,
                7 => Bound::ShardText,
                found => return Err(DecodeError::Unknown { what: "bound", found }),
            },
        },
        found => return Err(DecodeError::Unknown { what: "refusal", found }),
    })
}
