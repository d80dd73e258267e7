//! The peer service: links in, and the few calls between nodes that are not Raft's.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use async_trait::async_trait;
use duramen_env::{Env, TaskHandle};
use duramen_net::grpc::{Beside, Direct, Messages, respond};
use duramen_net::limits::MESSAGE_BYTES_MAX;
use duramen_proto::internal as pb;
use duramen_proto::internal::peer_frame::Frame;
use duramen_proto::internal::peer_service_server::{PeerService, PeerServiceServer};
use futures::Stream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::body::Body;
use tonic::service::Routes;
use tonic::{Request, Response, Status, Streaming};

use super::links::LocalNode;
use super::receiver;
use crate::host::Groups;
use crate::limits;

/// Where links are opened.
pub(super) const LINK_PATH: &str = "/duramen.internal.v1.PeerService/Link";

type HttpRequest = http::Request<Body>;
type Served = Result<Direct, Box<HttpRequest>>;

/// What the node answers to the calls that are not Raft's; the broker's part.
#[async_trait]
pub trait PeerHandler: Send + Sync + 'static {
    /// Proposes a metadata command, if this node leads the metadata group.
    async fn propose(&self, request: pb::ProposeMetadataRequest) -> pb::ProposeMetadataResponse;

    /// Says whether this node agrees, still, to the founding of a cluster that is under way.
    async fn form(&self, request: pb::FormRequest) -> pb::FormResponse;

    /// Makes a node with a fresh incarnation a member of the metadata group.
    async fn join(&self, request: pb::JoinRequest) -> pb::JoinResponse;

    /// Says what can be read of partitions that this node leads.
    async fn bounds(&self, request: pb::BoundsRequest) -> pb::BoundsResponse;
}

/// The peer service of a node that belongs to a cluster.
pub(crate) struct PeerServer {
    env: Env,
    local: LocalNode,
    groups: Arc<Groups>,
    handler: Arc<dyn PeerHandler>,
}

impl PeerServer {
    pub(crate) fn routes(
        env: &Env,
        local: LocalNode,
        groups: Arc<Groups>,
        handler: Arc<dyn PeerHandler>,
    ) -> Routes {
        let server = Arc::new(Self { env: env.clone(), local, groups, handler });
        let generated = PeerServiceServer::from_arc(Arc::clone(&server))
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX);
        Routes::new(Beside::new(generated, move |request| server.direct(request)))
    }

    /// Serves links past the generated code, which would copy every entry; gives other requests
    /// back.
    fn direct(self: &Arc<Self>, request: HttpRequest) -> Served {
        if request.uri().path() != LINK_PATH {
            return Err(Box::new(request));
        }
        let server = Arc::clone(self);
        Ok(Box::pin(async move {
            let incoming = Messages::of_request(request.into_body(), MESSAGE_BYTES_MAX);
            respond(server.link(incoming).await)
        }))
    }

    /// Serves one link.
    async fn link(&self, mut incoming: Messages<pb::PeerFrame>) -> Result<LinkAnswers, Status> {
        let hello = match tokio::time::timeout(limits::CALL_TIMEOUT, incoming.message()).await {
            Ok(Ok(Some(pb::PeerFrame { frame: Some(Frame::Hello(hello)) }))) => hello,
            _ => return Err(Status::invalid_argument("a link begins with a greeting")),
        };
        self.check_cluster(&hello.cluster_id)?;
        tracing::debug!(from = hello.node_id, class = ?hello.class(), "peer link accepted");
        let (out, answers) = mpsc::channel(limits::LINK_QUEUE_FRAMES);
        let greeting = Ok(self.local.hello(hello.class()));
        out.send(greeting).await.map_err(|_| Status::cancelled("the link is gone"))?;
        let groups = Arc::clone(&self.groups);
        let task = self.env.tasks.critical("peer-receiver", receiver::serve(groups, incoming, out));
        let answers = ReceiverStream::new(answers);
        Ok(LinkAnswers { answers, _task: task })
    }

    fn check_cluster(&self, cluster: &[u8]) -> Result<(), Status> {
        if cluster == self.local.cluster.as_bytes() {
            return Ok(());
        }
        Err(Status::failed_precondition("this node belongs to another cluster"))
    }
}

/// The answers of a link, and the task that makes them.
pub(crate) struct LinkAnswers {
    answers: ReceiverStream<Result<pb::PeerFrame, Status>>,
    _task: TaskHandle<()>,
}

impl Stream for LinkAnswers {
    type Item = Result<pb::PeerFrame, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Pin::new(&mut self.answers).poll_next(context)
    }
}

#[async_trait]
impl PeerService for PeerServer {
    type LinkStream = LinkAnswers;

    async fn link(
        &self,
        _request: Request<Streaming<pb::PeerFrame>>,
    ) -> Result<Response<LinkAnswers>, Status> {
        Err(Status::internal("links are served elsewhere"))
    }

    async fn propose_metadata(
        &self,
        request: Request<pb::ProposeMetadataRequest>,
    ) -> Result<Response<pb::ProposeMetadataResponse>, Status> {
        let request = request.into_inner();
        self.check_cluster(&request.cluster_id)?;
        Ok(Response::new(self.handler.propose(request).await))
    }

    async fn form(
        &self,
        request: Request<pb::FormRequest>,
    ) -> Result<Response<pb::FormResponse>, Status> {
        let request = request.into_inner();
        if self.check_cluster(&request.cluster_id).is_err() {
            let reason = "this node belongs to another cluster".to_owned();
            return Ok(Response::new(pb::FormResponse { accepted: false, reason }));
        }
        Ok(Response::new(self.handler.form(request).await))
    }

    async fn join(
        &self,
        request: Request<pb::JoinRequest>,
    ) -> Result<Response<pb::JoinResponse>, Status> {
        let request = request.into_inner();
        self.check_cluster(&request.cluster_id)?;
        Ok(Response::new(self.handler.join(request).await))
    }

    async fn bounds(
        &self,
        request: Request<pb::BoundsRequest>,
    ) -> Result<Response<pb::BoundsResponse>, Status> {
        let request = request.into_inner();
        self.check_cluster(&request.cluster_id)?;
        Ok(Response::new(self.handler.bounds(request).await))
    }
}
