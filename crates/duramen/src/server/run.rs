//! A node's process: listeners, broker, signals, and a good end.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use duramen_broker::{Broker, StartOptions};
use duramen_env::{Env, Listener, RealNet};
use duramen_types::NodeId;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use metrics_util::MetricKindMask;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::unix::pipe;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior};

use super::Stdin;
use super::config::ServerConfig;
use super::faults::{Faults, Orders};
use super::http::{self, Pages};
use crate::context::Context;
use crate::error::{CliError, full_text};
use crate::limits;
use crate::signals::Signals;

/// Buckets of all histograms of seconds: from a fast append to a slow election.
const SECONDS: [f64; 14] =
    [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];

/// A gauge that nobody sets any more is gone after this: of a deleted topic or group, or one that
/// another node tells of now. All gauges are set more often.
const GAUGE_IDLE: Duration = Duration::from_secs(60);

/// How often histograms are tidied up, and the gauge of the version is set.
const UPKEEP: Duration = Duration::from_secs(5);

/// Version and, always 1, that it runs.
const BUILD_INFO: &str = "duramen_build_info";

/// Says in the log which node starts where.
fn announce(config: &ServerConfig) {
    tracing::info!(
        node = config.id,
        dir = %config.dir.display(),
        listen = config.listen,
        peer_listen = config.peer_listen,
        http_listen = config.http_listen,
        version = env!("CARGO_PKG_VERSION"),
        "the node is starting"
    );
}

/// Runs a node until a signal asks it to end, or it must.
pub(super) async fn run(
    config: ServerConfig,
    context: Context,
    stdin: Stdin,
) -> Result<(), CliError> {
    let mut env = context.env;
    if let Some(source) = config.source() {
        env.net = Arc::new(RealNet::from_source(source));
    }
    let faults = match stdin {
        Stdin::Faults { seed } => Some(Faults::new(seed, &mut env)),
        Stdin::Life | Stdin::Unused => None,
    };
    let mut signals = Signals::new()?;
    let metrics = metrics()?;
    let grpc = listen(&env, "listen", &config.listen).await?;
    let peers = listen(&env, "peer-listen", &config.peer_listen).await?;
    let web = match &config.http_listen {
        Some(address) => Some(listen(&env, "http-listen", address).await?),
        None => None,
    };
    let broker = open(&env, &config).await?;
    let (ending, ended) = watch::channel(false);
    let serving = {
        let (env, broker, over) = (env.clone(), Arc::clone(&broker), over(ended.clone()));
        let faults = faults.as_ref().map(Faults::of_calls);
        async move { duramen_grpc::serve_with_faults(&env, grpc, broker, faults, over).await }
    };
    let serving = env.tasks.critical("grpc-listener", serving);
    let web = web.map(|listener| {
        let node = Arc::clone(&broker);
        let ready = Box::new(move || node.ready());
        let pages = Arc::new(Pages { metrics: metrics.clone(), ready });
        let serving = http::serve(env.clone(), listener, pages, over(ended.clone()));
        env.tasks.critical("http-listener", serving)
    });
    let upkeep = env.tasks.critical("metrics-upkeep", upkeep(metrics));
    announce(&config);
    let (orders, telling) = faults.map(|faults| faults.start(&env, Arc::clone(&broker))).unzip();
    let stop = {
        let broker = Arc::clone(&broker);
        async move {
            let asked = tokio::select! {
                () = signals.next() => {
                    tracing::info!("a signal asks the node to end");
                    Asked::BySignal
                }
                () = stdin_closed(orders), if stdin != Stdin::Unused => {
                    tracing::info!("stdin was closed: the node ends");
                    Asked::ByStdin
                }
            };
            broker.stop();
            (signals, asked)
        }
    };
    let outcome = end(Box::pin(broker.run(peers)), stop).await?;
    ending.send_replace(true);
    let deadline = Instant::now() + limits::STOP_TIMEOUT / 2;
    // Streams that clients keep open do not hold the process for ever.
    match tokio::time::timeout_at(deadline, serving.join()).await {
        Ok(Some(Err(error))) => tracing::warn!(%error, "the client listener failed"),
        Ok(_) => {}
        Err(_) => tracing::info!("clients kept their streams open: ending without them"),
    }
    drop((web, upkeep, telling));
    tracing::info!("the node has ended");
    outcome.map_err(|error| CliError::Failed(full_text(&error)))
}

/// What asked the node to end.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Asked {
    BySignal,
    ByStdin,
}

/// Waits for the node's end; what asks for it goes on until then, and a second time ends at once.
async fn end<T>(
    node: impl Future<Output = T>,
    stop: impl Future<Output = (Signals, Asked)>,
) -> Result<T, CliError> {
    tokio::pin!(node);
    tokio::pin!(stop);
    let (mut signals, asked) = tokio::select! {
        outcome = &mut node => return Ok(outcome),
        stopped = &mut stop => stopped,
    };
    let impatient = async move {
        // After a closed stdin the first signal is no impatience.
        if asked == Asked::ByStdin {
            signals.next().await;
        }
        signals.next().await;
    };
    tokio::select! {
        outcome = &mut node => Ok(outcome),
        () = impatient => Err(CliError::Interrupted),
        () = tokio::time::sleep(limits::STOP_TIMEOUT) => Err(CliError::Failed(format!(
            "the node did not end within {}s",
            limits::STOP_TIMEOUT.as_secs()
        ))),
    }
}

/// Completes when the end has come.
async fn over(mut ended: watch::Receiver<bool>) {
    drop(ended.wait_for(|ended| *ended).await);
}

async fn open(env: &Env, config: &ServerConfig) -> Result<Arc<Broker>, CliError> {
    let options = StartOptions {
        node: NodeId::new(config.id),
        dir: config.dir.clone(),
        seeds: config.seeds.clone(),
        client_address: config.advertise.clone(),
        peer_address: config.advertise_peer.clone(),
        http_address: config.advertise_http.clone(),
        rack: config.rack.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        disk_reserve_bytes: config.disk_reserve_bytes,
        snapshot_entries: None,
        group_shards: None,
        group_assignor: config.group_assignor,
    };
    let opening = env.clone();
    let opened = env.tasks.blocking("broker-open", move || Broker::open(&opening, options)).await;
    opened.map_err(|error| CliError::Failed(full_text(&error)))
}

async fn listen(
    env: &Env,
    flag: &'static str,
    address: &str,
) -> Result<Arc<dyn Listener>, CliError> {
    let listener = env.net.listen(address).await.map_err(|error| {
        CliError::Failed(format!("could not listen on {address}: {error}; choose another --{flag}"))
    })?;
    let bound: Option<SocketAddr> = listener.local_addr().ok();
    tracing::debug!(flag, ?bound, "listening");
    Ok(Arc::from(listener))
}

/// Starts to collect metrics.
fn metrics() -> Result<PrometheusHandle, CliError> {
    let failed = |error| CliError::Failed(format!("could not collect metrics: {error}"));
    let builder = PrometheusBuilder::new()
        .idle_timeout(MetricKindMask::GAUGE, Some(GAUGE_IDLE))
        .set_buckets_for_metric(Matcher::Suffix("_seconds".into()), &SECONDS)
        .map_err(failed)?;
    builder.install_recorder().map_err(failed)
}

async fn upkeep(metrics: PrometheusHandle) {
    let mut interval = tokio::time::interval(UPKEEP);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        metrics::gauge!(BUILD_INFO, "version" => env!("CARGO_PKG_VERSION")).set(1.0);
        metrics.run_upkeep();
    }
}

/// Completes when whoever holds the other end of stdin has closed it, or is gone. What comes in
/// meanwhile are orders, or nothing.
async fn stdin_closed(orders: Option<Orders>) {
    use std::os::fd::AsFd;
    let Ok(fd) = std::io::stdin().as_fd().try_clone_to_owned() else { return };
    match pipe::Receiver::from_owned_fd(fd) {
        Ok(pipe) => read_out(pipe, orders).await,
        // Not a pipe: a terminal or a file, which may block.
        Err(_) => read_out(tokio::io::stdin(), orders).await,
    }
}

async fn read_out(mut stdin: impl AsyncRead + Unpin, orders: Option<Orders>) {
    if let Some(orders) = orders {
        return orders.follow(stdin).await;
    }
    let mut buffer = [0; 64];
    while stdin.read(&mut buffer).await.is_ok_and(|bytes| bytes > 0) {}
}
