//! Requests that would cost much memory: those that claim much and send nothing, and those that are
//! small and grow when they are read. They are answered, and cost little.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use duramen_client::NewTopic;
use duramen_proto::limits::RECORD_ITEMS_MAX;
use duramen_proto::v1;
use duramen_record::{BatchBuilder, Compression, RecordRef};
use duramen_tests::processes::{Cluster, Failure, Outcome, say};
use http::Request;
use http_body::Frame;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::program;

/// Idle connections at a time.
const CONNECTIONS: usize = 100;

/// What they may cost together: far less than one of the messages that they claim to send.
const MEMORY_MAX: u64 = 64 << 20;

/// How long the node may take to answer them all.
const ANSWER_MAX: Duration = Duration::from_secs(30);

/// The head of a gRPC message of 2 GB, and nothing more, ever.
struct Claim(Option<Bytes>);

impl Claim {
    const fn new() -> Self {
        Self(Some(Bytes::from_static(&[0, 0x80, 0, 0, 0])))
    }
}

impl http_body::Body for Claim {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match self.0.take() {
            Some(head) => Poll::Ready(Some(Ok(Frame::data(head)))),
            // Neither more nor an end.
            None => Poll::Pending,
        }
    }
}

/// Sends a request, waits for the answer, and gives its gRPC status.
async fn ask<B>(address: String, path: &'static str, body: B) -> Outcome<String>
where
    B: http_body::Body<Data = Bytes, Error = std::convert::Infallible> + Send + Unpin + 'static,
{
    let stream = TcpStream::connect(&address).await?;
    let connecting = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
    let (mut sender, connection) = connecting;
    let request = Request::post(format!("http://{address}{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(body)?;
    let exchange = async {
        let response = sender.send_request(request).await?;
        let status = response.headers().get("grpc-status").cloned();
        let mut body = response.into_body();
        let mut trailers = None;
        while let Some(frame) = body.frame().await {
            trailers = frame?.into_trailers().ok().or(trailers);
        }
        let status = status.or_else(|| trailers?.get("grpc-status").cloned());
        Ok::<_, Failure>(status.ok_or("an answer without a status")?.to_str()?.to_owned())
    };
    tokio::select! {
        status = exchange => status,
        ended = connection => Err(format!("the connection ended: {ended:?}").into()),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claimed_length_is_refused_before_it_costs_memory() {
    let mut cluster = Cluster::start(&program(), 1).await.unwrap();
    let node = cluster.node(1);
    let before = node.resident_bytes().unwrap();
    let mut claims = JoinSet::new();
    for place in 0..CONNECTIONS {
        let path = match place % 3 {
            0 => "/duramen.v1.LogService/Produce",
            1 => "/duramen.v1.LogService/ProduceStream",
            _ => "/duramen.v1.AdminService/CreateTopic",
        };
        claims.spawn(ask(node.addresses.client.clone(), path, Claim::new()));
    }
    let answers = tokio::time::timeout(ANSWER_MAX, claims.join_all()).await;
    for answer in answers.expect("every claim is answered") {
        assert_ne!(answer.unwrap(), "0", "2 GB were taken");
    }
    let grown = node.resident_bytes().unwrap().saturating_sub(before);
    say(format_args!("{CONNECTIONS} claims of 2 GB cost {} KiB", grown >> 10));
    assert!(grown < MEMORY_MAX, "{grown} bytes");
    node.wait_ready().await.unwrap();
    cluster.passed();
}

/// Records without anything in them: two bytes each on the wire.
const EMPTY_RECORDS: usize = 8_000_000;

/// As many as a batch of 64 MiB, decompressed, has room for.
const PACKED_RECORDS: usize = 4_000_000;

/// What a request or answer with that many may cost: the bytes themselves, some times over.
const PLAIN_MEMORY_MAX: u64 = 160 << 20;

/// A produce request of empty records in plain form, as one gRPC message.
fn empty_records() -> Outcome<Bytes> {
    let mut list = vec![0_u8; 2 * EMPTY_RECORDS];
    list.iter_mut().step_by(2).for_each(|tag| *tag = 1 << 3 | 2);
    let mut request = vec![6 << 3 | 2];
    prost::encode_length_delimiter(list.len(), &mut request)?;
    request.append(&mut list);
    let mut message = vec![0];
    message.extend(u32::try_from(request.len())?.to_be_bytes());
    message.append(&mut request);
    Ok(message.into())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn millions_of_empty_records_are_refused_before_they_cost_memory() {
    let mut cluster = Cluster::start(&program(), 1).await.unwrap();
    let node = cluster.node(1);
    let before = node.resident_bytes().unwrap();
    let asking = ask(
        node.addresses.client.clone(),
        "/duramen.v1.LogService/Produce",
        Full::new(empty_records().unwrap()),
    );
    let status = tokio::time::timeout(ANSWER_MAX, asking).await.expect("it is answered").unwrap();
    assert_eq!(status, "3", "an invalid argument");
    let grown = node.peak_bytes().unwrap().saturating_sub(before);
    say(format_args!("{EMPTY_RECORDS} empty records cost {} KiB", grown >> 10));
    assert!(grown < PLAIN_MEMORY_MAX, "{grown} bytes");
    node.wait_ready().await.unwrap();
    cluster.passed();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn millions_of_records_in_a_small_batch_are_read_in_bounded_parts() {
    let mut cluster = Cluster::start(&program(), 1).await.unwrap();
    let client = cluster.client().await.unwrap();
    let topic = NewTopic::new("many").replication_factor(1).config("max.message.bytes", "12MiB");
    client.admin().create_topic(topic).await.unwrap();
    let mut builder = BatchBuilder::new(Compression::Zstd);
    for _ in 0..PACKED_RECORDS {
        builder.append(RecordRef::default(), [].into_iter()).unwrap();
    }
    let batches = builder.finish(None).unwrap();
    let node = cluster.node(1);
    let mut log = node.wire().log;
    let payload = Some(v1::produce_request::Payload::Batches(batches));
    let request = v1::ProduceRequest { topic: "many".into(), payload, ..Default::default() };
    log.produce(request).await.unwrap();
    let before = node.resident_bytes().unwrap();
    let mut next = 0;
    for _ in 0..3 {
        let position =
            Some(v1::FetchPosition { position: Some(v1::fetch_position::Position::Offset(next)) });
        let request = v1::FetchRequest {
            topic: "many".into(),
            position,
            format: v1::FetchFormat::Records.into(),
            ..Default::default()
        };
        let answer = log.fetch(request).await.unwrap().into_inner();
        let Some(v1::fetch_response::Data::Records(list)) = answer.data else {
            panic!("no records")
        };
        assert_eq!(list.records[0].offset, next);
        assert_eq!(list.records.len(), RECORD_ITEMS_MAX);
        next += RECORD_ITEMS_MAX as u64;
        assert_eq!(answer.next_offset, next);
    }
    let grown = node.peak_bytes().unwrap().saturating_sub(before);
    say(format_args!("three answers of {PACKED_RECORDS} records cost {} KiB", grown >> 10));
    assert!(grown < PLAIN_MEMORY_MAX, "{grown} bytes");
    cluster.passed();
}
