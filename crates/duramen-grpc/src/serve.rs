//! Puts the services of one node on a listener.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use duramen_broker::Broker;
use duramen_env::{Env, Listener};
use duramen_net::ServerOptions;
use duramen_net::grpc::Beside;
use duramen_proto::v1;
use duramen_proto::v1::admin_service_server::AdminServiceServer;
use duramen_proto::v1::discovery_service_server::DiscoveryServiceServer;
use duramen_proto::v1::group_service_server::GroupServiceServer;
use duramen_proto::v1::log_service_server::LogServiceServer;
use tonic::service::RoutesBuilder;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use crate::admin::AdminApi;
use crate::discovery::DiscoveryApi;
use crate::faults::CallFaults;
use crate::group::GroupApi;
use crate::limits;
use crate::service::LogApi;

/// How often the health service looks whether the node is ready.
const HEALTH_INTERVAL: Duration = Duration::from_millis(200);

/// Serves clients on a listener until `shutdown` completes and open calls have ended.
///
/// # Errors
/// A failure of the listener itself.
pub async fn serve<S>(
    env: &Env,
    listener: Arc<dyn Listener>,
    broker: Arc<Broker>,
    shutdown: S,
) -> Result<(), tonic::transport::Error>
where
    S: Future<Output = ()> + Send,
{
    serve_with_faults(env, listener, broker, None, shutdown).await
}

/// As [`serve`], with faults.
///
/// # Errors
/// A failure of the listener itself.
pub async fn serve_with_faults<S>(
    env: &Env,
    listener: Arc<dyn Listener>,
    broker: Arc<Broker>,
    faults: Option<Arc<dyn CallFaults>>,
    shutdown: S,
) -> Result<(), tonic::transport::Error>
where
    S: Future<Output = ()> + Send,
{
    let (reporter, health) = tonic_health::server::health_reporter();
    let watched = env.tasks.critical("health", watch(Arc::clone(&broker), reporter));
    let mut routes = RoutesBuilder::default();
    let log = Arc::new(LogApi::new(env.clone(), Arc::clone(&broker), faults));
    let generated = LogServiceServer::from_arc(Arc::clone(&log))
        .max_decoding_message_size(limits::REQUEST_BYTES_MAX)
        .max_encoding_message_size(duramen_net::limits::MESSAGE_BYTES_MAX);
    routes
        .add_service(Beside::new(generated, move |request| log.direct(request)))
        .add_service(AdminServiceServer::new(AdminApi::new(Arc::clone(&broker))))
        .add_service(
            GroupServiceServer::new(GroupApi::new(env.clone(), Arc::clone(&broker)))
                .max_decoding_message_size(limits::GROUP_REQUEST_BYTES_MAX)
                .max_encoding_message_size(duramen_net::limits::MESSAGE_BYTES_MAX),
        )
        .add_service(DiscoveryServiceServer::new(DiscoveryApi::new(broker)))
        .add_service(health);
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(v1::FILE_DESCRIPTOR_SET)
        .build_v1();
    match reflection {
        Ok(reflection) => {
            routes.add_service(reflection);
        }
        Err(error) => tracing::error!(%error, "could not build the reflection service"),
    }
    let options = ServerOptions::default();
    let served = duramen_net::serve(listener, routes.routes(), options, shutdown).await;
    drop(watched);
    served
}

/// Keeps the health service true to the node.
async fn watch(broker: Arc<Broker>, reporter: HealthReporter) {
    let mut interval = tokio::time::interval(HEALTH_INTERVAL);
    loop {
        interval.tick().await;
        let status = match broker.ready() {
            Ok(()) => ServingStatus::Serving,
            Err(_) => ServingStatus::NotServing,
        };
        for service in
            ["", "duramen.v1.LogService", "duramen.v1.AdminService", "duramen.v1.GroupService"]
        {
            reporter.set_service_status(service, status).await;
        }
    }
}
