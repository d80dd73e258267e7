//! Asks one node again and again what it knows of a topic: none of it may ever go back.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use duramen_checker::Observation;
use tokio::sync::watch;

use super::recorder::Recorder;
use crate::processes::Wire;

/// Wait between two questions.
const INTERVAL: Duration = Duration::from_millis(150);

/// How long one may take.
const ANSWER_MAX: Duration = Duration::from_secs(1);

/// Lives of a node that observers can tell apart.
const LIVES_MAX: u32 = 1_000_000;

/// How often each node's process began or ended.
#[derive(Debug, Default)]
pub(super) struct Lives {
    nodes: BTreeMap<u64, AtomicU32>,
}

impl Lives {
    pub(super) fn new(nodes: impl Iterator<Item = u64>) -> Self {
        Self { nodes: nodes.map(|node| (node, AtomicU32::new(0))).collect() }
    }

    /// A process of the node is about to begin or to end.
    pub(super) fn turn(&self, node: u64) {
        if let Some(life) = self.nodes.get(&node) {
            life.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn of(&self, node: u64) -> u32 {
        self.nodes.get(&node).map_or(0, |life| life.load(Ordering::SeqCst))
    }
}

/// The observer of one node.
pub(super) struct Observer {
    pub(super) node: u64,
    pub(super) wire: Wire,
    pub(super) lives: Arc<Lives>,
    pub(super) topic: String,
    pub(super) recorder: Recorder,
    pub(super) stop: watch::Receiver<bool>,
}

impl Observer {
    /// Asks until it is stopped.
    pub(super) async fn run(mut self) {
        while !*self.stop.borrow() {
            self.observe().await;
            drop(tokio::time::timeout(INTERVAL, self.stop.changed()).await);
        }
    }

    async fn observe(&self) {
        let life = self.lives.of(self.node);
        let asking = self.wire.clone().describe_topic(&self.topic);
        let Ok(Ok(topic)) = tokio::time::timeout(ANSWER_MAX, asking).await else { return };
        // An answer that may be another process's says nothing.
        if self.lives.of(self.node) != life {
            return;
        }
        let node = u32::try_from(self.node).unwrap_or(0);
        let observer = node * LIVES_MAX + life;
        self.recorder.with(|history| {
            for partition in topic.partitions {
                let seen = Observation {
                    high_watermark: partition.high_watermark,
                    log_start: partition.log_start_offset,
                    leader_epoch: Some(partition.leader_epoch).filter(|epoch| *epoch > 0),
                };
                history.observe(observer, partition.id, seen);
            }
        });
    }
}
