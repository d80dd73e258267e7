//! The client side: one connection to one address, made at the first call and again after a loss.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use duramen_env::{Env, TaskHandle};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Request, Response, Uri};
use hyper::body::Incoming;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::sync::Mutex;
use tokio::time::Instant;
use tonic::body::Body;
use tower_service::Service;

use crate::limits;

/// Why a call could not be sent.
#[derive(Debug, thiserror::Error)]
pub enum ChannelError {
    /// No connection within the time allowed.
    #[error("could not connect to {address} within {}ms", timeout.as_millis())]
    ConnectTimeout {
        /// The address tried.
        address: Arc<str>,
        /// The time allowed.
        timeout: Duration,
    },
    /// An attempt timed out just now: the next one is not due yet.
    #[error("could not connect to {address}: it did not answer a moment ago")]
    Silent {
        /// The address.
        address: Arc<str>,
    },
    /// The connection was refused, or the name does not resolve.
    #[error("could not connect to {address}")]
    Connect {
        /// The address tried.
        address: Arc<str>,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The other side does not speak HTTP/2.
    #[error("could not agree on HTTP/2 with {address}")]
    Handshake {
        /// The address tried.
        address: Arc<str>,
        /// What went wrong.
        #[source]
        source: hyper::Error,
    },
    /// The connection broke while the call was on it: its outcome is not known.
    #[error("lost the connection to {address}")]
    Lost {
        /// The address.
        address: Arc<str>,
        /// What went wrong.
        #[source]
        source: hyper::Error,
    },
    /// The address is not of the form `host:port`.
    #[error("could not use {address} as an address: not of the form host:port")]
    BadAddress {
        /// The address given.
        address: Arc<str>,
    },
}

/// A reconnecting HTTP/2 connection. Clones share the connection; use one channel per class of
/// traffic, since calls of one connection share its window.
#[derive(Clone, Debug)]
pub struct Channel {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    env: Env,
    address: Arc<str>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    live: Option<Live>,
    /// Set when an attempt timed out, so that not every call waits for a host that is gone.
    silent_until: Option<Instant>,
}

#[derive(Debug)]
struct Live {
    sender: SendRequest<Body>,
    /// Drives the connection; ends with it.
    driver: TaskHandle<()>,
}

impl Channel {
    /// A channel to `host:port`. Nothing is connected before the first call.
    #[must_use]
    pub fn new(env: &Env, address: &str) -> Self {
        let shared = Shared { env: env.clone(), address: address.into(), state: Mutex::default() };
        Self { shared: Arc::new(shared) }
    }

    /// The address.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.shared.address
    }
}

impl Shared {
    async fn sender(&self) -> Result<SendRequest<Body>, ChannelError> {
        let mut state = self.state.lock().await;
        if let Some(live) = state.live.as_ref()
            && !live.sender.is_closed()
            && !live.driver.is_finished()
        {
            return Ok(live.sender.clone());
        }
        if state.silent_until.is_some_and(|until| Instant::now() < until) {
            return Err(ChannelError::Silent { address: Arc::clone(&self.address) });
        }
        let connected = self.connect().await;
        let timed_out = matches!(connected, Err(ChannelError::ConnectTimeout { .. }));
        state.silent_until = timed_out.then(|| Instant::now() + limits::SILENT_WAIT);
        let fresh = connected?;
        let sender = fresh.sender.clone();
        state.live = Some(fresh);
        Ok(sender)
    }

    async fn connect(&self) -> Result<Live, ChannelError> {
        let timeout = limits::CONNECT_TIMEOUT;
        let attempt = async {
            let stream = self.env.net.connect(&self.address).await.map_err(|source| {
                ChannelError::Connect { address: Arc::clone(&self.address), source }
            })?;
            let handshake = Builder::new(TokioExecutor::new())
                .timer(TokioTimer::new())
                .max_frame_size(limits::FRAME_BYTES_MAX)
                .initial_stream_window_size(limits::STREAM_WINDOW_BYTES)
                .initial_connection_window_size(limits::CONNECTION_WINDOW_BYTES)
                .max_send_buf_size(limits::SEND_BUFFER_BYTES)
                .keep_alive_interval(limits::KEEPALIVE_INTERVAL)
                .keep_alive_timeout(limits::KEEPALIVE_TIMEOUT)
                .handshake(TokioIo::new(stream));
            handshake.await.map_err(|source| ChannelError::Handshake {
                address: Arc::clone(&self.address),
                source,
            })
        };
        let Ok(connected) = tokio::time::timeout(timeout, attempt).await else {
            let address = Arc::clone(&self.address);
            return Err(ChannelError::ConnectTimeout { address, timeout });
        };
        let (sender, connection) = connected?;
        let address = Arc::clone(&self.address);
        let driver = self.env.tasks.critical("http2-connection", async move {
            if let Err(error) = connection.await {
                tracing::debug!(%address, %error, "connection ended");
            }
        });
        Ok(Live { sender, driver })
    }

    async fn call(
        self: Arc<Self>,
        request: Request<Body>,
    ) -> Result<Response<Incoming>, ChannelError> {
        let request = self.with_authority(request)?;
        let mut sender = self.sender().await?;
        let lost = |source| ChannelError::Lost { address: Arc::clone(&self.address), source };
        sender.ready().await.map_err(lost)?;
        sender.send_request(request).await.map_err(lost)
    }

    /// Generated clients leave scheme and authority out; HTTP/2 wants them.
    fn with_authority(&self, mut request: Request<Body>) -> Result<Request<Body>, ChannelError> {
        let bad = || ChannelError::BadAddress { address: Arc::clone(&self.address) };
        let mut parts = std::mem::take(request.uri_mut()).into_parts();
        parts.scheme = Some(Scheme::HTTP);
        parts.authority = Some(Authority::try_from(&*self.address).map_err(|_| bad())?);
        parts.path_and_query.get_or_insert(PathAndQuery::from_static("/"));
        *request.uri_mut() = Uri::from_parts(parts).map_err(|_| bad())?;
        Ok(request)
    }
}

impl Service<Request<Body>> for Channel {
    type Response = Response<Incoming>;
    type Error = ChannelError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Incoming>, ChannelError>> + Send>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), ChannelError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        Box::pin(Arc::clone(&self.shared).call(request))
    }
}
