//! How much can be written: producers that send as fast as their windows allow.

use std::pin::pin;
use std::task::Poll;

use duramen_client::{Delivery, Producer, ProducerRecord};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::payload::Payloads;
use super::report::Report;
use super::tally::{Counted, Tally, Window, record};
use super::{Bench, ProduceArgs};
use crate::error::CliError;
use crate::limits;

/// Measures.
pub(super) async fn run(bench: &Bench, args: &ProduceArgs) -> Result<Report, CliError> {
    bench.describe("produce");
    let options = bench.producer_options(args.linger_ms, args.producers);
    let mut producers = Vec::new();
    for _ in 0..args.producers {
        let client = bench.client().await?;
        producers.push(client.producer(&bench.topic, options.clone()).await?);
    }
    let size = usize::try_from(bench.args.size).unwrap_or(usize::MAX);
    let (payloads, parts) = (Payloads::new(bench.args.seed, size), producers.len());
    let window = bench.window();
    let loads = producers.into_iter().enumerate().map(|(number, producer)| {
        let payloads = payloads.part(number, parts);
        let load = load(producer, payloads, window);
        // Each on a thread of its own, if there is one.
        bench.context.env.tasks.critical("bench-producer", load)
    });
    let counted = Counted::of(loads.collect(), window, &bench.pids).await;
    Ok(Report::new("produce", bench, &counted))
}

/// Deliveries go to the one who counts in so many at a time: at millions of records a second the
/// way there must cost less than the record.
const DELIVERIES_AT_ONCE: usize = 64;

/// One producer, until the window is over and everything is settled.
async fn load(producer: Producer, mut payloads: Payloads, window: Window) -> Tally {
    let (sent, waiting) = mpsc::channel(limits::DELIVERIES / DELIVERIES_AT_ONCE);
    let send = async move {
        let mut now = Instant::now();
        while now < window.end {
            let mut deliveries = Vec::with_capacity(DELIVERIES_AT_ONCE);
            // Looked up once for all that need not wait: that is a tenth of a small record's cost.
            now = Instant::now();
            while deliveries.len() < DELIVERIES_AT_ONCE {
                let mut sending = pin!(producer.send(ProducerRecord::new(payloads.next())));
                let taken_in = match futures::poll!(&mut sending) {
                    Poll::Ready(taken_in) => taken_in,
                    Poll::Pending => {
                        let taken_in = sending.await;
                        now = Instant::now();
                        taken_in
                    }
                };
                let Ok(delivery) = taken_in else { break };
                deliveries.push((now, delivery));
            }
            let failed = deliveries.len() < DELIVERIES_AT_ONCE;
            if sent.send(deliveries).await.is_err() || failed {
                break;
            }
        }
        drop(sent);
        producer.flush().await;
    };
    let ((), tally) = tokio::join!(send, tally(waiting, window));
    tally
}

/// Counts what is acknowledged within the window.
async fn tally(mut waiting: mpsc::Receiver<Vec<(Instant, Delivery)>>, window: Window) -> Tally {
    let mut tally = Tally::new();
    while let Some(deliveries) = waiting.recv().await {
        let mut now = Instant::now();
        for (sent, mut delivery) in deliveries {
            let outcome = match futures::poll!(&mut delivery) {
                // Acknowledged with one of those before.
                Poll::Ready(outcome) => outcome,
                Poll::Pending => {
                    let outcome = delivery.await;
                    now = Instant::now();
                    outcome
                }
            };
            match outcome {
                Ok(_) => {
                    if window.contains(now) {
                        tally.records += 1;
                        record(&mut tally.latencies, now.saturating_duration_since(sent));
                    }
                }
                Err(error) => tally.fail(&error),
            }
        }
    }
    tally
}
