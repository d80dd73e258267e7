//! The configuration of a topic: the keys that are implemented, their values and defaults.
//!
//! Names, defaults and meanings are Kafka's. Values are stored in Kafka's plain form; requests may
//! also write `7d`, `1GiB` or `unlimited`.

mod value;

use std::collections::BTreeMap;
use std::fmt;

use crate::error::ConfigError;
use value::{parse_bytes, parse_millis};

/// What was set for a topic: keys and values in their stored form.
pub type Settings = BTreeMap<String, String>;

/// The stored form of "no limit".
const UNLIMITED: &str = "-1";

/// The largest count of bytes or milliseconds: Kafka's clients read them as signed.
const LARGEST: u64 = i64::MAX as u64;

/// Smaller segments would be more overhead than data.
const SEGMENT_BYTES_MIN: u64 = 64 << 10;

/// Positions within a segment are 32 bits wide in Kafka's tools.
const SEGMENT_BYTES_MAX: u64 = i32::MAX as u64;

/// A smaller limit would refuse ordinary batches.
const MESSAGE_BYTES_MIN: u64 = 1 << 10;

/// A batch is held in memory, several times, on its way to the disks.
const MESSAGE_BYTES_MAX: u64 = 64 << 20;

/// A configuration key of a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ConfigKey {
    /// `compression.type`
    CompressionType,
    /// `max.message.bytes`
    MaxMessageBytes,
    /// `retention.bytes`
    RetentionBytes,
    /// `retention.ms`
    RetentionMs,
    /// `segment.bytes`
    SegmentBytes,
    /// `segment.ms`
    SegmentMs,
}

impl ConfigKey {
    /// All keys, sorted by name.
    pub const ALL: [Self; 6] = [
        Self::CompressionType,
        Self::MaxMessageBytes,
        Self::RetentionBytes,
        Self::RetentionMs,
        Self::SegmentBytes,
        Self::SegmentMs,
    ];

    /// Its name, as clients write it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::CompressionType => "compression.type",
            Self::MaxMessageBytes => "max.message.bytes",
            Self::RetentionBytes => "retention.bytes",
            Self::RetentionMs => "retention.ms",
            Self::SegmentBytes => "segment.bytes",
            Self::SegmentMs => "segment.ms",
        }
    }

    /// What it is for, one or two sentences for people.
    #[must_use]
    pub const fn documentation(self) -> &'static str {
        match self {
            Self::CompressionType => {
                "Who compresses. Only `producer`: batches are stored as the producer compressed \
                 them."
            }
            Self::MaxMessageBytes => {
                "The largest record batch that is taken, in bytes, as it arrives (compressed)."
            }
            Self::RetentionBytes => {
                "How many bytes of each partition are kept; the oldest segments are dropped \
                 first. -1 keeps all."
            }
            Self::RetentionMs => {
                "How long records are kept, in milliseconds; whole segments are dropped when \
                 their newest record is older. -1 keeps all."
            }
            Self::SegmentBytes => "The size at which a segment is sealed, in bytes.",
            Self::SegmentMs => {
                "The age at which a segment is sealed, in milliseconds, so that retention can \
                 drop it."
            }
        }
    }

    /// The value when none is set, in its stored form.
    #[must_use]
    pub const fn default_value(self) -> &'static str {
        match self {
            Self::CompressionType => "producer",
            Self::MaxMessageBytes => "1048588",
            Self::RetentionBytes => UNLIMITED,
            Self::RetentionMs | Self::SegmentMs => "604800000",
            // A quarter of Kafka's: only sealed segments are read through mappings.
            Self::SegmentBytes => "268435456",
        }
    }

    /// What values it takes, for people.
    #[must_use]
    pub const fn expected(self) -> &'static str {
        match self {
            Self::CompressionType => "producer",
            Self::MaxMessageBytes => "bytes from 1KiB to 64MiB",
            Self::RetentionBytes => "bytes from 1, such as 10GiB, or unlimited (-1)",
            Self::RetentionMs => "milliseconds or a time such as 7d, or unlimited (-1)",
            Self::SegmentBytes => "bytes from 64KiB to 2147483647",
            Self::SegmentMs => "milliseconds or a time such as 7d",
        }
    }

    /// The key of a name.
    ///
    /// # Errors
    /// [`ConfigError::UnknownKey`] with the nearest name, if one is near.
    pub fn parse(name: &str) -> Result<Self, ConfigError> {
        if let Some(key) = Self::ALL.into_iter().find(|key| key.name() == name) {
            return Ok(key);
        }
        let distance = |key: &Self| strsim::damerau_levenshtein(key.name(), name);
        let nearest = Self::ALL.into_iter().min_by_key(distance);
        // A third of the letters wrong is another word, not a typo.
        let nearest = nearest.filter(|key| distance(key) * 3 <= key.name().len());
        Err(ConfigError::UnknownKey { key: name.into(), nearest })
    }

    /// Reads a value in any form and gives its stored form.
    ///
    /// # Errors
    /// [`ConfigError::BadValue`].
    pub fn canonical(self, value: &str) -> Result<String, ConfigError> {
        let value = value.trim();
        let number = match self {
            Self::CompressionType => {
                return if value == "producer" { Ok(value.into()) } else { Err(self.bad(value)) };
            }
            Self::RetentionBytes | Self::RetentionMs
                if value == UNLIMITED || value.eq_ignore_ascii_case("unlimited") =>
            {
                return Ok(UNLIMITED.into());
            }
            Self::RetentionMs | Self::SegmentMs => parse_millis(value),
            Self::MaxMessageBytes | Self::RetentionBytes | Self::SegmentBytes => parse_bytes(value),
        };
        let range = match self {
            Self::MaxMessageBytes => MESSAGE_BYTES_MIN..=MESSAGE_BYTES_MAX,
            Self::SegmentBytes => SEGMENT_BYTES_MIN..=SEGMENT_BYTES_MAX,
            _ => 1..=LARGEST,
        };
        match number.filter(|number| range.contains(number)) {
            Some(number) => Ok(number.to_string()),
            None => Err(self.bad(value)),
        }
    }

    fn bad(self, value: &str) -> ConfigError {
        ConfigError::BadValue { key: self, value: value.into() }
    }

    /// The value in force, in its stored form. A stored value that this version does not
    /// understand counts as none.
    #[must_use]
    pub fn value_in(self, settings: &Settings) -> String {
        settings
            .get(self.name())
            .and_then(|value| self.canonical(value).ok())
            .unwrap_or_else(|| self.default_value().into())
    }

    /// The number in force; `None` is no limit.
    fn number_in(self, settings: &Settings) -> Option<u64> {
        self.value_in(settings).parse().ok()
    }
}

impl fmt::Display for ConfigKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The configuration of a topic in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopicConfig {
    /// How long records are kept, in milliseconds; `None` is for ever.
    pub retention_ms: Option<u64>,
    /// How many bytes of a partition are kept; `None` is all.
    pub retention_bytes: Option<u64>,
    /// The size at which a segment is sealed.
    pub segment_bytes: u64,
    /// The age at which a segment is sealed, in milliseconds.
    pub segment_ms: u64,
    /// The largest batch that is taken.
    pub max_message_bytes: u32,
}

impl TopicConfig {
    /// What these settings mean.
    #[must_use]
    pub fn of(settings: &Settings) -> Self {
        let number = |key: ConfigKey| key.number_in(settings).unwrap_or(LARGEST);
        Self {
            retention_ms: ConfigKey::RetentionMs.number_in(settings),
            retention_bytes: ConfigKey::RetentionBytes.number_in(settings),
            segment_bytes: number(ConfigKey::SegmentBytes),
            segment_ms: number(ConfigKey::SegmentMs),
            max_message_bytes: u32::try_from(number(ConfigKey::MaxMessageBytes))
                .unwrap_or(u32::MAX),
        }
    }

    /// Whether the values go together.
    ///
    /// # Errors
    /// [`ConfigError::MessageLargerThanSegment`].
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        if u64::from(self.max_message_bytes) > self.segment_bytes {
            return Err(ConfigError::MessageLargerThanSegment {
                max_message_bytes: self.max_message_bytes,
                segment_bytes: self.segment_bytes,
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(pairs: &[(&str, &str)]) -> Settings {
        pairs.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect()
    }

    #[test]
    fn the_defaults_are_those_of_kafka_but_for_smaller_segments() {
        let week = 7 * 24 * 60 * 60 * 1000;
        let expected = TopicConfig {
            retention_ms: Some(week),
            retention_bytes: None,
            segment_bytes: 256 << 20,
            segment_ms: week,
            max_message_bytes: (1 << 20) + 12,
        };
        assert_eq!(TopicConfig::of(&Settings::new()), expected);
        assert_eq!(expected.check(), Ok(()));
    }

    #[test]
    fn every_default_is_a_value_in_its_stored_form() {
        for key in ConfigKey::ALL {
            assert_eq!(key.canonical(key.default_value()).unwrap(), key.default_value());
            assert_eq!(ConfigKey::parse(key.name()), Ok(key));
        }
        assert!(ConfigKey::ALL.is_sorted_by_key(|key| key.name()));
    }

    #[test]
    fn people_may_write_units() {
        let canonical = |key: ConfigKey, text: &str| key.canonical(text).ok();
        assert_eq!(canonical(ConfigKey::RetentionMs, "7d").as_deref(), Some("604800000"));
        assert_eq!(canonical(ConfigKey::RetentionMs, "unlimited").as_deref(), Some("-1"));
        assert_eq!(canonical(ConfigKey::SegmentBytes, "1GiB").as_deref(), Some("1073741824"));
        assert_eq!(canonical(ConfigKey::SegmentMs, "unlimited"), None);
        assert_eq!(canonical(ConfigKey::SegmentBytes, "1KiB"), None);
        assert_eq!(canonical(ConfigKey::MaxMessageBytes, "1GiB"), None);
        assert_eq!(canonical(ConfigKey::RetentionMs, "0"), None);
        assert_eq!(canonical(ConfigKey::RetentionBytes, "-2"), None);
        assert_eq!(canonical(ConfigKey::CompressionType, "zstd"), None);
    }

    #[test]
    fn a_typo_names_the_nearest_key() {
        let error = ConfigKey::parse("retention.sm").unwrap_err();
        let text = "there is no configuration key \"retention.sm\", did you mean retention.ms?";
        assert_eq!(error.to_string(), text);
        let error = ConfigKey::parse("min.insync.replicas").unwrap_err();
        assert_eq!(error.to_string(), "there is no configuration key \"min.insync.replicas\"");
    }

    #[test]
    fn a_bad_value_says_what_is_expected() {
        let error = ConfigKey::SegmentBytes.canonical("big").unwrap_err();
        assert_eq!(
            error.to_string(),
            "\"big\" is not a value of segment.bytes: expected bytes from 64KiB to 2147483647"
        );
    }

    #[test]
    fn a_stored_value_of_another_version_counts_as_none() {
        let odd = settings(&[("segment.bytes", "three"), ("some.later.key", "1")]);
        assert_eq!(TopicConfig::of(&odd), TopicConfig::of(&Settings::new()));
    }

    #[test]
    fn a_segment_holds_the_largest_batch() {
        let config = settings(&[("segment.bytes", "65536")]);
        assert!(TopicConfig::of(&config).check().is_err());
    }
}
