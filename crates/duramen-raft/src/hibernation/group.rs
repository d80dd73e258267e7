//! What a replica does about its group's hibernation.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use duramen_types::LogIndex;
use openraft::async_runtime::watch::WatchReceiver as _;

use super::{Ask, Member, Stage};
use crate::group::Group;
use crate::limits;
use crate::network::Links;
use crate::types::{GroupId, LogId, Vote};

impl Group {
    /// Whether this replica hibernates, as leader or follower.
    #[must_use]
    pub fn hibernates(&self) -> bool {
        self.hibernation().stage() == Stage::Asleep || self.hibernation().is_vouched()
    }

    /// Whether this replica leads in a term.
    pub(crate) fn leads_in(&self, term: u64) -> bool {
        let status = self.status();
        status.is_leader && status.term.get() == term
    }

    /// Whether the last vote that this replica saved is a leader's.
    pub(crate) fn follows(&self, leader: &Vote) -> bool {
        let saved = self.replica.hard_state.get(self.id(), self.replica());
        !self.is_stopped() && saved.is_some_and(|vote| vote.leader_id == leader.leader_id)
    }

    /// Whether the log ends with an entry, and all of it is applied.
    pub(crate) fn ends_with(&self, last: &LogId) -> bool {
        let end = LogIndex::new(last.index).next();
        self.replica.log.end_index() == end
            && self.replica.progress.borrow().applied_end == end
            && self.replica.has(last)
    }

    /// Whether this replica knows, though openraft does not, that its group has a leader: whose
    /// heartbeats are replaced by beats.
    pub(crate) fn is_settled(&self) -> bool {
        let silent_for = match self.hibernation().stage() {
            Stage::Asleep => self.hibernation().vouched_ago(),
            _ if self.hibernation().is_vouched() => Some(self.leader_silent_for()),
            _ => None,
        };
        silent_for.is_some_and(|silent_for| silent_for < limits::ELECTION_TIMEOUT_MIN)
    }

    /// Whom to ask so that the group may hibernate; `None` if it has something to do, or may have
    /// soon, or is not led by this replica.
    pub(crate) fn may_hibernate(&self, links: &Links) -> Option<Ask> {
        // The metadata is never idle for long, and everything waits for it.
        if self.hibernation().is_vouched() {
            return None;
        }
        let term = self.serving_term().filter(|_| self.id() != GroupId::Metadata)?;
        let end = self.replica.log.end_index();
        if !self.hibernation().is_idle(end)
            || !self.is_membership_settled()
            || !self.losses().is_empty()
        {
            return None;
        }
        let vote = self.vote();
        let (last, matched) = {
            let metrics = self.data().borrow_watched();
            (metrics.last_log?, metrics.replication.clone()?)
        };
        if vote.leader_id.term != term.get() || !self.ends_with(&last) {
            return None;
        }
        let membership = self.membership();
        if !membership.voters.contains(&self.replica()) {
            return None;
        }
        let members = membership.voters.union(&membership.learners).copied();
        let nodes = self.members().read().unwrap_or_else(PoisonError::into_inner);
        let ready = members.filter(|member| *member != self.replica()).map(|member| {
            let is_equal = matched.get(&member.get()).is_some_and(|have| *have == Some(last));
            let node = nodes.get(&member).copied().filter(|node| is_equal && links.is_up(*node))?;
            let is_voter = membership.voters.contains(&member);
            Some(Member { replica: member, node, is_voter })
        });
        let members = ready.collect::<Option<_>>()?;
        Some(Ask { vote, last, members })
    }

    /// Fits the log's memory to its work: it has a share of what the node has for the latest frames
    /// of all logs, and keeps nothing while it hibernates.
    pub(crate) fn fit_memory(&self, share: u64) {
        let share = if self.hibernates() { 0 } else { share };
        if share > 0 {
            self.replica.log.age_tail();
        }
        if !self.hibernation().share_tail(share) {
            return;
        }
        if share == 0 {
            self.replica.is_to_shed.store(true, Ordering::Relaxed);
            self.replica.wake.notify_one();
        } else {
            self.replica.log.share_tail(share);
        }
    }

    /// Brings the group out of hibernation. To be called before anything is proposed: openraft
    /// takes nothing from a leader that no majority has answered of late.
    pub(crate) async fn awaken(&self) {
        if self.hibernation().stage() == Stage::Awake || !self.hibernation().wake() {
            return;
        }
        let answered = async {
            let mut metrics = self.raft().metrics();
            let beat = self.raft().trigger().heartbeat().await;
            while beat.is_ok() && self.status().is_leader && !self.is_answered() {
                if metrics.changed().await.is_err() {
                    return;
                }
            }
        };
        // Without an answer the proposal is refused.
        drop(tokio::time::timeout(limits::ELECTION_TIMEOUT_MAX, answered).await);
        self.hibernation().awoke();
    }

    /// Whether a majority has answered heartbeats or appends of late.
    pub(crate) fn is_answered(&self) -> bool {
        self.answered_ago().is_some_and(|ago| ago < limits::ELECTION_TIMEOUT_MIN)
    }
}
