//! Ranges: neighbouring partitions together, and the same numbers of all topics with one member.

use super::{AssignInput, Assignment, Assignor, Racks};

/// Gives each reader of a topic a range of its partitions, in the order of instance ids and member
/// ids. Topics with as many partitions and the same readers are divided alike, so that a member has
/// the same partitions of all: what joins need. It takes no care of movement or racks, and the rest
/// of each division goes to the first members.
#[derive(Clone, Copy, Debug, Default)]
pub struct Range;

impl Assignor for Range {
    fn name(&self) -> &'static str {
        "range"
    }

    fn assign(&self, input: &AssignInput<'_>, _racks: &Racks) -> Assignment {
        let mut given = vec![Vec::new(); input.members.len()];
        let mut rank: Vec<_> = input
            .members
            .iter()
            .enumerate()
            .map(|(place, (id, member))| (member.instance.is_none(), member.instance, *id, place))
            .collect();
        rank.sort_unstable();
        let mut ranks = vec![0_usize; rank.len()];
        for (at, (_, _, _, place)) in rank.into_iter().enumerate() {
            if let Some(rank) = ranks.get_mut(place) {
                *rank = at;
            }
        }
        for (topic, mut readers) in input.readers() {
            readers.sort_unstable_by_key(|place| ranks.get(*place).copied());
            let mut partitions = input.partitions_of(topic);
            let count = input.partitions.get(&topic).copied().unwrap_or(0) as usize;
            let (base, rest) = (count / readers.len().max(1), count % readers.len().max(1));
            for (at, place) in readers.iter().enumerate() {
                let size = base + usize::from(at < rest);
                if let Some(given) = given.get_mut(*place) {
                    given.extend(partitions.by_ref().take(size));
                }
            }
        }
        input.named(given)
    }
}
