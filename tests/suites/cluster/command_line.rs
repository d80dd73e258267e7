//! Lines of JSON through the command line: produced, consumed, replayed, interrupted.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

use bytes::Bytes;
use duramen_client::{Client, ConsumerOptions, RecordHeader, Start, Timestamp};
use duramen_tests::processes::{Cluster, Outcome, eventually};
use futures::StreamExt as _;
use serde_json::Value;

use crate::program;

const RECORDS: usize = 500;
const PARTITIONS: usize = 6;
/// When the first record happened, in milliseconds, and how long after it the next.
const FIRST_TIME: u64 = 1_517_363_399_650;
const STEP: u64 = 61_007;
const NETS: [&str; 11] = ["uw", "mb", "us", "ci", "nc", "ak", "hv", "nn", "pr", "ok", "se"];

/// Earthquakes in the form of the public catalog; odd spaces, escapes and scripts must stay.
fn lines() -> Vec<String> {
    let line = |number: usize| {
        let net = NETS[(number + number / NETS.len()) % NETS.len()];
        let time = FIRST_TIME + STEP * u64::try_from(number).unwrap_or(0);
        let place =
            ["37km NNE of Amboy, Washington", "Žďár \\u00e9\\\"quote\\\"", "東京"][number % 3];
        format!(
            "{{\"id\":\"{net}{number}\",\"time\":{time},\"net\": \"{net}\",\"mag\":{}.{},\
             \"place\":\"{place}\",\"tsunami\":0,\"depth_km\":3.280}}",
            number % 7,
            number % 10,
        )
    };
    (0..RECORDS).map(line).collect()
}

/// A cluster with the topics of the story and the input file.
async fn prepare() -> Outcome<(Cluster, PathBuf)> {
    let cluster = Cluster::start(&program(), 3).await?;
    for topic in ["quakes", "range", "again"] {
        let create = ["topic", "create", topic, "--partitions", "6", "--replicas", "3", "--json"];
        cluster.tool().succeed(&create).await?;
    }
    let mut text = String::new();
    for line in lines() {
        writeln!(text, "{line}")?;
    }
    let file = cluster.dir().join("quakes.ndjson");
    std::fs::write(&file, text)?;
    let path = file.display().to_string();
    let fields = ["--key-field", "net", "--timestamp-field", "time", "--json"];
    let produce = [&["produce", "quakes", "--file", &path][..], &fields].concat();
    let produced = cluster.tool().succeed(&produce).await?;
    let summary = produced.json_lines()?.pop().ok_or("no summary")?;
    assert_eq!((&summary["read"], &summary["acknowledged"]), (&RECORDS.into(), &RECORDS.into()));
    Ok((cluster, file))
}

/// What `consume --json` gave is the input: complete, unchanged, each key in order in one partition.
fn check_consumed(records: &[Value]) {
    let lines = lines();
    assert_eq!(records.len(), lines.len());
    let expected: BTreeMap<&str, usize> =
        lines.iter().enumerate().map(|(number, line)| (line.as_str(), number)).collect();
    let mut places = BTreeMap::new();
    let mut partitions = BTreeMap::new();
    for record in records {
        let value = record["value"].as_str().expect("text is shown as text");
        assert!(expected.contains_key(value), "{value} was never sent");
        let number = expected[value];
        let parsed: Value = serde_json::from_str(value).expect("the line is JSON");
        let key = record["key"].as_str().expect("every record has a key");
        assert_eq!(
            (record["key"].clone(), &record["timestamp"]),
            (parsed["net"].clone(), &parsed["time"])
        );
        assert_eq!(record["headers"], Value::Array(Vec::new()));
        let partition = record["partition"].as_u64();
        let first = *partitions.entry(key.to_owned()).or_insert(partition);
        assert_eq!(partition, first, "{key} is in one partition");
        let before = places.insert(key.to_owned(), number);
        assert!(before < Some(number), "{key}: {number} after {before:?}");
    }
    assert_eq!(places.len(), NETS.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lines_of_json_come_back_as_they_were() {
    let (cluster, _) = prepare().await.unwrap();
    let tool = cluster.tool();
    let consumed = tool.succeed(&["consume", "quakes", "--json"]).await.unwrap();
    check_consumed(&consumed.json_lines().unwrap());

    let from = RECORDS / 2;
    let since = (FIRST_TIME + STEP * u64::try_from(from).unwrap()).to_string();
    let consumed = tool.succeed(&["consume", "quakes", "--json", "--since", &since]).await;
    let mut values: Vec<_> = consumed.unwrap().json_lines().unwrap();
    values.sort_by_key(|record| record["timestamp"].as_i64());
    let values: Vec<_> = values.iter().filter_map(|record| record["value"].as_str()).collect();
    assert_eq!(values, lines()[from..]);

    let last = tool.succeed(&["consume", "quakes", "--last", "1"]).await.unwrap();
    assert!(last.stdout.lines().count() <= PARTITIONS);
    assert!(last.stdout.lines().all(|line| lines().iter().any(|sent| sent == line)));
    let unknown = tool.run(&["consume", "nowhere"]).await.unwrap();
    assert_eq!(unknown.code, Some(1));
    assert!(unknown.stderr.contains("topic create nowhere"), "{}", unknown.stderr);
    assert_eq!(tool.run(&["consume"]).await.unwrap().code, Some(2));
    cluster.passed();
}

/// Everything of a record that a replay must keep.
type Content = (Option<Bytes>, Option<Bytes>, Vec<RecordHeader>, Timestamp);

/// The records of a topic by partition.
async fn contents(client: &Client, topic: &str) -> Outcome<BTreeMap<u32, Vec<Content>>> {
    let options = ConsumerOptions::default().start(Start::First).until_high_watermark();
    let mut consumer = client.consumer(topic, options).await?;
    let mut contents = BTreeMap::<_, Vec<_>>::new();
    while let Some(record) = consumer.next().await {
        let record = record?;
        let content = (record.key, record.value, record.headers, record.timestamp);
        contents.entry(record.partition.get()).or_default().push(content);
    }
    Ok(contents)
}

fn count(contents: &BTreeMap<u32, Vec<Content>>) -> usize {
    contents.values().map(Vec::len).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replay_is_byte_identical_and_goes_on_after_an_interruption() {
    let (cluster, _) = prepare().await.unwrap();
    let (tool, client) = (cluster.tool(), cluster.client().await.unwrap());
    let source = contents(&client, "quakes").await.unwrap();
    assert_eq!(count(&source), RECORDS);

    let range = ["replay", "quakes", "--from-offset", "10", "--to-offset", "40", "--to", "range"];
    tool.succeed(&range).await.unwrap();
    let expected = source.iter().map(|(partition, records)| {
        let range = records.iter().skip(10).take(30).cloned().collect::<Vec<_>>();
        (*partition, range)
    });
    let expected: BTreeMap<_, _> = expected.filter(|(_, records)| !records.is_empty()).collect();
    assert_eq!(contents(&client, "range").await.unwrap(), expected);

    let slow = ["replay", "quakes", "--to", "again", "--rate", "100"];
    let mut running = tool.spawn(&slow).unwrap();
    eventually("the replay is under way", async || {
        let written = count(&contents(&client, "again").await?);
        if written >= RECORDS / 5 { Ok(()) } else { Err(format!("{written}").into()) }
    })
    .await
    .unwrap();
    running.kill().await.unwrap();
    let written = count(&contents(&client, "again").await.unwrap());
    assert!(written < RECORDS, "it was not interrupted");
    tool.succeed(&["replay", "quakes", "--to", "again"]).await.unwrap();
    assert_eq!(contents(&client, "again").await.unwrap(), source);
    cluster.passed();
}
