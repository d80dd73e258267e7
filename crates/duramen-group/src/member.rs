//! A member of a group.

use crate::command::Join;
use crate::epoch::MemberEpoch;
use crate::name::{InstanceId, MemberId};
use crate::subscription::Subscription;

/// A member of a group.
///
/// Invariant: `joined` ≤ `epoch` ≤ the group's fence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its instance, if it is static.
    pub instance: Option<InstanceId>,
    /// The name that the client gives itself.
    pub client: Box<str>,
    /// Where it is; empty if unknown.
    pub rack: Box<str>,
    /// What it wants to read.
    pub subscription: Subscription,
    /// It is gone if it is not heard of for so long, in milliseconds.
    pub session_ms: u32,
    /// It is gone if it does not give back a partition for so long, in milliseconds.
    pub revocation_ms: u32,
    /// The epoch of its joining: what names an earlier one comes from another life.
    pub joined: MemberEpoch,
    /// The epoch at which its assignment last changed.
    pub epoch: MemberEpoch,
    /// A static member that said it will be back; it takes part in nothing until it is.
    pub away: bool,
}

impl Member {
    pub(crate) fn new(join: &Join, epoch: MemberEpoch) -> Self {
        Self {
            instance: join.instance.clone(),
            client: join.client.clone(),
            rack: join.rack.clone(),
            subscription: join.subscription.clone(),
            session_ms: join.session_ms,
            revocation_ms: join.revocation_ms,
            joined: epoch,
            epoch,
            away: false,
        }
    }

    /// Its text in bytes, with its id.
    pub(crate) fn text_bytes(&self, id: &MemberId) -> usize {
        let instance = self.instance.as_ref().map_or(0, |instance| instance.as_str().len());
        let labels = self.client.len() + self.rack.len();
        id.as_str().len() + instance + labels + self.subscription.text_bytes()
    }
}
