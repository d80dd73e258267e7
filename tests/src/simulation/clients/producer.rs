//! A producer: sends records until it is told to stop, and is made anew when it is fenced or closed.

use std::rc::Rc;
use std::time::Duration;

use duramen_checker::OpId;
use duramen_client::{
    ClientError, ErrorKind, PartitionId, Producer, ProducerOptions, ProducerRecord, RecordMetadata,
};
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;

use super::super::dice::Dice;
use super::super::plan::ProducerPlan;
use super::super::recorder::bytes_of;
use super::super::world::{Phase, World};
use super::{RETRY, connect, outcome_of};

/// Runs one producer of the plan to its end.
pub(super) async fn run(world: Rc<World>, at: usize) {
    let plan = world.plan.producers[at];
    let number = u64::try_from(at).unwrap_or(0);
    let dice = Dice::new(world.plan.seed, 100 + number);
    world.reached(Phase::Faults).await;
    while !world.is_at_least(Phase::Draining) && !world.is_violated() {
        let Some(client) = connect(&world, 100 + number).await else { break };
        let options = ProducerOptions {
            linger: Duration::from_millis(dice.of(0..=10)),
            batch_bytes: plan.batch_bytes,
            compression: plan.compression,
            delivery_timeout: plan.delivery_timeout,
            requests_in_flight: plan.requests_in_flight,
            ..ProducerOptions::default()
        };
        match client.producer(&world.plan.topics[plan.topic].name, options).await {
            Ok(producer) => produce(&world, &plan, &dice, &producer).await,
            Err(error) => {
                world.note(format_args!("producer {at} was not made: {error}"));
                tokio::time::sleep(RETRY).await;
            }
        }
    }
    world.producing.set(world.producing.get() - 1);
}

type Told = (OpId, u32, Result<RecordMetadata, ClientError>);

/// Sends until the producer cannot go on or the load ends, and hears of all that it sent.
async fn produce(world: &Rc<World>, plan: &ProducerPlan, dice: &Dice, producer: &Producer) {
    let process = world.recorder.borrow_mut().process();
    let mut under_way = FuturesUnordered::new();
    let mut goes_on = true;
    while goes_on && !world.is_at_least(Phase::Draining) && !world.is_violated() {
        let pause = Duration::from_millis(dice.of(0..=2 * plan.pause_ms));
        let until = tokio::time::Instant::now() + pause;
        loop {
            tokio::select! {
                biased;
                Some(told) = under_way.next() => goes_on &= hear(world, told),
                () = tokio::time::sleep_until(until), if under_way.len() < plan.window => break,
            }
        }
        if !goes_on {
            break;
        }
        let partition = PartitionId::new(
            u32::try_from(dice.place(producer.partitions() as usize)).unwrap_or(0),
        );
        let Some(key) = world.key(plan.topic, partition) else { continue };
        let (op, value) = {
            let mut recorder = world.recorder.borrow_mut();
            let value = recorder.value();
            (recorder.send(process, world.micros(), key, value), value)
        };
        let bytes = bytes_of(value, plan.value_bytes);
        match producer.send(ProducerRecord::new(bytes).partition(partition)).await {
            Ok(delivery) => under_way.push(async move { (op, key, delivery.await) }),
            Err(error) => goes_on = hear(world, (op, key, Err(error))),
        }
    }
    while let Some(told) = under_way.next().await {
        hear(world, told);
    }
}

/// Writes down what became of a record; says whether the producer can go on.
fn hear(world: &World, (op, key, told): Told) -> bool {
    let outcome = outcome_of(&told);
    let goes_on = match &told {
        Ok(stored) => {
            world.acknowledged.set(world.acknowledged.get() + 1);
            world.acknowledged_key.set(Some(key));
            world.note(format_args!("ack {op} at {key}/{}", stored.offset));
            true
        }
        Err(error) => {
            world.note(format_args!("{op} failed: {error}"));
            matches!(error.kind(), ErrorKind::Retry | ErrorKind::UnknownOutcome)
        }
    };
    world.recorder.borrow_mut().sent(op, world.micros(), outcome);
    goes_on
}
