//! One group: its members, who reads what, and its committed offsets.

mod commit;
mod membership;
mod query;
mod target;

use std::collections::BTreeMap;

use duramen_types::Timestamp;

use crate::command::Action;
use crate::epoch::{GroupEpoch, MemberEpoch};
use crate::holdings::{Holdings, Target};
use crate::member::Member;
use crate::name::{GroupName, InstanceId, MemberId};
use crate::offsets::Offsets;
use crate::outcome::{Effect, Outcome, Refusal};
use crate::subscription::Resolution;

pub use query::{MemberAssignment, Phase};

/// One group.
///
/// Invariants:
/// - `target_epoch` ≤ `epoch`; a member's epoch and every holding's are ≤ `fence`.
/// - Target and holdings name members only. A partition has at most one target and one holder, by
///   the shape of the maps. What is granted is at its target.
/// - `instances` names the members that have one, each once.
/// - A group without members has no target and no holdings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Group {
    pub(crate) epoch: GroupEpoch,
    pub(crate) target_epoch: GroupEpoch,
    pub(crate) fence: MemberEpoch,
    pub(crate) members: BTreeMap<MemberId, Member>,
    pub(crate) instances: BTreeMap<InstanceId, MemberId>,
    pub(crate) resolution: Resolution,
    pub(crate) target: Target,
    pub(crate) holdings: Holdings,
    pub(crate) offsets: Offsets,
    /// Since when it has no members; of a group that never had any, its last commit.
    pub(crate) idle_since: Timestamp,
    /// Text of the members in bytes.
    pub(crate) member_text_bytes: usize,
}

/// What a group takes of what there is only so much of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Size {
    pub(crate) members: usize,
    pub(crate) offsets: usize,
    pub(crate) text_bytes: usize,
}

/// What an action knows of the world, and leaves behind.
pub(crate) struct Context<'a> {
    pub(crate) group: &'a GroupName,
    /// The latest time that the shard has seen.
    pub(crate) at: Timestamp,
    /// What the shard has left.
    pub(crate) room: Size,
    pub(crate) effects: Vec<Effect>,
    /// Whether the group goes.
    pub(crate) removed: bool,
}

impl Context<'_> {
    fn changed(&mut self, member: &MemberId) {
        let (group, member) = (self.group.clone(), member.clone());
        self.effects.push(Effect::AssignmentChanged { group, member });
    }
}

impl Group {
    /// A group whose counters go on after those of all groups deleted before.
    pub(crate) fn after(epoch: GroupEpoch, fence: MemberEpoch, at: Timestamp) -> Self {
        Self { epoch, target_epoch: epoch, fence, idle_since: at, ..Self::default() }
    }

    /// Executes one action. One that is refused changes nothing.
    pub(crate) fn execute(
        &mut self,
        action: &Action,
        context: &mut Context<'_>,
    ) -> Result<Outcome, Refusal> {
        let before = self.epoch;
        let outcome = match action {
            Action::Join(join) => self.join(join, context)?,
            Action::Subscribe { member, epoch, subscription } => {
                self.subscribe(member, *epoch, subscription, context)?
            }
            Action::Leave { member, epoch, returns } => {
                self.leave(member, *epoch, *returns, context)?
            }
            Action::Expire { member, epoch, cause } => {
                self.expire(member, *epoch, *cause, context)?
            }
            Action::Acknowledge { member, epoch } => self.acknowledge(member, *epoch, context)?,
            Action::Resolve(resolution) => self.resolve(resolution)?,
            Action::Assign { epoch, target } => self.assign(*epoch, target, context)?,
            Action::Commit { committer, offsets } => self.commit(committer, offsets, context)?,
            Action::Reset { fence, offsets } => self.reset(*fence, offsets, context)?,
            Action::DeleteOffsets { partitions } => self.delete_offsets(partitions),
            Action::Delete => self.delete(context)?,
            Action::Retire { idle_ms } => self.retire(*idle_ms, context)?,
        };
        // Also where somebody goes: what the others read may have been refused for what it read.
        let resolves = self.epoch != before
            || matches!(action, Action::Join(_) | Action::Subscribe { .. } | Action::Resolve(_));
        if resolves && !self.is_resolved() {
            context.effects.push(Effect::ResolutionDue { group: context.group.clone() });
        }
        self.announce(before, context);
        Ok(outcome)
    }

    /// Says that a target is due, if one is since `before`.
    pub(crate) fn announce(&self, before: GroupEpoch, context: &mut Context<'_>) {
        if self.epoch != before && self.target_epoch != self.epoch {
            context.effects.push(Effect::TargetDue { group: context.group.clone() });
        }
    }

    /// What the group takes, known without counting.
    pub(crate) fn size(&self) -> Size {
        Size {
            members: self.members.len(),
            offsets: self.offsets.len(),
            text_bytes: self.member_text_bytes + self.offsets.metadata_bytes(),
        }
    }

    /// The next member epoch, which is in force from now on.
    fn tick(&mut self) -> MemberEpoch {
        self.fence = self.fence.next();
        self.fence
    }

    /// Brings who holds what as near to the target as it can be now.
    pub(crate) fn settle(&mut self, context: &mut Context<'_>) {
        let epoch = self.fence.next();
        let changed = self.holdings.reconcile(&self.target, epoch);
        if !changed.is_empty() {
            self.fence = epoch;
        }
        for id in &changed {
            if let Some(member) = self.members.get_mut(id) {
                member.epoch = epoch;
            }
            context.changed(id);
        }
    }

    fn delete(&mut self, context: &mut Context<'_>) -> Result<Outcome, Refusal> {
        if !self.members.is_empty() {
            return Err(Refusal::HasMembers);
        }
        context.removed = true;
        Ok(Outcome::Deleted)
    }

    fn retire(&mut self, idle_ms: u64, context: &mut Context<'_>) -> Result<Outcome, Refusal> {
        if !self.is_idle(context.at, idle_ms) {
            return Err(Refusal::NotIdle);
        }
        self.delete(context)
    }
}
