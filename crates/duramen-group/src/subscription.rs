//! What a member wants to read, and what that is in the metadata.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use duramen_types::{MetadataIndex, TopicId};

use crate::limits::{NAME_BYTES_MAX, PATTERN_BYTES_MAX, SUBSCRIBED_NAMES_MAX};

/// What a member wants to read: topics by name, and those whose names match a pattern.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subscription {
    /// Names of topics, whether they exist or not.
    pub names: BTreeSet<Arc<str>>,
    /// A regular expression. What it matches is decided by the caller, see [`Resolution`].
    pub pattern: Option<Arc<str>>,
}

impl Subscription {
    /// A subscription to topics by name.
    #[must_use]
    pub fn to_names<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        Self { names: names.into_iter().map(Arc::from).collect(), pattern: None }
    }

    /// Whether it keeps the limits; it may be empty.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        let is_name = |name: &Arc<str>| (1..=NAME_BYTES_MAX).contains(&name.len());
        let is_pattern = |text: &Arc<str>| (1..=PATTERN_BYTES_MAX).contains(&text.len());
        self.names.len() <= SUBSCRIBED_NAMES_MAX
            && self.names.iter().all(is_name)
            && self.pattern.iter().all(is_pattern)
    }

    /// Its text in bytes.
    pub(crate) fn text_bytes(&self) -> usize {
        self.names.iter().chain(&self.pattern).map(|text| text.len()).sum()
    }
}

/// What subscriptions are in the metadata at one index. Worked out by the coordinator, which knows
/// the topics and has a regular expression engine; apply must not, for engines differ.
///
/// Of two resolutions the one at the later index counts for what both name, and one at an earlier
/// index is refused: what a name or a pattern is at one index is always the same.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resolution {
    /// Where the metadata was read.
    pub index: MetadataIndex,
    /// What is known of each name; `None` if there is no such topic.
    pub names: BTreeMap<Arc<str>, Option<TopicId>>,
    /// The topics that each pattern matches.
    pub patterns: BTreeMap<Arc<str>, BTreeSet<TopicId>>,
    /// The number of partitions of each topic that is named above.
    pub partitions: BTreeMap<TopicId, u32>,
}

impl Resolution {
    /// Whether all of a subscription is looked up.
    #[must_use]
    pub fn covers(&self, subscription: &Subscription) -> bool {
        subscription.names.iter().all(|name| self.names.contains_key(name))
            && subscription.pattern.iter().all(|text| self.patterns.contains_key(text))
    }

    /// The topics of a subscription that are known to exist.
    #[must_use]
    pub fn topics_of(&self, subscription: &Subscription) -> BTreeSet<TopicId> {
        let named = subscription.names.iter().filter_map(|name| *self.names.get(name)?);
        let patterns = subscription.pattern.iter().filter_map(|text| self.patterns.get(text));
        named.chain(patterns.flatten().copied()).collect()
    }

    /// How many partitions there are in all.
    #[must_use]
    pub fn partition_count(&self) -> u64 {
        self.partitions.values().map(|count| u64::from(*count)).sum()
    }

    /// Whether every topic that is named has a number of partitions.
    pub(crate) fn is_whole(&self) -> bool {
        let matched = self.patterns.values().flatten();
        let mut topics = self.names.values().flatten().chain(matched);
        topics.all(|topic| self.partitions.contains_key(topic))
    }

    /// Takes in another one, of the same index or a later one.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.index = other.index;
        self.names.extend(other.names.clone());
        self.patterns.extend(other.patterns.clone());
        self.partitions.extend(other.partitions.iter());
    }

    /// Whether it says the same, wherever it was read.
    pub(crate) fn is_same_as(&self, other: &Self) -> bool {
        self.names == other.names
            && self.patterns == other.patterns
            && self.partitions == other.partitions
    }

    /// Forgets a topic that was deleted.
    pub(crate) fn forget(&mut self, topic: TopicId) {
        self.names.values_mut().filter(|found| **found == Some(topic)).for_each(|f| *f = None);
        self.patterns.values_mut().for_each(|topics| {
            topics.remove(&topic);
        });
        self.partitions.remove(&topic);
    }

    /// Forgets what nobody subscribes to.
    pub(crate) fn prune<'a>(&mut self, subscriptions: impl Iterator<Item = &'a Subscription>) {
        let (mut names, mut patterns) = (BTreeSet::new(), BTreeSet::new());
        for subscription in subscriptions {
            names.extend(&subscription.names);
            patterns.extend(&subscription.pattern);
        }
        self.names.retain(|name, _| names.contains(name));
        self.patterns.retain(|text, _| patterns.contains(text));
        let matched = self.patterns.values().flatten();
        let topics: BTreeSet<TopicId> =
            self.names.values().flatten().chain(matched).copied().collect();
        self.partitions.retain(|topic, _| topics.contains(topic));
    }
}
