//! Faults on purpose: orders come in on stdin, what was done goes out on stdout.

use std::sync::Arc;
use std::time::Duration;

use duramen_broker::{Broker, Caller};
use duramen_env::{Env, FaultyDisk, TaskHandle};
use duramen_grpc::CallFaults;
use duramen_types::PartitionId;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::sync::mpsc;

use crate::faults::{NodeFaults, Order, REPORTS_WAITING, Report};
use crate::output;

/// How often hits that were too many to be told one by one are told.
const UNSAID_INTERVAL: Duration = Duration::from_millis(200);

/// The faults of this process.
pub(super) struct Faults {
    node: Arc<NodeFaults>,
    reports: mpsc::Sender<Report>,
    waiting: mpsc::Receiver<Report>,
}

impl Faults {
    /// None yet; `env` gets a disk that they can hit.
    pub(super) fn new(seed: u64, env: &mut Env) -> Self {
        let (reports, waiting) = mpsc::channel(REPORTS_WAITING);
        let node = Arc::new(NodeFaults::new(seed, reports.clone()));
        env.disk = Arc::new(FaultyDisk::new(Arc::clone(&env.disk), Arc::clone(&node) as _));
        Self { node, reports, waiting }
    }

    /// What the listener asks.
    pub(super) fn of_calls(&self) -> Arc<dyn CallFaults> {
        Arc::clone(&self.node) as _
    }

    /// Starts to tell what was done; gives what takes orders.
    pub(super) fn start(self, env: &Env, broker: Arc<Broker>) -> (Orders, TaskHandle<()>) {
        let telling = tell(env.clone(), Arc::clone(&self.node), self.waiting);
        let telling = env.tasks.critical("fault-reports", telling);
        let env = env.clone();
        (Orders { env, node: self.node, reports: self.reports, broker }, telling)
    }
}

/// Writes reports to stdout until nobody reads them any more.
async fn tell(env: Env, node: Arc<NodeFaults>, mut waiting: mpsc::Receiver<Report>) {
    loop {
        let next = tokio::time::timeout(UNSAID_INTERVAL, waiting.recv()).await;
        let reports = match next {
            Ok(Some(report)) => vec![report],
            Ok(None) => return,
            Err(_) => node.unsaid(),
        };
        for report in reports {
            let written = env.tasks.blocking("fault-report", move || output::json(&report));
            if written.await.is_err() {
                return;
            }
        }
    }
}

/// Takes orders.
pub(super) struct Orders {
    env: Env,
    node: Arc<NodeFaults>,
    reports: mpsc::Sender<Report>,
    broker: Arc<Broker>,
}

impl Orders {
    /// Takes orders until their end.
    pub(super) async fn follow(self, from: impl AsyncRead + Unpin) {
        let mut lines = BufReader::new(from).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            match serde_json::from_str(&line) {
                Ok(Order::HandOver { id, partition }) => {
                    let moving =
                        hand_over(Arc::clone(&self.broker), self.reports.clone(), id, partition);
                    self.env.tasks.connection("hand-over", moving);
                }
                Ok(order) => self.node.take(order),
                Err(error) => tracing::warn!(%error, line, "an order that is none"),
            }
        }
    }
}

async fn hand_over(
    broker: Arc<Broker>,
    reports: mpsc::Sender<Report>,
    id: u64,
    partition: Option<(String, u32)>,
) {
    let named = partition.as_ref().map(|(topic, id)| (topic.as_str(), PartitionId::new(*id)));
    let partitions = match broker.hand_over(&Caller::default(), named).await {
        Ok(partitions) => partitions,
        Err(error) => {
            tracing::info!(%error, "could not hand leadership on");
            Vec::new()
        }
    };
    let count = |count| u64::try_from(count).unwrap_or(u64::MAX);
    let moved = count(partitions.iter().filter(|(_, moved)| *moved).count());
    drop(reports.send(Report::Moved { id, led: count(partitions.len()), moved }).await);
}
