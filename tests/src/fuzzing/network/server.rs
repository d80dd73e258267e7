//! A listener whose client sends any bytes. The services read every message and say no, or nothing
//! that matters: what they do with messages is tested apart. Streams are served past the generated
//! code, as the product's are.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use duramen_env::fuzz::Verdict;
use duramen_env::{Connection, Listener};
use duramen_net::ServerOptions;
use duramen_net::grpc::{Beside, Direct, Messages, respond};
use duramen_net::limits::MESSAGE_BYTES_MAX;
use duramen_proto::v1;
use duramen_proto::v1::log_service_server::{LogService, LogServiceServer};
use futures::stream;
use prost::Message;
use tokio::sync::Notify;
use tonic::body::Body;
use tonic::codegen::async_trait;
use tonic::service::Routes;
use tonic::{Request, Response, Status, Streaming};

use super::{Scripted, block_on};

/// How long a connection that is cut off may take to end, in the time of the simulation.
const ENDS_IN: Duration = Duration::from_secs(60);

type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Gives one connection, then none.
#[derive(Debug)]
struct OneConnection(Mutex<Option<Scripted>>);

impl Listener for OneConnection {
    fn accept(&self) -> BoxFuture<'_, io::Result<(Connection, SocketAddr)>> {
        let taken = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        Box::pin(async {
            match taken {
                Some(scripted) => Ok((Box::new(scripted) as Connection, address())),
                None => std::future::pending().await,
            }
        })
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(address())
    }
}

fn address() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 1).into()
}

/// Serves a connection to its end.
pub(super) fn serve(bytes: &[u8]) -> Verdict {
    let read = Arc::new(AtomicU64::new(0));
    let reader = Arc::new(Reader { read: Arc::clone(&read) });
    let generated = LogServiceServer::from_arc(Arc::clone(&reader));
    let service = Beside::new(generated, move |request| reader.direct(request));
    let served = block_on(async {
        let gone = Arc::new(Notify::new());
        let listener = OneConnection(Mutex::new(Some(Scripted::new(bytes, &gone))));
        let ended = async move { gone.notified().await };
        let routes = Routes::new(service);
        let serving =
            duramen_net::serve(Arc::new(listener), routes, ServerOptions::default(), ended);
        tokio::time::timeout(ENDS_IN, serving).await
    });
    match served {
        Some(Ok(Ok(()))) if read.load(Ordering::Relaxed) > 0 => Verdict::Accepted,
        Some(Ok(Ok(()))) => Verdict::Refused,
        Some(Ok(Err(_))) => Verdict::Broken("a connection ends its listener"),
        Some(Err(_)) => Verdict::Broken("a connection without a client goes on"),
        None => Verdict::Broken("there is no runtime"),
    }
}

/// Counts the messages that arrive whole.
struct Reader {
    read: Arc<AtomicU64>,
}

impl Reader {
    fn took<A>(&self) -> Result<Response<A>, Status> {
        self.read.fetch_add(1, Ordering::Relaxed);
        Err(Status::unimplemented("only read"))
    }

    fn direct(
        self: &Arc<Self>,
        request: http::Request<Body>,
    ) -> Result<Direct, Box<http::Request<Body>>> {
        let answer = match request.uri().path() {
            "/duramen.v1.LogService/ProduceStream" => {
                Arc::clone(self).answer::<v1::ProduceRequest, v1::ProduceResponse>(request)
            }
            "/duramen.v1.LogService/FetchStream" => {
                Arc::clone(self).answer::<v1::FetchStreamRequest, v1::FetchResponse>(request)
            }
            _ => return Err(Box::new(request)),
        };
        Ok(Box::pin(std::future::ready(answer)))
    }

    /// An empty answer to each message.
    fn answer<Q, A>(self: Arc<Self>, request: http::Request<Body>) -> http::Response<Body>
    where
        Q: Message + Default + 'static,
        A: Message + Default + 'static,
    {
        let messages = Messages::<Q>::of_request(request.into_body(), MESSAGE_BYTES_MAX);
        let answers = stream::try_unfold((self, messages), |(reader, mut messages)| async {
            let message = messages.message().await?;
            Ok(message.map(|_| {
                reader.read.fetch_add(1, Ordering::Relaxed);
                (A::default(), (reader, messages))
            }))
        });
        respond(Ok(Box::pin(answers)))
    }
}

fn served_directly() -> Status {
    Status::internal("this stream is served elsewhere")
}

type Answers<T> = stream::Empty<Result<T, Status>>;

#[async_trait]
impl LogService for Reader {
    type ProduceStreamStream = Answers<v1::ProduceResponse>;
    type FetchStreamStream = Answers<v1::FetchResponse>;

    async fn produce(
        &self,
        _: Request<v1::ProduceRequest>,
    ) -> Result<Response<v1::ProduceResponse>, Status> {
        self.took()
    }

    async fn produce_stream(
        &self,
        _: Request<Streaming<v1::ProduceRequest>>,
    ) -> Result<Response<Self::ProduceStreamStream>, Status> {
        Err(served_directly())
    }

    async fn fetch(
        &self,
        _: Request<v1::FetchRequest>,
    ) -> Result<Response<v1::FetchResponse>, Status> {
        self.took()
    }

    async fn fetch_stream(
        &self,
        _: Request<Streaming<v1::FetchStreamRequest>>,
    ) -> Result<Response<Self::FetchStreamStream>, Status> {
        Err(served_directly())
    }

    async fn list_offsets(
        &self,
        _: Request<v1::ListOffsetsRequest>,
    ) -> Result<Response<v1::ListOffsetsResponse>, Status> {
        self.took()
    }

    async fn init_producer(
        &self,
        _: Request<v1::InitProducerRequest>,
    ) -> Result<Response<v1::InitProducerResponse>, Status> {
        self.took()
    }
}
