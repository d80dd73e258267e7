//! What the other replicas acknowledged to this one while it leads, so that one that lost some of
//! it is recognized: its disk lied about a sync, or somebody changed its files.
//!
//! A replica acknowledges what is durable, and gives it up only on the word of a leader of a later
//! term; then it answers with that term. So one that answers a leader "I do not have the entry
//! before these" about an entry that it acknowledged *to this leader in this term* has lost it.
//! - The memory is of one term. Nothing is concluded from what was acknowledged in another.
//! - Answers overtake each other. What counts is what had been acknowledged when the request went
//!   out, not when its answer came.
//! - Who lost something stays so: ids are never used again. From then on nothing that it says
//!   counts for a majority, no vote and no acknowledgement.
//! - openraft takes for granted that this does not happen, and never hears of it.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use duramen_types::{LogIndex, ReplicaId, Term};
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse};

use crate::metrics;
use crate::types::{GroupId, LogId, TypeConfig, Vote};

/// A replica without an entry that it acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loss {
    /// The replica.
    pub replica: ReplicaId,
    /// The term of its leader.
    pub term: Term,
    /// The last index that it acknowledged in that term.
    pub acknowledged: LogIndex,
    /// An index up to that one which it does not have.
    pub missing: LogIndex,
}

/// Why an answer must not reach openraft.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Distrust {
    /// It comes from a replica that lost what it acknowledged.
    #[error("replica {} acknowledged index {} and lost it", .0.replica, .0.acknowledged)]
    Lost(Loss),
    /// It speaks of a time before what the same replica acknowledged meanwhile.
    #[error("a later answer of the replica overtook this one")]
    Overtaken,
}

/// An append or heartbeat that goes out.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    to: ReplicaId,
    term: u64,
    /// The entry that its entries follow.
    pub(super) prev: Option<LogId>,
    /// Its last entry, or the one before if it has none.
    pub(super) last: Option<LogId>,
    /// What the replica had acknowledged by then.
    before: Option<u64>,
}

#[derive(Debug, Default)]
struct Memory {
    term: u64,
    last: BTreeMap<ReplicaId, u64>,
    losses: BTreeMap<ReplicaId, Loss>,
}

/// What the other replicas of a group acknowledged.
#[derive(Debug)]
pub(crate) struct Acknowledged {
    group: GroupId,
    memory: Mutex<Memory>,
}

impl Acknowledged {
    pub(crate) fn new(group: GroupId) -> Self {
        Self { group, memory: Mutex::default() }
    }

    /// The replicas that lost what they acknowledged.
    pub(crate) fn losses(&self) -> Vec<Loss> {
        self.lock().losses.values().copied().collect()
    }

    /// Whether a replica is not known to have lost anything.
    pub(super) fn trust(&self, replica: ReplicaId) -> Result<(), Distrust> {
        self.lock().trust(replica)
    }

    /// Notes that a request goes out.
    pub(super) fn ask(&self, to: ReplicaId, request: &AppendEntriesRequest<TypeConfig>) -> Asked {
        let prev = request.prev_log_id;
        let last = request.entries.last().map(|entry| entry.log_id).or(prev);
        let term = request.vote.leader_id.term;
        let mut memory = self.lock();
        memory.begin(term);
        let before = memory.last.get(&to).copied().filter(|_| memory.term == term);
        Asked { to, term, prev, last, before }
    }

    /// Notes an answer, and says whether it can be believed.
    pub(super) fn answered(
        &self,
        asked: &Asked,
        answer: &AppendEntriesResponse<TypeConfig>,
    ) -> Result<(), Distrust> {
        // That there is a later term is true whoever says it.
        if matches!(answer, AppendEntriesResponse::HigherVote(_)) {
            return Ok(());
        }
        let mut memory = self.lock();
        memory.trust(asked.to)?;
        if memory.term != asked.term {
            return Ok(());
        }
        match answer {
            AppendEntriesResponse::Success => memory.note(asked.to, asked.last),
            AppendEntriesResponse::PartialSuccess(matching) => memory.note(asked.to, *matching),
            AppendEntriesResponse::HigherVote(_) => {}
            AppendEntriesResponse::Conflict => {
                if let Some(loss) = memory.conflicted(asked)? {
                    memory.losses.insert(asked.to, loss);
                    drop(memory);
                    self.report(&loss);
                    return Err(Distrust::Lost(loss));
                }
            }
        }
        Ok(())
    }

    /// Notes that a replica took over a snapshot.
    pub(super) fn installed(&self, to: ReplicaId, vote: &Vote, last: Option<LogId>) {
        let mut memory = self.lock();
        memory.begin(vote.leader_id.term);
        if memory.term == vote.leader_id.term {
            memory.note(to, last);
        }
    }

    fn report(&self, loss: &Loss) {
        let Loss { replica, term, acknowledged, missing } = loss;
        tracing::error!(
            group = %self.group, %replica, %term, %acknowledged, %missing,
            "a replica lost entries that it had acknowledged to this leader: it counts no more and \
             must be replaced; its disk may not keep what it syncs"
        );
        metrics::acknowledged_lost();
    }

    fn lock(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Memory {
    /// A later term: what was acknowledged before means nothing in it.
    fn begin(&mut self, term: u64) {
        if term > self.term {
            self.term = term;
            self.last.clear();
        }
    }

    fn trust(&self, replica: ReplicaId) -> Result<(), Distrust> {
        self.losses.get(&replica).map_or(Ok(()), |loss| Err(Distrust::Lost(*loss)))
    }

    fn note(&mut self, replica: ReplicaId, last: Option<LogId>) {
        if let Some(last) = last {
            let known = self.last.entry(replica).or_default();
            *known = last.index.max(*known);
        }
    }

    /// What is lost, if anything, where a replica does not have the entry before a request's.
    fn conflicted(&self, asked: &Asked) -> Result<Option<Loss>, Distrust> {
        let (Some(prev), Some(known)) = (asked.prev, self.last.get(&asked.to)) else {
            return Ok(None);
        };
        if prev.index > *known {
            return Ok(None);
        }
        if asked.before.is_none_or(|before| prev.index > before) {
            return Err(Distrust::Overtaken);
        }
        Ok(Some(Loss {
            replica: asked.to,
            term: Term::new(asked.term),
            acknowledged: LogIndex::new(*known),
            missing: LogIndex::new(prev.index),
        }))
    }
}

#[cfg(test)]
mod tests {
    use openraft::vote::leader_id_std::LeaderId;

    use super::*;

    type Answer = AppendEntriesResponse<TypeConfig>;

    const REPLICA: ReplicaId = ReplicaId::new(12);

    fn vote(term: u64) -> Vote {
        Vote { leader_id: LeaderId { term, voted_for: 1 }, committed: true }
    }

    fn id(index: u64) -> LogId {
        LogId::new_term_index(1, index)
    }

    /// A request of a term whose entries, if any, follow an index.
    fn ask(told: &Acknowledged, term: u64, prev: u64) -> Asked {
        let vote = vote(term);
        let (prev_log_id, leader_commit) = (Some(id(prev)), None);
        let request =
            AppendEntriesRequest { vote, prev_log_id, entries: Vec::new(), leader_commit };
        told.ask(REPLICA, &request)
    }

    /// Everything up to an index is acknowledged in a term.
    fn acknowledge(told: &Acknowledged, term: u64, index: u64) {
        let asked = ask(told, term, index);
        assert_eq!(told.answered(&asked, &Answer::Success), Ok(()));
    }

    fn conflict(told: &Acknowledged, asked: &Asked) -> Result<(), Distrust> {
        told.answered(asked, &Answer::Conflict)
    }

    fn told() -> Acknowledged {
        Acknowledged::new(GroupId::Metadata)
    }

    #[test]
    fn who_does_not_have_what_it_acknowledged_lost_it() {
        for missing in [7, 10] {
            let told = told();
            acknowledge(&told, 3, 10);
            let asked = ask(&told, 3, missing);
            let loss = Loss {
                replica: REPLICA,
                term: Term::new(3),
                acknowledged: LogIndex::new(10),
                missing: LogIndex::new(missing),
            };
            assert_eq!(conflict(&told, &asked), Err(Distrust::Lost(loss)));
            assert_eq!(told.losses(), [loss]);
        }
    }

    #[test]
    fn a_part_that_was_acknowledged_and_a_snapshot_count_as_well() {
        let told = told();
        let asked = ask(&told, 3, 9);
        assert_eq!(told.answered(&asked, &Answer::PartialSuccess(Some(id(5)))), Ok(()));
        let asked = ask(&told, 3, 6);
        assert_eq!(conflict(&told, &asked), Ok(()), "it was never acknowledged");
        told.installed(REPLICA, &vote(3), Some(id(8)));
        let asked = ask(&told, 3, 8);
        assert!(matches!(conflict(&told, &asked), Err(Distrust::Lost(_))));
    }

    #[test]
    fn a_search_for_the_last_common_entry_finds_no_loss() {
        let told = told();
        for (prev, answer) in [
            (16, Answer::Conflict),
            (8, Answer::Success),
            (12, Answer::Conflict),
            (10, Answer::Success),
            (11, Answer::Conflict),
        ] {
            let asked = ask(&told, 3, prev);
            assert_eq!(told.answered(&asked, &answer), Ok(()), "{prev}");
        }
        assert_eq!(told.losses(), []);
    }

    #[test]
    fn what_was_acknowledged_in_another_term_says_nothing() {
        let told = told();
        acknowledge(&told, 3, 10);
        // Another leader cut it meanwhile, and this replica leads again.
        let asked = ask(&told, 5, 10);
        assert_eq!(conflict(&told, &asked), Ok(()));
        acknowledge(&told, 5, 4);
        // What is left of the earlier term neither counts nor overwrites.
        let late = ask(&told, 3, 10);
        assert_eq!(told.answered(&late, &Answer::Success), Ok(()));
        told.installed(REPLICA, &vote(3), Some(id(10)));
        let asked = ask(&told, 5, 10);
        assert_eq!(conflict(&told, &asked), Ok(()));
        let higher = ask(&told, 5, 4);
        assert_eq!(told.answered(&higher, &Answer::HigherVote(vote(6))), Ok(()));
        assert_eq!(told.losses(), []);
    }

    #[test]
    fn an_answer_that_was_overtaken_is_no_loss() {
        let told = told();
        let early = ask(&told, 3, 8);
        acknowledge(&told, 3, 10);
        assert_eq!(conflict(&told, &early), Err(Distrust::Overtaken));
        assert_eq!(told.losses(), []);
        let asked = ask(&told, 3, 8);
        assert!(matches!(conflict(&told, &asked), Err(Distrust::Lost(_))));
    }

    #[test]
    fn who_lost_something_counts_no_more_under_its_id() {
        let told = told();
        acknowledge(&told, 3, 10);
        let asked = ask(&told, 3, 10);
        assert!(conflict(&told, &asked).is_err());
        for term in [3, 4] {
            let asked = ask(&told, term, 2);
            assert!(told.answered(&asked, &Answer::Success).is_err());
            assert_eq!(told.answered(&asked, &Answer::HigherVote(vote(9))), Ok(()));
        }
        assert!(told.trust(REPLICA).is_err());
        assert_eq!(told.trust(ReplicaId::new(13)), Ok(()), "its successor");
    }
}
