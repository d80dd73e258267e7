//! Who hears what every replica vouches for, and says at once when one takes it back.
//!
//! - A replica's log that was acknowledged up to an index still has it after every crash, with the
//!   same term, unless it was truncated on Raft's word. What a replica opens with, it vouches for
//!   as well: Raft counts it from then on.
//! - A vote that was made durable never goes back, and there is one for each term.
//! - A group has one leader in a term.

use std::collections::{BTreeMap, BTreeSet};

use duramen_env::witness::Deed;
use duramen_types::{LogIndex, NodeId, ReplicaId, Term};

/// Terms of so many acknowledged entries are remembered for each replica.
const POINTS_KEPT: usize = 64;

/// The group that is no partition.
pub(super) const METADATA: &str = "metadata";

/// What all replicas have vouched for.
#[derive(Debug, Default)]
pub(super) struct Witness {
    groups: BTreeMap<String, GroupBook>,
    /// Suffixes cut on Raft's word.
    pub(super) truncations: u64,
    /// Times that a replica came to lead.
    pub(super) leaders: u64,
    /// Entries acknowledged by leaders of partitions since somebody asked last.
    leader_synced: Option<NodeId>,
    openings: u64,
}

#[derive(Debug, Default)]
struct GroupBook {
    replicas: BTreeMap<ReplicaId, ReplicaBook>,
    leaders: BTreeMap<Term, ReplicaId>,
}

#[derive(Debug, Default)]
struct ReplicaBook {
    node: Option<NodeId>,
    /// The number of its last opening among all.
    opened: u64,
    /// One past the last index it vouched for.
    end: LogIndex,
    /// Terms of some indexes below the end.
    points: BTreeMap<LogIndex, Term>,
    /// Where it was cut last and in which term, until something of that term is acknowledged.
    cut: Option<(LogIndex, Term)>,
    /// The end of the snapshot that took the place of the log, until it is opened again: where the
    /// replica stands, although it promised nothing yet.
    reset_to: Option<LogIndex>,
    vote: Term,
    /// In the term of the vote.
    voted_for: Option<ReplicaId>,
    follows: Option<ReplicaId>,
}

impl Witness {
    /// Hears of a deed.
    ///
    /// # Errors
    /// In words, what was promised and is broken.
    pub(super) fn hear(
        &mut self,
        group: &str,
        replica: ReplicaId,
        deed: Deed,
    ) -> Result<(), String> {
        let name = group;
        if !self.groups.contains_key(group) {
            self.groups.insert(group.to_owned(), GroupBook::default());
        }
        let Some(group) = self.groups.get_mut(group) else { return Ok(()) };
        let book = group.replicas.entry(replica).or_default();
        let broken = |what: String| Err(format!("replica {replica} of {name}: {what}"));
        match deed {
            Deed::Acknowledged { last, term } => {
                // The sync of an entry that was cut meanwhile: it is told of in the order of syncs.
                if book.cut.is_some_and(|(from, vote)| last >= from && term < vote) {
                    return Ok(());
                }
                book.cut = None;
                book.vouch(last, term);
                let leads = group.leaders.last_key_value().is_some_and(|(_, id)| *id == replica);
                if leads && name != METADATA {
                    self.leader_synced = group.replicas.get(&replica).and_then(|book| book.node);
                }
            }
            Deed::Truncated { from } => {
                self.truncations += u64::from(from < book.end);
                book.reset_to = Some(from).filter(|from| *from > book.end);
                // Beyond its end a snapshot is about to take the place of the log; until that is
                // durable, a power cut brings back what there was.
                book.end = book.end.min(from);
                drop(book.points.split_off(&from));
                book.cut = Some((from, book.vote));
            }
            Deed::Opened { node, start, end, terms, vote } => {
                self.openings += 1;
                (book.node, book.opened) = (Some(node), self.openings);
                book.reset_to = None;
                if let Err(lost) = book.compare(start, end, &terms) {
                    return broken(lost);
                }
                if vote < book.vote {
                    let had = book.vote;
                    return broken(format!("its vote went back from term {had} to {vote}"));
                }
                if let (Some(last), Some((term, _))) = (end.prev(), terms.last()) {
                    book.vouch(last, *term);
                }
            }
            Deed::Voted { term, candidate, elected } => {
                if let Err(what) = book.vote(term, candidate, elected) {
                    return broken(what);
                }
            }
            Deed::Led { term } => {
                self.leaders += 1;
                let first = *group.leaders.entry(term).or_insert(replica);
                if first != replica {
                    return broken(format!("leads in term {term}, as replica {first} does"));
                }
            }
        }
        Ok(())
    }

    /// The node whose replica came to lead a group last.
    pub(super) fn leader(&self, group: &str) -> Option<NodeId> {
        let group = self.groups.get(group)?;
        let (_, replica) = group.leaders.last_key_value()?;
        group.replicas.get(replica)?.node
    }

    /// The nodes whose replicas came to lead a partition last.
    pub(super) fn leaders_of_partitions(&self) -> BTreeSet<NodeId> {
        let partitions = self.groups.keys().filter(|name| *name != METADATA);
        partitions.filter_map(|name| self.leader(name)).collect()
    }

    /// The node of a partition's leader that made something durable since this was asked last.
    pub(super) fn take_synced_leader(&mut self) -> Option<NodeId> {
        self.leader_synced.take()
    }

    /// The replica of a group that each node opened last, and how far it is, durably.
    pub(super) fn replicas(&self, group: &str) -> BTreeMap<NodeId, (ReplicaId, LogIndex)> {
        let replicas = self.groups.get(group).into_iter().flat_map(|group| &group.replicas);
        let mut latest: BTreeMap<NodeId, (u64, ReplicaId, LogIndex)> = BTreeMap::new();
        for (replica, book) in replicas {
            let Some(node) = book.node else { continue };
            let known = latest.get(&node).map_or(0, |(opened, _, _)| *opened);
            if book.opened > known {
                let end = book.reset_to.unwrap_or(book.end).max(book.end);
                latest.insert(node, (book.opened, *replica, end));
            }
        }
        latest.into_iter().map(|(node, (_, replica, end))| (node, (replica, end))).collect()
    }

    /// How many replicas a group ever had.
    pub(super) fn replicas_ever(&self, group: &str) -> usize {
        self.groups.get(group).map_or(0, |group| group.replicas.len())
    }
}

impl ReplicaBook {
    fn vote(&mut self, term: Term, candidate: ReplicaId, elected: bool) -> Result<(), String> {
        if term < self.vote {
            return Err(format!("voted in term {term} after term {}", self.vote));
        }
        if term > self.vote {
            (self.vote, self.voted_for, self.follows) = (term, None, None);
        }
        let given = if elected { &mut self.follows } else { &mut self.voted_for };
        match given.replace(candidate) {
            Some(other) if other != candidate => {
                Err(format!("voted for {candidate} in term {term} after {other}"))
            }
            _ => Ok(()),
        }
    }

    fn vouch(&mut self, last: LogIndex, term: Term) {
        self.end = self.end.max(last.next());
        self.points.insert(last, term);
        if self.points.len() > POINTS_KEPT {
            self.points.pop_first();
        }
    }

    /// Compares what it opens with with what it vouched for.
    fn compare(
        &self,
        start: LogIndex,
        end: LogIndex,
        terms: &[(Term, LogIndex)],
    ) -> Result<(), String> {
        if end < self.end {
            let had = self.end;
            return Err(format!("its log ends at {end}, and it had acknowledged up to {had}"));
        }
        for (index, term) in self.points.range(start..) {
            let found = terms.iter().rfind(|(_, first)| first <= index).map(|(term, _)| term);
            if found != Some(term) {
                return Err(format!(
                    "its entry {index} is of term {found:?}, and it had acknowledged it in {term}"
                ));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GROUP: &str = "topic-0";

    fn opened(end: u64, terms: &[(u64, u64)], vote: u64) -> Deed {
        let terms = terms.iter().map(|(term, first)| (Term::new(*term), LogIndex::new(*first)));
        Deed::Opened {
            node: NodeId::new(1),
            start: LogIndex::ZERO,
            end: LogIndex::new(end),
            terms: terms.collect(),
            vote: Term::new(vote),
        }
    }

    fn acknowledged(last: u64, term: u64) -> Deed {
        Deed::Acknowledged { last: LogIndex::new(last), term: Term::new(term) }
    }

    fn hear(deeds: impl IntoIterator<Item = (u64, Deed)>) -> Result<(), String> {
        let mut witness = Witness::default();
        for (replica, deed) in deeds {
            witness.hear(GROUP, ReplicaId::new(replica), deed)?;
        }
        Ok(())
    }

    #[test]
    fn an_acknowledged_index_must_be_there_again() {
        assert!(hear([(1, acknowledged(9, 2)), (1, opened(10, &[(1, 0), (2, 5)], 2))]).is_ok());
        assert!(hear([(1, acknowledged(9, 2)), (1, opened(9, &[(1, 0), (2, 5)], 2))]).is_err());
        assert!(hear([(1, acknowledged(9, 2)), (1, opened(12, &[(1, 0), (3, 9)], 3))]).is_err());
        assert!(hear([(1, opened(10, &[(1, 0)], 1)), (1, opened(9, &[(1, 0)], 1))]).is_err());
    }

    #[test]
    fn what_raft_truncates_is_owed_no_more() {
        let truncated = Deed::Truncated { from: LogIndex::new(6) };
        let short = opened(6, &[(1, 0)], 2);
        assert!(hear([(1, acknowledged(9, 1)), (1, truncated.clone()), (1, short)]).is_ok());
        let shorter = opened(5, &[(1, 0)], 2);
        assert!(hear([(1, acknowledged(9, 1)), (1, truncated), (1, shorter)]).is_err());
    }

    #[test]
    fn a_snapshot_that_was_about_to_take_the_place_of_the_log_promises_nothing() {
        let reset = Deed::Truncated { from: LogIndex::new(50) };
        let story = |end| [acknowledged(9, 1), reset.clone(), opened(end, &[(1, 0)], 2)];
        assert!(hear(story(10).map(|deed| (1, deed))).is_ok());
        assert!(hear(story(9).map(|deed| (1, deed))).is_err());
    }

    #[test]
    fn a_replica_that_took_over_a_snapshot_stands_at_its_end() {
        let reset = Deed::Truncated { from: LogIndex::new(50) };
        let end = |deeds: &[Deed]| {
            let mut witness = Witness::default();
            for deed in deeds {
                witness.hear("g", ReplicaId::new(1), deed.clone()).unwrap();
            }
            witness.replicas("g").values().map(|(_, end)| end.get()).collect::<Vec<_>>()
        };
        let before = [opened(0, &[], 1), acknowledged(9, 1), reset];
        assert_eq!(end(&before[..2]), [10]);
        assert_eq!(end(&before), [50]);
        let [first, second, third] = before;
        let back = opened(10, &[(1, 0)], 1);
        assert_eq!(end(&[first, second, third, back]), [10]);
    }

    #[test]
    fn a_late_sync_of_what_was_cut_is_no_promise() {
        let vote = Deed::Voted { term: Term::new(3), candidate: ReplicaId::new(2), elected: true };
        let truncated = Deed::Truncated { from: LogIndex::new(6) };
        let story = |end| {
            let deeds = [vote.clone(), truncated.clone(), acknowledged(9, 2), acknowledged(7, 3)];
            let opened = opened(end, &[(1, 0), (3, 6)], 3);
            deeds.into_iter().chain([opened]).map(|deed| (1, deed))
        };
        assert!(hear(story(8)).is_ok());
        assert!(hear(story(7)).is_err());
    }

    #[test]
    fn votes_do_not_go_back_and_terms_have_one_leader() {
        let vote = |term, candidate, elected| Deed::Voted {
            term: Term::new(term),
            candidate: ReplicaId::new(candidate),
            elected,
        };
        let voted = |term, candidate| vote(term, candidate, false);
        assert!(hear([(1, voted(3, 1)), (1, vote(3, 2, true))]).is_ok());
        assert!(hear([(1, vote(3, 1, true)), (1, vote(3, 2, true))]).is_err());
        assert!(hear([(1, voted(3, 1)), (1, voted(3, 1)), (1, voted(4, 2))]).is_ok());
        assert!(hear([(1, voted(3, 1)), (1, voted(3, 2))]).is_err());
        assert!(hear([(1, voted(3, 1)), (1, voted(2, 1))]).is_err());
        assert!(hear([(1, voted(3, 1)), (1, opened(0, &[], 2))]).is_err());
        let led = |term| Deed::Led { term: Term::new(term) };
        assert!(hear([(1, led(1)), (2, led(2))]).is_ok());
        assert!(hear([(1, led(1)), (2, led(1))]).is_err());
    }
}
