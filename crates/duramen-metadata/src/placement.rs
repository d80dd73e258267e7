//! Where the replicas of new partitions go.
//!
//! Each replica goes to the node with the fewest replicas that does not hold the partition yet, in
//! a rack that does not hold it yet if there is one; among equals the seed decides, so that the
//! partitions of a node spread over all others. The first replica, which will lead, is the one
//! whose node leads the fewest; what is then still uneven is moved.

use std::collections::{BTreeMap, VecDeque};

use duramen_types::NodeId;

/// A node that can take replicas, with what it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The node.
    pub node: NodeId,
    /// Its rack; nodes without one are each in a rack of their own.
    pub rack: String,
    /// Replicas on it.
    pub replicas: u64,
    /// Of those, the first of their partition.
    pub leaders: u64,
    /// Take it only if the others do not suffice: it is thought dead.
    pub avoid: bool,
}

/// Places the replicas of so many partitions and counts them in the candidates. The first of each
/// partition is its preferred leader. A partition has fewer replicas than asked for only if there
/// are fewer candidates.
#[must_use]
pub fn place(
    candidates: &mut [Candidate],
    partitions: u32,
    replication_factor: u32,
    seed: u64,
) -> Vec<Vec<NodeId>> {
    let mut placed: Vec<Vec<usize>> = (0..partitions)
        .map(|partition| choose(candidates, replication_factor, mix(seed, partition.into())))
        .collect();
    for replicas in &mut placed {
        lead(candidates, replicas);
    }
    while even_out_leaders(candidates, &mut placed) {}
    let nodes = |replicas: Vec<usize>| replicas.into_iter().map(|at| candidates[at].node).collect();
    placed.into_iter().map(nodes).collect()
}

/// Chooses the candidates of one partition.
fn choose(candidates: &mut [Candidate], replication_factor: u32, seed: u64) -> Vec<usize> {
    let mut chosen: Vec<usize> = Vec::new();
    for _ in 0..replication_factor {
        let best = (0..candidates.len()).filter(|at| !chosen.contains(at)).min_by_key(|at| {
            let candidate = &candidates[*at];
            let shares_rack = !candidate.rack.is_empty()
                && chosen.iter().any(|other| candidates[*other].rack == candidate.rack);
            (candidate.avoid, shares_rack, candidate.replicas, mix(seed, candidate.node.get()))
        });
        let Some(best) = best else { break };
        candidates[best].replicas += 1;
        chosen.push(best);
    }
    chosen
}

/// Puts the replica first whose node leads the fewest.
fn lead(candidates: &mut [Candidate], replicas: &mut [usize]) {
    let leader = (0..replicas.len()).min_by_key(|at| {
        let candidate = &candidates[replicas[*at]];
        (candidate.avoid, candidate.leaders, *at)
    });
    if let Some(leader) = leader {
        candidates[replicas[leader]].leaders += 1;
        replicas.swap(0, leader);
    }
}

/// Moves one leadership from a node to one that leads at least two fewer, if need be over others
/// in between (an augmenting path); false if there is nothing to move.
fn even_out_leaders(candidates: &mut [Candidate], placed: &mut [Vec<usize>]) -> bool {
    let live = candidates.iter().filter(|candidate| !candidate.avoid);
    let fewest = live.map(|candidate| candidate.leaders).min().unwrap_or(u64::MAX);
    for from in 0..candidates.len() {
        if candidates[from].leaders < fewest.saturating_add(2) {
            continue;
        }
        // For each candidate reached: the partition whose leadership would come to it, from whom.
        let mut reached: BTreeMap<usize, (usize, usize)> = BTreeMap::new();
        let mut next = VecDeque::from([from]);
        while let Some(at) = next.pop_front() {
            if candidates[at].leaders + 2 <= candidates[from].leaders {
                let mut to = at;
                while to != from {
                    let (partition, leader) = reached[&to];
                    move_leader(&mut placed[partition], to);
                    to = leader;
                }
                candidates[from].leaders -= 1;
                candidates[at].leaders += 1;
                return true;
            }
            for (partition, replicas) in placed.iter().enumerate() {
                if replicas.first() != Some(&at) {
                    continue;
                }
                for other in &replicas[1..] {
                    if *other != from && !candidates[*other].avoid && !reached.contains_key(other) {
                        reached.insert(*other, (partition, at));
                        next.push_back(*other);
                    }
                }
            }
        }
    }
    false
}

fn move_leader(replicas: &mut [usize], to: usize) {
    if let Some(at) = replicas.iter().position(|replica| *replica == to) {
        replicas.swap(0, at);
    }
}

/// The finalizer of `SplitMix64` (Steele, Lea, Flood 2014), over both numbers.
fn mix(seed: u64, number: u64) -> u64 {
    let mut x = seed ^ number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn candidates(nodes: u64) -> Vec<Candidate> {
        (1..=nodes)
            .map(|node| Candidate {
                node: NodeId::new(node),
                rack: String::new(),
                replicas: 0,
                leaders: 0,
                avoid: false,
            })
            .collect()
    }

    fn spread(values: impl Iterator<Item = u64> + Clone) -> u64 {
        values.clone().max().unwrap_or(0) - values.min().unwrap_or(0)
    }

    proptest! {
        #[test]
        fn replicas_and_leaders_are_spread_evenly(
            nodes in 1..12u64,
            factor in 1..6u32,
            partitions in 1..200u32,
            seed: u64,
        ) {
            let factor = factor.min(u32::try_from(nodes).unwrap());
            let mut candidates = candidates(nodes);
            let placed = place(&mut candidates, partitions, factor, seed);
            prop_assert_eq!(placed.len(), partitions as usize);
            for replicas in &placed {
                let distinct: BTreeSet<_> = replicas.iter().collect();
                prop_assert_eq!(distinct.len(), factor as usize);
            }
            prop_assert!(spread(candidates.iter().map(|c| c.replicas)) <= 1);
            prop_assert!(spread(candidates.iter().map(|c| c.leaders)) <= 1);
        }

        #[test]
        fn one_seed_gives_one_placement(seed: u64, partitions in 1..50u32) {
            let place = || place(&mut candidates(5), partitions, 3, seed);
            prop_assert_eq!(place(), place());
        }

        #[test]
        fn no_two_replicas_share_a_rack_if_there_are_enough(seed: u64, partitions in 1..50u32) {
            let mut candidates = candidates(6);
            for (at, candidate) in candidates.iter_mut().enumerate() {
                candidate.rack = format!("rack-{}", at % 3);
            }
            for replicas in place(&mut candidates, partitions, 3, seed) {
                let racks: BTreeSet<u64> = replicas.iter().map(|n| (n.get() - 1) % 3).collect();
                prop_assert_eq!(racks.len(), 3);
            }
        }
    }

    #[test]
    fn a_dead_node_is_taken_only_if_needed() {
        let mut four = candidates(4);
        four[1].avoid = true;
        for replicas in place(&mut four, 20, 3, 1) {
            assert!(!replicas.contains(&NodeId::new(2)));
        }
        let mut three = candidates(3);
        three[1].avoid = true;
        for replicas in place(&mut three, 20, 3, 1) {
            assert_eq!(replicas.len(), 3);
            assert_ne!(replicas[0], NodeId::new(2), "a dead node is no preferred leader");
        }
    }

    #[test]
    fn a_new_node_catches_up() {
        let mut candidates = candidates(3);
        candidates[0].replicas = 10;
        candidates[1].replicas = 10;
        for replicas in place(&mut candidates, 10, 1, 1) {
            assert_eq!(replicas, [NodeId::new(3)]);
        }
    }

    #[test]
    fn the_partitions_of_a_node_are_shared_with_all_others() {
        let placed = place(&mut candidates(6), 60, 3, 7);
        let sets: BTreeSet<BTreeSet<NodeId>> =
            placed.into_iter().map(|replicas| replicas.into_iter().collect()).collect();
        assert!(sets.len() > 6, "{} sets", sets.len());
    }
}
