//! Many partitions in few words: `quakes 0-3,7; orders 1`.

use std::collections::{BTreeMap, BTreeSet};

use duramen_client::NamedPartition;

/// The partitions by topic, neighbours as ranges.
pub(crate) fn compact<'a>(all: impl IntoIterator<Item = &'a NamedPartition>) -> String {
    let mut topics = BTreeMap::<String, BTreeSet<u32>>::new();
    for partition in all {
        let topic = topic_text(partition);
        topics.entry(topic).or_default().insert(partition.partition.get());
    }
    let texts = topics.into_iter().map(|(topic, ids)| format!("{topic} {}", ranges(&ids)));
    texts.collect::<Vec<_>>().join("; ")
}

/// The name of a partition's topic; the id of one that was deleted.
pub(crate) fn topic_text(partition: &NamedPartition) -> String {
    match partition.topic.is_empty() {
        true => partition.topic_id.to_string(),
        false => partition.topic.to_string(),
    }
}

fn ranges(ids: &BTreeSet<u32>) -> String {
    let mut found: Vec<(u32, u32)> = Vec::new();
    for id in ids {
        match found.last_mut() {
            Some((_, last)) if last.checked_add(1) == Some(*id) => *last = *id,
            _ => found.push((*id, *id)),
        }
    }
    let texts = found.into_iter().map(|(first, last)| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    });
    texts.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use duramen_client::PartitionId;

    use super::*;

    fn partition(topic: &str, id: u32) -> NamedPartition {
        NamedPartition::new(topic, PartitionId::new(id))
    }

    #[test]
    fn neighbours_are_ranges_and_topics_are_apart() {
        let all = [("b", 7), ("a", 1), ("b", 0), ("b", 2), ("b", 1)];
        let all = all.map(|(topic, id)| partition(topic, id));
        assert_eq!(compact(&all), "a 1; b 0-2,7");
        assert_eq!(compact(&[]), "");
    }

    #[test]
    fn a_deleted_topic_has_only_its_id() {
        let gone = partition("", 3);
        assert_eq!(compact([&gone]), format!("{} 3", gone.topic_id));
    }
}
