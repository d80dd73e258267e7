//! Hands out partitions that have to go somewhere, to near members first.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use duramen_types::TopicPartition;

use super::Racks;

/// Members that want partitions: those that want most come first.
type Wanting = BTreeSet<(Reverse<usize>, usize)>;

/// Splits what a member has into what it keeps and what it gives up, beyond `quota`. What is far
/// from it goes first.
pub(super) fn keep(
    mut has: Vec<TopicPartition>,
    quota: usize,
    rack: &str,
    racks: &Racks,
) -> (Vec<TopicPartition>, Vec<TopicPartition>) {
    if has.len() > quota && !racks.is_empty() {
        has.sort_by_key(|partition| (!is_near(*partition, rack, racks), *partition));
    }
    let shed = has.split_off(quota.min(has.len()));
    (has, shed)
}

/// Deals a pool to members that want `wants` of them, in sum as many as there are: first each
/// partition to a member in the rack of one of its replicas, then the rest to whoever wants most.
/// How many a member gets does not depend on racks.
pub(super) fn deal(
    pool: Vec<TopicPartition>,
    wants: &mut [usize],
    member_racks: &[&str],
    racks: &Racks,
    given: &mut [Vec<TopicPartition>],
) {
    let mut rest = Vec::new();
    if racks.is_empty() {
        rest = pool;
    } else {
        let mut by_rack: BTreeMap<&str, Wanting> = BTreeMap::new();
        for (place, (want, rack)) in wants.iter().zip(member_racks).enumerate() {
            if *want > 0 {
                by_rack.entry(rack).or_default().insert((Reverse(*want), place));
            }
        }
        for partition in pool {
            let near = racks.get(&partition).into_iter().flatten();
            let best = near
                .filter_map(|rack| Some((by_rack.get(&**rack)?.first()?, rack)))
                .min_by_key(|(first, _)| **first);
            let taken = best.map(|((_, place), rack)| (*place, rack));
            match taken {
                Some((place, rack)) => {
                    if let Some(wanting) = by_rack.get_mut(&**rack) {
                        take(wanting, wants);
                    }
                    give(given, place, partition);
                }
                None => rest.push(partition),
            }
        }
    }
    let wanted = wants.iter().enumerate().filter(|(_, want)| **want > 0);
    let mut wanting: Wanting = wanted.map(|(place, want)| (Reverse(*want), place)).collect();
    for partition in rest {
        if let Some(place) = take(&mut wanting, wants) {
            give(given, place, partition);
        }
    }
}

/// Takes one off what the first of these wants.
fn take(wanting: &mut Wanting, wants: &mut [usize]) -> Option<usize> {
    let (Reverse(want), place) = wanting.pop_first()?;
    if want > 1 {
        wanting.insert((Reverse(want - 1), place));
    }
    if let Some(left) = wants.get_mut(place) {
        *left = want - 1;
    }
    Some(place)
}

fn give(given: &mut [Vec<TopicPartition>], place: usize, partition: TopicPartition) {
    if let Some(partitions) = given.get_mut(place) {
        partitions.push(partition);
    }
}

fn is_near(partition: TopicPartition, rack: &str, racks: &Racks) -> bool {
    racks.get(&partition).is_some_and(|near| near.iter().any(|one| **one == *rack))
}
