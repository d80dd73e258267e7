//! Requests that cannot be done: each is refused with its code and with words that help.

use std::collections::HashMap;

use bytes::Bytes;
use duramen_client::{Compression, ErrorCode, NewTopic, PartitionId};
use duramen_proto::v1;
use duramen_record::{BatchBuilder, RecordRef};
use duramen_tests::processes::{Cluster, Outcome, Wire, refused};

use crate::{cluster_with, program};

const TOPIC: &str = "rings";

async fn create(
    wire: &mut Wire,
    request: v1::CreateTopicRequest,
) -> Outcome<Result<v1::TopicReply, v1::Error>> {
    match wire.admin.create_topic(request).await {
        Ok(reply) => Ok(Ok(reply.into_inner())),
        Err(status) => Ok(Err(refused(&status)?)),
    }
}

fn named(name: &str) -> v1::CreateTopicRequest {
    v1::CreateTopicRequest { name: name.to_owned(), ..v1::CreateTopicRequest::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_names_and_settings_are_refused_with_the_rule() {
    let cluster = Cluster::start(&program(), 1).await.unwrap();
    let mut wire = cluster.nodes[0].wire();
    let long = "x".repeat(300);
    for name in ["", ".", "..", "a/b", "../../etc", "a\0b", "a b", "é", "%2e%2e", long.as_str()] {
        let refusal = create(&mut wire, named(name)).await.unwrap().unwrap_err();
        assert_eq!(refusal.code(), ErrorCode::InvalidTopicName, "{name:?}: {}", refusal.message);
        assert!(refusal.message.contains("not allowed"), "{name:?}: {}", refusal.message);
    }
    let longest = "x".repeat(249);
    create(&mut wire, named(&longest)).await.unwrap().unwrap();

    let with = |key: &str, value: &str| v1::CreateTopicRequest {
        config: HashMap::from([(key.to_owned(), value.to_owned())]),
        ..named("settings")
    };
    for (key, value, hint) in [
        ("retention.sm", "1", "did you mean retention.ms"),
        ("segment.byte", "65536", "did you mean segment.bytes"),
        ("segment.bytes", "big", "expected bytes"),
        ("max.message.bytes", "1GiB", "expected bytes"),
    ] {
        let refusal = create(&mut wire, with(key, value)).await.unwrap().unwrap_err();
        assert_eq!(refusal.code(), ErrorCode::InvalidConfig, "{key}={value}");
        assert!(refusal.message.contains(hint), "{key}={value}: {}", refusal.message);
    }
    let refusal = create(&mut wire, named(&longest)).await.unwrap().unwrap_err();
    assert_eq!(refusal.code(), ErrorCode::TopicExists);
    let request = v1::CreateTopicRequest { replication_factor: 3, ..named("wide") };
    let refusal = create(&mut wire, request).await.unwrap().unwrap_err();
    assert_eq!(refusal.code(), ErrorCode::NotEnoughNodes);
    cluster.passed();
}

/// A batch of one record.
fn batch(value: &[u8]) -> Outcome<Bytes> {
    let mut builder = BatchBuilder::new(Compression::None);
    let record = RecordRef { value: Some(value), ..RecordRef::default() };
    builder.append(record, [].into_iter())?;
    Ok(builder.finish(None)?)
}

fn request(batches: Bytes) -> v1::ProduceRequest {
    v1::ProduceRequest {
        topic: TOPIC.to_owned(),
        timeout_ms: 5_000,
        payload: Some(v1::produce_request::Payload::Batches(batches)),
        ..v1::ProduceRequest::default()
    }
}

async fn refusal(wire: &mut Wire, request: v1::ProduceRequest) -> Outcome<v1::Error> {
    match wire.send(request).await? {
        Err(refusal) => Ok(refusal),
        Ok(ack) => Err(format!("acknowledged: {ack:?}").into()),
    }
}

/// Batches that must not be stored.
async fn check_batches(wire: &mut Wire) -> Outcome {
    let sound = batch(b"heartwood")?;
    for position in [16, sound.len() - 1] {
        let mut damaged = sound.to_vec();
        damaged[position] ^= 1;
        let refused = refusal(wire, request(damaged.into())).await?;
        let code = refused.code();
        assert_eq!(code, ErrorCode::CorruptBatch, "byte {position}: {}", refused.message);
    }
    for len in [1, 11, 60, sound.len() - 1] {
        let refused = refusal(wire, request(sound.slice(..len))).await?;
        assert_eq!(refused.code(), ErrorCode::CorruptBatch, "{len} bytes: {}", refused.message);
    }
    let refused = refusal(wire, request(Bytes::new())).await?;
    assert_eq!(refused.code(), ErrorCode::InvalidRequest, "{}", refused.message);
    let refused = refusal(wire, request(batch(&[7; 4_096])?)).await?;
    assert_eq!(refused.code(), ErrorCode::RecordTooLarge);
    assert!(refused.message.contains("max.message.bytes"), "{}", refused.message);
    // What was refused is not there, and the next is the first.
    let ack = wire.send(request(sound)).await?.map_err(|error| error.message)?;
    assert_eq!((ack.base_offset, ack.synced_replicas >= 2), (0, true));
    Ok(())
}

/// Places that are not there.
async fn check_places(wire: &mut Wire) -> Outcome {
    let sound = batch(b"heartwood")?;
    let elsewhere = v1::ProduceRequest { topic: "nowhere".to_owned(), ..request(sound.clone()) };
    assert_eq!(refusal(wire, elsewhere).await?.code(), ErrorCode::UnknownTopic);
    let elsewhere = v1::ProduceRequest { partition: 9, ..request(sound) };
    assert_eq!(refusal(wire, elsewhere).await?.code(), ErrorCode::UnknownPartition);
    for (topic, partition, offset, code) in [
        ("nowhere", 0, 0, ErrorCode::UnknownTopic),
        (TOPIC, 9, 0, ErrorCode::UnknownPartition),
        (TOPIC, 0, 2, ErrorCode::OffsetOutOfRange),
        (TOPIC, 0, u64::MAX, ErrorCode::OffsetOutOfRange),
    ] {
        let answer = wire.fetch(topic, partition, offset).await?;
        let refused = answer.err().ok_or_else(|| format!("{topic}-{partition} at {offset}"))?;
        assert_eq!(refused.code(), code, "{topic}-{partition} at {offset}");
        if code == ErrorCode::OffsetOutOfRange {
            let kept = (refused.log_start_offset, refused.high_watermark);
            assert_eq!(kept, (Some(0), Some(1)));
        }
    }
    let at_the_end = wire.fetch(TOPIC, 0, 1).await?.map_err(|error| error.message)?;
    assert_eq!((at_the_end.next_offset, at_the_end.high_watermark), (1, 1));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_batches_and_wrong_places_are_refused_and_leave_nothing() {
    let topic = NewTopic::new(TOPIC).config("max.message.bytes", "2KiB");
    let (mut cluster, _) = cluster_with(topic).await.unwrap();
    let (leader, _) = cluster.leader(TOPIC, PartitionId::new(0)).await.unwrap();
    let mut wire = cluster.node(leader).wire();
    check_batches(&mut wire).await.unwrap();
    check_places(&mut wire).await.unwrap();
    let address = cluster.node(leader).addresses.client.clone();
    for node in cluster.nodes.iter().filter(|node| node.id != leader) {
        let refused = refusal(&mut node.wire(), request(batch(b"x").unwrap())).await.unwrap();
        assert_eq!(refused.code(), ErrorCode::NotLeader, "node {}", node.id);
        let found = refused.leader.expect("a follower knows its leader");
        assert_eq!((found.id, &found.address), (leader, &address), "node {}", node.id);
    }
    cluster.passed();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_that_was_created_again_is_another_one() {
    let (mut cluster, client) = cluster_with(NewTopic::new(TOPIC)).await.unwrap();
    let (leader, _) = cluster.leader(TOPIC, PartitionId::new(0)).await.unwrap();
    let old = cluster.node(leader).wire().describe_topic(TOPIC).await.unwrap().id;
    let ack = cluster.node(leader).wire().produce(TOPIC, 0, "first life").await.unwrap();
    assert_eq!(ack.unwrap().base_offset, 0);
    client.admin().delete_topic(TOPIC).await.unwrap();
    client.admin().create_topic(NewTopic::new(TOPIC).replication_factor(3)).await.unwrap();

    let (leader, _) = cluster.leader(TOPIC, PartitionId::new(0)).await.unwrap();
    let mut wire = cluster.node(leader).wire();
    let new = wire.clone().describe_topic(TOPIC).await.unwrap().id;
    assert_ne!(new, old);
    let stale = v1::ProduceRequest { topic_id: old.clone(), ..request(batch(b"x").unwrap()) };
    let refused = refusal(&mut wire, stale).await.unwrap();
    assert_eq!((refused.code(), refused.current_topic_id), (ErrorCode::UnknownTopicId, new));
    // Nothing of the first life is left, nor of the stale producer.
    let fetched = wire.fetch(TOPIC, 0, 0).await.unwrap().unwrap();
    assert_eq!((fetched.next_offset, fetched.high_watermark), (0, 0));
    cluster.passed();
}

/// Creates a topic through one node and produces to it through each of them, at once.
async fn create_and_produce(cluster: &mut Cluster, through: u64, name: &str) -> Outcome {
    let mut wire = cluster.node(through).wire();
    let topic = v1::CreateTopicRequest { replication_factor: 3, ..named(name) };
    let created = create(&mut wire, topic).await?.map_err(|error| error.message)?;
    let request = v1::ProduceRequest {
        topic: name.to_owned(),
        metadata_index: created.metadata_index,
        ..request(batch(b"heartwood")?)
    };
    let mut acknowledged = 0;
    for node in &cluster.nodes {
        match node.wire().send(request.clone()).await? {
            Ok(_) => acknowledged += 1,
            Err(refused) => {
                let is_known = [ErrorCode::NotLeader, ErrorCode::Unavailable];
                assert!(is_known.contains(&refused.code()), "node {}: {refused:?}", node.id);
            }
        }
    }
    assert!(acknowledged <= 1, "only one node leads");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_is_known_to_every_node_that_is_asked_with_its_index() {
    let mut cluster = Cluster::start(&program(), 3).await.unwrap();
    for number in 0..6 {
        let name = format!("topic-{number}");
        create_and_produce(&mut cluster, 1 + number % 3, &name).await.unwrap();
        // The SDK needs no more than the name.
        let client = cluster.client().await.unwrap();
        let producer = client.producer(&name, Default::default()).await.unwrap();
        let record = duramen_client::ProducerRecord::new("one more");
        producer.send(record).await.unwrap().await.unwrap();
    }
    cluster.passed();
}
