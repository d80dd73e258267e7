//! Connections that claim much and send nothing: they are answered, and cost no memory.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use duramen_tests::processes::{Cluster, Failure, Outcome, say};
use http::Request;
use http_body::Frame;
use http_body_util::BodyExt as _;
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

/// Claims, waits for the answer, and gives its gRPC status.
async fn claim(address: String, path: &'static str) -> Outcome<String> {
    let stream = TcpStream::connect(&address).await?;
    let connecting = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
    let (mut sender, connection) = connecting;
    let request = Request::post(format!("http://{address}{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Claim::new())?;
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
        claims.spawn(claim(node.addresses.client.clone(), path));
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
