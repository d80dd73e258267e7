//! Newtypes over integers: offsets, log indexes, terms and small identifiers.

use std::fmt;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name($inner);

        impl $name {
            /// The smallest value.
            pub const ZERO: Self = Self(0);

            /// Wraps a raw number.
            #[must_use]
            pub const fn new(raw: $inner) -> Self {
                Self(raw)
            }

            /// The raw number.
            #[must_use]
            pub const fn get(self) -> $inner {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    };
}

macro_rules! counting {
    ($name:ident) => {
        impl $name {
            /// This value plus one.
            ///
            /// # Panics
            /// Never in practice: 2^64 records or entries cannot be written.
            #[must_use]
            pub const fn next(self) -> Self {
                Self(self.0 + 1)
            }

            /// This value minus one, or `None` at zero.
            #[must_use]
            pub const fn prev(self) -> Option<Self> {
                match self.0.checked_sub(1) {
                    Some(raw) => Some(Self(raw)),
                    None => None,
                }
            }

            /// This value plus `count`, or `None` on overflow.
            #[must_use]
            pub const fn checked_add(self, count: u64) -> Option<Self> {
                match self.0.checked_add(count) {
                    Some(raw) => Some(Self(raw)),
                    None => None,
                }
            }

            /// This value plus `count`, at most the largest value.
            #[must_use]
            pub const fn saturating_add(self, count: u64) -> Self {
                Self(self.0.saturating_add(count))
            }

            /// This value minus `count`, at least zero.
            #[must_use]
            pub const fn saturating_sub(self, count: u64) -> Self {
                Self(self.0.saturating_sub(count))
            }

            /// How far this value lies after `earlier`; zero if it does not.
            #[must_use]
            pub const fn distance_from(self, earlier: Self) -> u64 {
                self.0.saturating_sub(earlier.0)
            }
        }
    };
}

number! {
    /// Counts the records of a partition from 0, dense, as clients see it.
    Offset(u64)
}
counting!(Offset);

number! {
    /// The index of one entry in a replica's Raft log. The first entry of a log has index 0.
    LogIndex(u64)
}
counting!(LogIndex);

number! {
    /// The log index of the metadata group at which a reply was true; later waits name it.
    MetadataIndex(u64)
}

number! {
    /// A Raft term; clients see it as the leader epoch.
    Term(u64)
}

number! {
    /// A Duramen process, as the operator numbers it (`--id`). Zero is not a node.
    NodeId(u64)
}

number! {
    /// One incarnation of one replica: drawn at random when the replica is placed, never reused.
    ///
    /// A rebuilt or wiped replica gets a fresh one, because a voter that returns without its log
    /// under its old id can split a cluster.
    ReplicaId(u64)
}

number! {
    /// A partition of a topic, counted from 0.
    PartitionId(u32)
}

number! {
    /// The producer of the idempotence triple (KIP-98). Never reused.
    ProducerId(u64)
}

number! {
    /// The epoch of a producer id; a higher one fences the lower.
    ProducerEpoch(u16)
}

number! {
    /// The sequence of a record within (producer id, epoch, partition); wraps after 2^31 - 1.
    Sequence(u32)
}

impl Sequence {
    /// The largest sequence; the next one is 0 (Kafka's rule).
    pub const MAX: u32 = i32::MAX as u32;

    /// The sequence `count` records later, wrapping from 2^31 - 1 to 0.
    #[must_use]
    pub const fn advance(self, count: u32) -> Self {
        let sum = self.0 as u64 + count as u64;
        let wrapped = sum % (Self::MAX as u64 + 1);
        #[expect(clippy::cast_possible_truncation, reason = "the remainder is below 2^31")]
        Self(wrapped as u32)
    }

    /// How many records later than another one it is, on the circle of sequences.
    #[must_use]
    pub const fn distance_from(self, earlier: Self) -> u32 {
        let size = Self::MAX as u64 + 1;
        let sum = self.0 as u64 + size - earlier.0 as u64 % size;
        #[expect(clippy::cast_possible_truncation, reason = "the remainder is below 2^31")]
        let distance = (sum % size) as u32;
        distance
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sequence_wraps_to_zero_after_the_largest() {
        assert_eq!(Sequence::new(Sequence::MAX).advance(1), Sequence::new(0));
        assert_eq!(Sequence::new(Sequence::MAX - 1).advance(3), Sequence::new(1));
        let before = Sequence::new(Sequence::MAX - 1);
        assert_eq!(Sequence::new(1).distance_from(before), 3);
        assert_eq!(before.distance_from(Sequence::new(1)), Sequence::MAX - 2);
        assert_eq!(before.distance_from(before), 0);
    }

    #[test]
    fn distances_never_underflow() {
        assert_eq!(Offset::new(3).distance_from(Offset::new(5)), 0);
        assert_eq!(Offset::ZERO.prev(), None);
    }
}
