//! Streams in both directions under a path, on the client's and on the server's side.

use std::error::Error;

use futures::{Stream, StreamExt as _};
use http::header::{CONTENT_TYPE, TE};
use http::{HeaderValue, Method, Request, Response, Version};
use hyper::body::Incoming;
use prost::Message;
use tonic::body::Body;
use tonic::{Code, Status};
use tower_service::Service;

use super::{Messages, Outgoing};
use crate::limits;

const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");

/// Opens a bidirectional stream at a path such as `/duramen.v1.LogService/ProduceStream`.
///
/// # Errors
/// The status with which the server refuses it, or one that says why it could not be reached.
pub async fn call<C, S, T, U>(
    channel: &mut C,
    path: &'static str,
    messages: S,
) -> Result<Messages<U>, Status>
where
    C: Service<Request<Body>, Response = Response<Incoming>>,
    C::Error: Into<Box<dyn Error + Send + Sync>>,
    S: Stream<Item = T> + Send + Unpin + 'static,
    T: Message + 'static,
    U: Message + Default,
{
    let mut request = Request::new(Body::new(Outgoing::client(messages.map(Ok))));
    *request.method_mut() = Method::POST;
    *request.version_mut() = Version::HTTP_2;
    *request.uri_mut() = http::Uri::from_static(path);
    request.headers_mut().insert(TE, HeaderValue::from_static("trailers"));
    request.headers_mut().insert(CONTENT_TYPE, GRPC);
    let response = channel.call(request).await.map_err(|error| Status::from_error(error.into()))?;
    let (parts, body) = response.into_parts();
    match Status::from_header_map(&parts.headers) {
        Some(status) if status.code() != Code::Ok => Err(status),
        _ => Ok(Messages::of_response(Body::new(body), parts.status, limits::MESSAGE_BYTES_MAX)),
    }
}

/// The response that carries a stream of answers, or a refusal.
pub fn respond<S, T>(answers: Result<S, Status>) -> Response<Body>
where
    S: Stream<Item = Result<T, Status>> + Send + Unpin + 'static,
    T: Message + 'static,
{
    match answers {
        Ok(answers) => {
            let mut response = Response::new(Body::new(Outgoing::server(answers)));
            response.headers_mut().insert(CONTENT_TYPE, GRPC);
            response
        }
        Err(status) => status.into_http(),
    }
}
