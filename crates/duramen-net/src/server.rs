//! The server side: tonic's server with this project's limits.

use std::future::Future;
use std::sync::Arc;

use duramen_env::Listener;
use tonic::service::Routes;
use tonic::transport::Server;

use crate::incoming::incoming;
use crate::limits;

/// Limits of one listener.
#[derive(Clone, Debug)]
pub struct ServerOptions {
    /// Streams that one connection may have open.
    pub concurrent_streams_max: u32,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self { concurrent_streams_max: limits::CONCURRENT_STREAMS_MAX }
    }
}

/// Serves gRPC on a listener until `shutdown` completes and open calls have ended.
///
/// # Errors
/// A failure of the listener itself; a failed accept or connection does not end it.
pub async fn serve<S>(
    listener: Arc<dyn Listener>,
    routes: Routes,
    options: ServerOptions,
    shutdown: S,
) -> Result<(), tonic::transport::Error>
where
    S: Future<Output = ()> + Send,
{
    Server::builder()
        .max_frame_size(limits::FRAME_BYTES_MAX)
        .initial_stream_window_size(limits::STREAM_WINDOW_BYTES)
        .initial_connection_window_size(limits::CONNECTION_WINDOW_BYTES)
        .max_concurrent_streams(options.concurrent_streams_max)
        .http2_max_header_list_size(limits::HEADER_BYTES_MAX)
        .http2_keepalive_interval(Some(limits::KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(limits::KEEPALIVE_TIMEOUT))
        .add_routes(routes)
        .serve_with_incoming_shutdown(incoming(listener), shutdown)
        .await
}
