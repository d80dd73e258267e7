//! The sending side of all links of a node: what it vouches for, and what came of it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use duramen_proto::internal as pb;
use duramen_types::NodeId;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::{Answered, Ask, Member, Stage, Voucher};
use crate::group::Group;
use crate::host::Groups;
use crate::limits;
use crate::network::Links;
use crate::types::GroupId;
use crate::wire;

/// Beats of this node; owned by its ticker.
pub(crate) struct Beats {
    links: Arc<Links>,
    peers: BTreeMap<NodeId, Peer>,
}

/// What is vouched for to one node.
struct Peer {
    answered: Arc<Answered>,
    /// The number of the next beat.
    seq: u64,
    groups: BTreeMap<GroupId, Vouched>,
    /// To go with the next beat.
    calls: Vec<(GroupId, pb::HibernateCall)>,
    /// Beats without an answer, the oldest first.
    waiting: VecDeque<Waiting>,
}

struct Vouched {
    group: Arc<Group>,
    member: Member,
    address: pb::GroupAddress,
}

struct Waiting {
    sent: Instant,
    asked: Vec<GroupId>,
    answer: oneshot::Receiver<pb::BeatReply>,
}

impl Beats {
    pub(crate) const fn new(links: Arc<Links>) -> Self {
        Self { links, peers: BTreeMap::new() }
    }

    /// Lets groups without work hibernate, and vouches for those that do.
    pub(crate) fn beat(&mut self, groups: &Groups) {
        for peer in self.peers.values_mut() {
            peer.take_answers();
        }
        groups.each(|group| {
            let hibernation = group.hibernation();
            match hibernation.stage() {
                Stage::Asking | Stage::Asleep if !group.leads_in(hibernation.term()) => {
                    hibernation.end();
                }
                Stage::Awake => {
                    if let Some(ask) = group.may_hibernate(&self.links) {
                        ask_members(&mut self.peers, group, &ask);
                    }
                }
                Stage::Asking | Stage::Asleep | Stage::Waking => {}
            }
        });
        for (node, peer) in &mut self.peers {
            peer.send(&self.links, *node);
        }
        self.peers.retain(|_, peer| !peer.groups.is_empty() || !peer.waiting.is_empty());
    }
}

fn ask_members(peers: &mut BTreeMap<NodeId, Peer>, group: &Arc<Group>, ask: &Ask) {
    group.hibernation().ask(ask.vote.leader_id.term, &ask.members);
    for member in &ask.members {
        let (from, to) = (group.replica().get(), member.replica.get());
        let address = wire::group_to_wire(group.id(), from, to);
        let call = pb::HibernateCall {
            group: Some(address.clone()),
            vote: Some(wire::vote_to_wire(&ask.vote)),
            last_log_id: Some(wire::log_id_to_wire(ask.last)),
        };
        let peer = peers.entry(member.node).or_insert_with(Peer::new);
        peer.calls.push((group.id(), call));
        let vouched = Vouched { group: Arc::clone(group), member: *member, address };
        peer.groups.insert(group.id(), vouched);
    }
}

impl Peer {
    fn new() -> Self {
        Self {
            answered: Arc::new(Answered::new(Instant::now())),
            seq: 0,
            groups: BTreeMap::new(),
            calls: Vec::new(),
            waiting: VecDeque::new(),
        }
    }

    fn take_answers(&mut self) {
        while let Some(oldest) = self.waiting.front_mut() {
            match oldest.answer.try_recv() {
                Ok(reply) => {
                    let Some(beat) = self.waiting.pop_front() else { return };
                    if reply.lost {
                        return self.lost();
                    }
                    self.answered(&beat, &reply);
                }
                Err(oneshot::error::TryRecvError::Closed) => return self.lost(),
                Err(oneshot::error::TryRecvError::Empty) => {
                    if oldest.sent.elapsed() >= limits::ELECTION_TIMEOUT_MAX {
                        self.lost();
                    }
                    return;
                }
            }
        }
    }

    fn answered(&mut self, beat: &Waiting, reply: &pb::BeatReply) {
        for address in &reply.awake {
            let id = wire::group_from_wire(address).ok();
            if let Some(vouched) = id.and_then(|id| self.groups.remove(&id)) {
                vouched.group.hibernation().end();
            }
        }
        // Only now: it speaks for none of those.
        self.answered.note(beat.sent);
        for id in &beat.asked {
            if let Some(vouched) = self.groups.get(id) {
                let answered = Arc::clone(&self.answered);
                let Member { replica, is_voter, .. } = vouched.member;
                let voucher = Voucher { is_voter, answered };
                vouched.group.hibernation().agreed(replica, voucher);
            }
        }
    }

    /// Whatever the node thinks that hibernates, it is not so any more.
    fn lost(&mut self) {
        for vouched in std::mem::take(&mut self.groups).into_values() {
            vouched.group.hibernation().end();
        }
        *self = Self::new();
    }

    fn send(&mut self, links: &Links, node: NodeId) {
        let mut awake = Vec::new();
        self.groups.retain(|_, vouched| {
            let hibernation = vouched.group.hibernation();
            let is_vouched = matches!(hibernation.stage(), Stage::Asking | Stage::Asleep);
            if !is_vouched {
                hibernation.end();
                awake.push(vouched.address.clone());
            }
            is_vouched
        });
        self.calls.retain(|(id, _)| self.groups.contains_key(id));
        if self.groups.is_empty() && awake.is_empty() {
            return;
        }
        let (asked, hibernate) = std::mem::take(&mut self.calls).into_iter().unzip();
        let beat = pb::Beat { id: 0, seq: self.seq, awake, hibernate };
        let Some(answer) = links.beat(node, beat) else { return self.lost() };
        self.seq += 1;
        self.waiting.push_back(Waiting { sent: Instant::now(), asked, answer });
    }
}
