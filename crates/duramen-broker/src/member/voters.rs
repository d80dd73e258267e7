//! Keeps the voters of the metadata group: up to five nodes, an odd number, each by its current
//! incarnation. Done by the group's leader.

use std::collections::{BTreeMap, BTreeSet};

use duramen_raft::{GroupId, GroupMembers};
use duramen_types::ReplicaId;

use super::Member;
use crate::limits;

/// Entries that a learner may be behind to be made a voter.
const LAG_MAX: u64 = 64;

/// Runs for ever.
pub(super) async fn run(member: &Member) {
    let mut interval = tokio::time::interval(limits::VOTERS_INTERVAL);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        let Some(group) = member.host.group(GroupId::Metadata) else { continue };
        if group.serving_term().is_none() {
            continue;
        }
        let members = group.membership();
        let nodes = {
            let state = member.metadata().state();
            let replaced = members.voters.iter().filter(|id| state.is_retired(**id));
            Nodes {
                current: state.nodes().map(|node| node.incarnation).collect(),
                replaced: replaced.copied().collect(),
            }
        };
        let lag: BTreeMap<_, _> = group
            .replication()
            .unwrap_or_default()
            .into_iter()
            .map(|(id, lag)| (id, lag.matched.map(|_| lag.entries)))
            .collect();
        let Some(voters) = target(&members, &nodes, &lag) else { continue };
        match group.change_voters(&voters).await {
            Ok(()) => tracing::info!(?voters, "the voters of the metadata group changed"),
            Err(error) => tracing::warn!(%error, "the voters of the metadata group stay"),
        }
    }
}

/// Incarnations as the metadata has them.
#[derive(Debug, Default)]
struct Nodes {
    /// The registered ones.
    current: BTreeSet<ReplicaId>,
    /// Voters whose node has a later incarnation. A voter that is neither has only not registered
    /// yet.
    replaced: BTreeSet<ReplicaId>,
}

/// The voters as they should be, or `None` if they are that already or nothing can be done yet.
fn target(
    members: &GroupMembers,
    nodes: &Nodes,
    lag: &BTreeMap<ReplicaId, Option<u64>>,
) -> Option<BTreeSet<ReplicaId>> {
    let caught_up =
        |replica: &ReplicaId| lag.get(replica).is_some_and(|lag| lag.is_some_and(|n| n <= LAG_MAX));
    let kept: BTreeSet<_> = members.voters.difference(&nodes.replaced).copied().collect();
    let candidates =
        members.learners.iter().filter(|id| nodes.current.contains(*id) && caught_up(id));
    let known = nodes.current.union(&kept).count();
    let available = known.min(limits::METADATA_VOTERS_MAX);
    let wanted = if available.is_multiple_of(2) { available.saturating_sub(1) } else { available };
    let mut voters = kept;
    for candidate in candidates {
        if voters.len() >= wanted {
            break;
        }
        voters.insert(*candidate);
    }
    // A replaced incarnation goes only together with one that takes its place.
    let grows = voters.len() >= members.voters.len().min(wanted);
    (grows && !voters.is_empty() && voters != members.voters).then_some(voters)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(ids: &[u64]) -> BTreeSet<ReplicaId> {
        ids.iter().copied().map(ReplicaId::new).collect()
    }

    fn lags(ids: &[(u64, Option<u64>)]) -> BTreeMap<ReplicaId, Option<u64>> {
        ids.iter().map(|(id, lag)| (ReplicaId::new(*id), *lag)).collect()
    }

    fn nodes(current: &[u64], replaced: &[u64]) -> Nodes {
        Nodes { current: ids(current), replaced: ids(replaced) }
    }

    #[test]
    fn a_replaced_voter_goes_when_its_successor_is_caught_up() {
        let members = GroupMembers { voters: ids(&[1, 2, 3]), learners: ids(&[9]) };
        let nodes = nodes(&[9, 2, 3], &[1]);
        assert_eq!(target(&members, &nodes, &lags(&[(9, None)])), None);
        assert_eq!(target(&members, &nodes, &lags(&[(9, Some(3))])), Some(ids(&[2, 3, 9])));
    }

    #[test]
    fn a_voter_that_has_not_registered_yet_stays() {
        let members = GroupMembers { voters: ids(&[1, 2, 3]), learners: ids(&[]) };
        assert_eq!(target(&members, &nodes(&[1], &[]), &lags(&[])), None);
        assert_eq!(target(&members, &nodes(&[1, 2], &[]), &lags(&[])), None);
    }

    #[test]
    fn voters_stay_odd_and_at_most_five() {
        let members = GroupMembers { voters: ids(&[1, 2, 3]), learners: ids(&[4]) };
        let caught_up = lags(&[(4, Some(0)), (5, Some(0)), (6, Some(0))]);
        assert_eq!(target(&members, &nodes(&[1, 2, 3, 4], &[]), &caught_up), None);
        let members = GroupMembers { voters: ids(&[1, 2, 3]), learners: ids(&[4, 5, 6]) };
        let all = nodes(&[1, 2, 3, 4, 5, 6], &[]);
        assert_eq!(target(&members, &all, &caught_up), Some(ids(&[1, 2, 3, 4, 5])));
    }

    #[test]
    fn a_settled_group_is_left_alone() {
        let members = GroupMembers { voters: ids(&[1, 2, 3]), learners: ids(&[]) };
        assert_eq!(target(&members, &nodes(&[1, 2, 3], &[]), &lags(&[])), None);
    }
}
