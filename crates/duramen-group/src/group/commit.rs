//! Committed offsets: committed, reset, deleted.

use duramen_types::TopicPartition;

use crate::command::{Committer, OffsetCommit};
use crate::epoch::MemberEpoch;
use crate::group::{Context, Group};
use crate::limits::{GROUP_OFFSETS_MAX, OFFSET_METADATA_BYTES_MAX};
use crate::name::MemberId;
use crate::outcome::{Bound, Outcome, Refusal, Text};

impl Group {
    /// Commits what the committer may. Offsets do not go back: of commits that overtake each other
    /// the highest stands.
    pub(super) fn commit(
        &mut self,
        committer: &Committer,
        offsets: &[OffsetCommit],
        context: &mut Context<'_>,
    ) -> Result<Outcome, Refusal> {
        let owner = match committer {
            Committer::Member { member, epoch } => {
                self.check_member(member, *epoch)?;
                Some((member, *epoch))
            }
            Committer::Standalone { fence } => {
                if !self.members.is_empty() {
                    return Err(Refusal::HasMembers);
                }
                self.check_fence(*fence)?;
                None
            }
        };
        let mut refused = Vec::new();
        for commit in offsets {
            match self.check_commit(owner, commit, context) {
                Err(refusal) => refused.push((commit.partition, refusal)),
                Ok(()) => self.store(commit, context),
            }
        }
        Ok(Outcome::Committed { refused })
    }

    fn check_commit(
        &self,
        owner: Option<(&MemberId, MemberEpoch)>,
        commit: &OffsetCommit,
        context: &Context<'_>,
    ) -> Result<(), Refusal> {
        if let Some((member, epoch)) = owner {
            let holding = self.holdings.get(commit.partition).ok_or(Refusal::NotHeld)?;
            if holding.member != *member || holding.since > epoch {
                return Err(Refusal::NotHeld);
            }
        }
        if let Some(before) = self.offsets.get(commit.partition)
            && before.offset > commit.offset
        {
            return Err(Refusal::Behind { committed: before.offset });
        }
        self.check_room(commit, context)
    }

    fn check_room(&self, commit: &OffsetCommit, context: &Context<'_>) -> Result<(), Refusal> {
        if commit.metadata.len() > OFFSET_METADATA_BYTES_MAX {
            return Err(Refusal::TooLong { field: Text::OffsetMetadata });
        }
        if commit.metadata.len() > context.room.text_bytes {
            return Err(Refusal::TooMany { what: Bound::ShardText });
        }
        if self.offsets.get(commit.partition).is_some() {
            return Ok(());
        }
        if self.offsets.len() >= GROUP_OFFSETS_MAX {
            return Err(Refusal::TooMany { what: Bound::Offsets });
        }
        if context.room.offsets == 0 {
            return Err(Refusal::TooMany { what: Bound::ShardOffsets });
        }
        Ok(())
    }

    /// Stores an offset for which there is room.
    fn store(&mut self, commit: &OffsetCommit, context: &mut Context<'_>) {
        if self.offsets.get(commit.partition).is_none() {
            context.room.offsets -= 1;
        }
        context.room.text_bytes -= commit.metadata.len();
        self.offsets.set(commit, context.at);
        self.idle_since = context.at;
    }

    fn check_fence(&self, fence: Option<MemberEpoch>) -> Result<(), Refusal> {
        if fence.is_some_and(|fence| fence != self.fence) {
            return Err(Refusal::GroupChanged { fence: self.fence });
        }
        Ok(())
    }

    /// Sets offsets, also back, while members read.
    ///
    /// The fence ticks. Whoever holds one of the partitions gets that tick as its epoch, and the
    /// partition gets it as its `since`: a commit that names an earlier epoch is refused from here
    /// on, and the client, which sees another epoch beside the partition than the one it knows it
    /// by, drops its position and reads the committed offset. Other partitions of the member are
    /// not disturbed. What was revoked already takes no commit any more.
    pub(super) fn reset(
        &mut self,
        fence: Option<MemberEpoch>,
        offsets: &[OffsetCommit],
        context: &mut Context<'_>,
    ) -> Result<Outcome, Refusal> {
        self.check_fence(fence)?;
        let mut room = context.room;
        for commit in offsets {
            self.check_room(commit, context)?;
            let is_new = self.offsets.get(commit.partition).is_none();
            let left = room.offsets.checked_sub(usize::from(is_new));
            room.offsets = left.ok_or(Refusal::TooMany { what: Bound::ShardOffsets })?;
            let left = room.text_bytes.checked_sub(commit.metadata.len());
            room.text_bytes = left.ok_or(Refusal::TooMany { what: Bound::ShardText })?;
        }
        if context.room.offsets - room.offsets + self.offsets.len() > GROUP_OFFSETS_MAX {
            return Err(Refusal::TooMany { what: Bound::Offsets });
        }
        let epoch = self.tick();
        for commit in offsets {
            self.store(commit, context);
            if let Some(id) = self.holdings.fence(commit.partition, epoch)
                && let Some(member) = self.members.get_mut(&id)
                && member.epoch != epoch
            {
                member.epoch = epoch;
                context.changed(&id);
            }
        }
        Ok(Outcome::Reset { fence: epoch })
    }

    /// Deletes offsets that nobody is using. The fence ticks, so that a commit that was on its way
    /// does not bring one back.
    pub(super) fn delete_offsets(&mut self, partitions: &[TopicPartition]) -> Outcome {
        let mut refused = Vec::new();
        let mut deleted = false;
        for partition in partitions {
            if self.holdings.get(*partition).is_some() || self.target.contains_key(partition) {
                refused.push((*partition, Refusal::PartitionInUse));
            } else if self.offsets.get(*partition).is_some() {
                self.offsets.remove(*partition);
                deleted = true;
            }
        }
        if deleted {
            self.tick();
        }
        Outcome::OffsetsDeleted { refused }
    }
}
