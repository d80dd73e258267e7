//! Conducts a run: creates the topics, and after the faults sees that everything serves, comes to
//! rest, is the same on all replicas, and is read from the beginning by a fresh consumer.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use duramen_checker::Observation;
use duramen_client::{
    Client, ConsumerOptions, NewTopic, PartitionId, PartitionOffsets, ProducerOptions,
    ProducerRecord, ReplicaMove, Start,
};
use duramen_types::NodeId;

use super::super::dice::Dice;
use super::super::fault::FaultKind;
use super::super::outcome::ACKNOWLEDGED_MIN;
use super::super::recorder::bytes_of;
use super::super::witness::METADATA;
use super::super::world::{CONVERGE_WITHIN, KeyName, Phase, World};
use super::{RETRY, connect, outcome_of, records_of};

/// For how long the load goes on after the faults, if less was acknowledged than a run is to have.
const LOAD_ON_WITHIN: Duration = Duration::from_secs(20);

/// Runs until the end of the simulation.
pub(super) async fn run(world: Rc<World>) {
    let Some(client) = connect(&world, 1).await else { return };
    if let Err(reason) = found(&world, &client).await {
        return world.violated(format!("the run did not begin: {reason}"));
    }
    world.enter(Phase::Faults);
    world.reached(Phase::Healing).await;
    serve_again(&world).await;
    world.served_after.set(Some(world.now().saturating_sub(world.healed_at.get())));
    load_on(&world).await;
    world.enter(Phase::Draining);
    rest(&world).await;
    converge(&world, &client).await;
    world.enter(Phase::Reading);
    read_all(&world, &client).await;
}

/// Waits for all nodes and creates the topics.
async fn found(world: &World, client: &Client) -> Result<(), String> {
    let admin = client.admin();
    let nodes = usize::try_from(world.plan.nodes).unwrap_or(0);
    while admin.describe_cluster().await.map_or(0, |cluster| cluster.nodes.len()) < nodes {
        if world.is_violated() {
            return Ok(());
        }
        tokio::time::sleep(RETRY).await;
    }
    for (at, topic) in world.plan.topics.iter().enumerate() {
        let new = NewTopic::new(&topic.name).partitions(topic.partitions);
        let mut new = new.replication_factor(topic.replication);
        for (name, value) in &topic.settings {
            new = new.config(*name, value);
        }
        let made = admin.create_topic(new).await.map_err(|error| error.to_string())?;
        let keys = made.partitions.iter().map(|partition| KeyName {
            topic: at,
            id: made.id,
            partition: partition.id,
        });
        world.keys.borrow_mut().extend(keys);
    }
    let (nodes, producers) = (world.plan.nodes, world.plan.producers.len());
    let keys = world.keys.borrow().len();
    world.note(format_args!("{nodes} nodes, {keys} partitions, {producers} producers"));
    Ok(())
}

/// Sends one record to every partition until each has taken one.
async fn serve_again(world: &Rc<World>) {
    let probes = (0..world.plan.topics.len()).map(|topic| probe(Rc::clone(world), topic));
    futures::future::join_all(probes).await;
}

/// Where the faults left little time in which the cluster could take records, it gets some more.
async fn load_on(world: &World) {
    world.entered.set(world.now());
    let until = world.now() + LOAD_ON_WITHIN;
    while world.acknowledged.get() < ACKNOWLEDGED_MIN && world.now() < until && !world.is_violated()
    {
        tokio::time::sleep(RETRY).await;
    }
}

async fn probe(world: Rc<World>, topic: usize) {
    let mut left: Vec<u32> = Vec::new();
    for (at, key) in world.keys.borrow().iter().enumerate() {
        if key.topic == topic {
            left.extend(u32::try_from(at));
        }
    }
    world.unserved.borrow_mut().extend(&left);
    let name = world.plan.topics[topic].name.clone();
    while !left.is_empty() && !world.is_violated() {
        let number = 10 + u64::try_from(topic).unwrap_or(0);
        let Some(client) = connect(&world, number).await else { return };
        let timeout = Duration::from_secs(5);
        let options = ProducerOptions { delivery_timeout: timeout, ..ProducerOptions::default() };
        let Ok(producer) = client.producer(&name, options).await else {
            tokio::time::sleep(RETRY).await;
            continue;
        };
        let process = world.recorder.borrow_mut().process();
        let probed = left.iter().map(|key| probe_one(&world, &producer, process, *key));
        let served = futures::future::join_all(probed).await;
        left = left.iter().zip(served).filter(|(_, ok)| !ok).map(|(key, _)| *key).collect();
        let mut unserved = world.unserved.borrow_mut();
        unserved.retain(|key| world.keys.borrow()[*key as usize].topic != topic);
        unserved.extend(&left);
    }
}

async fn probe_one(
    world: &World,
    producer: &duramen_client::Producer,
    process: u32,
    key: u32,
) -> bool {
    let partition = world.keys.borrow()[key as usize].partition;
    let (op, value) = {
        let mut recorder = world.recorder.borrow_mut();
        let value = recorder.value();
        (recorder.send(process, world.micros(), key, value), value)
    };
    let record = ProducerRecord::new(bytes_of(value, 100)).partition(partition);
    let told = match producer.send(record).await {
        Ok(delivery) => delivery.await,
        Err(error) => Err(error),
    };
    if let Err(error) = &told {
        world.note(format_args!("probe of {key} failed: {error}"));
    }
    let outcome = outcome_of(&told);
    world.recorder.borrow_mut().sent(op, world.micros(), outcome);
    told.is_ok()
}

/// Waits until all clients have come to their end.
async fn rest(world: &World) {
    while world.producing.get() + world.consuming.get() > 0 && !world.is_violated() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Waits until nothing is replaced any more and all replicas of every group are durable up to the
/// same index.
async fn converge(world: &World, client: &Client) {
    let began = world.now();
    loop {
        let behind = differing(world, client).await;
        if behind.is_empty() || world.is_violated() {
            break;
        }
        if world.now() > began + CONVERGE_WITHIN {
            return world.violated(format!("replicas did not converge: {}", behind.join("; ")));
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    world.converged_after.set(Some(world.now().saturating_sub(world.healed_at.get())));
}

/// The groups whose replicas are not all there and at the same end, in words.
async fn differing(world: &World, client: &Client) -> Vec<String> {
    let mut differing = Vec::new();
    if let Some(file) = world.unfound_flip() {
        differing.push(format!("the flipped bit in {} is not found", file.display()));
    }
    let members = (1..=world.members.get()).map(NodeId::new).collect();
    let mut groups = vec![(METADATA.to_owned(), members)];
    for (at, topic) in world.plan.topics.iter().enumerate() {
        let described = match client.admin().describe_topic(&topic.name).await {
            Ok(described) => described,
            Err(error) => return vec![format!("{} is not described: {error}", topic.name)],
        };
        for partition in described.partitions {
            let Some(key) = world.key(at, partition.id) else { continue };
            let group = world.keys.borrow()[key as usize].group();
            if let Some(replacement) = partition.replacement {
                differing.push(format!("{group} has a replica replaced: {replacement:?}"));
            }
            world.assignment.borrow_mut().insert(key, partition.replicas.clone());
            groups.push((group, partition.replicas));
        }
    }
    let witness = world.witness.borrow();
    for (group, nodes) in groups {
        let replicas = witness.replicas(&group);
        let ends: Vec<_> =
            nodes.iter().map(|node| (*node, replicas.get(node).map(|(_, end)| *end))).collect();
        let first = ends.first().and_then(|(_, end)| *end);
        if first.is_none() || ends.iter().any(|(_, end)| *end != first) {
            differing.push(format!("{group} ends at {ends:?}"));
        }
    }
    differing
}

/// Reads every partition from its first record to its high watermark, and then asks where they
/// begin and end.
async fn read_all(world: &World, client: &Client) {
    for (at, topic) in world.plan.topics.iter().enumerate() {
        while !read(world, client, at, &topic.name).await && !world.is_violated() {
            tokio::time::sleep(RETRY).await;
        }
    }
    while !world.plan.members.is_empty()
        && !super::member::look_back(world, client).await
        && !world.is_violated()
    {
        tokio::time::sleep(RETRY).await;
    }
}

async fn read(world: &World, client: &Client, topic: usize, name: &str) -> bool {
    let options = ConsumerOptions::default().start(Start::First).until_high_watermark();
    let Ok(mut consumer) = client.consumer(name, options).await else { return false };
    let process = world.recorder.borrow_mut().process();
    let key = |partition| world.key(topic, partition).unwrap_or(u32::MAX);
    let keys: Vec<u32> = consumer.partitions().map(key).collect();
    world.recorder.borrow_mut().assign(process, world.micros(), &keys, true);
    loop {
        let op = world.recorder.borrow_mut().poll(process, world.micros());
        match tokio::time::timeout(Duration::from_secs(10), consumer.next_batch()).await {
            Ok(Some(Ok(batch))) => {
                let records = records_of(world, key(batch.partition()), &batch);
                world.recorder.borrow_mut().polled(op, world.micros(), &records);
            }
            Ok(None) => {
                world.recorder.borrow_mut().polled(op, world.micros(), &[]);
                break;
            }
            Ok(Some(Err(error))) => {
                world.note(format_args!("the final read failed: {error}"));
                let failed = duramen_checker::Outcome::Failed;
                world.recorder.borrow_mut().history.complete(op, world.micros(), failed);
                return false;
            }
            Err(_) => {
                let failed = duramen_checker::Outcome::Failed;
                world.recorder.borrow_mut().history.complete(op, world.micros(), failed);
                return false;
            }
        }
    }
    match client.admin().list_offsets(name, &BTreeMap::new()).await {
        Ok(offsets) => {
            observe(world, topic, &offsets);
            true
        }
        Err(_) => false,
    }
}

/// Writes down what the leaders say of their partitions; what one leader of one epoch says never
/// goes back.
fn observe(world: &World, topic: usize, offsets: &BTreeMap<PartitionId, PartitionOffsets>) {
    for (partition, told) in offsets {
        let Some(key) = world.key(topic, *partition) else { continue };
        let what = Observation {
            high_watermark: Some(told.high_watermark.get()),
            log_start: Some(told.log_start_offset.get()),
            leader_epoch: Some(told.leader_epoch.get()),
        };
        let observer = u32::try_from(told.leader_epoch.get()).unwrap_or(u32::MAX);
        world.recorder.borrow_mut().history.observe(observer, key, what);
    }
}

/// Traffic besides the records: asks where partitions end, describes, makes and removes topics,
/// and changes their configuration.
pub(super) async fn run_admin(world: Rc<World>) {
    let dice = Dice::new(world.plan.seed, 300);
    world.reached(Phase::Faults).await;
    if let Some(client) = connect(&world, 2).await {
        let mut scratch = 0;
        while !world.is_at_least(Phase::Draining) && !world.is_violated() {
            tokio::time::sleep(Duration::from_millis(dice.of(200..=2_000))).await;
            move_wanted(&world, &client, &dice).await;
            administrate(&world, &client, &dice, &mut scratch).await;
        }
    }
    world.consuming.set(world.consuming.get() - 1);
}

async fn administrate(world: &World, client: &Client, dice: &Dice, scratch: &mut u32) {
    let admin = client.admin();
    let topic = dice.place(world.plan.topics.len());
    let name = &world.plan.topics[topic].name;
    let done = match dice.of(0..=9) {
        0..=4 => match admin.list_offsets(name, &BTreeMap::new()).await {
            Ok(offsets) => {
                observe(world, topic, &offsets);
                Ok(())
            }
            Err(error) => Err(error),
        },
        5 => admin.describe_topic(name).await.map(|_| ()),
        6 => admin.describe_cluster().await.map(|_| ()),
        7 => {
            let bytes = dice.pick(&["65536", "131072", "100000"]);
            let set = BTreeMap::from([("segment.bytes".to_owned(), bytes.to_owned())]);
            admin.alter_topic(name, set, Vec::new()).await.map(|_| ())
        }
        8 => {
            *scratch += 1;
            let new = NewTopic::new(format!("scratch-{scratch}")).partitions(1);
            admin.create_topic(new.replication_factor(3)).await.map(|_| ())
        }
        _ => admin.delete_topic(&format!("scratch-{scratch}")).await,
    };
    if let Err(error) = done {
        world.note(format_args!("an administrator is told: {error}"));
    }
}

/// Begins a move of a replica if one is wanted and there is a node that has none of its partition.
async fn move_wanted(world: &World, client: &Client, dice: &Dice) {
    if world.moves_wanted.take() == 0 || world.is_at_least(Phase::Healing) {
        return;
    }
    let admin = client.admin();
    let topic = &world.plan.topics[dice.place(world.plan.topics.len())].name;
    let (Ok(described), Ok(cluster)) =
        (admin.describe_topic(topic).await, admin.describe_cluster().await)
    else {
        return;
    };
    let partition = &described.partitions[dice.place(described.partitions.len())];
    let free: Vec<NodeId> = cluster
        .nodes
        .iter()
        .map(|node| node.id)
        .filter(|node| !partition.replicas.contains(node))
        .collect();
    if free.is_empty() || partition.replicas.is_empty() {
        return;
    }
    let from = match partition.leader {
        Some(leader) if dice.percent(50) => leader,
        _ => dice.pick(&partition.replicas),
    };
    let to = dice.pick(&free);
    let wish = ReplicaMove { topic: topic.clone(), partition: partition.id, from, to };
    match admin.move_replica(&wish).await {
        Ok(_) => {
            let is_leader = partition.leader == Some(from);
            world.tally.borrow_mut().count(FaultKind::Move, is_leader);
            world.note(format_args!("{topic}-{} moves from {from} to {to}", partition.id));
        }
        Err(error) => world.note(format_args!("a move is refused: {error}")),
    }
}
