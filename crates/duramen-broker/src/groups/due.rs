//! What a coordinator has still to look up and to divide, and what answers add to it.
//!
//! A refusal says that a plan came too late. What made a target late is in the state before it is
//! refused, and its effect has made another one due; of a look-up that is not so, for the metadata
//! has no effects.

use std::collections::BTreeSet;

use duramen_group::{GroupName, Phase, Refusal, State};
use duramen_types::MetadataIndex;

/// What is due of the groups of a shard.
#[derive(Debug, Default)]
pub(super) struct Due {
    /// Subscriptions to be looked up.
    pub(super) resolve: BTreeSet<GroupName>,
    /// Targets to be computed.
    pub(super) assign: BTreeSet<GroupName>,
    /// Groups that know later metadata than this node: to be looked up when it has learned more.
    ahead: BTreeSet<GroupName>,
}

impl Due {
    /// Everything that may be due, from the state.
    pub(super) fn add_all(&mut self, state: &State) {
        self.resolve_all(state);
        self.assign.extend(self.resolve.iter().cloned());
    }

    /// Looks up all that is subscribed to.
    pub(super) fn resolve_all(&mut self, state: &State) {
        let groups = state.groups().filter(|(_, group)| group.phase() != Phase::Empty);
        self.resolve.extend(groups.map(|(name, _)| name.clone()));
    }

    /// The metadata has moved.
    pub(super) fn follow(&mut self) {
        self.resolve.append(&mut self.ahead);
    }

    /// What was looked up at one index of the metadata was answered, when `now` was known.
    pub(super) fn looked_up(
        &mut self,
        group: GroupName,
        at: MetadataIndex,
        now: MetadataIndex,
        refused: Option<Refusal>,
    ) {
        match refused {
            Some(Refusal::StaleMetadata { known }) if known > now => {
                self.ahead.insert(group);
            }
            // The metadata that was waited for came before the answer.
            Some(Refusal::StaleMetadata { .. }) => drop(self.resolve.insert(group)),
            // What changed since was compared with what the group knew before this.
            None if at < now => drop(self.resolve.insert(group)),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn looked_up(at: u64, now: u64, refused: Option<Refusal>) -> Due {
        let mut due = Due::default();
        let (at, now) = (MetadataIndex::new(at), MetadataIndex::new(now));
        due.looked_up(GroupName::new("g").unwrap(), at, now, refused);
        due
    }

    fn stale(known: u64) -> Option<Refusal> {
        Some(Refusal::StaleMetadata { known: MetadataIndex::new(known) })
    }

    #[test]
    fn a_group_that_is_ahead_waits_for_the_metadata() {
        let mut due = looked_up(5, 5, stale(6));
        assert!(due.resolve.is_empty());
        due.follow();
        assert_eq!(due.resolve.len(), 1);
        due.resolve.clear();
        due.follow();
        assert!(due.resolve.is_empty(), "once");
    }

    #[test]
    fn metadata_that_came_before_the_refusal_is_not_waited_for() {
        assert_eq!(looked_up(5, 6, stale(6)).resolve.len(), 1);
        assert_eq!(looked_up(5, 7, stale(6)).resolve.len(), 1);
    }

    #[test]
    fn what_changed_while_a_look_up_was_on_its_way_is_looked_at_again() {
        assert_eq!(looked_up(5, 7, None).resolve.len(), 1);
        assert!(looked_up(7, 7, None).resolve.is_empty());
    }

    #[test]
    fn what_is_wrong_is_not_tried_again() {
        assert!(looked_up(5, 7, Some(Refusal::BadResolution)).resolve.is_empty());
        assert!(looked_up(5, 7, Some(Refusal::UnknownGroup)).resolve.is_empty());
    }
}
