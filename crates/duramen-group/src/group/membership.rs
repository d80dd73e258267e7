//! Members come, change what they read, give back partitions, and go.

use crate::command::{ExpiryCause, Join};
use crate::epoch::MemberEpoch;
use crate::group::{Context, Group};
use crate::limits::{
    GROUP_MEMBERS_MAX, LABEL_BYTES_MAX, REVOCATION_MS_MAX, SESSION_MS_MAX, SESSION_MS_MIN,
};
use crate::member::Member;
use crate::name::MemberId;
use crate::outcome::{Bound, Effect, Outcome, Refusal, Removal, Text};
use crate::subscription::Subscription;

impl Group {
    pub(super) fn join(
        &mut self,
        join: &Join,
        context: &mut Context<'_>,
    ) -> Result<Outcome, Refusal> {
        check(join)?;
        if let Some(present) = self.members.get(&join.member) {
            if present.instance != join.instance {
                return Err(Refusal::OtherInstance);
            }
            if !present.away {
                // Again, since the answer was lost. What it wants may have changed since: that is
                // for Subscribe, which is fenced.
                return Ok(Outcome::Joined { epoch: present.epoch });
            }
        }
        let member = Member::new(join, self.fence.next());
        if member.text_bytes(&join.member) > context.room.text_bytes {
            return Err(Refusal::TooMany { what: Bound::ShardText });
        }
        let instance = join.instance.as_ref();
        match instance.and_then(|instance| self.instances.get(instance)).cloned() {
            Some(old) => self.take_over(&old, &join.member, member, context),
            None => {
                if self.members.len() >= GROUP_MEMBERS_MAX {
                    return Err(Refusal::TooMany { what: Bound::Members });
                }
                if context.room.members == 0 {
                    return Err(Refusal::TooMany { what: Bound::ShardMembers });
                }
                self.tick();
                self.add(&join.member, member, context);
                self.epoch = self.epoch.next();
                self.settle(context);
            }
        }
        Ok(Outcome::Joined {
            epoch: self.members.get(&join.member).map_or(self.fence, |m| m.epoch),
        })
    }

    fn add(&mut self, id: &MemberId, member: Member, context: &mut Context<'_>) {
        self.member_text_bytes += member.text_bytes(id);
        if let Some(instance) = &member.instance {
            self.instances.insert(instance.clone(), id.clone());
        }
        self.members.insert(id.clone(), member);
        let (group, member) = (context.group.clone(), id.clone());
        context.effects.push(Effect::MemberJoined { group, member });
    }

    /// A new life of a static member goes on where the old one was: nothing moves, and what the old
    /// one still says is refused (KIP-345).
    fn take_over(
        &mut self,
        old: &MemberId,
        new: &MemberId,
        member: Member,
        context: &mut Context<'_>,
    ) {
        let epoch = self.tick();
        if let Some(before) = self.members.remove(old) {
            self.member_text_bytes -= before.text_bytes(old);
            if before.subscription != member.subscription {
                self.epoch = self.epoch.next();
            } else if old != new && self.target_epoch != self.epoch {
                // A target that is on its way for this epoch has the old one, and will be refused.
                context.effects.push(Effect::TargetDue { group: context.group.clone() });
            }
        }
        if old != new {
            let (group, member, reason) = (context.group.clone(), old.clone(), Removal::TakenOver);
            context.effects.push(Effect::MemberRemoved { group, member, reason });
        }
        self.add(new, member, context);
        self.target.values_mut().filter(|at| *at == old).for_each(|at| *at = new.clone());
        self.holdings.take_over(old, new, epoch);
        self.prune();
        context.changed(new);
        self.settle(context);
    }

    pub(super) fn subscribe(
        &mut self,
        id: &MemberId,
        epoch: MemberEpoch,
        subscription: &Subscription,
        context: &mut Context<'_>,
    ) -> Result<Outcome, Refusal> {
        let member = self.check_member(id, epoch)?;
        if !subscription.is_valid() {
            return Err(Refusal::TooLong { field: Text::Subscription });
        }
        if member.subscription == *subscription {
            return Ok(Outcome::Subscribed { epoch: member.epoch });
        }
        // Of two that were sent one after the other the first may arrive last.
        if member.epoch != epoch {
            return Err(Refusal::WrongEpoch { current: member.epoch });
        }
        if subscription.text_bytes() > context.room.text_bytes {
            return Err(Refusal::TooMany { what: Bound::ShardText });
        }
        let epoch = self.tick();
        if let Some(member) = self.members.get_mut(id) {
            self.member_text_bytes -= member.text_bytes(id);
            member.subscription = subscription.clone();
            member.epoch = epoch;
            self.member_text_bytes += member.text_bytes(id);
        }
        self.prune();
        self.epoch = self.epoch.next();
        context.changed(id);
        Ok(Outcome::Subscribed { epoch })
    }

    pub(super) fn leave(
        &mut self,
        id: &MemberId,
        epoch: MemberEpoch,
        returns: bool,
        context: &mut Context<'_>,
    ) -> Result<Outcome, Refusal> {
        let Some(member) = self.members.get_mut(id) else { return Ok(Outcome::Left) };
        if !(member.joined..=member.epoch).contains(&epoch) {
            return Err(Refusal::WrongEpoch { current: member.epoch });
        }
        if returns && member.instance.is_some() {
            member.away = true;
            let epoch = member.epoch;
            self.holdings.acknowledge(id, epoch);
            context.changed(id);
            self.settle(context);
        } else {
            self.remove(id, Removal::Left, context);
        }
        Ok(Outcome::Left)
    }

    pub(super) fn expire(
        &mut self,
        id: &MemberId,
        epoch: MemberEpoch,
        cause: ExpiryCause,
        context: &mut Context<'_>,
    ) -> Result<Outcome, Refusal> {
        let member = self.members.get(id).ok_or(Refusal::UnknownMember)?;
        if member.epoch != epoch {
            return Err(Refusal::WrongEpoch { current: member.epoch });
        }
        self.remove(id, Removal::Expired(cause), context);
        Ok(Outcome::Expired)
    }

    pub(super) fn acknowledge(
        &mut self,
        id: &MemberId,
        epoch: MemberEpoch,
        context: &mut Context<'_>,
    ) -> Result<Outcome, Refusal> {
        self.check_member(id, epoch)?;
        let freed = self.holdings.acknowledge(id, epoch);
        if freed > 0 {
            context.changed(id);
            self.settle(context);
        }
        Ok(Outcome::Acknowledged { freed: u32::try_from(freed).unwrap_or(u32::MAX) })
    }

    fn remove(&mut self, id: &MemberId, reason: Removal, context: &mut Context<'_>) {
        let Some(gone) = self.members.remove(id) else { return };
        self.member_text_bytes -= gone.text_bytes(id);
        if let Some(instance) = &gone.instance {
            self.instances.remove(instance);
        }
        self.target.retain(|_, member| member != id);
        self.holdings.release(id);
        self.prune();
        self.epoch = self.epoch.next();
        let (group, member) = (context.group.clone(), id.clone());
        context.effects.push(Effect::MemberRemoved { group, member, reason });
        if self.members.is_empty() {
            self.idle_since = context.at;
            self.target_epoch = self.epoch;
        }
        self.settle(context);
    }

    /// Forgets what is known of topics that nobody subscribes to any more.
    fn prune(&mut self) {
        self.resolution.prune(self.members.values().map(|member| &member.subscription));
    }
}

fn check(join: &Join) -> Result<(), Refusal> {
    if !join.subscription.is_valid() {
        return Err(Refusal::TooLong { field: Text::Subscription });
    }
    if join.client.len() > LABEL_BYTES_MAX || join.rack.len() > LABEL_BYTES_MAX {
        return Err(Refusal::TooLong { field: Text::Label });
    }
    if !(SESSION_MS_MIN..=SESSION_MS_MAX).contains(&join.session_ms)
        || !(SESSION_MS_MIN..=REVOCATION_MS_MAX).contains(&join.revocation_ms)
    {
        return Err(Refusal::BadTime);
    }
    Ok(())
}
