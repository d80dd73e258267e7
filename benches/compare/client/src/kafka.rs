//! Work for Kafka, through librdkafka.

mod sender;

use std::thread;
use std::time::{Duration, Instant};

use futures::executor::block_on;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use crate::payload::Payloads;
use crate::received::Received;
use crate::report::{Counted, Tally, Window, meter};
use crate::schedule::Schedule;
use crate::{Error, Load};
use sender::Sender;

const TOPIC: &str = "bench";

/// How long a call may take before the measurement is given up.
const CALL: Duration = Duration::from_secs(10);

/// How long the cluster may take to come up.
const READY: Duration = Duration::from_secs(90);

/// Records between two looks at the clock.
const CLOCK_RECORDS: u64 = 64;

/// How long a consumer waits before it looks around.
const LOOK: Duration = Duration::from_millis(50);

/// How long a consumer may wait for records that are there.
const STALLED: Duration = Duration::from_secs(30);

/// Measures.
pub(crate) fn produce(load: &Load) -> Result<Counted, Error> {
    create_topic(load)?;
    let window = Window::new(load);
    let sender = Sender::new(load, window)?;
    let metering = meter(window, &load.pids);
    let mut payloads = Payloads::new(load.size());
    while !window.is_over() {
        sender.send(&payloads.next());
    }
    let tally = sender.finish();
    Ok(Counted { tally, metered: metering.read()? })
}

/// Measures.
pub(crate) fn consume(load: &Load) -> Result<Counted, Error> {
    create_topic(load)?;
    let count = preload(load)?;
    let window = Window::new(load);
    let metering = meter(window, &load.pids);
    let consumer = consumer(load)?;
    let mut tally = Tally::new();
    while !window.is_over() {
        consumer.assign(&from_first(load)?)?;
        if let Err(error) = pass(&consumer, count, window, &mut tally) {
            tally.fail(error.to_string());
            break;
        }
    }
    Ok(Counted { tally, metered: metering.read()? })
}

/// Measures.
pub(crate) fn e2e(load: &Load) -> Result<Counted, Error> {
    create_topic(load)?;
    let consumer = consumer(load)?;
    consumer.assign(&from_first(load)?)?;
    let schedule = Schedule::new(load);
    let sender = Sender::new(load, schedule.window())?;
    let metering = meter(schedule.window(), &load.pids);
    let progress = sender.progress();
    let receiving = thread::spawn(move || {
        let mut received = Received::new(schedule);
        while !received.is_over(progress.finished(), Instant::now()) {
            match consumer.poll(LOOK) {
                Some(Ok(message)) => received.take(message.payload().unwrap_or_default()),
                Some(Err(error)) => received.fail(error.to_string()),
                None => {}
            }
        }
        received
    });
    let mut payloads = Payloads::new(load.size());
    schedule.beat(|number| sender.send(&payloads.next_numbered(number)));
    let progress = sender.progress();
    let sent = sender.finish();
    let received = receiving.join().map_err(|_| "the consumer panicked")?;
    let tally = received.finish(&sent, progress.finished().unwrap_or(0));
    Ok(Counted { tally, metered: metering.read()? })
}

fn config(load: &Load) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", load.servers.join(","));
    config.set("socket.nagle.disable", "true");
    config
}

/// Waits for all nodes, creates the topic and waits until every replica is in sync.
fn create_topic(load: &Load) -> Result<(), Error> {
    let deadline = Instant::now() + READY;
    let admin: AdminClient<DefaultClientContext> = config(load).create()?;
    let until = |what: &str, is_done: &mut dyn FnMut() -> Option<()>| {
        while is_done().is_none() {
            if Instant::now() > deadline {
                return Err(Error::from(format!("{what} took more than {READY:?}")));
            }
            thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    };
    until("starting the nodes", &mut || {
        let metadata = admin.inner().fetch_metadata(None, CALL).ok()?;
        (metadata.brokers().len() == load.servers.len()).then_some(())
    })?;
    let replicas = TopicReplication::Fixed(i32::try_from(load.replicas)?);
    let mut topic = NewTopic::new(TOPIC, i32::try_from(load.partitions)?, replicas);
    for option in &load.topic_option {
        let (name, value) = option.split_once('=').ok_or("--topic-option NAME=VALUE")?;
        topic = topic.set(name, value);
    }
    let options = AdminOptions::new().operation_timeout(Some(CALL)).request_timeout(Some(CALL));
    for result in block_on(admin.create_topics([&topic], &options))? {
        result.map_err(|(_, code)| format!("could not create the topic: {code}"))?;
    }
    until("creating the topic", &mut || {
        let metadata = admin.inner().fetch_metadata(Some(TOPIC), CALL).ok()?;
        let partitions = metadata.topics().first()?.partitions();
        let replicas = usize::try_from(load.replicas).ok()?;
        let is_ready = !partitions.is_empty()
            && partitions.iter().all(|one| one.leader() >= 0 && one.isr().len() == replicas);
        is_ready.then_some(())
    })
}

/// Writes what will be read; answers how many records that is.
fn preload(load: &Load) -> Result<u64, Error> {
    let count = load.preload();
    let sender = Sender::new(load, Window::new(load))?;
    let mut payloads = Payloads::new(load.size());
    for _ in 0..count {
        sender.send(&payloads.next());
    }
    match sender.finish().error {
        Some(error) => Err(error.into()),
        None => Ok(count),
    }
}

/// A consumer without a group.
fn consumer(load: &Load) -> Result<BaseConsumer, Error> {
    let mut config = config(load);
    // As soon as there is a record.
    config.set("fetch.min.bytes", "1");
    config.set("enable.auto.commit", "false");
    // As much ahead as it can, and no pause of a second whenever that is enough.
    config.set("queued.min.messages", "1000000");
    config.set("queued.max.messages.kbytes", "262144");
    config.set("fetch.queue.backoff.ms", "1");
    // What waits at the end of a partition keeps the next pass waiting.
    config.set("fetch.wait.max.ms", "10");
    // The default of 1 MB costs the broker three times as much.
    config.set("fetch.message.max.bytes", "8388608");
    config.set("group.id", TOPIC);
    Ok(config.create()?)
}

fn from_first(load: &Load) -> Result<TopicPartitionList, Error> {
    let mut list = TopicPartitionList::new();
    for partition in 0..i32::try_from(load.partitions)? {
        list.add_partition_offset(TOPIC, partition, Offset::Offset(0))?;
    }
    Ok(list)
}

/// Reads everything once, or until the window is over.
fn pass(
    consumer: &BaseConsumer,
    count: u64,
    window: Window,
    tally: &mut Tally,
) -> Result<(), Error> {
    let mut now = Instant::now();
    for number in 0..count {
        let message = consumer.poll(STALLED).ok_or("the consumer has stalled")??;
        if number % CLOCK_RECORDS == 0 {
            now = Instant::now();
        }
        if now >= window.end {
            break;
        }
        // What a user would do at least: look at every record.
        if window.contains(now) && message.payload().is_some() {
            tally.records += 1;
        }
    }
    Ok(())
}
