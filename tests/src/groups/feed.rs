//! A producer at a steady rate over all partitions.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use duramen_client::{Client, Delivery, PartitionId, ProducerOptions, ProducerRecord};
use tokio::task::JoinSet;

use super::TOPIC;
use crate::processes::Outcome;

/// How often it wakes.
const TICK: Duration = Duration::from_millis(5);

/// Records under way at a time.
const UNDER_WAY: usize = 20_000;

/// A producer under way.
pub(super) struct Feed {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    task: JoinSet<Outcome>,
}

impl Feed {
    /// Sends to all partitions in turn, so many records a second, until it has sent `most`.
    pub(super) fn start(client: Client, partitions: u32, per_second: u64, most: u64) -> Self {
        let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stopped, counted) = (Arc::clone(&stop), Arc::clone(&sent));
        let mut task = JoinSet::new();
        task.spawn(async move {
            let options = ProducerOptions::default();
            let producer = client.producer(TOPIC, options).await?;
            let mut under_way: VecDeque<Delivery> = VecDeque::new();
            let mut tick = tokio::time::interval(TICK);
            let mut credit = 0;
            while !stopped.load(Ordering::Relaxed) && counted.load(Ordering::Relaxed) < most {
                tick.tick().await;
                credit += per_second * 5;
                while credit >= 1_000 && counted.load(Ordering::Relaxed) < most {
                    credit -= 1_000;
                    let number = counted.fetch_add(1, Ordering::Relaxed);
                    let partition = u32::try_from(number % u64::from(partitions)).unwrap_or(0);
                    let mut record = ProducerRecord::new(format!("record {number:>20}"));
                    record.partition = Some(PartitionId::new(partition));
                    under_way.push_back(producer.send(record).await?);
                    if under_way.len() >= UNDER_WAY
                        && let Some(first) = under_way.pop_front()
                    {
                        first.await?;
                    }
                }
            }
            for delivery in under_way {
                delivery.await?;
            }
            Ok(())
        });
        Self { stop, sent, task }
    }

    /// Waits until all is sent and acknowledged; gives how many there were.
    pub(super) async fn finish(mut self) -> Outcome<u64> {
        self.task.join_next().await.ok_or("nothing was sent")???;
        Ok(self.sent.load(Ordering::Relaxed))
    }

    /// As [`Self::finish`], at once.
    pub(super) async fn stop(self) -> Outcome<u64> {
        self.stop.store(true, Ordering::Relaxed);
        self.finish().await
    }
}
