//! Names of groups, members and instances: short text that is cheap to clone.

use std::fmt;
use std::sync::Arc;

use crate::limits::NAME_BYTES_MAX;

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Takes 1 to [`NAME_BYTES_MAX`] bytes of text without control characters; `None` for
            /// anything else. Kafka's clients choose the characters, so that no others are barred.
            #[must_use]
            pub fn new(text: &str) -> Option<Self> {
                let fits = (1..=NAME_BYTES_MAX).contains(&text.len());
                (fits && !text.chars().any(char::is_control)).then(|| Self(text.into()))
            }

            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name! {
    /// The name of a group.
    GroupName
}

name! {
    /// The id of a member: drawn for one life of one consumer, never given again.
    MemberId
}

name! {
    /// The id of a static member (`group.instance.id`): it outlives the consumer's process.
    InstanceId
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_short_and_printable() {
        assert_eq!(GroupName::new("orders").unwrap().as_str(), "orders");
        assert!(GroupName::new("").is_none());
        assert!(GroupName::new("a\nb").is_none());
        assert!(GroupName::new(&"x".repeat(NAME_BYTES_MAX)).is_some());
        assert!(GroupName::new(&"x".repeat(NAME_BYTES_MAX + 1)).is_none());
    }
}
