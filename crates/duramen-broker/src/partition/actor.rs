//! The owner of a partition's order: it checks sequences, gathers batches into entries, and
//! proposes.
//!
//! While entries are in flight, arriving batches gather into the next one, so that many small
//! producers share one Raft entry, one append and one sync; an idle partition proposes at once.
//! Everything is proposed in the term under which it was checked: after a change of leader the
//! requests in flight fail together and what was known of them is forgotten.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use duramen_raft::{
    Applied, Check, Group, Progress, Proposal, ProposalKind, ProposeError, Proposed,
};
use duramen_types::{Offset, Term, Timestamp};
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use tokio::sync::{mpsc, watch};

use super::gathering::{self, Gathering};
use super::overlay::{Overlay, Verdict};
use super::{ProduceItem, Produced};
use crate::error::BrokerError;
use crate::limits;

/// An entry in flight: its outcome, and who waits for it.
struct Flight {
    number: u64,
    term: Term,
    items: Vec<ProduceItem>,
    outcome: Result<Applied, ProposeError>,
}

type Flying = Pin<Box<dyn Future<Output = Flight> + Send>>;
type Waiting = Pin<Box<dyn Future<Output = ()> + Send>>;

pub(super) struct Actor {
    group: Arc<Group>,
    items: mpsc::Receiver<ProduceItem>,
    bytes: Arc<AtomicUsize>,
    overlay: Overlay,
    term: Term,
    next_number: u64,
    flights: FuturesUnordered<Flying>,
    /// Retries of what is appended and not committed yet.
    duplicates: FuturesUnordered<Waiting>,
    /// Taken from the queue, for the next entry.
    gathered: Gathering,
}

impl Actor {
    pub(super) fn new(
        group: Arc<Group>,
        items: mpsc::Receiver<ProduceItem>,
        bytes: Arc<AtomicUsize>,
    ) -> Self {
        Self {
            group,
            items,
            bytes,
            overlay: Overlay::default(),
            term: Term::ZERO,
            next_number: 0,
            flights: FuturesUnordered::new(),
            duplicates: FuturesUnordered::new(),
            gathered: Gathering::default(),
        }
    }

    pub(super) async fn run(mut self) {
        loop {
            let may_fly = self.flights.len() < limits::ENTRIES_IN_FLIGHT;
            if may_fly && !self.gathered.is_empty() {
                self.take_off().await;
                continue;
            }
            let room = self.gathered.has_room();
            tokio::select! {
                biased;
                Some(flight) = self.flights.next(), if !self.flights.is_empty() => {
                    self.land(flight);
                }
                Some(()) = self.duplicates.next(), if !self.duplicates.is_empty() => {}
                item = self.items.recv(), if room => match item {
                    Some(item) => self.gather(item),
                    None => return,
                },
            }
        }
    }

    /// Takes an item and whatever else waits, up to the size of an entry.
    fn gather(&mut self, item: ProduceItem) {
        let Some(term) = self.check_term() else {
            self.answer(item, Err(BrokerError::NoLeader));
            return;
        };
        self.accept(item, term);
        while self.gathered.has_room() {
            let Ok(item) = self.items.try_recv() else { return };
            self.accept(item, term);
        }
    }

    /// The term in which this replica may take batches; what was in flight in an earlier one is
    /// forgotten.
    fn check_term(&mut self) -> Option<Term> {
        let term = self.group.serving_term()?;
        if term != self.term {
            self.term = term;
            self.overlay.clear();
            for item in self.gathered.clear() {
                self.answer(item, Err(BrokerError::NoLeader));
            }
        }
        Some(term)
    }

    fn accept(&mut self, item: ProduceItem, term: Term) {
        if let Some(batch) = item.producer {
            let check = self.group.check_producer(&batch);
            match self.overlay.judge(&batch, check) {
                Verdict::Propose => self.overlay.proposed(&batch),
                // The other try may yet be committed.
                Verdict::InFlight => {
                    return self.answer(item, Err(BrokerError::UnknownOutcome));
                }
                Verdict::Gap(expected) => {
                    let found = batch.base_sequence;
                    let error = BrokerError::OutOfOrderSequence { found, expected };
                    return self.answer(item, Err(error));
                }
                Verdict::Appended(check) => return self.answer_appended(item, check, term),
            }
        }
        self.gathered.add(item);
    }

    fn answer_appended(&mut self, item: ProduceItem, check: Check, term: Term) {
        let error = match (check, item.producer) {
            (Check::Duplicate(base_offset), _) => {
                return self.answer_duplicate(item, base_offset, term);
            }
            (Check::OutOfOrder { expected }, Some(batch)) => {
                BrokerError::OutOfOrderSequence { found: batch.base_sequence, expected }
            }
            (Check::Fenced { current }, _) => BrokerError::ProducerFenced { current },
            (Check::UnknownProducer, _) => BrokerError::UnknownProducer,
            (Check::Next | Check::OutOfOrder { .. }, _) => BrokerError::NoLeader,
        };
        self.answer(item, Err(error));
    }

    /// A retry is answered when the first try is committed under this leader.
    fn answer_duplicate(&mut self, item: ProduceItem, base_offset: Offset, term: Term) {
        let end = base_offset.saturating_add(u64::from(item.records));
        self.bytes.fetch_sub(item.bytes, Ordering::Relaxed);
        let group = Arc::clone(&self.group);
        self.duplicates.push(Box::pin(async move {
            let is_there = || {
                item.producer.is_some_and(|batch| {
                    group.check_producer(&batch) == Check::Duplicate(base_offset)
                })
            };
            let answer = if is_committed(group.progress(), end, term, is_there).await {
                // Perhaps an earlier leader's. What was trimmed nobody knows any more.
                let appended = group.appended_at(base_offset).await;
                let (term, append_time) = appended.unwrap_or((term, Timestamp::MIN));
                let place = Place { base_offset, records: item.records, duplicate: true };
                Ok(produced(&group, term, place, append_time))
            } else {
                Err(BrokerError::UnknownOutcome)
            };
            // The client may have gone.
            drop(item.reply.send(answer));
        }));
    }

    /// Proposes what is gathered as one entry.
    async fn take_off(&mut self) {
        let mut items = self.gathered.take();
        let records = items.iter().map(|item| item.records).sum();
        let max_timestamp =
            items.iter().map(|item| item.max_timestamp).max().unwrap_or(Timestamp::MIN);
        let payload = gathering::payload(&mut items);
        let kind = ProposalKind::Batches;
        let proposal = Proposal { kind, payload, records, max_timestamp };
        let (term, number) = (self.term, self.next_number);
        self.next_number += 1;
        match self.group.propose(proposal, term).await {
            Ok(proposed) => self.flights.push(Box::pin(fly(number, term, items, proposed))),
            Err(error) => self.land(Flight { number, term, items, outcome: Err(error) }),
        }
    }

    /// Answers everybody who waited for an entry.
    fn land(&mut self, flight: Flight) {
        let current = flight.term == self.term;
        if current {
            for batch in flight.items.iter().filter_map(|item| item.producer) {
                self.overlay.settled(&batch);
            }
        }
        match flight.outcome {
            Ok(applied) if !applied.rejected => {
                let mut base_offset = applied.base_offset;
                for item in flight.items {
                    let records = item.records;
                    let place = Place { base_offset, records, duplicate: false };
                    let answer = produced(&self.group, flight.term, place, applied.append_time);
                    base_offset = base_offset.saturating_add(u64::from(records));
                    self.answer(item, Ok(answer));
                }
            }
            outcome => {
                let error = outcome.err().unwrap_or(ProposeError::Stopped);
                tracing::debug!(
                    group = %self.group.id(),
                    entry = flight.number,
                    %error,
                    "an entry of batches was not committed"
                );
                for item in flight.items {
                    self.answer(item, Err(error.into()));
                }
            }
        }
    }

    fn answer(&self, item: ProduceItem, answer: Result<Produced, BrokerError>) {
        self.bytes.fetch_sub(item.bytes, Ordering::Relaxed);
        // The client may have gone.
        drop(item.reply.send(answer));
    }
}

/// Waits until it is decided what became of a try that ends at `end` in the log of the leader of
/// `term`: committed, or perhaps cut because a later leader has none of it. Other records may be
/// committed at its offsets by then, so `is_there` says whether the log still has this one.
async fn is_committed(
    mut progress: watch::Receiver<Progress>,
    end: Offset,
    term: Term,
    is_there: impl FnOnce() -> bool,
) -> bool {
    let decided = progress
        .wait_for(|progress| progress.high_watermark >= end || progress.leader_term > term)
        .await
        .is_ok_and(|progress| progress.high_watermark >= end);
    decided && is_there()
}

async fn fly(number: u64, term: Term, items: Vec<ProduceItem>, proposed: Proposed) -> Flight {
    Flight { number, term, items, outcome: proposed.outcome().await }
}

struct Place {
    base_offset: Offset,
    records: u32,
    duplicate: bool,
}

fn produced(group: &Group, term: Term, place: Place, append_time: Timestamp) -> Produced {
    let (synced_replicas, replicas) = group.quorum();
    Produced {
        base_offset: place.base_offset,
        last_offset: place.base_offset.saturating_add(u64::from(place.records.saturating_sub(1))),
        append_time,
        leader_epoch: term,
        log_start_offset: group.progress().borrow().log_start_offset,
        duplicate: place.duplicate,
        synced_replicas,
        replicas,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const END: Offset = Offset::new(8);
    const TERM: Term = Term::new(3);

    async fn after(high_watermark: u64, leader_term: u64, is_there: bool) -> bool {
        let (sender, receiver) = watch::channel(Progress::default());
        let decided = is_committed(receiver, END, TERM, move || is_there);
        sender.send_modify(|progress| {
            progress.high_watermark = Offset::new(high_watermark);
            progress.leader_term = Term::new(leader_term);
        });
        decided.await
    }

    #[tokio::test]
    async fn a_first_try_counts_when_it_is_committed() {
        assert!(after(8, 3, true).await);
        // Committed by the next leader.
        assert!(after(9, 4, true).await);
    }

    #[tokio::test]
    async fn a_first_try_that_was_cut_does_not_count() {
        assert!(!after(7, 4, true).await);
        // Others were committed at its offsets.
        assert!(!after(8, 4, false).await);
    }
}
