//! What subscriptions are in the metadata.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use duramen_group::{Group, Racks, Resolution};
use duramen_metadata::State;
use duramen_types::{MetadataIndex, TopicId, TopicPartition};
use regex::{Regex, RegexBuilder};

use crate::limits;

/// Compiles a pattern, which must match a whole name.
///
/// # Errors
/// What is wrong with it, in words.
pub(super) fn compile(pattern: &str) -> Result<Regex, String> {
    RegexBuilder::new(&format!("^(?:{pattern})$"))
        .size_limit(limits::PATTERN_COMPILED_BYTES_MAX)
        .dfa_size_limit(limits::PATTERN_COMPILED_BYTES_MAX)
        .build()
        .map_err(|error| error.to_string())
}

/// The topics of the cluster that groups can read, at one metadata index.
#[derive(Clone, Debug, Default)]
pub(super) struct Topics {
    index: MetadataIndex,
    topics: BTreeMap<Arc<str>, (TopicId, u32)>,
}

impl Topics {
    pub(super) fn of(state: &State) -> Self {
        let topics = state.topics().filter(|topic| !topic.is_internal());
        let entry = |topic: &Arc<duramen_metadata::Topic>| {
            let partitions = u32::try_from(topic.partitions.len()).unwrap_or(u32::MAX);
            (Arc::from(topic.name.as_str()), (topic.id, partitions))
        };
        Self { index: state.applied(), topics: topics.map(entry).collect() }
    }

    /// Where the metadata was read.
    pub(super) fn index(&self) -> MetadataIndex {
        self.index
    }

    /// Whether there are the same topics, at whatever index.
    pub(super) fn is_same_as(&self, other: &Self) -> bool {
        self.topics == other.topics
    }
}

/// Patterns that are in use, compiled.
#[derive(Debug, Default)]
pub(super) struct Patterns {
    compiled: BTreeMap<Arc<str>, Option<Regex>>,
}

impl Patterns {
    /// What a group's subscriptions are.
    pub(super) fn resolve(&mut self, topics: &Topics, group: &Group) -> Resolution {
        let (names, patterns) = group.subscriptions();
        let mut resolution = Resolution { index: topics.index, ..Resolution::default() };
        for name in names {
            let found = topics.topics.get(&name);
            if let Some((topic, partitions)) = found {
                resolution.partitions.insert(*topic, *partitions);
            }
            resolution.names.insert(name, found.map(|(topic, _)| *topic));
        }
        for pattern in patterns {
            // One that does not compile here was written by another version: it matches nothing.
            let regex = self
                .compiled
                .entry(Arc::clone(&pattern))
                .or_insert_with_key(|text| compile(text).ok());
            let matched: BTreeSet<TopicId> = topics
                .topics
                .iter()
                .filter(|(name, _)| regex.as_ref().is_some_and(|regex| regex.is_match(name)))
                .map(|(_, (topic, partitions))| {
                    resolution.partitions.insert(*topic, *partitions);
                    *topic
                })
                .collect();
            resolution.patterns.insert(pattern, matched);
        }
        if self.compiled.len() > limits::PATTERNS_COMPILED_MAX {
            self.compiled.clear();
        }
        resolution
    }
}

/// Whether a group knows all this already.
pub(super) fn is_known(group: &Group, resolution: &Resolution) -> bool {
    let known = group.resolution();
    known.names == resolution.names
        && known.patterns == resolution.patterns
        && known.partitions == resolution.partitions
}

/// Where the replicas of a group's partitions are, if any of its members says where it is.
pub(super) fn racks(state: &State, group: &Group) -> Racks {
    if group.members().all(|(_, member)| member.rack.is_empty()) {
        return Racks::new();
    }
    let mut racks = Racks::new();
    for topic in group.resolution().partitions.keys() {
        let Some(topic) = state.topic_by_id(*topic) else { continue };
        for (partition, placement) in topic.partitions() {
            let nodes = placement.replicas.iter().filter_map(|replica| state.node(replica.node));
            let of = nodes.map(|node| Arc::from(node.rack.as_str())).collect();
            racks.insert(TopicPartition { topic: topic.id, partition }, of);
        }
    }
    racks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_matches_whole_names() {
        let regex = compile("orders|pay.*").unwrap();
        for (name, matches) in
            [("orders", true), ("payments", true), ("orders-2", false), ("my-orders", false)]
        {
            assert_eq!(regex.is_match(name), matches, "{name}");
        }
    }

    #[test]
    fn a_pattern_that_would_take_too_much_is_refused() {
        assert!(compile("(").is_err());
        assert!(compile("(a{1000}){1000}").is_err());
    }
}
