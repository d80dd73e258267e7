//! A generated service, some of whose paths are served past it.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use http::{Request, Response};
use tonic::body::Body;
use tonic::server::NamedService;
use tower_service::Service;

/// The response to a request that is served past the generated code.
pub type Direct = Pin<Box<dyn Future<Output = Response<Body>> + Send>>;

/// A generated service and what serves some of its paths instead: `direct` gives a request back
/// that is not of these.
#[derive(Clone, Debug)]
pub struct Beside<S, F> {
    service: S,
    direct: F,
}

impl<S, F> Beside<S, F>
where
    F: Fn(Request<Body>) -> Result<Direct, Box<Request<Body>>>,
{
    /// Puts `direct` before a service.
    pub const fn new(service: S, direct: F) -> Self {
        Self { service, direct }
    }
}

impl<S: NamedService, F> NamedService for Beside<S, F> {
    const NAME: &'static str = S::NAME;
}

impl<S, F> Service<Request<Body>> for Beside<S, F>
where
    S: Service<Request<Body>, Response = Response<Body>>,
    S::Future: Send + 'static,
    F: Fn(Request<Body>) -> Result<Direct, Box<Request<Body>>>,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.service.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        match (self.direct)(request) {
            Ok(direct) => Box::pin(async move { Ok(direct.await) }),
            Err(request) => Box::pin(self.service.call(*request)),
        }
    }
}
