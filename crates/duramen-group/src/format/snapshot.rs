//! Snapshots: version · clock · counters of deleted groups · groups.
//!
//! A group is its name · group epoch · target epoch · fence · idle since · members · resolution ·
//! target · holdings · offsets. Target and holdings name a member by its place among the members.

use std::collections::BTreeMap;

use duramen_types::{Offset, Term, TopicPartition};

use super::wire::{Reader, Writer};
use super::{
    begin, open, read_partitions, read_resolution, read_subscription, write_partitions,
    write_resolution, write_subscription,
};
use crate::epoch::{GroupEpoch, MemberEpoch};
use crate::error::DecodeError;
use crate::group::{Group, Size};
use crate::holdings::Holding;
use crate::member::Member;
use crate::name::MemberId;
use crate::offsets::CommittedOffset;
use crate::state::State;

/// No group counts that far: a higher counter is damage, and could come to its end.
const COUNTER_MAX: u64 = 1 << 62;

impl State {
    /// The state as a snapshot holds it.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut to = begin();
        to.time(self.clock);
        to.number(self.buried.0.get());
        to.epoch(self.buried.1);
        to.len(self.groups.len());
        for (name, group) in &self.groups {
            to.text(name.as_str());
            write_group(&mut to, group);
        }
        to.finish()
    }

    /// Reads a snapshot.
    ///
    /// # Errors
    /// [`DecodeError`] if the bytes are not a snapshot of this version, or of a state that cannot
    /// be.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut from = open(bytes)?;
        let mut state = Self { clock: from.time()?, ..Self::default() };
        state.buried = (GroupEpoch::new(from.number()?), from.epoch()?);
        if state.buried.0.get().max(state.buried.1.get()) > COUNTER_MAX {
            return Err(DecodeError::Field { field: "epoch" });
        }
        for _ in 0..from.count(10)? {
            let name = from.group()?;
            let group = read_group(&mut from)?;
            state.size = state.size.plus(group.size()).plus(Size::of_name(&name));
            if state.groups.insert(name, group).is_some() {
                return Err(DecodeError::Field { field: "group" });
            }
        }
        from.finish()?;
        Ok(state)
    }
}

fn write_group(to: &mut Writer, group: &Group) {
    to.number(group.epoch.get());
    to.number(group.target_epoch.get());
    to.epoch(group.fence);
    to.time(group.idle_since);
    to.len(group.members.len());
    for (id, member) in &group.members {
        to.text(id.as_str());
        write_member(to, member);
    }
    write_resolution(to, &group.resolution);
    let places: BTreeMap<&MemberId, usize> = group.members.keys().zip(0..).collect();
    let place = |id: &MemberId| places.get(id).copied().unwrap_or(usize::MAX);
    write_partitions(to, &group.target.keys().copied().collect::<Vec<_>>());
    group.target.values().for_each(|id| to.len(place(id)));
    write_partitions(to, &group.holdings.iter().map(|(at, _)| at).collect::<Vec<_>>());
    for (_, holding) in group.holdings.iter() {
        to.len(place(&holding.member));
        to.epoch(holding.since);
        to.option(holding.revoked, Writer::epoch);
    }
    write_partitions(to, &group.offsets.iter().map(|(at, _)| at).collect::<Vec<_>>());
    for (_, committed) in group.offsets.iter() {
        to.number(committed.offset.get());
        to.option(committed.leader_epoch, |to, term| to.number(term.get()));
        to.text(&committed.metadata);
        to.time(committed.at);
    }
}

fn read_group(from: &mut Reader<'_>) -> Result<Group, DecodeError> {
    let mut group = Group {
        epoch: GroupEpoch::new(from.number()?),
        target_epoch: GroupEpoch::new(from.number()?),
        fence: from.epoch()?,
        idle_since: from.time()?,
        ..Group::default()
    };
    let bad = |field| Err(DecodeError::Field { field });
    let highest = group.epoch.get().max(group.fence.get());
    if group.target_epoch > group.epoch || highest > COUNTER_MAX {
        return bad("epoch");
    }
    for _ in 0..from.count(10)? {
        let (id, member) = (from.member()?, read_member(from)?);
        let is_second = member
            .instance
            .as_ref()
            .is_some_and(|instance| group.instances.insert(instance.clone(), id.clone()).is_some());
        if is_second || member.joined > member.epoch || member.epoch > group.fence {
            return bad("member");
        }
        group.member_text_bytes += member.text_bytes(&id);
        if group.members.insert(id, member).is_some() {
            return bad("member");
        }
    }
    group.resolution = read_resolution(from)?;
    if !group.resolution.is_whole() {
        return bad("resolution");
    }
    read_places(from, &mut group)?;
    for partition in read_partitions(from)? {
        if group.offsets.get(partition).is_some() {
            return bad("offset");
        }
        let committed = CommittedOffset {
            offset: Offset::new(from.number()?),
            leader_epoch: from.option(Reader::number)?.map(Term::new),
            metadata: from.text()?.into(),
            at: from.time()?,
        };
        group.offsets.insert(partition, committed);
    }
    Ok(group)
}

/// Reads target and holdings of a group whose members are known.
fn read_places(from: &mut Reader<'_>, group: &mut Group) -> Result<(), DecodeError> {
    let ids: Vec<MemberId> = group.members.keys().cloned().collect();
    let member = |from: &mut Reader<'_>| -> Result<MemberId, DecodeError> {
        let place = usize::try_from(from.number()?).unwrap_or(usize::MAX);
        ids.get(place).cloned().ok_or(DecodeError::Field { field: "place" })
    };
    for partition in read_partitions(from)? {
        if group.target.insert(partition, member(from)?).is_some() {
            return Err(DecodeError::Field { field: "target" });
        }
    }
    for partition in read_partitions(from)? {
        let holding = Holding {
            member: member(from)?,
            since: from.epoch()?,
            revoked: from.option(Reader::epoch)?,
        };
        if !is_sound(group, partition, &holding) || !group.holdings.restore(partition, holding) {
            return Err(DecodeError::Field { field: "holding" });
        }
    }
    Ok(())
}

/// Whether a holding can be: what is granted is at its target and open for commits.
fn is_sound(group: &Group, partition: TopicPartition, holding: &Holding) -> bool {
    match holding.revoked {
        None => {
            holding.since <= group.fence && group.target.get(&partition) == Some(&holding.member)
        }
        Some(revoked) => {
            revoked <= group.fence
                && (holding.since <= group.fence || holding.since == MemberEpoch::NEVER)
        }
    }
}

fn write_member(to: &mut Writer, member: &Member) {
    to.option(member.instance.as_ref(), |to, instance| to.text(instance.as_str()));
    to.text(&member.client);
    to.text(&member.rack);
    write_subscription(to, &member.subscription);
    to.number(u64::from(member.session_ms));
    to.number(u64::from(member.revocation_ms));
    to.epoch(member.joined);
    to.epoch(member.epoch);
    to.flag(member.away);
}

fn read_member(from: &mut Reader<'_>) -> Result<Member, DecodeError> {
    Ok(Member {
        instance: from.option(Reader::instance)?,
        client: from.text()?.into(),
        rack: from.text()?.into(),
        subscription: read_subscription(from)?,
        session_ms: from.small()?,
        revocation_ms: from.small()?,
        joined: from.epoch()?,
        epoch: from.epoch()?,
        away: from.flag()?,
    })
}
