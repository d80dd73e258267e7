//! The judge: what holds after every command, at every moment, and when all has calmed down.

use std::collections::BTreeMap;

use duramen_types::TopicPartition;

use super::World;
use crate::{
    Action, Change, Command, Committer, Effect, Explainer, Group, MemberId, Outcome, Phase, Racks,
    Reason, State, UniformSticky,
};

impl World {
    /// A coordinator that does nothing but what effects tell it misses nothing: neither a look-up
    /// nor a target that is due now and was not before, or whose plan from before is refused now.
    pub(super) fn judge_effects(&self, before: &State, effects: &[Effect]) {
        let Some(group) = self.here() else { return };
        let earlier = before.group(&self.group);
        let tells = |due: &Effect| effects.contains(due);
        if !group.is_resolved() {
            let were = earlier.filter(|before| !before.is_resolved()).map(Group::subscriptions);
            let is_tried = were == Some(group.subscriptions());
            let due = Effect::ResolutionDue { group: self.group.clone() };
            assert!(is_tried || tells(&due), "nobody looks up the subscriptions of {group:?}");
        } else if group.phase() == Phase::Assigning
            && !tells(&Effect::TargetDue { group: self.group.clone() })
        {
            let planned = before.plan_assign(&self.group, &UniformSticky, &Racks::new());
            let planned = planned.filter(|_| earlier.is_some_and(Group::is_resolved));
            let action = planned.expect("nobody makes a target");
            let change = Change::Group { group: self.group.clone(), action };
            let applied = self.state.clone().apply(&Command { at: self.wall(), change });
            let is_refused = matches!(applied.outcome, Outcome::Refused(_));
            assert!(!is_refused, "nobody makes another target for {group:?}");
        }
    }

    /// Commits are the holder's, never go back, and are of what was read.
    pub(super) fn judge_command(&mut self, before: &State, change: &Change, outcome: &Outcome) {
        let Change::Group { action, .. } = change else { return };
        match (action, outcome) {
            (
                Action::Commit { committer: Committer::Member { member, epoch }, offsets },
                Outcome::Committed { refused },
            ) => {
                for commit in offsets {
                    if refused.iter().any(|(partition, _)| *partition == commit.partition) {
                        self.count("commits refused");
                        continue;
                    }
                    self.count("commits done");
                    let holding = before.group(&self.group).unwrap().holding(commit.partition);
                    let holding = holding.expect("a commit of what nobody holds");
                    assert_eq!(holding.member, *member, "a commit of another's partition");
                    assert!(holding.since <= *epoch, "a commit of an old epoch");
                    let fence = self.fenced.get(&commit.partition);
                    assert!(fence.is_none_or(|fence| fence <= epoch), "from before a reset");
                    assert!(commit.offset <= self.delivered[&commit.partition], "not read");
                    let before = self.committed.insert(commit.partition, commit.offset);
                    assert!(before.is_none_or(|before| before <= commit.offset), "it goes back");
                }
            }
            (Action::Reset { offsets, .. }, Outcome::Reset { fence }) => {
                for commit in offsets {
                    self.fenced.insert(commit.partition, *fence);
                    self.committed.insert(commit.partition, commit.offset);
                    let delivered = self.delivered.entry(commit.partition).or_default();
                    *delivered = commit.offset.max(*delivered);
                }
            }
            _ => {}
        }
    }

    /// Why partitions make no progress, as the coordinator would say.
    fn explained(&self) -> BTreeMap<TopicPartition, Reason> {
        let explainer = Explainer {
            state: &self.state,
            sessions: Some((&self.sessions, self.now())),
            now: self.wall(),
            bounds: &|_| None,
        };
        for reason in explainer.group(&self.group) {
            assert!(!reason.to_string().is_empty());
        }
        explainer.partitions(&self.group)
    }

    /// What holds at every moment.
    pub(in crate::tests) fn judge(&self) {
        let Some(group) = self.here() else { return };
        for (partition, reason) in self.explained() {
            let is_granted =
                group.holding(partition).is_some_and(|holding| holding.revoked.is_none());
            let is_held_up = matches!(
                reason,
                Reason::NotResolved | Reason::TargetDue | Reason::WaitsForRevocation { .. }
            );
            assert_ne!(is_granted, is_held_up, "{partition}: {reason}");
        }
        let mut readers: BTreeMap<TopicPartition, &MemberId> = BTreeMap::new();
        for client in self.clients.iter().filter(|client| client.alive) {
            let Some(member) = group.member(&client.id) else { continue };
            if member.away || client.epoch < member.joined {
                continue;
            }
            for partition in client.reading.keys() {
                let other = readers.insert(*partition, &client.id);
                assert!(other.is_none(), "{partition} is read by {} and {other:?}", client.id);
                let holder = group.holding(*partition).map(|holding| &holding.member);
                assert_eq!(holder, Some(&client.id), "{partition} is read by who does not hold it");
            }
        }
        let committed: BTreeMap<_, _> =
            group.offsets().map(|(partition, committed)| (partition, committed.offset)).collect();
        assert_eq!(committed, self.committed, "committed offsets");
        for (partition, holding) in group.holdings() {
            let member = group.member(&holding.member).expect("a holder that is no member");
            assert!(member.epoch <= group.fence());
            assert!(holding.revoked.is_some() || holding.since <= member.epoch);
            assert!(holding.revoked.is_some() || group.target(partition) == Some(&holding.member));
        }
    }

    pub(super) fn is_at_rest(&self) -> bool {
        let Some(group) = self.here() else { return self.living(0).is_none() };
        let living = self.clients.iter().filter(|client| client.alive);
        let mut count = 0;
        for client in living {
            count += 1;
            let Some(told) = group.assignment(&client.id) else { return false };
            if told.epoch != client.epoch || !told.granted.keys().eq(client.reading.keys()) {
                return false;
            }
        }
        group.members().count() == count
            && (count == 0) == (group.phase() == Phase::Empty)
            && (count == 0 || group.phase() == Phase::Stable)
            && group.is_resolved()
            && self.is_known(group)
    }

    pub(super) fn judge_rest(&mut self) {
        self.count("rests");
        let Some(group) = self.here() else { return };
        let mut readers: BTreeMap<TopicPartition, usize> = BTreeMap::new();
        for (at, client) in self.clients.iter().enumerate().filter(|(_, client)| client.alive) {
            readers.extend(client.reading.keys().map(|partition| (*partition, at)));
        }
        let input = group.assign_input();
        let (mut all, mut loads) = (0, BTreeMap::new());
        for (id, member) in &input.members {
            let held = group.assignment(id).unwrap().granted;
            loads.insert(*id, held.len());
            for partition in held.keys() {
                assert!(member.topics.contains(&partition.topic));
                assert!(partition.partition.get() < self.topics[&partition.topic]);
            }
        }
        for (topic, count) in &self.topics {
            let of_topic = |member: &&crate::MemberInput<'_>| member.topics.contains(topic);
            if input.members.values().any(|member| of_topic(&member)) {
                all += *count as usize;
            }
        }
        assert_eq!(readers.len(), all, "every partition that is subscribed to has one reader");
        for (partition, reason) in self.explained() {
            // Whoever calms down fast may not have called for a while.
            let is_fine = matches!(
                reason,
                Reason::Reading { .. } | Reason::NeverCommitted { .. } | Reason::Silent { .. }
            );
            assert!(is_fine, "{partition}: {reason}");
        }
        // Balance: no partition could go to a reader of its topic with two fewer.
        for (partition, at) in &readers {
            let load = loads[&self.clients[*at].id];
            for (id, member) in &input.members {
                assert!(!member.topics.contains(&partition.topic) || load <= loads[id] + 1);
            }
        }
    }
}
