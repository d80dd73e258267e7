//! The sender of one partition: a window of batches under way, answered in order.
//!
//! Steady state: batches that are ripe are sealed, sent and acknowledged from the front. The
//! exception: the front fails. Then nothing new is sent, the rest of the window is answered, the
//! failed batches are settled (see [`settle`]) and, after a wait or a redirect, sent again before
//! anything else. So the order of a partition's batches never changes.

use std::collections::VecDeque;
use std::sync::Arc;

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
    /// Batches under way, in order of their sequences.
    window: VecDeque<InFlight>,
    /// How many batches may be under way: fewer after a node had no room for them.
    pace: Pace,
    /// Batches to send again before any other.
    retry: VecDeque<Sealed>,
    stream: Option<Arc<ProduceStream>>,
    /// When an answer came last, or the first batch under way was sent.
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
    batch: Sealed,
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
            let batch = match self.retry.pop_front() {
                Some(batch) => batch,
                None => {
                    let linger = if self.shared.is_flushing() {
                        std::time::Duration::ZERO
                    } else {
                        self.shared.options.linger
                    };
                    let ripe = cell.lock().take_ripe(Instant::now(), linger);
                    match ripe {
                        Ripe::Batch(open) => match self.seal(*open) {
                            Some(batch) => batch,
                            None => continue,
                        },
                        Ripe::At(at) => return Some(at),
                        Ripe::Nothing => return None,
                    }
                }
            };
            self.submit(batch).await;
        }
        None
    }

    fn seal(&mut self, open: super::accumulator::Open) -> Option<Sealed> {
        let base_sequence = self.next_sequence;
        let stamp = self.identity.map(|(id, epoch)| ProducerStamp { id, epoch, base_sequence });
        let expires = end_of(open.since, self.shared.options.delivery_timeout);
        let batch = Sealed::seal(open, stamp, expires)?;
        self.next_sequence = self.next_sequence.advance(batch.records);
        Some(batch)
    }

    /// Puts a batch into the window and on its way.
    async fn submit(&mut self, batch: Sealed) {
        let now = Instant::now();
        if now >= batch.expires {
            self.window.push_back(InFlight::failed(batch, Failure::Expired));
            return;
        }
        let cluster = &self.shared.cluster;
        let topic = &self.shared.topic;
        let allowed = cluster.options.request_timeout.min(batch.expires - now);
        let request = v1::ProduceRequest {
            topic: topic.name.to_string(),
            topic_id: topic.id_bytes(),
            partition: self.partition.get(),
            timeout_ms: u32::try_from(allowed.as_millis()).unwrap_or(u32::MAX).max(1),
            metadata_index: cluster.metadata_index(),
            payload: Some(produce_request::Payload::Batches(batch.bytes.clone())),
            ..v1::ProduceRequest::default()
        };
        if self.window.is_empty() {
            self.heard = now;
        }
        let stream = self.stream.get_or_insert_with(|| {
            let address = cluster.route(topic, self.partition, self.failures);
            cluster.produce_stream(&address)
        });
        let submitted = tokio::time::timeout_at(batch.expires, stream.submit(request)).await;
        let entry = match submitted {
            Ok(answer) => {
                let until = batch.expires.min(now + allowed + limits::ANSWER_GRACE);
                InFlight { batch, answer, until }
            }
            Err(_elapsed) => InFlight::failed(batch, Failure::Expired),
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
                front.batch.succeed(&ack);
            }
            Err(failure) => {
                let mut failed = vec![Failed { batch: front.batch, failure }];
                while !self.window.is_empty() {
                    let answer = front_answer(&mut self.window).await;
                    let Some(next) = self.window.pop_front() else { break };
                    match answer {
                        Ok(ack) => next.batch.succeed(&ack),
                        Err(failure) => failed.push(Failed { batch: next.batch, failure }),
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
        while let Some(InFlight { batch, mut answer, .. }) = self.window.pop_front() {
            match answer.try_recv() {
                Ok(Ok(ack)) => batch.succeed(&ack),
                Ok(Err(failure)) => failed.push(Failed { batch, failure }),
                Err(_) => failed.push(Failed { batch, failure: failure.clone() }),
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
        for mut entry in std::mem::take(&mut self.window) {
            entry.batch.maybe_stored = true;
            entry.batch.fail_with(error);
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
    /// A batch whose answer is known already.
    fn failed(batch: Sealed, failure: Failure) -> Self {
        let (sender, answer) = oneshot::channel();
        drop(sender.send(Err(failure)));
        Self { until: Instant::now() + limits::ANSWER_GRACE, batch, answer }
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
