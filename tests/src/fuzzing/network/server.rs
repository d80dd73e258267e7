//! A listener whose client sends any bytes. The services read every message and say no: what they
//! do with messages is tested apart.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use duramen_env::fuzz::Verdict;
use duramen_env::{Connection, Listener};
use duramen_net::ServerOptions;
use duramen_proto::v1;
use duramen_proto::v1::log_service_server::{LogService, LogServiceServer};
use tokio::sync::Notify;
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
    let service = LogServiceServer::new(Reader { read: Arc::clone(&read) });
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

    async fn drain<Q, A>(&self, request: Request<Streaming<Q>>) -> Result<Response<A>, Status> {
        let mut messages = request.into_inner();
        while messages.message().await?.is_some() {
            self.read.fetch_add(1, Ordering::Relaxed);
        }
        Err(Status::unimplemented("only read"))
    }
}

type Answers<T> = futures::stream::Empty<Result<T, Status>>;

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
        requests: Request<Streaming<v1::ProduceRequest>>,
    ) -> Result<Response<Self::ProduceStreamStream>, Status> {
        self.drain(requests).await
    }

    async fn fetch(
        &self,
        _: Request<v1::FetchRequest>,
    ) -> Result<Response<v1::FetchResponse>, Status> {
        self.took()
    }

    async fn fetch_stream(
        &self,
        requests: Request<Streaming<v1::FetchStreamRequest>>,
    ) -> Result<Response<Self::FetchStreamStream>, Status> {
        self.drain(requests).await
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
