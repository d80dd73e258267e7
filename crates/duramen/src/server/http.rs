//! The HTTP listener of a node: metrics and health.

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use duramen_env::{Connection, Env, Listener};
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::sync::Semaphore;

use crate::limits;

/// Wait after an accept that failed: it may be for want of file descriptors.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

const INDEX: &str = "/metrics\n/health/live\n/health/ready\n";

/// Says whether the node serves, or what it waits for.
pub(super) type Ready = dyn Fn() -> Result<(), String> + Send + Sync;

/// What the listener tells.
pub(super) struct Pages {
    pub(super) metrics: PrometheusHandle,
    pub(super) ready: Box<Ready>,
}

/// Serves until `shutdown` completes. Connections that are open then end with the process.
pub(super) async fn serve(
    env: Env,
    listener: Arc<dyn Listener>,
    pages: Arc<Pages>,
    shutdown: impl Future<Output = ()> + Send,
) {
    let places = Arc::new(Semaphore::new(limits::HTTP_CONNECTIONS));
    tokio::pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            () = &mut shutdown => return,
            accepted = accept(&listener, &places) => accepted,
        };
        let Some((connection, place)) = accepted else {
            tokio::time::sleep(ACCEPT_RETRY).await;
            continue;
        };
        let pages = Arc::clone(&pages);
        env.tasks.connection("http-connection", async move {
            converse(connection, pages).await;
            drop(place);
        });
    }
}

/// The next connection, once there is a place for it; `None` if an accept failed.
async fn accept(
    listener: &Arc<dyn Listener>,
    places: &Arc<Semaphore>,
) -> Option<(Connection, tokio::sync::OwnedSemaphorePermit)> {
    let place = Arc::clone(places).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((connection, _)) => Some((connection, place)),
        Err(error) => {
            tracing::warn!(%error, "could not accept an HTTP connection");
            None
        }
    }
}

async fn converse(connection: Connection, pages: Arc<Pages>) {
    let service = service_fn(move |request: Request<Incoming>| {
        let response = respond(&pages, request.method(), request.uri().path());
        async move { Ok::<_, Infallible>(response) }
    });
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits::HTTP_HEAD_TIMEOUT)
        .serve_connection(TokioIo::new(connection), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "an HTTP connection ended");
    }
}

fn respond(pages: &Pages, method: &Method, path: &str) -> Response<Full<Bytes>> {
    if !matches!(*method, Method::GET | Method::HEAD) {
        return text(StatusCode::METHOD_NOT_ALLOWED, "only GET is here\n".into());
    }
    match path {
        "/" => text(StatusCode::OK, INDEX.into()),
        "/metrics" => text(StatusCode::OK, pages.metrics.render()),
        "/health/live" => text(StatusCode::OK, "live\n".into()),
        "/health/ready" => match (pages.ready)() {
            Ok(()) => text(StatusCode::OK, "ready\n".into()),
            Err(reason) => text(StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {reason}\n")),
        },
        _ => text(StatusCode::NOT_FOUND, format!("there is nothing at {path}; there are\n{INDEX}")),
    }
}

fn text(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let kind = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt as _;
    use metrics_exporter_prometheus::PrometheusBuilder;

    fn pages(ready: Result<(), String>) -> Pages {
        let recorder = PrometheusBuilder::new().build_recorder();
        let metrics = recorder.handle();
        metrics::with_local_recorder(&recorder, || metrics::counter!("asked_total").increment(3));
        Pages { metrics, ready: Box::new(move || ready.clone()) }
    }

    async fn get(pages: &Pages, path: &str) -> (u16, String) {
        let response = respond(pages, &Method::GET, path);
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn a_node_that_waits_is_live_and_not_ready() {
        let pages = pages(Err("no leader".into()));
        assert_eq!(get(&pages, "/health/live").await, (200, "live\n".into()));
        assert_eq!(get(&pages, "/health/ready").await, (503, "not ready: no leader\n".into()));
    }

    #[tokio::test]
    async fn metrics_are_in_the_text_format_of_prometheus() {
        let (status, body) = get(&pages(Ok(())), "/metrics").await;
        assert_eq!(status, 200);
        assert!(body.lines().any(|line| line == "asked_total 3"), "{body}");
    }

    #[tokio::test]
    async fn other_paths_and_methods_are_refused() {
        let pages = pages(Ok(()));
        assert_eq!(get(&pages, "/nowhere").await.0, 404);
        let post = respond(&pages, &Method::POST, "/metrics");
        assert_eq!(post.status(), StatusCode::METHOD_NOT_ALLOWED);
    }
}
