//! A member of a consumer group: reads what it is given, commits what it has read, leaves or goes
//! without a word, and comes again.

use std::rc::Rc;
use std::time::Duration;

use duramen_checker::{Commit, CommitAnswer, GroupEvent};
use duramen_client::{
    Client, ClientError, CommitOutcome, GroupConsumer, GroupOptions, GroupRecord, GroupSubscription,
};

use super::super::dice::Dice;
use super::super::plan::MemberPlan;
use super::super::recorder::value_of;
use super::super::world::{Phase, World};
use super::{RETRY, connect};

const GROUP: &str = "group";

/// The number of the group in the history.
const NUMBER: u32 = 1;

/// How long it waits for a record before it looks around.
const POLL: Duration = Duration::from_millis(500);

/// After the load: without a record for so long it is done.
const IDLE: Duration = Duration::from_secs(12);

struct Reader {
    world: Rc<World>,
    plan: MemberPlan,
    dice: Dice,
    number: u32,
}

/// Runs one member of the plan to its end.
pub(super) async fn run(world: Rc<World>, at: usize) {
    let number = u64::try_from(at).unwrap_or(0);
    world.reached(Phase::Faults).await;
    let reader = Reader {
        plan: world.plan.members[at],
        dice: Dice::new(world.plan.seed, 400 + number),
        number: u32::try_from(at).unwrap_or(0),
        world,
    };
    while !reader.world.is_at_least(Phase::Reading) && !reader.world.is_violated() {
        let Some(client) = connect(&reader.world, 400 + number).await else { break };
        let options = GroupOptions { session: reader.plan.session, ..GroupOptions::default() };
        let topics = GroupSubscription::topics([reader.world.plan.topics[0].name.as_str()]);
        let joined = client.group_consumer(GROUP, topics, options.manual_commits()).await;
        let done = match joined {
            Ok(consumer) => reader.read(consumer).await,
            Err(error) => Err(error),
        };
        match done {
            Ok(true) => break,
            Ok(false) => {}
            Err(error) => {
                reader.world.note(format_args!("member {at} ended: {error}"));
                tokio::time::sleep(RETRY).await;
            }
        }
    }
    reader.world.consuming.set(reader.world.consuming.get() - 1);
}

impl Reader {
    /// Reads until this life is over; says whether all of the run is.
    async fn read(&self, mut consumer: GroupConsumer) -> Result<bool, ClientError> {
        let (mut read, mut idle) = (0, Duration::ZERO);
        while read < self.plan.lives || self.world.is_at_least(Phase::Draining) {
            if self.world.is_violated() {
                return Ok(true);
            }
            let next = tokio::time::timeout(POLL, consumer.next()).await;
            let Ok(next) = next else {
                self.commit(&consumer).await;
                let is_ending = self.world.is_at_least(Phase::Draining);
                idle = if is_ending { idle + POLL } else { Duration::ZERO };
                if idle >= IDLE {
                    consumer.close().await?;
                    return Ok(true);
                }
                continue;
            };
            let Some(record) = next else { return Ok(false) };
            let record = record?;
            idle = Duration::ZERO;
            read += 1;
            self.take(&record);
            if read % self.plan.commit_every == 0 {
                self.commit(&consumer).await;
            }
        }
        if self.dice.percent(50) {
            consumer.close().await?;
        }
        Ok(false)
    }

    fn take(&self, record: &GroupRecord) {
        let Some(key) = self.world.key(0, record.partition) else { return };
        if record.value.as_ref().and_then(|value| value_of(value)).is_none() {
            let (partition, offset) = (record.partition, record.offset);
            self.world.violated(format!("a member was given other bytes at {partition}/{offset}"));
        }
        let offset = record.offset.get();
        let offsets = offset..offset + 1;
        let delivered = GroupEvent::Delivered { member: self.number, key, offsets };
        self.world.recorder.borrow_mut().history.group(NUMBER, delivered);
        record.done();
    }

    async fn commit(&self, consumer: &GroupConsumer) {
        let asked = self.world.recorder.borrow().history.mark();
        let outcomes = match consumer.commit().await {
            Ok(outcomes) => outcomes,
            Err(error) => {
                self.world.note(format_args!("member {} commits: {error}", self.number));
                return;
            }
        };
        for CommitOutcome { partition, offset, result } in outcomes {
            let Some(key) = self.world.key(0, partition.partition) else { continue };
            let answer = match result {
                Ok(()) => CommitAnswer::Accepted,
                Err(_) => CommitAnswer::Refused,
            };
            // One generation: offsets never go back, whoever commits.
            let (member, offset) = (self.number, offset.get());
            let commit = Commit { asked, member, generation: 1, key, offset, answer };
            let committed = GroupEvent::Committed(commit);
            self.world.recorder.borrow_mut().history.group(NUMBER, committed);
        }
    }
}

/// After everything: nothing that was committed is forgotten, and the group has come to the end of
/// every partition. Says whether the coordinator could be asked.
pub(super) async fn look_back(world: &World, client: &Client) -> bool {
    let asked = world.recorder.borrow().history.mark();
    let described = match client.groups().describe(GROUP).await {
        Ok(described) => described,
        Err(error) => {
            world.note(format_args!("the group is not described: {error}"));
            return false;
        }
    };
    for found in &described.partitions {
        let Some(key) = world.key(0, found.partition.partition) else { continue };
        let offset = found.committed.as_ref().map(|committed| committed.offset.get());
        let fetched = GroupEvent::Fetched { asked, key, offset };
        world.recorder.borrow_mut().history.group(NUMBER, fetched);
        match found.lag_records {
            Some(0) => {}
            None => return false,
            Some(lag) => world.violated(format!(
                "the group is {lag} records behind in {}: {:?}",
                found.partition.partition, found.reason
            )),
        }
    }
    true
}
