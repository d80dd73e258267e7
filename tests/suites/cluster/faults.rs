//! `duramen dev --faults`: what a good client survives unharmed, and a careless one does not.

use std::collections::BTreeMap;
use std::path::Path;

use duramen_client::{
    Client, ClientOptions, ConsumerOptions, NewTopic, PartitionId, ProducerOptions, ProducerRecord,
    Start,
};
use duramen_proto::v1;
use duramen_record::split_batches;
use duramen_tests::processes::{Load, LoadOptions, Outcome, Tool, Wire, eventually, say};
use futures::StreamExt as _;
use serde_json::Value;
use tokio::task::JoinSet;
use tonic::{Code, Streaming};

use crate::dev::Dev;
use crate::program;

const TOPIC: &str = "orders";

/// Every kind, in less than half a minute.
const EVERYTHING: &str = r#"
    [[fault]]
    kind = "slow_fsync"
    every = "2s"
    for = "1s"
    probability = 0.3
    delay = ["5ms", "40ms"]

    [[fault]]
    kind = "lost_ack"
    probability = 0.05

    [[fault]]
    kind = "late_ack"
    probability = 0.05
    delay = ["5ms", "80ms"]

    [[fault]]
    kind = "refuse"
    error = "overloaded"
    probability = 0.03

    [[fault]]
    kind = "refuse"
    error = "not_leader"
    calls = ["produce", "fetch", "list_offsets", "init_producer"]
    probability = 0.02

    [[fault]]
    kind = "duplicate_delivery"
    probability = 0.1
    records = 20

    [[fault]]
    kind = "slow_fetch"
    probability = 0.05
    delay = ["5ms", "80ms"]

    [[fault]]
    kind = "cut_stream"
    probability = 0.05

    [[fault]]
    kind = "leader_change"
    start = "2s"
    every = "4s"
    jitter = 0.5
    target = "leader of orders/0"

    [[fault]]
    kind = "kill"
    start = "5s"
    times = 1
    every = "1m"
    down = "500ms"

    [[fault]]
    kind = "freeze"
    start = "9s"
    for = "2s"

    [[fault]]
    kind = "fsync_error"
    start = "14s"

    [[fault]]
    kind = "disk_full"
    start = "18s"
    for = "3s"
"#;

const KINDS: usize = 12;

/// A cluster with faults, and what it says of them.
struct Faulty {
    dev: Dev,
    addresses: Vec<String>,
    _home: tempfile::TempDir,
}

impl Faulty {
    async fn start(nodes: usize, plan: &str) -> Outcome<Self> {
        let home = tempfile::tempdir()?;
        let file = home.path().join("plan.toml");
        std::fs::write(&file, plan)?;
        let (count, file) = (nodes.to_string(), file.display().to_string());
        let arguments = ["--nodes", &count, "--faults", &file, "--seed", "7"];
        let mut dev = Dev::start(home.path(), &arguments)?;
        let mut addresses = Vec::new();
        for _ in 0..nodes {
            let event = dev.event("node").await?;
            addresses.push(event["grpc"].as_str().ok_or("no address")?.to_owned());
        }
        dev.event("ready").await?;
        Ok(Self { dev, addresses, _home: home })
    }

    async fn client(&self, partitions: u32) -> Outcome<Client> {
        let client = Client::connect(ClientOptions::new(self.addresses.clone())).await?;
        client.admin().create_topic(NewTopic::new(TOPIC).partitions(partitions)).await?;
        Ok(client)
    }

    /// Reads on until every kind of fault has hit; gives how often each has.
    async fn until_all_hit(&mut self, kinds: usize) -> Outcome<BTreeMap<String, u64>> {
        let mut counts = BTreeMap::new();
        while counts.len() < kinds {
            let event = self.dev.event("fault").await?;
            if event["what"] == "hit" {
                let kind = event["kind"].as_str().ok_or("a fault without a kind")?.to_owned();
                *counts.entry(kind).or_default() += event["count"].as_u64().ok_or("no count")?;
            }
        }
        Ok(counts)
    }

    /// Ends the cluster; gives the counts it ends with.
    async fn end(mut self) -> Outcome<Value> {
        self.dev.signal(rustix::process::Signal::TERM)?;
        let counts = self.dev.event("faults").await?;
        let status = self.dev.ended().await?;
        assert!(status.success(), "{status}");
        assert_eq!(counts["seed"], 7);
        Ok(counts["counts"].clone())
    }
}

/// Reads a topic from its start while it grows: nothing twice, nothing left out.
fn follow(client: &Client) -> JoinSet<Outcome> {
    let client = client.clone();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let options = ConsumerOptions::default().start(Start::First);
        let mut consumer = client.consumer(TOPIC, options).await?;
        let mut next = BTreeMap::<PartitionId, u64>::new();
        while let Some(record) = consumer.next().await {
            let record = record?;
            let due = next.entry(record.partition).or_default();
            assert_eq!(record.offset.get(), *due, "partition {}", record.partition);
            *due += 1;
        }
        Ok(())
    });
    tasks
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_keeps_to_the_contract_survives_every_kind_of_fault() {
    let mut cluster = Faulty::start(3, EVERYTHING).await.unwrap();
    let client = cluster.client(2).await.unwrap();
    let mut follower = follow(&client);
    let options = LoadOptions { partitions: 2, ..LoadOptions::default() };
    let load = Load::start(&client, TOPIC, options);
    let seen = cluster.until_all_hit(KINDS).await.unwrap();
    load.wait_acknowledged(2, 50).await.unwrap();
    let history = load.finish().await.unwrap();
    let counts = history.check(&client, TOPIC).await.unwrap();
    assert!(counts.acknowledged > 200, "{counts:?}");
    let ended = follower.try_join_next();
    assert!(ended.is_none(), "the consumer ended: {ended:?}");
    drop(follower);
    let at_the_end = cluster.end().await.unwrap();
    say(format_args!("{counts:?} under {at_the_end}"));
    for (kind, count) in &seen {
        assert!(at_the_end[kind].as_u64() >= Some(*count), "{kind}: {count}, {at_the_end}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_producer_that_sends_again_without_a_sequence_stores_records_twice() {
    let plan = "[[fault]]\nkind = 'lost_ack'\nprobability = 0.2\n";
    let cluster = Faulty::start(1, plan).await.unwrap();
    let client = cluster.client(1).await.unwrap();
    let options = ProducerOptions { idempotent: false, ..ProducerOptions::default() };
    let producer = client.producer(TOPIC, options).await.unwrap();
    let mut unknown = 0;
    for number in 0..100 {
        loop {
            let record = ProducerRecord::new(format!("{number}"));
            match producer.send(record).await.unwrap().await {
                Ok(_) => break,
                // What it was told is that the record may be stored.
                Err(error) => {
                    assert_eq!(error.kind(), duramen_client::ErrorKind::UnknownOutcome, "{error}");
                    unknown += 1;
                }
            }
        }
    }
    assert!(unknown > 0);
    let options = ConsumerOptions::default().start(Start::First).until_high_watermark();
    let mut consumer = client.consumer(TOPIC, options).await.unwrap();
    let mut stored = 0;
    while let Some(record) = consumer.next().await {
        record.unwrap();
        stored += 1;
    }
    assert_eq!(stored, 100 + unknown, "each lost answer is a record twice");
    let counts = cluster.end().await.unwrap();
    assert_eq!(counts["lost_ack"], unknown);
}

/// A stream of a partition's batches from an offset on.
async fn open(wire: &mut Wire, offset: u64) -> Outcome<Streaming<v1::FetchResponse>> {
    let position = v1::fetch_position::Position::Offset(offset);
    let start = v1::FetchRequest {
        topic: TOPIC.to_owned(),
        position: Some(v1::FetchPosition { position: Some(position) }),
        ..v1::FetchRequest::default()
    };
    let first = v1::FetchStreamRequest { start: Some(start), credit_bytes: 1 << 20 };
    // The stream of requests stays open: it never has a second one.
    let requests = futures::stream::iter([first]).chain(futures::stream::pending());
    Ok(wire.log.fetch_stream(requests).await?.into_inner())
}

/// The offsets of the records that an answer carries, those to be skipped included.
fn offsets(answer: &v1::FetchResponse) -> Outcome<Vec<u64>> {
    let Some(v1::fetch_response::Data::Batches(bytes)) = &answer.data else {
        return Err(format!("no batches: {answer:?}").into());
    };
    let mut offsets = Vec::new();
    for batch in split_batches(bytes.clone()) {
        let batch = batch?;
        offsets.extend(batch.header().base_offset.get()..batch.header().next_offset().get());
    }
    Ok(offsets)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_that_are_given_again_are_marked_as_to_be_skipped() {
    let plan = "[[fault]]\nkind = 'duplicate_delivery'\nrecords = 3\n";
    let cluster = Faulty::start(1, plan).await.unwrap();
    drop(cluster.client(1).await.unwrap());
    let mut wire = Wire::new(&cluster.addresses[0]);
    // Refused as long as the new partition has no leader: nothing is stored then.
    eventually("the partition takes records", async || {
        wire.produce(TOPIC, 0, "0").await?.map_err(|refused| refused.message.into())
    })
    .await
    .unwrap();
    for number in 1..8 {
        wire.produce(TOPIC, 0, &number.to_string()).await.unwrap().unwrap();
    }
    let mut first = open(&mut wire, 0).await.unwrap();
    let answer = first.message().await.unwrap().unwrap();
    assert_eq!(offsets(&answer).unwrap(), (0..8).collect::<Vec<_>>());
    assert_eq!((answer.start_offset, answer.next_offset), (0, 8));
    let ended = first.message().await.unwrap_err();
    assert_eq!(ended.code(), Code::Unavailable, "the stream ends in the middle: {ended}");

    wire.produce(TOPIC, 0, "8").await.unwrap().unwrap();
    let mut second = open(&mut wire, 8).await.unwrap();
    let answer = second.message().await.unwrap().unwrap();
    assert_eq!(offsets(&answer).unwrap(), [5, 6, 7, 8]);
    assert_eq!((answer.start_offset, answer.next_offset), (8, 9), "5 to 7 are to be skipped");

    // Plain records begin exactly where they are asked for, whatever happens.
    let answer = wire.fetch(TOPIC, 0, 4).await.unwrap().unwrap();
    let Some(v1::fetch_response::Data::Records(list)) = answer.data else { panic!("no records") };
    let plain: Vec<_> = list.records.iter().map(|record| record.offset).collect();
    assert_eq!(plain, [4, 5, 6, 7, 8]);
    let counts = cluster.end().await.unwrap();
    assert!(counts["duplicate_delivery"].as_u64() >= Some(2), "{counts}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_a_fault_stops_comes_back() {
    let plan = "[[fault]]\nkind = 'fsync_error'\nevery = '2s'\ntimes = 2\n";
    let mut cluster = Faulty::start(1, plan).await.unwrap();
    let client = cluster.client(1).await.unwrap();
    let load = Load::start(&client, TOPIC, LoadOptions::default());
    for _ in 0..2 {
        cluster.dev.event("exit").await.unwrap();
        cluster.dev.event("node").await.unwrap();
        load.wait_acknowledged(1, 5).await.unwrap();
    }
    let history = load.finish().await.unwrap();
    history.check(&client, TOPIC).await.unwrap();
    assert_eq!(cluster.end().await.unwrap()["fsync_error"], 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_node_ends_with_a_killed_dev() {
    let plan = "[[fault]]\nkind = 'freeze'\nfor = '10m'\n";
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("plan.toml");
    std::fs::write(&file, plan).unwrap();
    let (data, file) = (home.path().join("data"), file.display().to_string());
    let data = data.display().to_string();
    let arguments = ["--nodes", "1", "--dir", &data, "--faults", &file];
    let mut dev = Dev::start(home.path(), &arguments).unwrap();
    let node = crate::dev::pid(&dev.event("node").await.unwrap());
    dev.event("ready").await.unwrap();
    eventually("the node stands still", async || {
        let stat = std::fs::read_to_string(format!("/proc/{node}/stat"))?;
        if stat.contains(") T ") { Ok(()) } else { Err(stat.into()) }
    })
    .await
    .unwrap();
    dev.signal(rustix::process::Signal::KILL).unwrap();
    dev.ended().await.unwrap();
    crate::dev::wait_gone(node).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plan_that_is_none_and_a_server_for_others_are_refused() {
    let home = tempfile::tempdir().unwrap();
    let tool = Tool::new(&program(), &[], home.path());
    let example = tool.succeed(&["dev", "--faults-example"]).await.unwrap().stdout;
    assert!(example.contains("duplicate_delivery"));
    let file = home.path().join("plan.toml");
    let wrong = example.replacen("probability", "probabilty", 2);
    std::fs::write(&file, wrong).unwrap();
    let file = file.display().to_string();
    let refused = tool.run(&["dev", "--port", "0", "--faults", &file]).await.unwrap();
    assert_eq!(refused.code, Some(2));
    assert!(refused.stderr.contains("did you mean probability?"), "{}", refused.stderr);

    let dir = Path::new(home.path()).join("1").display().to_string();
    let listen = "192.0.2.1:7650";
    let server = ["server", "--id", "1", "--dir", &dir, "--listen", listen, "--seed", listen];
    let faults = ["--insecure", "--exit-with-stdin", "--faults-from-stdin", "7"];
    let refused = tool.run(&[&server[..], &faults].concat()).await.unwrap();
    assert_eq!(refused.code, Some(2));
    assert!(refused.stderr.contains("127.0.0.1 only"), "{}", refused.stderr);
}
