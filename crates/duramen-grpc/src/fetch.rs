//! Fetch over gRPC: one call, or a stream that sends while it has credit.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use duramen_broker::{
    Broker, BrokerError, FetchLimits, Fetched, PartitionName, Position, Reader, plain_records,
};
use duramen_env::Env;
use duramen_net::grpc::Messages;
use duramen_proto::v1;
use duramen_types::Offset;
use futures::Stream;
use tokio::sync::mpsc;
use tonic::Status;

use crate::faults::{Call, Cut, FetchFault};
use crate::produce::owned;
use crate::service::{Faults, admit, broken, caller, fetch_limits, partition_name};
use crate::{error, limits, translate};

/// Serves one fetch.
pub(crate) async fn once(
    broker: &Broker,
    faults: &Faults,
    request: &v1::FetchRequest,
) -> Result<v1::FetchResponse, Status> {
    let partition = (request.topic.as_str(), request.partition);
    let answer = async {
        admit(faults, Call::Fetch, Some(partition))?;
        fetch(broker, faults, request).await
    };
    let answer = answer.await.map_err(|error| error::status(&error))?;
    if let Some(faults) = faults
        && answer.next_offset > answer.start_offset
    {
        let fault = faults.fetch(partition.0, partition.1, true);
        tokio::time::sleep(fault.delay).await;
        if fault.cut == Cut::Before {
            return Err(broken());
        }
    }
    Ok(answer)
}

async fn fetch(
    broker: &Broker,
    faults: &Faults,
    request: &v1::FetchRequest,
) -> Result<v1::FetchResponse, BrokerError> {
    let position = translate::position(request.position)?;
    let name = partition_name(request)?;
    let reader = broker.reader(&caller(), &name).await?;
    let offset = reader.locate(position).await?.offset;
    let again = begin_before(faults, request, &reader, offset).await?;
    let limits = fetch_limits(request);
    let fetched = due_from(reader.fetch(again, limits).await?, offset);
    let (part, _) = fetched.cut(limits.most_bytes())?;
    answer(request.partition, request.format(), part)
}

/// Where a fetch begins that is to give records again: those before the asked offset are skipped
/// by the client. In plain form an answer begins exactly where it was asked to.
async fn begin_before(
    faults: &Faults,
    request: &v1::FetchRequest,
    reader: &Reader,
    offset: Offset,
) -> Result<Offset, BrokerError> {
    let Some(faults) = faults else { return Ok(offset) };
    if request.format() != v1::FetchFormat::Batches {
        return Ok(offset);
    }
    match faults.records_again(&request.topic, request.partition) {
        0 => Ok(offset),
        records => {
            let first = reader.locate(Position::First).await?.offset;
            Ok(offset.saturating_sub(records).max(first).min(offset))
        }
    }
}

/// The same records, of which those before an offset are to be skipped.
fn due_from(fetched: Fetched, offset: Offset) -> Fetched {
    let next_offset = fetched.next_offset.max(offset);
    Fetched { start_offset: fetched.start_offset.max(offset), next_offset, ..fetched }
}

/// A fetch answer on the wire.
fn answer(
    partition: u32,
    format: v1::FetchFormat,
    fetched: Fetched,
) -> Result<v1::FetchResponse, BrokerError> {
    use v1::fetch_response::Data;
    let mut next_offset = fetched.next_offset;
    let data = match format {
        v1::FetchFormat::Batches => Data::Batches(joined(&fetched.batches)),
        v1::FetchFormat::Records => {
            let (from, below) = (fetched.start_offset, fetched.next_offset);
            let plain = plain_records(&fetched.batches, from, below)?;
            next_offset = plain.next_offset;
            let records = plain.records.into_iter().map(translate::record_to_wire).collect();
            Data::Records(v1::RecordList::new(records))
        }
    };
    Ok(v1::FetchResponse {
        topic_id: translate::topic_id_to_wire(fetched.topic_id),
        partition,
        leader_epoch: fetched.leader_epoch.get(),
        log_start_offset: fetched.log_start_offset.get(),
        high_watermark: fetched.high_watermark.get(),
        start_offset: fetched.start_offset.get(),
        next_offset: next_offset.get(),
        data: Some(data),
    })
}

/// One run of bytes; a single piece is not copied.
fn joined(batches: &[Bytes]) -> Bytes {
    match batches {
        [] => Bytes::new(),
        [only] => only.clone(),
        many => {
            let mut all = BytesMut::with_capacity(many.iter().map(Bytes::len).sum());
            for batch in many {
                all.extend_from_slice(batch);
            }
            all.freeze()
        }
    }
}

/// Serves a stream: the first message says what to read.
pub(crate) async fn stream(
    env: &Env,
    broker: Arc<Broker>,
    faults: Faults,
    mut requests: Messages<v1::FetchStreamRequest>,
) -> Result<impl Stream<Item = Result<v1::FetchResponse, Status>> + Send + use<>, Status> {
    let first = requests.message().await?;
    let Some(v1::FetchStreamRequest { start: Some(start), credit_bytes }) = first else {
        return Err(error::status(&translate::invalid("start", "set in the first message")));
    };
    let (out, answers) = mpsc::channel(limits::FETCH_ANSWERS_WAITING);
    let session = Session { start, credit: credit_bytes, faults, out };
    let task = env.tasks.critical("fetch-stream", session.serve(broker, requests));
    Ok(owned(answers, task))
}

struct Session {
    start: v1::FetchRequest,
    credit: u64,
    faults: Faults,
    out: mpsc::Sender<Result<v1::FetchResponse, Status>>,
}

impl Session {
    async fn serve(mut self, broker: Arc<Broker>, requests: Messages<v1::FetchStreamRequest>) {
        if let Err(error) = self.send_all(&broker, requests).await {
            let refused = v1::FetchResponse {
                partition: self.start.partition,
                data: Some(v1::fetch_response::Data::Error(error::to_wire(&error))),
                ..v1::FetchResponse::default()
            };
            // The client may have gone.
            drop(self.out.send(Ok(refused)).await);
        }
    }

    async fn send_all(
        &mut self,
        broker: &Broker,
        mut requests: Messages<v1::FetchStreamRequest>,
    ) -> Result<(), BrokerError> {
        let partition = (self.start.topic.as_str(), self.start.partition);
        admit(&self.faults, Call::Fetch, Some(partition))?;
        let position = translate::position(self.start.position)?;
        let name = partition_name(&self.start)?;
        let mut reader = broker.reader(&caller(), &name).await?;
        let due = reader.locate(position).await?.offset;
        let mut offset = begin_before(&self.faults, &self.start, &reader, due).await?;
        let mut told = None;
        let mut open = true;
        let stopping = broker.stopping();
        tokio::pin!(stopping);
        loop {
            if self.credit == 0 {
                if !open {
                    return Ok(());
                }
                open = tokio::select! {
                    request = requests.message() => take_credit(&mut self.credit, request),
                    () = &mut stopping => return Err(BrokerError::ShuttingDown),
                };
                continue;
            }
            let wanted = wanted(&self.start, self.credit);
            let fetching = fetch_on(broker, &name, &mut reader, (offset, wanted));
            tokio::pin!(fetching);
            // Credit that comes meanwhile does not begin the read anew.
            let fetched = loop {
                tokio::select! {
                    biased;
                    () = &mut stopping => return Err(BrokerError::ShuttingDown),
                    fetched = &mut fetching => break fetched?,
                    request = requests.message(), if open => {
                        open = take_credit(&mut self.credit, request);
                    }
                }
            };
            // An answer without records is sent when it tells something new.
            let fetched = due_from(fetched, due);
            let seen = Some((fetched.high_watermark, fetched.log_start_offset));
            if fetched.batches.is_empty() && told == seen {
                continue;
            }
            told = seen;
            let mut rest = Some(fetched);
            while let Some(fetched) = rest {
                let (part, more) = fetched.cut(asked(&self.start))?;
                let bytes: usize = part.batches.iter().map(Bytes::len).sum();
                self.credit = self.credit.saturating_sub(bytes as u64);
                let end = part.next_offset;
                let answer = answer(self.start.partition, self.start.format(), part)?;
                offset = Offset::new(answer.next_offset);
                if !self.send(answer).await {
                    return Ok(());
                }
                // Plain records may end earlier; what follows is read again.
                rest = more.filter(|_| offset == end);
            }
        }
    }

    /// Sends an answer; says whether the stream goes on.
    async fn send(&self, answer: v1::FetchResponse) -> bool {
        let mut fault = FetchFault::default();
        if let Some(faults) = &self.faults
            && answer.next_offset > answer.start_offset
        {
            fault = faults.fetch(&self.start.topic, self.start.partition, false);
            tokio::time::sleep(fault.delay).await;
        }
        if fault.cut != Cut::Before && self.out.send(Ok(answer)).await.is_err() {
            return false;
        }
        if fault.cut == Cut::Never {
            return true;
        }
        drop(self.out.send(Err(broken())).await);
        false
    }
}

/// Takes more credit; says whether more can come.
fn take_credit(credit: &mut u64, request: Result<Option<v1::FetchStreamRequest>, Status>) -> bool {
    match request {
        Ok(Some(request)) => {
            *credit = credit.saturating_add(request.credit_bytes);
            true
        }
        Ok(None) | Err(_) => false,
    }
}

/// Bytes of one answer of a stream.
fn asked(start: &v1::FetchRequest) -> u64 {
    match u64::from(start.max_bytes) {
        0 => limits::FETCH_STREAM_BYTES,
        bytes => bytes,
    }
}

/// What one read of a stream is to give.
fn wanted(start: &v1::FetchRequest, credit: u64) -> FetchLimits {
    FetchLimits {
        bytes_max: asked(start).min(credit),
        bytes_min: u64::from(start.min_bytes),
        wait_max: Duration::from_millis(limits::FETCH_STREAM_WAIT_MS),
    }
}

/// One read of a stream; its reader is opened again where that may have changed.
async fn fetch_on(
    broker: &Broker,
    name: &PartitionName,
    reader: &mut Reader,
    (offset, wanted): (Offset, FetchLimits),
) -> Result<Fetched, BrokerError> {
    match reader.fetch(offset, wanted).await {
        // A later term of the same leader, or a deleted topic: look again.
        Err(BrokerError::NoLeader) => {
            *reader = broker.reader(&caller(), name).await?;
            reader.fetch(offset, wanted).await
        }
        fetched => {
            // The topic may have been deleted, and the caller's right taken away.
            if fetched.as_ref().is_ok_and(|fetched| fetched.batches.is_empty()) {
                *reader = broker.reader(&caller(), name).await?;
            }
            fetched
        }
    }
}
