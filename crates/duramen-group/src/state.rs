//! The groups of one shard and the execution of commands.

use std::collections::BTreeMap;

use duramen_types::Timestamp;

use crate::assign::{Assignor, Racks};
use crate::command::{Action, Change, Command, Committer};
use crate::epoch::{GroupEpoch, MemberEpoch};
use crate::group::{Context, Group, Size};
use crate::limits::{GROUPS_MAX, SHARD_MEMBERS_MAX, SHARD_OFFSETS_MAX, SHARD_TEXT_BYTES_MAX};
use crate::name::GroupName;
use crate::outcome::{Applied, Bound, Effect, Outcome, Refusal};

/// The groups of one shard.
///
/// Invariants: `size` is the sum over all groups; every group's counters are above those of every
/// group that was deleted before it was made, so that nothing of a deleted group is taken for one
/// of its successor.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// The latest time that a command had.
    pub(crate) clock: Timestamp,
    pub(crate) groups: BTreeMap<GroupName, Group>,
    /// What remains of deleted groups: their highest counters.
    pub(crate) buried: (GroupEpoch, MemberEpoch),
    pub(crate) size: Size,
}

impl State {
    /// Executes one committed command. Total: any command gives an outcome, the same on every node
    /// in the same state, and one that is refused changes nothing but the clock. Retries of a
    /// command that was executed are harmless, but for resets without a fence, which reset again.
    pub fn apply(&mut self, command: &Command) -> Applied {
        self.clock = self.clock.max(command.at);
        match &command.change {
            Change::Group { group, action } => match self.execute(group, action) {
                Ok((outcome, effects)) => Applied { outcome, effects },
                Err(refusal) => Applied { outcome: Outcome::Refused(refusal), effects: Vec::new() },
            },
            Change::ForgetTopics { index, topics } => {
                let mut effects = Vec::new();
                let mut offsets = 0;
                for (name, group) in &mut self.groups {
                    let mut context = Context::new(name, self.clock, Size::default());
                    let (before, epoch) = (group.size(), group.epoch);
                    for topic in topics {
                        offsets += group.forget_topic(*topic, *index, &mut context) as u64;
                    }
                    group.announce(epoch, &mut context);
                    self.size = self.size.less(before).plus(group.size());
                    effects.extend(context.effects);
                }
                Applied { outcome: Outcome::TopicsForgotten { offsets }, effects }
            }
        }
    }

    fn execute(
        &mut self,
        name: &GroupName,
        action: &Action,
    ) -> Result<(Outcome, Vec<Effect>), Refusal> {
        let mut context = Context::new(name, self.clock, LIMIT.less(self.size));
        let Some(group) = self.groups.get_mut(name) else {
            return self.create(name, action);
        };
        let before = group.size();
        let outcome = group.execute(action, &mut context)?;
        self.size = self.size.less(before).plus(group.size());
        if context.removed
            && let Some(gone) = self.groups.remove(name)
        {
            self.size = self.size.less(gone.size()).less(Size::of_name(name));
            self.buried = (self.buried.0.max(gone.epoch), self.buried.1.max(gone.fence));
            context.effects.push(Effect::GroupRemoved { group: name.clone() });
        }
        Ok((outcome, context.effects))
    }

    /// Executes an action that makes its group.
    fn create(
        &mut self,
        name: &GroupName,
        action: &Action,
    ) -> Result<(Outcome, Vec<Effect>), Refusal> {
        match action {
            Action::Join(_)
            | Action::Reset { fence: None, .. }
            | Action::Commit { committer: Committer::Standalone { fence: None }, .. } => {}
            _ => return Err(Refusal::UnknownGroup),
        }
        if self.groups.len() >= GROUPS_MAX {
            return Err(Refusal::TooMany { what: Bound::Groups });
        }
        let size = self.size.plus(Size::of_name(name));
        if size.text_bytes > LIMIT.text_bytes {
            return Err(Refusal::TooMany { what: Bound::ShardText });
        }
        let mut context = Context::new(name, self.clock, LIMIT.less(size));
        let mut group = Group::after(self.buried.0.next(), self.buried.1.next(), self.clock);
        let outcome = group.execute(action, &mut context)?;
        self.size = size.plus(group.size());
        self.groups.insert(name.clone(), group);
        Ok((outcome, context.effects))
    }

    /// The latest time that a command had.
    #[must_use]
    pub fn clock(&self) -> Timestamp {
        self.clock
    }

    /// A group.
    #[must_use]
    pub fn group(&self, name: &GroupName) -> Option<&Group> {
        self.groups.get(name)
    }

    /// All groups, by name.
    pub fn groups(&self) -> impl Iterator<Item = (&GroupName, &Group)> {
        self.groups.iter()
    }

    /// The groups that had no members and no commits for so long, in milliseconds: to be retired.
    pub fn idle_groups(&self, now: Timestamp, idle_ms: u64) -> impl Iterator<Item = &GroupName> {
        let idle = self.groups.iter().filter(move |(_, group)| group.is_idle(now, idle_ms));
        idle.map(|(name, _)| name)
    }

    /// Computes the target that a group needs; `None` if it has the one that it needs.
    #[must_use]
    pub fn plan_assign(
        &self,
        name: &GroupName,
        assignor: &dyn Assignor,
        racks: &Racks,
    ) -> Option<Action> {
        let group = self.groups.get(name).filter(|group| group.target_epoch != group.epoch)?;
        let target = assignor.assign(&group.assign_input(), racks);
        Some(Action::Assign { epoch: group.epoch, target })
    }
}

/// What a shard has room for.
const LIMIT: Size = Size {
    members: SHARD_MEMBERS_MAX,
    offsets: SHARD_OFFSETS_MAX,
    text_bytes: SHARD_TEXT_BYTES_MAX,
};

impl Size {
    pub(crate) fn of_name(name: &GroupName) -> Self {
        Self { text_bytes: name.as_str().len(), ..Self::default() }
    }

    pub(crate) fn plus(self, other: Self) -> Self {
        Self {
            members: self.members.saturating_add(other.members),
            offsets: self.offsets.saturating_add(other.offsets),
            text_bytes: self.text_bytes.saturating_add(other.text_bytes),
        }
    }

    pub(crate) fn less(self, other: Self) -> Self {
        Self {
            members: self.members.saturating_sub(other.members),
            offsets: self.offsets.saturating_sub(other.offsets),
            text_bytes: self.text_bytes.saturating_sub(other.text_bytes),
        }
    }
}

impl<'a> Context<'a> {
    pub(crate) fn new(group: &'a GroupName, at: Timestamp, room: Size) -> Self {
        Self { group, at, room, effects: Vec::new(), removed: false }
    }
}

#[cfg(test)]
pub(crate) mod tests;
