//! The two counters of a group.

use std::fmt;

macro_rules! epoch {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(u64);

        impl $name {
            /// Before the first one.
            pub const ZERO: Self = Self(0);

            /// Wraps a raw number.
            #[must_use]
            pub const fn new(raw: u64) -> Self {
                Self(raw)
            }

            /// The raw number.
            #[must_use]
            pub const fn get(self) -> u64 {
                self.0
            }

            /// The next one. It stays at the largest, which 2^64 changes would take to reach.
            #[must_use]
            pub const fn next(self) -> Self {
                Self(self.0.saturating_add(1))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    };
}

epoch! {
    /// Counts what makes a new target assignment due: members, subscriptions, topics (KIP-848).
    GroupEpoch
}

epoch! {
    /// Counts what fences: one counter a group, of which a member has the value at which its
    /// assignment last changed. What a member says names the epoch that it knows.
    MemberEpoch
}

impl MemberEpoch {
    /// Later than every other one: nothing that a member can name reaches it.
    pub const NEVER: Self = Self(u64::MAX);
}
