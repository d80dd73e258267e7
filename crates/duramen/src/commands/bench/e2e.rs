//! How long a record takes from producer to consumer, at a fixed rate.
//!
//! Open loop: record i is due at start + i / rate, and its latency counts from then, also if the
//! producer could not take it in at once. So a stall is seen by all the records that it delays
//! (what closed loops hide is known as coordinated omission).

use std::time::Duration;

use duramen_client::{
    Consumer, ConsumerOptions, Delivery, PartitionId, Producer, ProducerRecord, Start,
};
use duramen_env::Tasks;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::payload::{Payloads, number_of};
use super::report::Report;
use super::tally::{Counted, Latencies, Tally, latencies, record};
use super::usage::meter;
use super::{Bench, E2eArgs};
use crate::error::CliError;
use crate::limits;

/// How long the last records may take after the end.
const PATIENCE: Duration = Duration::from_secs(10);

/// The schedule: when each record is due.
#[derive(Clone, Copy, Debug)]
struct Schedule {
    start: Instant,
    rate: u32,
    /// The first record that counts, and one past the last.
    counted: (u64, u64),
}

impl Schedule {
    fn due(&self, number: u64) -> Instant {
        let nanos = u128::from(number) * 1_000_000_000 / u128::from(self.rate);
        self.start + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    fn counts(&self, number: u64) -> bool {
        (self.counted.0..self.counted.1).contains(&number)
    }
}

/// What became of the records sent.
#[derive(Clone, Debug, Default)]
struct Sent {
    acknowledged: u64,
    errors: u64,
    error: Option<String>,
    is_over: bool,
}

/// Measures.
pub(super) async fn run(bench: &Bench, args: &E2eArgs) -> Result<Report, CliError> {
    bench.describe(&format!("e2e at {} records/s", args.rate));
    let options = ConsumerOptions::default().start(Start::Last(0));
    let consumer = bench.client().await?.consumer(&bench.topic, options).await?;
    let producer = bench.client().await?;
    let producer =
        producer.producer(&bench.topic, bench.producer_options(args.linger_ms, 1)).await?;
    let records = |time: Duration| {
        let count = time.as_nanos() * u128::from(args.rate) / 1_000_000_000;
        u64::try_from(count).unwrap_or(u64::MAX)
    };
    let first = records(bench.warmup());
    let last = first.saturating_add(records(bench.measured()).max(1));
    // A little later, so that the first record is not late.
    let start = Instant::now() + Duration::from_millis(50);
    let schedule = Schedule { start, rate: args.rate, counted: (first, last) };
    let size = usize::try_from(bench.args.size).unwrap_or(usize::MAX);
    let payloads = Payloads::new(bench.args.seed, size);
    let tasks = &bench.context.env.tasks;
    let (sent, outcome) = watch::channel(Sent::default());
    let sending = tasks
        .critical("bench-producer", produce(producer, payloads, schedule, sent, tasks.clone()));
    let receiving = tasks.critical("bench-consumer", receive(consumer, schedule, outcome.clone()));
    tokio::time::sleep_until(schedule.due(first)).await;
    let ((), used) = meter(&bench.pids, tokio::time::sleep_until(schedule.due(last))).await;
    sending.join().await;
    let received = receiving.join().await;
    let (latencies, seen) = received.unwrap_or_else(|| (latencies(), 0));
    let sent = outcome.borrow().clone();
    let lost = sent.acknowledged.saturating_sub(seen);
    let error = sent.error.or((lost > 0).then(|| {
        format!("{lost} acknowledged records did not come within {}s", PATIENCE.as_secs())
    }));
    let tally = Tally { records: latencies.len(), latencies, errors: sent.errors + lost, error };
    let counted = Counted { tally, used };
    Ok(Report::new("e2e", bench, &counted))
}

/// Sends each record when it is due.
async fn produce(
    producer: Producer,
    mut payloads: Payloads,
    schedule: Schedule,
    sent: watch::Sender<Sent>,
    tasks: Tasks,
) {
    let (deliveries, waiting) = mpsc::channel(limits::DELIVERIES);
    let (tick, mut ticks) = mpsc::channel(limits::DELIVERIES);
    let metronome = tasks.blocking("bench-metronome", move || beat(&schedule, &tick));
    let partitions = u64::from(producer.partitions());
    let send = async {
        while let Some(number) = ticks.recv().await {
            let partition = u32::try_from(number % partitions).unwrap_or(0);
            let record = ProducerRecord::new(payloads.next_numbered(number))
                .partition(PartitionId::new(partition));
            match producer.send(record).await {
                Ok(delivery) => {
                    if deliveries.send(delivery).await.is_err() {
                        break;
                    }
                }
                Err(error) => {
                    sent.send_modify(|sent| {
                        sent.errors += 1;
                        sent.error.get_or_insert_with(|| error.to_string());
                    });
                }
            }
        }
        drop(deliveries);
        producer.flush().await;
    };
    tokio::join!(metronome, send, tally(waiting, &sent));
    sent.send_modify(|sent| sent.is_over = true);
}

/// Says the number of each record when it is due. A thread of its own sleeps more precisely than
/// the runtime's timers, whose millisecond would be most of what is measured.
fn beat(schedule: &Schedule, tick: &mpsc::Sender<u64>) {
    for number in 0..schedule.counted.1 {
        let wait = schedule.due(number).saturating_duration_since(Instant::now());
        if !wait.is_zero() {
            #[expect(clippy::disallowed_methods, reason = "timers of the runtime are too coarse")]
            std::thread::sleep(wait);
        }
        if tick.blocking_send(number).is_err() {
            return;
        }
    }
}

async fn tally(mut waiting: mpsc::Receiver<Delivery>, sent: &watch::Sender<Sent>) {
    while let Some(delivery) = waiting.recv().await {
        let outcome = delivery.await;
        sent.send_modify(|sent| match outcome {
            Ok(_) => sent.acknowledged += 1,
            Err(error) => {
                sent.errors += 1;
                sent.error.get_or_insert_with(|| error.to_string());
            }
        });
    }
}

/// Receives until everything acknowledged is here; answers the latencies and how many came.
async fn receive(
    mut consumer: Consumer,
    schedule: Schedule,
    mut sent: watch::Receiver<Sent>,
) -> (Latencies, u64) {
    let mut latencies = latencies();
    let mut seen = 0;
    loop {
        let status = sent.borrow_and_update().clone();
        if status.is_over && seen >= status.acknowledged {
            return (latencies, seen);
        }
        let wait = if status.is_over { PATIENCE } else { Duration::MAX };
        let batch = tokio::select! {
            batch = consumer.next_batch() => batch,
            () = async { drop(sent.wait_for(|sent| sent.is_over).await) }, if !status.is_over => {
                continue;
            }
            () = tokio::time::sleep(wait), if status.is_over => return (latencies, seen),
        };
        let Some(Ok(batch)) = batch else { return (latencies, seen) };
        let now = Instant::now();
        for view in batch.views() {
            let Some(number) = view.value.and_then(number_of) else { continue };
            seen += 1;
            if schedule.counts(number) {
                record(&mut latencies, now.saturating_duration_since(schedule.due(number)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_due_at_a_steady_rate() {
        let start = Instant::now();
        let schedule = Schedule { start, rate: 1_000, counted: (10, 20) };
        assert_eq!(schedule.due(0), start);
        assert_eq!(schedule.due(1), start + Duration::from_millis(1));
        assert_eq!(schedule.due(60_000), start + Duration::from_secs(60));
        assert_eq!([9, 10, 19, 20].map(|n| schedule.counts(n)), [false, true, true, false]);
    }
}
