//! The fetcher of one partition: a stream from its leader, and another when that ends.
//!
//! `next` is one past the last record queued: every stream begins there, so that nothing is skipped
//! or repeated. Credit is granted as the consumer takes bytes; a new stream gets what the buffer
//! has room for.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use duramen_net::grpc::Messages;
use duramen_proto::v1::{self, ErrorCode, fetch_response};
use duramen_record::{BatchError, split_batches};
use duramen_types::Offset;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::options::OutOfRange;
use super::slot::{Session, Slot, Wanted};
use crate::cluster::{Cluster, Node, PinnedTopic};
use crate::failure::Failure;
use crate::retry::Backoff;
use crate::{ClientError, Start, limits};

/// The fetcher of one partition.
pub(crate) struct Fetcher {
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) topic: PinnedTopic,
    pub(crate) slot: Arc<Slot>,
    pub(crate) credit: Credit,
    pub(crate) out_of_range: OutOfRange,
}

/// Bytes that each of several partitions may have queued and on their way. It may change while
/// streams are open: they grant more at once, and take back what they have not granted yet.
#[derive(Clone, Debug, Default)]
pub(crate) struct Credit(Arc<AtomicU64>);

impl Credit {
    /// Shares a buffer between so many partitions; whether each has more than before.
    pub(crate) fn share(&self, buffer_bytes: usize, partitions: usize) -> bool {
        let share = u64::try_from(buffer_bytes / partitions.max(1)).unwrap_or(u64::MAX);
        let share = share.clamp(limits::CREDIT_BYTES_MIN, limits::CREDIT_BYTES_MAX);
        self.0.swap(share, Ordering::Relaxed) < share
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Why a stream is over.
enum Stop {
    /// The consumer wants something else.
    Other,
    /// The end position is reached.
    End,
    /// It ended or was refused.
    Failed(Failure),
}

/// Credit of one stream.
struct Grants {
    sender: mpsc::Sender<v1::FetchStreamRequest>,
    /// What the partition may have in all, as far as this stream knows.
    whole: u64,
    /// Bytes taken by the consumer, or fetched in vain, and not yet granted again.
    due: u64,
}

impl Grants {
    fn send(&mut self, whole: u64) {
        if whole >= self.whole {
            self.due += whole - self.whole;
            self.whole = whole;
        } else {
            let less = self.due.min(self.whole - whole);
            self.due -= less;
            self.whole -= less;
        }
        // Not every batch is worth a message.
        if self.due > 0 && self.due >= self.whole / 4 {
            let grant = v1::FetchStreamRequest { start: None, credit_bytes: self.due };
            // With a full queue there are grants on their way: this one goes with the next.
            if self.sender.try_send(grant).is_ok() {
                self.due = 0;
            }
        }
    }
}

/// Where a session has come to.
struct Progress {
    session: Session,
    next: Offset,
    /// Whether anything has been queued in this session.
    begun: bool,
    failures: u32,
    redirects: u32,
    unknown_topic: u32,
    damaged: u32,
    backoff: Backoff,
}

impl Fetcher {
    /// Runs until it is aborted with its consumer.
    pub(crate) async fn run(self) {
        loop {
            let session = self.slot.wanted_session().await;
            self.run_session(session).await;
        }
    }

    async fn run_session(&self, session: Session) {
        let mut progress = Progress {
            session,
            next: session.begin,
            begun: false,
            failures: 0,
            redirects: 0,
            unknown_topic: 0,
            damaged: 0,
            backoff: Backoff::default(),
        };
        loop {
            match self.run_stream(&mut progress).await {
                Stop::Other => return,
                Stop::End => return self.slot.finish(session, None),
                Stop::Failed(failure) => {
                    let recovered = tokio::select! {
                        recovered = self.recover(&mut progress, failure) => recovered,
                        () = self.replaced(session) => return,
                    };
                    if let Err(error) = recovered {
                        return self.slot.finish(session, Some(error));
                    }
                }
            }
        }
    }

    /// Waits until the consumer wants another session.
    async fn replaced(&self, session: Session) {
        while self.slot.is_current(session) {
            self.slot.changed().await;
        }
    }

    /// One stream, from its opening to its end.
    async fn run_stream(&self, progress: &mut Progress) -> Stop {
        let (whole, credit) = loop {
            let whole = self.credit.get();
            let free = whole.saturating_sub(self.slot.recount());
            if free > 0 {
                break (whole, free);
            }
            self.slot.changed().await;
            if !self.slot.is_current(progress.session) {
                return Stop::Other;
            }
        };
        let partition = self.slot.partition();
        let address = self.cluster.route(&self.topic, partition, progress.failures);
        let node = self.cluster.node(&address);
        tracing::debug!(
            topic = %self.topic.name, %partition, %address, next = %progress.next, "fetching"
        );
        let (sender, receiver) = mpsc::channel(limits::CREDIT_QUEUE);
        let start = v1::FetchStreamRequest {
            start: Some(self.request(progress.next)),
            credit_bytes: credit,
        };
        if sender.try_send(start).is_err() {
            return Stop::Other;
        }
        let opening = node.fetch_stream(ReceiverStream::new(receiver));
        let timeout = self.cluster.options.request_timeout / limits::ATTEMPTS_PER_CALL;
        let opened = tokio::select! {
            opened = tokio::time::timeout(timeout, opening) => opened,
            () = self.replaced(progress.session) => return Stop::Other,
        };
        match opened {
            Ok(Ok(answers)) => {
                let grants = Grants { sender, whole, due: 0 };
                self.read(progress, &node, answers, grants).await
            }
            Ok(Err(status)) => Stop::Failed(Failure::from_status(&status, node.address())),
            Err(_elapsed) => Stop::Failed(Failure::Lost(node.no_answer())),
        }
    }

    fn request(&self, next: Offset) -> v1::FetchRequest {
        let max_bytes = limits::FETCH_BYTES.min(self.credit.get());
        v1::FetchRequest {
            topic: self.topic.name.to_string(),
            topic_id: self.topic.id_bytes(),
            partition: self.slot.partition().get(),
            position: Some(Start::Offset(next).into()),
            max_bytes: u32::try_from(max_bytes).unwrap_or(u32::MAX),
            format: v1::FetchFormat::Batches.into(),
            metadata_index: self.cluster.metadata_index(),
            ..v1::FetchRequest::default()
        }
    }

    async fn read(
        &self,
        progress: &mut Progress,
        node: &Node,
        mut answers: Messages<v1::FetchResponse>,
        mut grants: Grants,
    ) -> Stop {
        loop {
            match self.slot.wanted(progress.session) {
                Wanted::Other => return Stop::Other,
                Wanted::More(bytes) => grants.due += bytes,
            }
            grants.send(self.credit.get());
            let answer = tokio::select! {
                answer = answers.message() => answer,
                () = self.slot.changed() => continue,
            };
            match answer {
                Ok(Some(answer)) => match self.accept(progress, answer) {
                    Ok(wasted) => grants.due += wasted,
                    Err(stop) => return stop,
                },
                Ok(None) => return Stop::Failed(Failure::Lost(node.stream_ended())),
                Err(status) => {
                    return Stop::Failed(Failure::from_status(&status, node.address()));
                }
            }
        }
    }

    /// Queues what an answer brings; gives the bytes of it that are of no use.
    fn accept(&self, progress: &mut Progress, answer: v1::FetchResponse) -> Result<u64, Stop> {
        let fail = |error| Stop::Failed(Failure::Final(error));
        if !answer.topic_id.is_empty() && answer.topic_id != self.topic.id.as_bytes()[..] {
            return Err(fail(self.topic.recreated(&answer.topic_id)));
        }
        self.slot.saw_high_watermark(Offset::new(answer.high_watermark));
        let mut wasted = 0;
        match answer.data {
            Some(fetch_response::Data::Error(error)) => {
                return Err(Stop::Failed(Failure::Refused(Box::new(error))));
            }
            Some(fetch_response::Data::Records(_)) => {
                return Err(fail(ClientError::Protocol { what: "records where batches are due" }));
            }
            None => {}
            Some(fetch_response::Data::Batches(bytes)) => {
                let from = progress.next.max(Offset::new(answer.start_offset));
                progress.next = from;
                for batch in split_batches(bytes) {
                    let batch = batch.and_then(|batch| {
                        batch.view().verify_checksum()?;
                        Ok(batch)
                    });
                    let batch =
                        batch.map_err(|source| fail(self.corrupt(progress.next, source)))?;
                    let next = batch.header().next_offset();
                    if next <= progress.next {
                        wasted += batch.bytes().len() as u64;
                        continue;
                    }
                    let from = progress.next;
                    if !self.slot.push(progress.session, batch, from) {
                        return Err(Stop::Other);
                    }
                    progress.next = next;
                    progress.begun = true;
                    if self.slot.end().is_some_and(|end| progress.next >= end) {
                        return Err(Stop::End);
                    }
                }
                progress.next = progress.next.max(Offset::new(answer.next_offset));
                progress.failures = 0;
                progress.redirects = 0;
                progress.unknown_topic = 0;
                progress.backoff.reset();
            }
        }
        if self.slot.end().is_some_and(|end| progress.next >= end) {
            return Err(Stop::End);
        }
        Ok(wasted)
    }

    fn corrupt(&self, offset: Offset, source: BatchError) -> ClientError {
        ClientError::CorruptBatch {
            topic: Arc::clone(&self.topic.name),
            partition: self.slot.partition(),
            offset,
            source,
        }
    }

    /// Gets ready for another stream, or says why there is none.
    async fn recover(&self, progress: &mut Progress, failure: Failure) -> Result<(), ClientError> {
        let partition = self.slot.partition();
        tracing::debug!(topic = %self.topic.name, %partition, ?failure, "fetch stream ended");
        if failure.code() == Some(ErrorCode::OffsetOutOfRange) {
            return self.out_of_range(progress, &failure).await;
        }
        if failure.code() == Some(ErrorCode::UnknownTopic) {
            progress.unknown_topic += 1;
        }
        progress.damaged = if failure.is_damage() { progress.damaged + 1 } else { 0 };
        if !failure.is_transient()
            || progress.unknown_topic > limits::UNKNOWN_TOPIC_RETRIES
            || progress.damaged > limits::DAMAGED_ANSWERS_MAX
        {
            return Err(self.topic.error(partition, failure));
        }
        let redirected = self.cluster.follow_redirect(&self.topic, partition, &failure);
        if redirected && progress.redirects < limits::REDIRECTS_AT_ONCE {
            progress.redirects += 1;
            progress.failures = 0;
            return Ok(());
        }
        let wait = progress.backoff.next(self.cluster.random()).max(failure.wait());
        tokio::time::sleep(wait).await;
        if failure.is_about_load() {
            return Ok(());
        }
        progress.failures += 1;
        match self.cluster.refresh(&self.topic).await {
            Err(
                error @ (ClientError::TopicRecreated { .. } | ClientError::UnknownTopic { .. }),
            ) => Err(error),
            Err(error) => {
                tracing::debug!(%error, "could not refresh the metadata");
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    /// Applies the policy for a position that the partition does not have.
    async fn out_of_range(
        &self,
        progress: &mut Progress,
        failure: &Failure,
    ) -> Result<(), ClientError> {
        let partition = self.slot.partition();
        // "The first record kept" has moved on since it was looked up.
        let moved = progress.session.at_first && !progress.begun;
        let start = match self.out_of_range {
            _ if moved => Start::First,
            OutOfRange::First => Start::First,
            OutOfRange::Last => Start::Last(0),
            OutOfRange::Error => {
                let Failure::Refused(error) = failure else { return Ok(()) };
                return Err(ClientError::OffsetOutOfRange {
                    topic: Arc::clone(&self.topic.name),
                    partition,
                    offset: progress.next,
                    log_start_offset: error.log_start_offset.map(Offset::new),
                    high_watermark: error.high_watermark.map(Offset::new),
                });
            }
        };
        let wait = progress.backoff.next(self.cluster.random());
        tokio::time::sleep(wait).await;
        let asked = [(partition, start)].into();
        let found = self.cluster.list_offsets(&self.topic, &asked).await?;
        let from = progress.next;
        progress.next = found.get(&partition).map_or(progress.next, |found| found.offset);
        self.slot.jumped(progress.session, from, progress.next);
        Ok(())
    }
}
