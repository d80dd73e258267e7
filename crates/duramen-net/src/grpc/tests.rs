//! Messages across, also to and from generated code, which frames and copies on its own.

use std::sync::Arc;

use bytes::Bytes;
use duramen_env::{Env, Listener};
use duramen_proto::v1::log_service_client::LogServiceClient;
use duramen_proto::v1::produce_request::Payload;
use duramen_proto::v1::{ProduceRequest, ProduceResponse};
use futures::StreamExt as _;
use futures::stream;
use http::Request;
use http_body::Frame;
use http_body_util::StreamBody;
use tonic::body::Body;
use tonic::server::NamedService;
use tonic::service::Routes;
use tonic::{Code, Status};

use super::{Beside, Direct, Messages, call, respond};
use crate::{Channel, ServerOptions, serve};

const PATH: &str = "/duramen.v1.LogService/ProduceStream";
const MAX: usize = 3 << 20;

/// What serves all other paths: nothing.
#[derive(Clone)]
struct Nothing;

impl NamedService for Nothing {
    const NAME: &'static str = "duramen.v1.LogService";
}

impl tower_service::Service<Request<Body>> for Nothing {
    type Response = http::Response<Body>;
    type Error = std::convert::Infallible;
    type Future = std::future::Ready<Result<Self::Response, Self::Error>>;

    fn poll_ready(
        &mut self,
        _context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Result<(), Self::Error>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, _request: Request<Body>) -> Self::Future {
        std::future::ready(Ok(Status::unimplemented("nothing here").into_http()))
    }
}

/// Answers each request with its id and a copy of its payload's length; refuses id 13.
fn echo(request: Request<Body>) -> Result<Direct, Box<Request<Body>>> {
    if request.uri().path() != PATH {
        return Err(Box::new(request));
    }
    Ok(Box::pin(async move {
        let requests = Messages::<ProduceRequest>::of_request(request.into_body(), MAX);
        let answers = stream::unfold(requests, |mut requests| async move {
            let answer = match requests.message().await {
                Ok(Some(request)) if request.correlation_id == 13 => {
                    Err(Status::data_loss("an unlucky number"))
                }
                Ok(Some(request)) => {
                    let Some(Payload::Batches(bytes)) = request.payload else { return None };
                    let sum = bytes.iter().map(|byte| u64::from(*byte)).sum::<u64>();
                    Ok(ProduceResponse { correlation_id: sum, result: None })
                }
                Ok(None) => return None,
                Err(status) => Err(status),
            };
            Some((answer, requests))
        });
        respond(Ok(Box::pin(answers)))
    }))
}

async fn server() -> Channel {
    let env = Env::real();
    let listener: Arc<dyn Listener> = env.net.listen("127.0.0.1:0").await.unwrap().into();
    let address = listener.local_addr().unwrap().to_string();
    let routes = Routes::new(Beside::new(Nothing, echo));
    let serving = serve(listener, routes, ServerOptions::default(), std::future::pending());
    env.tasks.connection("test-server", async move { drop(serving.await) });
    Channel::new(&env, &address)
}

fn request(id: u64, payload: &[u8]) -> ProduceRequest {
    ProduceRequest {
        correlation_id: id,
        topic: "t".into(),
        payload: Some(Payload::Batches(Bytes::copy_from_slice(payload))),
        ..ProduceRequest::default()
    }
}

/// Payloads around every size at which something is done otherwise.
fn payloads() -> Vec<Vec<u8>> {
    let sizes = [0, 1, 100, 4_095, 4_096, 16_384, 40_000, (1 << 20) + 1, 2_500_000];
    (1..).zip(sizes).map(|(byte, size)| vec![byte; size]).collect()
}

fn sums(payloads: &[Vec<u8>]) -> Vec<u64> {
    payloads.iter().map(|bytes| bytes.iter().map(|byte| u64::from(*byte)).sum()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_of_all_sizes_come_across() {
    let payloads = payloads();
    let requests: Vec<_> = payloads.iter().map(|payload| request(1, payload)).collect();
    let mut channel = server().await;
    let opened = call(&mut channel, PATH, stream::iter(requests)).await;
    let mut answers: Messages<ProduceResponse> = opened.unwrap();
    for sum in sums(&payloads) {
        assert_eq!(answers.message().await.unwrap().unwrap().correlation_id, sum);
    }
    assert_eq!(answers.message().await.unwrap(), None);
    assert_eq!(answers.message().await.unwrap(), None, "the end stays the end");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_generated_client_is_served() {
    let payloads = payloads();
    let requests: Vec<_> = payloads.iter().map(|payload| request(1, payload)).collect();
    let mut client = LogServiceClient::new(server().await);
    let answers = client.produce_stream(stream::iter(requests)).await.unwrap().into_inner();
    let answers: Vec<_> = answers.map(|answer| answer.unwrap().correlation_id).collect().await;
    assert_eq!(answers, sums(&payloads));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_status_ends_the_stream_behind_what_was_answered() {
    let requests = stream::iter([request(1, &[7]), request(13, &[])]);
    let mut channel = server().await;
    let opened = call(&mut channel, PATH, requests).await;
    let mut answers: Messages<ProduceResponse> = opened.unwrap();
    assert_eq!(answers.message().await.unwrap().unwrap().correlation_id, 7);
    let status = answers.message().await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::DataLoss, "an unlucky number"));
    assert_eq!(answers.message().await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_that_is_not_served_is_refused() {
    let requests = stream::iter([request(1, &[7])]);
    let opened = call::<_, _, _, ProduceResponse>(&mut server().await, "/a.B/C", requests).await;
    assert_eq!(opened.unwrap_err().code(), Code::Unimplemented);
}

/// What messages are read from a body of these chunks.
async fn read(chunks: Vec<Bytes>) -> Result<Vec<ProduceRequest>, Status> {
    let frames = chunks.into_iter().map(|chunk| Ok::<_, Status>(Frame::data(chunk)));
    let body = Body::new(StreamBody::new(stream::iter(frames)));
    let mut messages = Messages::of_request(body, MAX);
    let mut read = Vec::new();
    while let Some(message) = messages.message().await? {
        read.push(message);
    }
    Ok(read)
}

fn encoded(message: &ProduceRequest) -> Vec<u8> {
    let body = prost::Message::encode_to_vec(message);
    let len = u32::try_from(body.len()).unwrap().to_be_bytes();
    [&[0][..], &len, &body].concat()
}

#[tokio::test]
async fn a_message_may_be_cut_anywhere() {
    let messages = [request(1, b"first"), request(2, b""), request(3, b"third")];
    let bytes: Vec<u8> = messages.iter().flat_map(encoded).collect();
    for at in 0..=bytes.len() {
        let (a, b) = bytes.split_at(at);
        let chunks = vec![Bytes::copy_from_slice(a), Bytes::copy_from_slice(b)];
        assert_eq!(read(chunks).await.unwrap(), messages, "cut at {at}");
    }
    let single = bytes.iter().map(|byte| Bytes::copy_from_slice(&[*byte])).collect();
    assert_eq!(read(single).await.unwrap(), messages);
}

#[tokio::test]
async fn what_is_no_message_is_refused() {
    let good = encoded(&request(1, b"x"));
    let code = async |bytes: Vec<u8>| read(vec![bytes.into()]).await.unwrap_err().code();
    assert_eq!(code(good[..good.len() - 1].to_vec()).await, Code::Internal, "cut short");
    let compressed = [&[1][..], &good[1..]].concat();
    assert_eq!(code(compressed).await, Code::Unimplemented);
    let too_long = [&[0][..], &u32::MAX.to_be_bytes(), b"abc"].concat();
    assert_eq!(code(too_long).await, Code::OutOfRange, "refused before it is waited for");
    let malformed = [&[0, 0, 0, 0, 2][..], &[0xff, 0xff]].concat();
    assert_eq!(code(malformed).await, Code::Internal);
}

#[tokio::test]
async fn a_payload_is_where_it_was_received() {
    let bytes = Bytes::from(encoded(&request(1, &[9; 100_000])));
    let read = read(vec![bytes.clone()]).await.unwrap();
    let Some(Payload::Batches(payload)) = &read[0].payload else { panic!("no payload") };
    assert!(bytes.as_ptr_range().contains(&payload.as_ptr()), "the same memory");
}
