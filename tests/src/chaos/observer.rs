//! Asks one node again and again what it knows of a topic: none of it may ever go back.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
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

/// How often each node's process began or ended, and which nodes are not to be listened to: one
/// whose replicas are replaced begins anew with what it says.
#[derive(Debug, Default)]
pub(super) struct Lives {
    nodes: BTreeMap<u64, Life>,
}

#[derive(Debug, Default)]
struct Life {
    number: AtomicU32,
    is_doubtful: AtomicBool,
}

impl Lives {
    pub(super) fn new(nodes: impl Iterator<Item = u64>) -> Self {
        Self { nodes: nodes.map(|node| (node, Life::default())).collect() }
    }

    /// A process of the node is about to begin or to end.
    pub(super) fn turn(&self, node: u64) {
        if let Some(life) = self.nodes.get(&node) {
            life.number.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// What the node says counts no more, until it is [trusted](Self::trust) again.
    pub(super) fn doubt(&self, node: u64) {
        if let Some(life) = self.nodes.get(&node) {
            life.is_doubtful.store(true, Ordering::SeqCst);
        }
    }

    /// What the node says counts again; if it was doubted, as of another life.
    pub(super) fn trust(&self, node: u64) {
        let Some(life) = self.nodes.get(&node) else { return };
        if life.is_doubtful.load(Ordering::SeqCst) {
            life.number.fetch_add(1, Ordering::SeqCst);
            life.is_doubtful.store(false, Ordering::SeqCst);
        }
    }

    /// The number of a node's life; `None` if what it says does not count.
    fn of(&self, node: u64) -> Option<u32> {
        let life = self.nodes.get(&node)?;
        let number = life.number.load(Ordering::SeqCst);
        (!life.is_doubtful.load(Ordering::SeqCst)).then_some(number)
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
        let Some(life) = self.lives.of(self.node) else { return };
        let asking = self.wire.clone().describe_topic(&self.topic);
        let Ok(Ok(topic)) = tokio::time::timeout(ANSWER_MAX, asking).await else { return };
        // An answer that may be another process's says nothing.
        if self.lives.of(self.node) != Some(life) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_life_that_was_doubted_is_another_one_afterwards() {
        let lives = Lives::new([1, 2].into_iter());
        lives.turn(1);
        assert_eq!((lives.of(1), lives.of(2)), (Some(1), Some(0)));
        lives.doubt(1);
        assert_eq!((lives.of(1), lives.of(2)), (None, Some(0)));
        lives.trust(1);
        lives.trust(2);
        assert_eq!((lives.of(1), lives.of(2)), (Some(2), Some(0)));
    }
}
