//! The sender of one partition: a window of requests under way, answered in order.
//!
//! Steady state: batches that are ripe are sealed, sent and acknowledged from the front; those that
//! waited for the same turn go in one request. The exception: the front fails. Then nothing new is
//! sent, the rest of the window is answered, the failed batches are settled (see [`settle`]) and, after a wait or a redirect, sent again before
//! anything else. So the order of a partition's batches never changes.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use duramen_proto::v1::{self, ErrorCode, produce_request};
use duramen_record::ProducerStamp;
use duramen_types::{PartitionId, ProducerEpoch, ProducerId, Sequence};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::accumulator::Ripe;
use super::pace::Pace;
use super::sealed::Sealed;
use super::settle::{Failed, Settled, Terms, settle};
use super::{Cell, Shared, end_of};
use crate::cluster::{Answer, ProduceStream};
use crate::failure::Failure;
use crate::retry::Backoff;
use crate::{ClientError, limits};

/// The sender of one partition.
#[derive(Debug)]
pub(super) struct Worker {
    shared: Arc<Shared>,
    partition: PartitionId,
    identity: Option<(ProducerId, ProducerEpoch)>,
    /// Whether the identity must be replaced before the next batch.
    renew: bool,
    next_sequence: Sequence,
    /// Requests under way, in order of their sequences.
    window: VecDeque<InFlight>,
    /// How many requests may be under way: fewer after a node had no room for them.
    pace: Pace,
    /// Sealed batches to send, or to send again, before any other.
    retry: VecDeque<Sealed>,
    /// Requests made so far.
    requests: u64,
    stream: Option<Arc<ProduceStream>>,
    /// When an answer came last, or the first request under way was sent.
    heard: Instant,
    /// Failures in a row, which decide on the node to try.
    failures: u32,
    /// Redirects in a row that were followed at once.
    redirects: u32,
    unknown_topic: u32,
    backoff: Backoff,
    last: Option<Arc<ClientError>>,
}

#[derive(Debug)]
struct InFlight {
    batches: Vec<Sealed>,
    answer: oneshot::Receiver<Answer>,
    /// When the answer is given up.
    until: Instant,
}

impl Worker {
    pub(super) fn new(shared: Arc<Shared>, partition: PartitionId) -> Self {
        let window_max = shared.options.window();
        Self {
            identity: shared.identity,
            shared,
            partition,
            renew: false,
            next_sequence: Sequence::ZERO,
            window: VecDeque::new(),
            pace: Pace::new(window_max),
            retry: VecDeque::new(),
            requests: 0,
            stream: None,
            heard: Instant::now(),
            failures: 0,
            redirects: 0,
            unknown_topic: 0,
            backoff: Backoff::default(),
            last: None,
        }
    }

    /// Runs until it is aborted with its producer.
    pub(super) async fn run(mut self) {
        let shared = Arc::clone(&self.shared);
        let Some(cell) =
            usize::try_from(self.partition.get()).ok().and_then(|place| shared.cells.get(place))
        else {
            return;
        };
        loop {
            if let Some(error) = shared.dead.get() {
                self.fail_all(cell, error);
            }
            let ripe_at = self.fill(cell).await;
            let linger = async {
                match ripe_at {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            let silent_at = self.heard + limits::SILENCE;
            let waits = !self.window.is_empty();
            tokio::select! {
                biased;
                answer = front_answer(&mut self.window) => self.on_front(answer).await,
                () = tokio::time::sleep_until(silent_at), if waits => self.on_silence().await,
                () = cell.wake.notified() => {}
                () = linger => {}
            }
        }
    }

    /// Sends what there is room for; tells when the next batch is ripe.
    async fn fill(&mut self, cell: &Cell) -> Option<Instant> {
        let has_work = !self.retry.is_empty() || !cell.lock().is_empty();
        if self.renew && self.window.is_empty() && has_work && !self.renew_identity(cell).await {
            return Some(Instant::now());
        }
        while self.window.len() < self.pace.window() {
            let (batches, ripe_at) = self.next_request(cell);
            if batches.is_empty() {
                return ripe_at;
            }
            self.submit(batches).await;
        }
        None
    }

    /// The batches of the next request, and when there is one if there is none yet.
    fn next_request(&mut self, cell: &Cell) -> (Vec<Sealed>, Option<Instant>) {
        let now = Instant::now();
        let mut batches: Vec<Sealed> = Vec::new();
        let mut bytes = 0;
        while bytes < limits::REQUEST_BYTES && batches.len() < limits::REQUEST_BATCHES {
            let next = match self.retry.pop_front() {
                Some(batch) => batch,
                None => match self.take_ripe(cell) {
                    Ripe::Batch(open) => match self.seal(*open) {
                        Some(batch) => batch,
                        None => continue,
                    },
                    Ripe::At(at) => return (batches, Some(at)),
                    Ripe::Nothing => break,
                },
            };
            if let Some(first) = batches.first() {
                let is_too_much = bytes + next.bytes.len() > limits::REQUEST_BYTES;
                // One whose time is over fails alone.
                if is_too_much || first.expires <= now || !next.may_follow(first) {
                    self.retry.push_front(next);
                    break;
                }
            }
            bytes += next.bytes.len();
            batches.push(next);
        }
        (batches, None)
    }

    fn take_ripe(&self, cell: &Cell) -> Ripe {
        let is_flushing = self.shared.is_flushing();
        let linger = if is_flushing { Duration::ZERO } else { self.shared.options.linger };
        cell.lock().take_ripe(Instant::now(), linger)
    }

    fn seal(&mut self, open: super::accumulator::Open) -> Option<Sealed> {
        let base_sequence = self.next_sequence;
        let stamp = self.identity.map(|(id, epoch)| ProducerStamp { id, epoch, base_sequence });
        let expires = end_of(open.since, self.shared.options.delivery_timeout);
        let batch = Sealed::seal(open, stamp, expires)?;
        self.next_sequence = self.next_sequence.advance(batch.records);
        Some(batch)
    }

    /// Puts a request into the window and on its way.
    async fn submit(&mut self, mut batches: Vec<Sealed>) {
        let Some(first) = batches.first() else { return };
        let expires = first.expires;
        let now = Instant::now();
        if now >= expires {
            self.window.push_back(InFlight::failed(batches, Failure::Expired));
            return;
        }
        self.requests += 1;
        let is_alone = batches.len() == 1;
        for batch in &mut batches {
            batch.request = Some(self.requests);
            batch.alone |= is_alone;
        }
        let cluster = &self.shared.cluster;
        let topic = &self.shared.topic;
        let allowed = cluster.options.request_timeout.min(expires - now);
        let request = v1::ProduceRequest {
            topic: topic.name.to_string(),
            topic_id: topic.id_bytes(),
            partition: self.partition.get(),
            timeout_ms: u32::try_from(allowed.as_millis()).unwrap_or(u32::MAX).max(1),
            metadata_index: cluster.metadata_index(),
            payload: Some(produce_request::Payload::Batches(payload(&batches))),
            ..v1::ProduceRequest::default()
        };
        if self.window.is_empty() {
            self.heard = now;
        }
        let stream = self.stream.get_or_insert_with(|| {
            let address = cluster.route(topic, self.partition, self.failures);
            cluster.produce_stream(&address)
        });
        let submitted = tokio::time::timeout_at(expires, stream.submit(request)).await;
        let entry = match submitted {
            Ok(answer) => {
                let until = expires.min(now + allowed + limits::ANSWER_GRACE);
                InFlight { batches, answer, until }
            }
            Err(_elapsed) => InFlight::failed(batches, Failure::Expired),
        };
        self.window.push_back(entry);
    }

    /// The front of the window has its answer.
    async fn on_front(&mut self, answer: Answer) {
        let Some(front) = self.window.pop_front() else { return };
        self.heard = Instant::now();
        match answer {
            Ok(ack) => {
                self.failures = 0;
                self.redirects = 0;
                self.unknown_topic = 0;
                self.backoff.reset();
                self.pace.accepted();
                front.succeed(&ack);
            }
            Err(failure) => {
                let mut failed = Vec::new();
                front.fail(&failure, &mut failed);
                while !self.window.is_empty() {
                    let answer = front_answer(&mut self.window).await;
                    let Some(next) = self.window.pop_front() else { break };
                    match answer {
                        Ok(ack) => next.succeed(&ack),
                        Err(failure) => next.fail(&failure, &mut failed),
                    }
                }
                self.recover(failed).await;
            }
        }
    }

    /// Nothing was answered for a while. A leader that only is slow is waited for; one that
    /// another node took over from is left, for it may be frozen and will not say so.
    async fn on_silence(&mut self) {
        let Some(stream) = self.stream.clone() else { return };
        let cluster = Arc::clone(&self.shared.cluster);
        let asking = cluster.is_led_elsewhere(&self.shared.topic, self.partition, stream.address());
        let asked = tokio::time::timeout(limits::SILENCE, asking).await;
        self.heard = Instant::now();
        if !matches!(asked, Ok(Ok(true))) {
            tracing::debug!(partition = %self.partition, ?asked, "no answer; waiting on");
            return;
        }
        let address = Arc::clone(stream.address());
        let reason: Arc<str> = "no answer, and another node leads now".into();
        let failure = Failure::Lost(ClientError::Connection { address, reason });
        let mut failed = Vec::with_capacity(self.window.len());
        while let Some(mut next) = self.window.pop_front() {
            match next.answer.try_recv() {
                Ok(Ok(ack)) => next.succeed(&ack),
                Ok(Err(failure)) => next.fail(&failure, &mut failed),
                Err(_) => next.fail(&failure, &mut failed),
            }
        }
        self.recover(failed).await;
    }

    /// Settles failed batches and gets ready to send again.
    async fn recover(&mut self, mut failed: Vec<Failed>) {
        let Some(first) = failed.first_mut() else { return };
        if first.failure.code() == Some(ErrorCode::UnknownTopic) {
            self.unknown_topic += 1;
            if self.unknown_topic > limits::UNKNOWN_TOPIC_RETRIES {
                let topic = Arc::clone(&self.shared.topic.name);
                first.failure = Failure::Final(ClientError::UnknownTopic { topic });
                self.unknown_topic = 0;
            }
        }
        let first = first.failure.clone();
        // What waits still, for a window that was smaller than it is long, comes behind.
        let unsent = std::mem::take(&mut self.retry)
            .into_iter()
            .map(|batch| Failed { batch, failure: Failure::NotSent(first.clone().into_error()) });
        failed.extend(unsent);
        let topic = &self.shared.topic;
        tracing::debug!(
            topic = %topic.name, partition = %self.partition, failure = ?first,
            batches = failed.len(), "batches failed"
        );
        let redirected = self.shared.cluster.follow_redirect(topic, self.partition, &first);
        let terms = Terms {
            topic,
            partition: self.partition,
            delivery_timeout: self.shared.options.delivery_timeout,
            last: self.last.clone(),
        };
        let Settled { retry, renew, next_sequence, dead } = settle(failed, &terms);
        self.retry = retry;
        self.renew |= renew;
        self.next_sequence = next_sequence.unwrap_or(self.next_sequence);
        if let Some(error) = dead {
            self.shared.die(error);
        }
        if !first.is_transient() {
            return;
        }
        self.last = Some(Arc::new(first.clone().into_error()));
        if first.is_about_load() {
            self.pace.refused();
            return self.pause(&first).await;
        }
        self.stream = None;
        if redirected && self.redirects < limits::REDIRECTS_AT_ONCE {
            self.redirects += 1;
            self.failures = 0;
            return;
        }
        self.failures += 1;
        self.pause(&first).await;
        self.refresh().await;
    }

    /// Waits before the next attempt, but not beyond the end of the oldest batch.
    async fn pause(&mut self, failure: &Failure) {
        let is_full = failure.code() == Some(ErrorCode::Overloaded);
        let longest = if is_full { limits::OVERLOADED_WAIT_MAX } else { limits::BACKOFF_MAX };
        let random = self.shared.cluster.random();
        let wait = self.backoff.next_below(longest, random).max(failure.wait());
        let until = Instant::now() + wait;
        let end = self.retry.front().map_or(until, |batch| batch.expires);
        tokio::time::sleep_until(until.min(end)).await;
    }

    /// Learns who leads now. What cannot be learned is tried again with the next failure.
    async fn refresh(&self) {
        let cluster = &self.shared.cluster;
        let end = self.retry.front().map_or_else(
            || Instant::now() + cluster.options.request_timeout,
            |batch| batch.expires,
        );
        match tokio::time::timeout_at(end, cluster.refresh(&self.shared.topic)).await {
            Ok(Err(
                error @ (ClientError::TopicRecreated { .. } | ClientError::UnknownTopic { .. }),
            )) => self.shared.die(error),
            Ok(Err(error)) => tracing::debug!(%error, "could not refresh the metadata"),
            Ok(Ok(())) | Err(_) => {}
        }
    }

    /// Gets a new producer id and numbers the waiting batches from 0; whether that worked.
    async fn renew_identity(&mut self, cell: &Cell) -> bool {
        match self.shared.cluster.init_producer().await {
            Ok(identity) => {
                tracing::debug!(partition = %self.partition, id = %identity.0, "new producer id");
                self.identity = Some(identity);
                self.renew = false;
                self.next_sequence = Sequence::ZERO;
                for mut batch in std::mem::take(&mut self.retry) {
                    match batch.restamp(identity, self.next_sequence) {
                        Ok(()) => {
                            self.next_sequence = self.next_sequence.advance(batch.records);
                            self.retry.push_back(batch);
                        }
                        Err(error) => batch.fail(error),
                    }
                }
                true
            }
            Err(error) => {
                self.last = Some(Arc::new(error.clone()));
                self.fail_expired(cell, &error);
                self.pause(&Failure::NotSent(error)).await;
                false
            }
        }
    }

    /// Fails what has waited too long while no producer id could be had. None of it is stored:
    /// what may be was failed when the id was given up.
    fn fail_expired(&mut self, cell: &Cell, cause: &ClientError) {
        let after = self.shared.options.delivery_timeout;
        let now = Instant::now();
        let error = ClientError::Timeout {
            what: "deliver",
            after,
            maybe_done: false,
            last: Some(Arc::new(cause.clone())),
        };
        while let Some(batch) = self.retry.pop_front_if(|batch| batch.expires <= now) {
            batch.fail(error.clone());
        }
        let Some(then) = now.checked_sub(after) else { return };
        loop {
            let older = cell.lock().take_older(then);
            let Some(open) = older else { return };
            open.completer.complete(Err(error.clone()));
        }
    }

    fn fail_all(&mut self, cell: &Cell, error: &ClientError) {
        let under_way = std::mem::take(&mut self.window).into_iter().flat_map(|one| one.batches);
        for mut batch in under_way {
            batch.maybe_stored = true;
            batch.fail_with(error);
        }
        for batch in std::mem::take(&mut self.retry) {
            batch.fail_with(error);
        }
        let waiting: Vec<_> = cell.lock().take_all().collect();
        for open in waiting {
            open.completer.complete(Err(error.clone()));
        }
    }
}

impl Shared {
    /// Puts an end to the producer: everything under way and everything later fails.
    fn die(&self, error: ClientError) {
        tracing::debug!(topic = %self.topic.name, %error, "producer cannot go on");
        if self.dead.set(error).is_ok() {
            for cell in &self.cells {
                cell.wake.notify_one();
            }
        }
    }
}

impl InFlight {
    /// A request whose answer is known already.
    fn failed(batches: Vec<Sealed>, failure: Failure) -> Self {
        let (sender, answer) = oneshot::channel();
        drop(sender.send(Err(failure)));
        Self { until: Instant::now() + limits::ANSWER_GRACE, batches, answer }
    }

    /// All of it is stored, in one piece.
    fn succeed(self, ack: &v1::ProduceAck) {
        let mut records_before = 0;
        for batch in self.batches {
            let records = u64::from(batch.records);
            batch.succeed(ack, records_before);
            records_before += records;
        }
    }

    fn fail(self, failure: &Failure, failed: &mut Vec<Failed>) {
        let each = self.batches.into_iter();
        failed.extend(each.map(|batch| Failed { batch, failure: failure.clone() }));
    }
}

/// What a request carries.
fn payload(batches: &[Sealed]) -> Bytes {
    match batches {
        [one] => one.bytes.clone(),
        several => {
            let bytes = several.iter().map(|batch| batch.bytes.len()).sum();
            let mut payload = BytesMut::with_capacity(bytes);
            several.iter().for_each(|batch| payload.extend_from_slice(&batch.bytes));
            payload.freeze()
        }
    }
}

/// The answer to the front of the window; none while it is empty. Cancel safe.
async fn front_answer(window: &mut VecDeque<InFlight>) -> Answer {
    let Some(front) = window.front_mut() else { return std::future::pending().await };
    let lost = |reason: &str| {
        Err(Failure::Lost(ClientError::Connection { address: "".into(), reason: reason.into() }))
    };
    match tokio::time::timeout_at(front.until, &mut front.answer).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(_dropped)) => lost("the stream was dropped"),
        Err(_elapsed) => lost("no answer in time"),
    }
}
