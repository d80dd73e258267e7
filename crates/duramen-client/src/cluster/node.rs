//! The connections to one node, under the generated clients.

use std::sync::Arc;
use std::task::{Context, Poll};

use duramen_env::Env;
use duramen_net::grpc::{Messages, call};
use duramen_net::{Channel, limits};
use duramen_proto::v1;
use duramen_proto::v1::admin_service_client::AdminServiceClient;
use duramen_proto::v1::group_service_client::GroupServiceClient;
use duramen_proto::v1::log_service_client::LogServiceClient;
use futures::Stream;
use http::{HeaderName, HeaderValue, Request};
use tonic::Status;
use tonic::body::Body;
use tower_service::Service;

use crate::ClientError;

/// Header of every call that carries [`ClientOptions::client_id`](crate::ClientOptions::client_id).
const CLIENT_ID: HeaderName = HeaderName::from_static("duramen-client-id");

/// One node: a connection for calls and produce streams, one for fetch streams, so that fetched
/// data that nobody takes yet never holds up an acknowledgement, and one for groups, so that
/// nothing that is produced or fetched holds up a heartbeat.
#[derive(Debug)]
pub(crate) struct Node {
    address: Arc<str>,
    calls: Named,
    fetches: Named,
    groups: Named,
}

impl Node {
    /// Connects at the first call.
    pub(crate) fn new(env: &Env, address: &Arc<str>, client_id: &str) -> Self {
        let client_id = HeaderValue::from_str(client_id).ok();
        let named = || Named { channel: Channel::new(env, address), client_id: client_id.clone() };
        let (calls, fetches, groups) = (named(), named(), named());
        Self { address: Arc::clone(address), calls, fetches, groups }
    }

    pub(crate) fn address(&self) -> &Arc<str> {
        &self.address
    }

    /// The error for a node that does not answer in time.
    pub(crate) fn no_answer(&self) -> ClientError {
        ClientError::Connection { address: Arc::clone(&self.address), reason: "no answer".into() }
    }

    /// The error for a stream that ended.
    pub(crate) fn stream_ended(&self) -> ClientError {
        let reason = "the node ended the stream".into();
        ClientError::Connection { address: Arc::clone(&self.address), reason }
    }

    pub(crate) fn admin(&self) -> AdminServiceClient<Named> {
        AdminServiceClient::new(self.calls.clone())
            .max_decoding_message_size(limits::MESSAGE_BYTES_MAX)
    }

    pub(crate) fn log(&self) -> LogServiceClient<Named> {
        LogServiceClient::new(self.calls.clone())
            .max_decoding_message_size(limits::MESSAGE_BYTES_MAX)
    }

    /// Opens a produce stream.
    pub(crate) async fn produce_stream<S>(
        &self,
        requests: S,
    ) -> Result<Messages<v1::ProduceResponse>, Status>
    where
        S: Stream<Item = v1::ProduceRequest> + Send + Unpin + 'static,
    {
        call(&mut self.calls.clone(), "/duramen.v1.LogService/ProduceStream", requests).await
    }

    /// Opens a fetch stream.
    pub(crate) async fn fetch_stream<S>(
        &self,
        requests: S,
    ) -> Result<Messages<v1::FetchResponse>, Status>
    where
        S: Stream<Item = v1::FetchStreamRequest> + Send + Unpin + 'static,
    {
        call(&mut self.fetches.clone(), "/duramen.v1.LogService/FetchStream", requests).await
    }

    pub(crate) fn group(&self) -> GroupServiceClient<Named> {
        GroupServiceClient::new(self.groups.clone())
            .max_decoding_message_size(limits::MESSAGE_BYTES_MAX)
    }
}

/// A channel that says who calls.
#[derive(Clone, Debug)]
pub(crate) struct Named {
    channel: Channel,
    client_id: Option<HeaderValue>,
}

impl Service<Request<Body>> for Named {
    type Response = <Channel as Service<Request<Body>>>::Response;
    type Error = <Channel as Service<Request<Body>>>::Error;
    type Future = <Channel as Service<Request<Body>>>::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.channel.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        if let Some(client_id) = &self.client_id {
            request.headers_mut().insert(CLIENT_ID, client_id.clone());
        }
        self.channel.call(request)
    }
}
