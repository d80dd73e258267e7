//! The receiving side of one link: whose leaders its beats vouch for.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use duramen_proto::internal as pb;
use tokio::time::Instant;

use crate::group::Group;
use crate::host::Groups;
use crate::types::{GroupId, LogId, Vote};
use crate::wire::{self, WireError};

/// The groups that hibernate on the word of one link. Dropping it ends that.
#[derive(Debug, Default)]
pub(crate) struct Sleepers {
    next_seq: u64,
    groups: BTreeMap<GroupId, Sleeper>,
}

#[derive(Debug)]
struct Sleeper {
    /// A replica that is closed has nobody to wait for.
    group: Weak<Group>,
    vote: Vote,
    address: pb::GroupAddress,
}

/// What is asked of one replica.
pub(crate) struct Call {
    pub(crate) group: GroupId,
    pub(crate) vote: Vote,
    pub(crate) last: LogId,
    pub(crate) address: pb::GroupAddress,
}

/// Reads what is asked of a replica.
pub(crate) fn call_from_wire(call: pb::HibernateCall) -> Result<Call, WireError> {
    let address = call.group.ok_or(WireError::Missing { part: "group" })?;
    let last = call.last_log_id.ok_or(WireError::Missing { part: "last log id" })?;
    Ok(Call {
        group: wire::group_from_wire(&address)?,
        vote: wire::vote_from_wire(call.vote)?,
        last: wire::log_id_from_wire(last)?,
        address,
    })
}

impl Sleeper {
    fn awake(&self) {
        if let Some(group) = self.group.upgrade() {
            group.hibernation().set_vouched(false);
        }
    }
}

impl Sleepers {
    /// Takes a beat into account: leaders of all groups that it stands for were heard of.
    pub(crate) fn beat(&mut self, groups: &Groups, beat: pb::Beat) -> pb::BeatReply {
        let id = beat.id;
        if beat.seq == 0 {
            self.clear();
        } else if beat.seq != self.next_seq {
            self.clear();
            return pb::BeatReply { id, lost: true, awake: Vec::new() };
        }
        self.next_seq = beat.seq.saturating_add(1);
        for address in &beat.awake {
            if let Ok(id) = wire::group_from_wire(address)
                && let Some(sleeper) = self.groups.remove(&id)
            {
                sleeper.awake();
            }
        }
        let mut awake = Vec::new();
        for call in beat.hibernate {
            let address = call.group.clone();
            if !call_from_wire(call).is_ok_and(|call| self.agree(groups, call)) {
                awake.extend(address);
            }
        }
        let now = Instant::now();
        self.groups.retain(|_, sleeper| {
            let group = sleeper.group.upgrade().filter(|group| group.follows(&sleeper.vote));
            if let Some(group) = &group {
                group.led_at(now);
            } else {
                sleeper.awake();
                awake.push(sleeper.address.clone());
            }
            group.is_some()
        });
        pb::BeatReply { id, lost: false, awake }
    }

    fn agree(&mut self, groups: &Groups, call: Call) -> bool {
        let Some(group) = groups.get(call.group) else { return false };
        let is_meant = group.replica().get() == call.address.to_replica;
        if !is_meant || !group.follows(&call.vote) || !group.ends_with(&call.last) {
            return false;
        }
        group.hibernation().set_vouched(true);
        let sleeper =
            Sleeper { group: Arc::downgrade(&group), vote: call.vote, address: call.address };
        self.groups.insert(call.group, sleeper);
        true
    }

    fn clear(&mut self) {
        for sleeper in std::mem::take(&mut self.groups).into_values() {
            sleeper.awake();
        }
    }
}

impl Drop for Sleepers {
    fn drop(&mut self) {
        self.clear();
    }
}
