//! What the coordinator remembers of members: when they were heard of. Not replicated.
//!
//! Times are of the coordinator's monotonic clock, since any beginning. Nothing here removes a
//! member: what runs out becomes a [`Proposal`], which is checked again when it is applied.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::command::{Action, ExpiryCause};
use crate::epoch::MemberEpoch;
use crate::group::Group;
use crate::member::Member;
use crate::name::{GroupName, MemberId};
use crate::outcome::{Effect, Refusal};
use crate::state::State;

/// A proposal that is neither applied nor refused by then is made again.
const PROPOSE_AGAIN: Duration = Duration::from_secs(1);

/// Something that the coordinator ought to propose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposal {
    /// The group.
    pub group: GroupName,
    /// What to do with it.
    pub action: Action,
}

/// The sessions of all members of a shard, at its coordinator.
///
/// Bounded by the state: it has a session for each member, and a note for each group.
#[derive(Debug, Default)]
pub struct Sessions {
    sessions: BTreeMap<(GroupName, MemberId), Session>,
    /// When to look at a session: at its end or before.
    queue: BTreeSet<(Duration, GroupName, MemberId)>,
    fenced: BTreeMap<GroupName, (MemberId, Duration)>,
}

#[derive(Clone, Copy, Debug)]
struct Session {
    heard: Duration,
    length: Duration,
    /// What it was told to give back first, and until when.
    revocation: Option<(MemberEpoch, Duration)>,
    /// Its entry in the queue.
    queued: Duration,
}

impl Session {
    fn end(&self) -> Duration {
        self.heard.saturating_add(self.length)
    }

    fn due(&self) -> Duration {
        self.revocation.map_or(self.end(), |(_, until)| until.min(self.end()))
    }
}

impl Sessions {
    /// The sessions of a new coordinator: it cannot know who was heard of, so that each member has
    /// a full session from `now` on, and all the time to give back what was revoked.
    #[must_use]
    pub fn adopt(state: &State, now: Duration) -> Self {
        let mut sessions = Self::default();
        for (name, group) in state.groups() {
            for (id, member) in group.members() {
                sessions.open(name, id, member, now);
            }
            sessions.time_revocations(name, group, now);
        }
        sessions
    }

    /// A member was heard of. Gives its present epoch: if it is not the one that the member knows,
    /// the member is to be told its assignment.
    ///
    /// # Errors
    /// As [`Group::check_member`]: it is no member any more, or never was.
    pub fn heartbeat(
        &mut self,
        state: &State,
        at: (&GroupName, &MemberId),
        epoch: MemberEpoch,
        now: Duration,
    ) -> Result<MemberEpoch, Refusal> {
        let group = state.group(at.0).ok_or(Refusal::UnknownGroup)?;
        match group.check_member(at.1, epoch) {
            Err(refusal) => {
                self.fenced.insert(at.0.clone(), (at.1.clone(), now));
                Err(refusal)
            }
            Ok(member) => {
                let key = (at.0.clone(), at.1.clone());
                match self.sessions.get_mut(&key) {
                    // The queue keeps its earlier entry, which is put right when it comes up.
                    Some(session) => session.heard = now.max(session.heard),
                    None => self.open(at.0, at.1, member, now),
                }
                Ok(member.epoch)
            }
        }
    }

    /// Takes note of what a command brought about; `state` is as of then or later.
    pub fn observe(&mut self, state: &State, effects: &[Effect], now: Duration) {
        let mut moved = BTreeSet::new();
        for effect in effects {
            match effect {
                Effect::MemberJoined { group, member } => {
                    if let Some(found) = state.group(group).and_then(|g| g.member(member)) {
                        self.close(group, member);
                        self.open(group, member, found, now);
                    }
                }
                Effect::MemberRemoved { group, member, .. } => {
                    if state.group(group).is_none_or(|g| g.member(member).is_none()) {
                        self.close(group, member);
                    }
                }
                Effect::AssignmentChanged { group, .. } => {
                    moved.insert(group);
                }
                Effect::GroupRemoved { group } => {
                    self.fenced.remove(group);
                }
                Effect::ResolutionDue { .. } | Effect::TargetDue { .. } => {}
            }
        }
        for name in moved {
            if let Some(group) = state.group(name) {
                self.time_revocations(name, group, now);
            }
        }
    }

    /// Members whose time has run out, at most `most` of them: to be proposed.
    pub fn due(&mut self, state: &State, now: Duration, most: usize) -> Vec<Proposal> {
        let mut due = Vec::new();
        while due.len() < most {
            let Some(first) = self.queue.first().filter(|first| first.0 <= now).cloned() else {
                break;
            };
            self.queue.remove(&first);
            let key = (first.1, first.2);
            let Some(session) = self.sessions.get_mut(&key) else { continue };
            let Some(member) = state.group(&key.0).and_then(|group| group.member(&key.1)) else {
                self.sessions.remove(&key);
                continue;
            };
            let ended = session.due() <= now;
            if ended {
                let cause = if session.end() <= now {
                    ExpiryCause::Session
                } else {
                    ExpiryCause::Revocation
                };
                let action = Action::Expire { member: key.1.clone(), epoch: member.epoch, cause };
                due.push(Proposal { group: key.0.clone(), action });
            }
            session.queued = if ended { now.saturating_add(PROPOSE_AGAIN) } else { session.due() };
            self.queue.insert((session.queued, key.0, key.1));
        }
        due
    }

    /// When to ask for what is due again; it may be nothing then.
    #[must_use]
    pub fn next_due(&self) -> Option<Duration> {
        self.queue.first().map(|first| first.0)
    }

    /// For how long a member was not heard of, and until when its session goes on.
    #[must_use]
    pub fn session(&self, group: &GroupName, member: &MemberId) -> Option<(Duration, Duration)> {
        let session = self.sessions.get(&(group.clone(), member.clone()))?;
        Some((session.heard, session.end()))
    }

    /// Until when a member may take to give back what was revoked from it; `None` if nothing was.
    #[must_use]
    pub fn revocation_end(&self, group: &GroupName, member: &MemberId) -> Option<Duration> {
        let session = self.sessions.get(&(group.clone(), member.clone()))?;
        session.revocation.map(|(_, until)| until)
    }

    /// Who was last told that it is no member of a group, and when.
    #[must_use]
    pub fn last_fenced(&self, group: &GroupName) -> Option<(&MemberId, Duration)> {
        self.fenced.get(group).map(|(member, when)| (member, *when))
    }

    fn open(&mut self, group: &GroupName, id: &MemberId, member: &Member, now: Duration) {
        let length = Duration::from_millis(u64::from(member.session_ms));
        let queued = now.saturating_add(length);
        let session = Session { heard: now, length, revocation: None, queued };
        self.queue.insert((queued, group.clone(), id.clone()));
        self.sessions.insert((group.clone(), id.clone()), session);
    }

    fn close(&mut self, group: &GroupName, id: &MemberId) {
        let key = (group.clone(), id.clone());
        if let Some(session) = self.sessions.remove(&key) {
            self.queue.remove(&(session.queued, key.0, key.1));
        }
    }

    /// Begins, goes on with or ends the time that each member of a group has to give back what was
    /// revoked. It begins anew when the oldest of that is given back.
    fn time_revocations(&mut self, name: &GroupName, group: &Group, now: Duration) {
        let oldest = group.holdings.oldest_revocations();
        for (id, member) in group.members() {
            let key = (name.clone(), id.clone());
            let Some(session) = self.sessions.get_mut(&key) else { continue };
            let revoked = oldest.get(id).copied();
            if session.revocation.map(|(epoch, _)| epoch) == revoked {
                continue;
            }
            let length = Duration::from_millis(u64::from(member.revocation_ms));
            session.revocation = revoked.map(|epoch| (epoch, now.saturating_add(length)));
            let due = session.due();
            if due < session.queued {
                self.queue.remove(&(session.queued, key.0.clone(), key.1.clone()));
                session.queued = due;
                self.queue.insert((due, key.0, key.1));
            }
        }
    }
}

#[cfg(test)]
mod tests;
