//! The discovery service: how nodes with the same seed list find each other.

use std::sync::Arc;

use async_trait::async_trait;
use duramen_broker::Broker;
use duramen_proto::v1;
use duramen_proto::v1::discovery_service_server::DiscoveryService;
use tonic::{Request, Response, Status};

/// Says who this node is.
pub(crate) struct DiscoveryApi {
    broker: Arc<Broker>,
}

impl DiscoveryApi {
    pub(crate) const fn new(broker: Arc<Broker>) -> Self {
        Self { broker }
    }
}

#[async_trait]
impl DiscoveryService for DiscoveryApi {
    async fn identify(
        &self,
        _request: Request<v1::IdentifyRequest>,
    ) -> Result<Response<v1::IdentifyResponse>, Status> {
        Ok(Response::new(self.broker.identify()))
    }
}
