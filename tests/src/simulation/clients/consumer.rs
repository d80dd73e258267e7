//! A consumer: polls, goes elsewhere now and then, and goes on where it was when it is made anew.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use duramen_client::{ClientError, Consumer, ConsumerOptions, Offset, PartitionId, Start};

use super::super::dice::Dice;
use super::super::plan::ConsumerPlan;
use super::super::world::{Phase, World};
use super::{RETRY, connect, records_of};

/// How long a poll waits for records.
const POLL: Duration = Duration::from_millis(500);

struct Reader {
    world: Rc<World>,
    plan: ConsumerPlan,
    dice: Dice,
    process: u32,
    /// Where it goes on in each partition once it has begun.
    positions: BTreeMap<PartitionId, Offset>,
}

/// Runs one consumer of the plan to its end.
pub(super) async fn run(world: Rc<World>, at: usize) {
    let number = u64::try_from(at).unwrap_or(0);
    world.reached(Phase::Faults).await;
    let process = world.recorder.borrow_mut().process();
    let mut reader = Reader {
        plan: world.plan.consumers[at],
        dice: Dice::new(world.plan.seed, 200 + number),
        process,
        positions: BTreeMap::new(),
        world,
    };
    while !reader.is_over() {
        let Some(client) = connect(&reader.world, 200 + number).await else { break };
        let topic = reader.world.plan.topics[reader.plan.topic].name.clone();
        match client.consumer(&topic, reader.begin()).await {
            Ok(consumer) => reader.read(consumer).await,
            Err(error) => {
                reader.world.note(format_args!("consumer {at} was not made: {error}"));
                tokio::time::sleep(RETRY).await;
            }
        }
    }
    reader.world.consuming.set(reader.world.consuming.get() - 1);
}

impl Reader {
    fn is_over(&self) -> bool {
        self.world.is_at_least(Phase::Draining) || self.world.is_violated()
    }

    /// Where the next consumer starts: where the last one was, or somewhere.
    fn begin(&self) -> ConsumerOptions {
        let mut options = ConsumerOptions::default();
        if self.positions.is_empty() {
            let start = if self.dice.percent(70) { Start::First } else { Start::Last(0) };
            options = options.start(start);
        }
        for (partition, offset) in &self.positions {
            options = options.start_partition(*partition, Start::Offset(*offset));
        }
        options
    }

    fn key(&self, partition: PartitionId) -> u32 {
        self.world.key(self.plan.topic, partition).unwrap_or(u32::MAX)
    }

    async fn read(&mut self, mut consumer: Consumer) {
        if self.positions.is_empty() {
            let keys: Vec<u32> = consumer.partitions().map(|id| self.key(id)).collect();
            let at = self.world.micros();
            self.world.recorder.borrow_mut().assign(self.process, at, &keys, false);
        }
        let mut polls = 0;
        while polls < self.plan.polls && !self.is_over() {
            polls += 1;
            if !self.poll(&mut consumer).await {
                break;
            }
            if self.dice.percent(self.plan.seek_percent) {
                self.seek(&mut consumer).await;
            }
        }
        for partition in consumer.partitions().collect::<Vec<_>>() {
            if let Ok(offset) = consumer.position(partition) {
                self.positions.insert(partition, offset);
            }
        }
    }

    /// Polls once; says whether the consumer can go on.
    async fn poll(&mut self, consumer: &mut Consumer) -> bool {
        let world = Rc::clone(&self.world);
        let op = world.recorder.borrow_mut().poll(self.process, world.micros());
        let polled = tokio::time::timeout(POLL, consumer.next_batch()).await;
        let failed = match polled {
            Err(_) => {
                world.recorder.borrow_mut().polled(op, world.micros(), &[]);
                return true;
            }
            Ok(Some(Ok(batch))) => {
                let partition = batch.partition();
                let key = self.key(partition);
                let records = records_of(&world, key, &batch);
                let mut recorder = world.recorder.borrow_mut();
                recorder.polled(op, world.micros(), &records);
                if let Ok(mark) = consumer.high_watermark(partition) {
                    recorder.history.answered_watermark(op, key, mark.get());
                }
                return true;
            }
            Ok(Some(Err(error))) => Some(error),
            Ok(None) => None,
        };
        let nothing = duramen_checker::Outcome::Failed;
        world.recorder.borrow_mut().history.complete(op, world.micros(), nothing);
        match failed {
            Some(ClientError::OffsetOutOfRange { partition, .. }) => {
                self.go_to(consumer, partition, Start::First).await
            }
            Some(error) => {
                world.note(format_args!("a consumer is made anew: {error}"));
                false
            }
            None => false,
        }
    }

    async fn seek(&mut self, consumer: &mut Consumer) {
        let partitions: Vec<_> = consumer.partitions().collect();
        let partition = self.dice.pick(&partitions);
        let position = consumer.position(partition).map_or(0, Offset::get);
        let start = match self.dice.of(0..=9) {
            0 => Start::First,
            1..=4 => Start::Last(self.dice.of(0..=50)),
            _ => Start::Offset(Offset::new(position - self.dice.of(0..=position.min(200)))),
        };
        self.go_to(consumer, partition, start).await;
    }

    async fn go_to(
        &mut self,
        consumer: &mut Consumer,
        partition: PartitionId,
        start: Start,
    ) -> bool {
        let key = self.key(partition);
        self.world.recorder.borrow_mut().seek(self.process, self.world.micros(), key);
        consumer.seek(partition, start).await.is_ok()
    }
}
