//! The consumer against a fake cluster: every record once, in order, within its buffer.

use std::time::Duration;

use duramen_env::SeededRandom;
use duramen_proto::v1::ErrorCode;
use futures::{FutureExt, StreamExt};

use super::*;
use crate::fake::{Fake, FetchFault, draw};
use crate::{Compression, ErrorKind};

const P0: PartitionId = PartitionId::new(0);
const P1: PartitionId = PartitionId::new(1);

fn from_first() -> ConsumerOptions {
    ConsumerOptions::default().start(Start::First)
}

async fn consumer(fake: &Fake, options: ConsumerOptions) -> Consumer {
    fake.client().await.consumer("t", options).await.unwrap()
}

fn value(record: &ConsumerRecord) -> String {
    String::from_utf8(record.value.clone().unwrap().to_vec()).unwrap()
}

/// The values that come until the consumer ends.
async fn drain(consumer: &mut Consumer) -> Vec<String> {
    let mut values = Vec::new();
    while let Some(record) = consumer.next().await {
        values.push(value(&record.unwrap()));
    }
    values
}

/// The next so many values.
async fn take(consumer: &mut Consumer, count: usize) -> Vec<String> {
    let mut values = Vec::new();
    while values.len() < count {
        values.push(value(&consumer.next().await.unwrap().unwrap()));
    }
    values
}

fn numbers(range: std::ops::Range<u64>) -> Vec<String> {
    range.map(|i| i.to_string()).collect()
}

/// Values 0, 1, 2 … in batches of `each`.
fn fill(fake: &Fake, partition: u32, count: u64, each: usize) {
    let all = numbers(0..count);
    for (i, chunk) in all.chunks(each).enumerate() {
        let codec = Compression::ALL[i % 5];
        fake.store(partition, &chunk.iter().map(String::as_str).collect::<Vec<_>>(), codec);
    }
}

#[tokio::test]
async fn all_records_come_in_order_with_everything_they_carry() {
    let fake = Fake::with_topic(3, 1).await;
    fill(&fake, 0, 100, 30);
    let mut consumer = consumer(&fake, from_first().until_high_watermark()).await;
    let first = consumer.next().await.unwrap().unwrap();
    let expected = ConsumerRecord {
        topic: "t".into(),
        partition: P0,
        offset: Offset::ZERO,
        timestamp: duramen_types::Timestamp::from_millis(0),
        key: Some("k".into()),
        value: Some("0".into()),
        headers: vec![],
    };
    assert_eq!(first, expected);
    assert_eq!(consumer.position(P0).unwrap(), Offset::new(1));
    assert_eq!(drain(&mut consumer).await, numbers(1..100));
    assert_eq!(consumer.position(P0).unwrap(), Offset::new(100));
    assert_eq!(consumer.high_watermark(P0).unwrap(), Offset::new(100));
    assert!(consumer.next().await.is_none());
}

#[tokio::test]
async fn headers_travel_from_producer_to_consumer() {
    let fake = Fake::with_topic(1, 1).await;
    let client = fake.client().await;
    let producer = client.producer("t", crate::ProducerOptions::default()).await.unwrap();
    let sent = crate::ProducerRecord::new("v").header("a", "1").header("a", "2");
    producer.send(sent.clone()).await.unwrap().await.unwrap();
    let mut consumer = consumer(&fake, from_first().until_high_watermark()).await;
    let record = consumer.next().await.unwrap().unwrap();
    assert_eq!(record.headers, sent.headers);
    assert_eq!(record.key, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_works_from_spawned_tasks() {
    let fake = Fake::with_topic(2, 2).await;
    let client = fake.client().await;
    let task = fake.env.tasks.critical("test", async move {
        let producer = client.producer("t", crate::ProducerOptions::default()).await?;
        producer.send(crate::ProducerRecord::new("a")).await?.await?;
        producer.close().await?;
        let mut consumer = client.consumer("t", from_first().until_high_watermark()).await?;
        let record = consumer.next().await.unwrap()?;
        consumer.seek(record.partition, Start::First).await?;
        consumer.next_batch().await.unwrap()?;
        client.admin().delete_topic("t").await
    });
    task.join().await.unwrap().unwrap();
}

#[tokio::test]
async fn seek_is_heard_while_the_leader_is_away() {
    let fake = Fake::with_topic(2, 1).await;
    fill(&fake, 0, 10, 10);
    fake.add_dead_node(3).await;
    let mut consumer = consumer(&fake, from_first()).await;
    assert_eq!(take(&mut consumer, 10).await, numbers(0..10));
    let streams = fake.lock().fetch_streams;
    fake.move_leader(0, 3);
    // The fetcher is told by its stream and looks for the leader.
    while fake.lock().fetch_streams == streams {
        tokio::task::yield_now().await;
    }
    consumer.seek(P0, Start::Offset(Offset::new(8))).await.unwrap();
    assert_eq!(consumer.position(P0).unwrap(), Offset::new(8));
    fake.move_leader(0, 1);
    assert_eq!(take(&mut consumer, 2).await, numbers(8..10));
}

#[tokio::test]
async fn every_start_lands_on_its_record_also_within_a_batch() {
    let fake = Fake::with_topic(2, 1).await;
    fill(&fake, 0, 100, 40);
    let timestamp = duramen_types::Timestamp::from_millis(5_450);
    for (start, first) in [
        (Start::First, 0),
        (Start::Offset(Offset::new(41)), 41),
        (Start::Last(7), 93),
        (Start::Last(1_000), 0),
        (Start::Timestamp(timestamp), 55),
        (Start::Last(0), 100),
        (Start::Offset(Offset::new(100)), 100),
    ] {
        let options = ConsumerOptions::default().start(start).until_high_watermark();
        let mut consumer = consumer(&fake, options).await;
        assert_eq!(consumer.position(P0).unwrap(), Offset::new(first), "{start:?}");
        assert_eq!(drain(&mut consumer).await, numbers(first..100), "{start:?}");
    }
}

#[tokio::test]
async fn batches_before_the_position_are_passed_over() {
    let fake = Fake::with_topic(1, 1).await;
    fill(&fake, 0, 100, 10);
    fake.lock().fetch_faults.push_back(FetchFault::Earlier);
    let options = ConsumerOptions::default().start(Start::Offset(Offset::new(55)));
    let mut consumer = consumer(&fake, options.until_high_watermark()).await;
    let first = consumer.next_batch().await.unwrap().unwrap();
    assert_eq!((first.first_offset(), first.next_offset()), (Offset::new(55), Offset::new(60)));
    assert_eq!(drain(&mut consumer).await, numbers(60..100));
}

#[tokio::test]
async fn an_end_within_a_batch_is_kept() {
    let fake = Fake::with_topic(1, 2).await;
    fill(&fake, 0, 100, 40);
    fill(&fake, 1, 10, 10);
    let options = from_first().until(P0, Offset::new(55)).until(P1, Offset::ZERO);
    let mut consumer = consumer(&fake, options).await;
    assert_eq!(drain(&mut consumer).await, numbers(0..55));
    assert_eq!(consumer.position(P0).unwrap(), Offset::new(55));
}

#[tokio::test]
async fn records_that_come_later_are_waited_for() {
    let fake = Fake::with_topic(1, 1).await;
    let mut consumer = consumer(&fake, ConsumerOptions::default()).await;
    assert!(consumer.next().now_or_never().is_none());
    fake.store(0, &["a"], Compression::None);
    assert_eq!(take(&mut consumer, 1).await, ["a"]);
    fake.store(0, &["b", "c"], Compression::Zstd);
    assert_eq!(take(&mut consumer, 2).await, ["b", "c"]);
}

/// The promise, under faults drawn from a seed: each partition's records come once and in order.
async fn random_faults(seed: u64) {
    let random = SeededRandom::new(seed);
    let fake = Fake::with_topic(3, 2).await;
    // More than the credit, so that every stream depends on what was granted to it.
    let padded = |range| {
        let numbers: Vec<String> = numbers(range);
        numbers.into_iter().map(|number| format!("{number:>01000}")).collect::<Vec<_>>()
    };
    let each = 1 + draw(&random, 9) as usize;
    for chunk in padded(0..150).chunks(each) {
        let values: Vec<&str> = chunk.iter().map(String::as_str).collect();
        fake.store(0, &values, Compression::None);
        fake.store(1, &values, Compression::None);
    }
    for _ in 0..20 {
        let after = draw(&random, 4);
        fake.lock().fetch_faults.push_back(match draw(&random, 5) {
            0 => FetchFault::Refuse(after, ErrorCode::Unavailable),
            1 => FetchFault::Refuse(after, ErrorCode::NotLeader),
            2 => FetchFault::Refuse(after, ErrorCode::ShuttingDown),
            _ => FetchFault::End(after),
        });
    }
    let start = u64::from(draw(&random, 100));
    let options =
        ConsumerOptions::default().start(Start::Offset(Offset::new(start))).until_high_watermark();
    let options = ConsumerOptions { buffer_bytes: 1, ..options };
    let mut consumer = consumer(&fake, options).await;
    let mut seen = [Vec::new(), Vec::new()];
    while let Some(record) = consumer.next().await {
        let record = record.unwrap_or_else(|error| panic!("seed {seed}: {error:?}"));
        seen[record.partition.get() as usize].push(value(&record));
        if draw(&random, 30) == 0 {
            fake.move_leader(draw(&random, 2), (1 + draw(&random, 3)).into());
        }
    }
    for values in seen {
        let values: Vec<&str> = values.iter().map(|value| value.trim_start()).collect();
        assert_eq!(values, numbers(start..150), "seed {seed}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_fault_skips_repeats_or_reorders_a_record() {
    futures::future::join_all((0..24).map(random_faults)).await;
}

#[tokio::test]
async fn no_more_is_fetched_than_the_buffer_takes() {
    let fake = Fake::with_topic(1, 1).await;
    let value = "x".repeat(10_000);
    for _ in 0..100 {
        fake.store(0, &[&value], Compression::None);
    }
    let options = ConsumerOptions { buffer_bytes: 100_000, ..from_first() };
    let mut consumer = consumer(&fake, options.until_high_watermark()).await;
    let batch = consumer.next_batch().await.unwrap().unwrap();
    let batch_bytes = batch.batch().bytes().len() as u64;
    // The last batch may be larger than the credit left for it.
    let mut taken = batch_bytes;
    loop {
        let fetched = fake.lock().fetched_bytes;
        assert!(fetched <= taken + 100_000 + batch_bytes, "{fetched} fetched, {taken} taken");
        match consumer.next_batch().await {
            Some(batch) => taken += batch.unwrap().batch().bytes().len() as u64,
            None => break,
        }
    }
    assert_eq!(taken, 100 * batch_bytes);
    assert_eq!(fake.lock().fetch_streams, 1);
}

#[tokio::test]
async fn what_is_taken_while_a_stream_opens_counts_for_it() {
    let fake = Fake::with_topic(1, 1).await;
    let value = "x".repeat(10_000);
    for _ in 0..40 {
        fake.store(0, &[&value], Compression::None);
    }
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    let faults = [FetchFault::End(1), FetchFault::Hold(Arc::clone(&gate))];
    fake.lock().fetch_faults.extend(faults);
    let options = ConsumerOptions { buffer_bytes: 1, ..from_first() };
    let mut consumer = consumer(&fake, options.until_high_watermark()).await;
    while fake.lock().fetch_streams < 2 {
        tokio::task::yield_now().await;
    }
    // Six batches fit the credit of 64 KiB; the second stream has what little is left of it.
    let mut taken = 0;
    while let Some(Some(batch)) = consumer.next_batch().now_or_never() {
        batch.unwrap();
        taken += 1;
    }
    assert_eq!(taken, 6);
    // Let the fetcher hear of it before the stream opens.
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    gate.add_permits(1);
    let rest = tokio::time::timeout(Duration::from_secs(10), drain(&mut consumer)).await;
    assert_eq!(rest.unwrap().len(), 34);
}

#[tokio::test]
async fn a_paused_partition_gives_nothing_and_loses_nothing() {
    let fake = Fake::with_topic(1, 2).await;
    fill(&fake, 0, 50, 20);
    fill(&fake, 1, 50, 20);
    let mut consumer = consumer(&fake, from_first().until_high_watermark()).await;
    let mut seen = BTreeMap::from([(P0, Vec::new()), (P1, Vec::new())]);
    // Pause in the middle of whatever batch comes first.
    let mut paused = P0;
    for _ in 0..5 {
        let record = consumer.next().await.unwrap().unwrap();
        paused = record.partition;
        seen.get_mut(&paused).unwrap().push(value(&record));
    }
    consumer.pause(paused).unwrap();
    assert_eq!(consumer.position(paused).unwrap(), Offset::new(5));
    for _ in 0..50 {
        let record = consumer.next().await.unwrap().unwrap();
        assert_ne!(record.partition, paused);
        seen.get_mut(&record.partition).unwrap().push(value(&record));
    }
    assert!(consumer.next().now_or_never().is_none());
    consumer.resume(paused).unwrap();
    while let Some(record) = consumer.next().await {
        let record = record.unwrap();
        seen.get_mut(&record.partition).unwrap().push(value(&record));
    }
    assert!(seen.values().all(|values| *values == numbers(0..50)), "{seen:?}");
}

#[tokio::test]
async fn seek_goes_anywhere_and_drops_what_was_buffered() {
    let fake = Fake::with_topic(1, 1).await;
    fill(&fake, 0, 100, 30);
    let mut consumer = consumer(&fake, from_first()).await;
    assert_eq!(take(&mut consumer, 5).await, numbers(0..5));
    consumer.seek(P0, Start::Offset(Offset::new(70))).await.unwrap();
    assert_eq!(consumer.position(P0).unwrap(), Offset::new(70));
    assert_eq!(take(&mut consumer, 3).await, numbers(70..73));
    consumer.seek(P0, Start::First).await.unwrap();
    assert_eq!(take(&mut consumer, 3).await, numbers(0..3));
    consumer.seek(P0, Start::Last(2)).await.unwrap();
    assert_eq!(take(&mut consumer, 2).await, numbers(98..100));
    let error = consumer.seek(P1, Start::First).await.unwrap_err();
    assert!(matches!(error, ClientError::UnknownPartition { .. }), "{error:?}");
}

#[tokio::test]
async fn batches_and_records_can_be_mixed() {
    let fake = Fake::with_topic(1, 1).await;
    fake.store(0, &["0", "1", "2", "3"], Compression::Lz4);
    fake.store(0, &["4", "5"], Compression::None);
    let mut consumer = consumer(&fake, from_first().until_high_watermark()).await;
    assert_eq!(take(&mut consumer, 1).await, ["0"]);
    let rest = consumer.next_batch().await.unwrap().unwrap();
    assert_eq!((rest.first_offset(), rest.next_offset()), (Offset::new(1), Offset::new(4)));
    assert_eq!((rest.record_count(), rest.batch().header().record_count), (3, 4));
    assert_eq!(rest.into_iter().map(|record| value(&record)).collect::<Vec<_>>(), ["1", "2", "3"]);
    assert_eq!(drain(&mut consumer).await, ["4", "5"]);
    assert!(consumer.next_batch().await.is_none());
}

#[tokio::test]
async fn a_damaged_batch_is_an_error_and_seek_goes_past_it() {
    let fake = Fake::with_topic(1, 1).await;
    fake.store(0, &["a"], Compression::None);
    fake.lock().fetch_faults.push_back(FetchFault::Corrupt(1));
    let mut consumer = consumer(&fake, from_first()).await;
    assert_eq!(take(&mut consumer, 1).await, ["a"]);
    fake.store(0, &["b"], Compression::None);
    let error = consumer.next().await.unwrap().unwrap_err();
    let ClientError::CorruptBatch { offset, .. } = &error else { panic!("{error:?}") };
    assert_eq!((*offset, error.kind()), (Offset::new(1), ErrorKind::Corrupt));
    assert!(consumer.next().await.is_none(), "its only partition has failed");
    consumer.seek(P0, Start::Offset(Offset::new(1))).await.unwrap();
    assert_eq!(take(&mut consumer, 1).await, ["b"]);
}

#[tokio::test]
async fn a_position_out_of_range_follows_the_policy() {
    let fake = Fake::with_topic(1, 1).await;
    fill(&fake, 0, 100, 10);
    {
        let mut state = fake.lock();
        let partition = state.partition("t", 0);
        partition.log_start = 40;
        partition.batches.drain(..4);
    }
    let options = |out_of_range| ConsumerOptions {
        out_of_range,
        ..ConsumerOptions::default().start(Start::Offset(Offset::new(7)))
    };
    let mut error = consumer(&fake, options(OutOfRange::Error)).await;
    let refused = error.next().await.unwrap().unwrap_err();
    let ClientError::OffsetOutOfRange { offset, log_start_offset, .. } = &refused else {
        panic!("{refused:?}");
    };
    assert_eq!((*offset, *log_start_offset), (Offset::new(7), Some(Offset::new(40))));
    let mut first = consumer(&fake, options(OutOfRange::First)).await;
    assert_eq!(take(&mut first, 2).await, ["40", "41"]);
    let mut last = consumer(&fake, options(OutOfRange::Last)).await;
    assert!(last.next().now_or_never().is_none());
    // Stored only once the consumer waits at the end.
    while fake.lock().fetch_streams < 5 {
        tokio::task::yield_now().await;
    }
    tokio::time::timeout(Duration::from_secs(10), async {
        loop {
            fake.store(0, &["new"], Compression::None);
            if let Some(Some(record)) = last.next().now_or_never() {
                return assert_eq!(value(&record.unwrap()), "new");
            }
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_topic_created_again_ends_the_consumer() {
    let fake = Fake::with_topic(2, 1).await;
    fake.store(0, &["a"], Compression::None);
    fake.lock().fetch_faults.push_back(FetchFault::End(1));
    let mut consumer = consumer(&fake, from_first()).await;
    fake.lock().create("t", 1);
    let outcome = loop {
        // The first record may or may not have come before.
        match consumer.next().await.unwrap() {
            Ok(record) => assert_eq!(value(&record), "a"),
            Err(error) => break error,
        }
    };
    assert!(matches!(outcome, ClientError::TopicRecreated { .. }), "{outcome:?}");
    assert!(consumer.next().await.is_none());
}
