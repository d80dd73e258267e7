//! The producer against a fake cluster: nothing lost, nothing twice, nothing out of order.

mod requests;

use std::collections::BTreeSet;
use std::time::Duration;

use duramen_env::SeededRandom;
use duramen_proto::v1::ErrorCode;
use futures::FutureExt;
use tokio::sync::Semaphore;

use super::*;
use crate::fake::{Fake, Fault, draw};
use crate::{Client, Compression, ErrorKind, Offset, limits};

fn fast() -> ProducerOptions {
    ProducerOptions { linger: Duration::from_millis(1), ..ProducerOptions::default() }
}

/// One record a batch, so that faults meet the records that a test means.
fn single() -> ProducerOptions {
    ProducerOptions {
        batch_bytes: 1,
        record_bytes_max: limits::REQUEST_BYTES,
        linger: Duration::ZERO,
        ..ProducerOptions::default()
    }
}

fn record(partition: u32, value: &str) -> ProducerRecord {
    ProducerRecord::new(value.to_owned()).partition(PartitionId::new(partition))
}

async fn send(producer: &Producer, value: &str) -> Delivery {
    producer.send(record(0, value)).await.unwrap()
}

async fn producer(fake: &Fake, options: ProducerOptions) -> Producer {
    fake.client().await.producer("t", options).await.unwrap()
}

#[tokio::test]
async fn records_are_stored_in_order_and_deliveries_say_where() {
    let fake = Fake::with_topic(3, 3).await;
    for compression in Compression::ALL {
        let options = ProducerOptions { compression, ..fast() };
        let producer = producer(&fake, options).await;
        let begin = fake.values(1).len();
        let values: Vec<String> = (0..100).map(|i| format!("{compression} {i}")).collect();
        let mut deliveries = Vec::new();
        for value in &values {
            deliveries.push(producer.send(record(1, value)).await.unwrap());
        }
        for (i, delivery) in deliveries.into_iter().enumerate() {
            let stored = delivery.await.unwrap();
            assert_eq!(stored.offset, Offset::new((begin + i) as u64));
            assert_eq!(stored.partition, PartitionId::new(1));
        }
        assert_eq!(fake.values(1)[begin..], values);
        producer.close().await.unwrap();
    }
    assert!(fake.values(0).is_empty() && fake.values(2).is_empty());
}

#[tokio::test]
async fn the_first_call_after_a_create_carries_its_metadata_index() {
    let fake = Fake::start(3).await;
    let client = fake.client().await;
    client.admin().create_topic(crate::NewTopic::new("t").partitions(2)).await.unwrap();
    let producer = client.producer("t", fast()).await.unwrap();
    send(&producer, "a").await.await.unwrap();
    assert_eq!(fake.lock().produce_requests, [1]);
}

#[tokio::test]
async fn redirects_are_followed_whether_they_name_the_leader_or_not() {
    for silent in [false, true] {
        let fake = Fake::with_topic(3, 1).await;
        let producer = producer(&fake, fast()).await;
        send(&producer, "a").await.await.unwrap();
        fake.move_leader(0, 3);
        fake.lock().silent_about_leaders = silent;
        send(&producer, "b").await.await.unwrap();
        fake.move_leader(0, 2);
        send(&producer, "c").await.await.unwrap();
        assert_eq!(fake.values(0), ["a", "b", "c"]);
    }
}

#[tokio::test]
async fn a_leader_that_cannot_be_reached_is_waited_for() {
    let fake = Fake::with_topic(2, 1).await;
    let producer = producer(&fake, fast()).await;
    fake.add_dead_node(3).await;
    fake.move_leader(0, 3);
    let delivery = send(&producer, "a").await;
    // The redirect leads to the dead node, and from there to a refresh.
    while fake.lock().produce_requests.len() < 2 {
        tokio::task::yield_now().await;
    }
    fake.move_leader(0, 2);
    delivery.await.unwrap();
    assert_eq!(fake.values(0), ["a"]);
}

#[tokio::test]
async fn what_was_stored_before_the_answer_was_lost_is_not_stored_twice() {
    for fault in [
        Fault::StoreAndDrop,
        Fault::Drop,
        Fault::StoreAndRefuse(ErrorCode::UnknownOutcome),
        Fault::Refuse(ErrorCode::UnknownOutcome),
        Fault::Refuse(ErrorCode::Overloaded),
        Fault::Refuse(ErrorCode::Unavailable),
        Fault::Refuse(ErrorCode::ShuttingDown),
        Fault::Refuse(ErrorCode::UnknownTopic),
    ] {
        let fake = Fake::with_topic(3, 1).await;
        let producer = producer(&fake, single()).await;
        fake.lock().faults.extend([Fault::None, fault.clone()]);
        let mut deliveries = Vec::new();
        for value in ["a", "b", "c", "d"] {
            deliveries.push(send(&producer, value).await);
        }
        for (i, delivery) in deliveries.into_iter().enumerate() {
            assert_eq!(delivery.await.unwrap().offset.get(), i as u64, "{fault:?}");
        }
        assert_eq!(fake.values(0), ["a", "b", "c", "d"], "{fault:?}");
    }
}

#[tokio::test]
async fn an_answer_that_never_comes_is_asked_for_again() {
    let fake = Fake::with_topic(1, 1).await;
    let options =
        crate::ClientOptions { request_timeout: Duration::from_millis(50), ..fake.options() };
    let client = Client::with_env(fake.env.clone(), options).await.unwrap();
    let producer = client.producer("t", single()).await.unwrap();
    fake.lock().faults.extend([Fault::StoreAndForget, Fault::None]);
    let (a, b) = (send(&producer, "a").await, send(&producer, "b").await);
    assert_eq!(a.await.unwrap().offset, Offset::ZERO);
    assert_eq!(b.await.unwrap().offset, Offset::new(1));
    assert_eq!(fake.values(0), ["a", "b"]);
}

#[tokio::test]
async fn a_leader_that_froze_is_left_as_soon_as_another_node_leads() {
    let fake = Fake::with_topic(2, 1).await;
    fake.move_leader(0, 1);
    let client = fake.client().await;
    let producer = client.producer("t", fast()).await.unwrap();
    assert_eq!(send(&producer, "a").await.await.unwrap().offset, Offset::ZERO);
    // Its connection stays whole and no answer comes, as from a stopped process.
    fake.lock().faults.push_back(Fault::Forget);
    let delivery = send(&producer, "b").await;
    fake.move_leader(0, 2);
    let delivered = tokio::time::timeout(limits::REQUEST_TIMEOUT / 3, delivery).await;
    let delivered = delivered.expect("not only when the request is given up").unwrap();
    assert_eq!(delivered.offset, Offset::new(1));
    assert_eq!(fake.values(0), ["a", "b"]);
}

#[tokio::test]
async fn a_leader_that_is_only_slow_is_waited_for() {
    let fake = Fake::with_topic(2, 1).await;
    let producer = producer(&fake, fast()).await;
    let gate = Arc::new(Semaphore::new(0));
    let before = fake.lock().describes;
    fake.lock().faults.push_back(Fault::Hold(Arc::clone(&gate)));
    let delivery = send(&producer, "a").await;
    fake.until_described(before + 2).await;
    gate.add_permits(1);
    assert_eq!(delivery.await.unwrap().offset, Offset::ZERO);
    assert_eq!(fake.lock().produce_requests.len(), 1, "it was asked once");
}

/// The promise, under faults drawn from a seed: every delivery is `Ok`, and each partition holds
/// exactly the records sent to it, in the order in which they were sent.
async fn random_faults(seed: u64) {
    let random = SeededRandom::new(seed);
    let fake = Fake::with_topic(3, 2).await;
    let batch_bytes = [1, 100, 1_000][draw(&random, 3) as usize];
    let producer = producer(&fake, ProducerOptions { batch_bytes, ..fast() }).await;
    let mut sent = [Vec::new(), Vec::new()];
    let mut deliveries = Vec::new();
    for i in 0..120 {
        // Small batches meet more faults; a long queue of them would only make the test wait.
        if draw(&random, 3) == 0 && fake.lock().faults.len() < 4 {
            fake.lock().faults.push_back(match draw(&random, 12) {
                0 => Fault::Refuse(ErrorCode::Unavailable),
                1 => Fault::Refuse(ErrorCode::Overloaded),
                2 => Fault::Refuse(ErrorCode::UnknownOutcome),
                3 => Fault::StoreAndRefuse(ErrorCode::UnknownOutcome),
                4 | 5 => Fault::StoreAndDrop,
                6 => Fault::Drop,
                _ => Fault::None,
            });
        }
        if draw(&random, 25) == 0 {
            fake.move_leader(draw(&random, 2), (1 + draw(&random, 3)).into());
        }
        let partition = draw(&random, 2);
        let value = format!("{i}");
        deliveries.push(producer.send(record(partition, &value)).await.unwrap());
        sent[partition as usize].push(value);
        if draw(&random, 20) == 0 {
            producer.flush().await;
        }
    }
    for delivery in deliveries {
        delivery.await.unwrap_or_else(|error| panic!("seed {seed}: {error:?}"));
    }
    for (partition, sent) in sent.iter().enumerate() {
        assert_eq!(fake.values(u32::try_from(partition).unwrap()), *sent, "seed {seed}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_fault_loses_doubles_or_reorders_a_record() {
    let seeds = (0..24).map(random_faults);
    futures::future::join_all(seeds).await;
}

#[tokio::test]
async fn a_producer_that_the_server_has_forgotten_begins_anew() {
    let fake = Fake::with_topic(1, 1).await;
    let producer = producer(&fake, single()).await;
    send(&producer, "a").await.await.unwrap();
    fake.forget_producers(0);
    let (b, c) = (send(&producer, "b").await, send(&producer, "c").await);
    assert_eq!(b.await.unwrap().offset.get(), 1);
    assert_eq!(c.await.unwrap().offset.get(), 2);
    assert_eq!(fake.values(0), ["a", "b", "c"]);
}

#[tokio::test]
async fn a_batch_that_may_be_stored_is_never_sent_under_a_new_producer_id() {
    let fake = Fake::with_topic(1, 1).await;
    let producer = producer(&fake, single()).await;
    send(&producer, "a").await.await.unwrap();
    let refuse = Fault::Refuse(ErrorCode::UnknownProducer);
    fake.lock().faults.extend([Fault::StoreAndDrop, refuse]);
    let error = send(&producer, "b").await.await.unwrap_err();
    assert!(matches!(error, ClientError::SequenceLost { .. }), "{error:?}");
    assert_eq!(error.kind(), ErrorKind::UnknownOutcome);
    // What comes later goes on under a new id.
    send(&producer, "c").await.await.unwrap();
    assert_eq!(fake.values(0), ["a", "b", "c"]);
}

#[tokio::test]
async fn a_fenced_producer_is_finished() {
    let fake = Fake::with_topic(1, 2).await;
    let producer = producer(&fake, single()).await;
    send(&producer, "a").await.await.unwrap();
    fake.fence_producers(0);
    let error = send(&producer, "b").await.await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Fenced);
    let error = producer.send(record(1, "c")).await.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::ProducerFenced));
    assert_eq!(fake.values(0), ["a"]);
}

#[tokio::test]
async fn the_end_of_a_producer_reaches_every_partition() {
    let fake = Fake::with_topic(2, 2).await;
    let producer = producer(&fake, single()).await;
    send(&producer, "a").await.await.unwrap();
    fake.fence_producers(0);
    fake.lock().faults.push_back(Fault::Hold(Arc::new(Semaphore::new(0))));
    let held = producer.send(record(1, "b")).await.unwrap();
    while fake.lock().produce_requests.len() < 2 {
        tokio::task::yield_now().await;
    }
    let error = send(&producer, "c").await.await.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::ProducerFenced));
    // Well before the answer would be given up.
    let held = tokio::time::timeout(Duration::from_secs(5), held).await.unwrap();
    let ClientError::UnknownOutcome { source: Some(source), .. } = held.unwrap_err() else {
        panic!("what is under way may be stored");
    };
    assert_eq!(source.code(), Some(ErrorCode::ProducerFenced));
}

#[tokio::test]
async fn a_topic_created_again_is_an_error_and_not_a_mix_up() {
    let fake = Fake::with_topic(2, 1).await;
    let producer = producer(&fake, single()).await;
    send(&producer, "a").await.await.unwrap();
    fake.lock().create("t", 1);
    let error = send(&producer, "b").await.await.unwrap_err();
    let ClientError::TopicRecreated { current, .. } = &error else { panic!("{error:?}") };
    assert_eq!(*current, Some(TopicId::from_bytes([2; 16])));
    assert_eq!(error.kind(), ErrorKind::Fenced);
    assert!(producer.close().await.is_err());
    assert!(fake.values(0).is_empty());
}

#[tokio::test]
async fn a_deleted_topic_is_an_error_after_a_few_attempts() {
    let fake = Fake::with_topic(2, 1).await;
    let producer = producer(&fake, single()).await;
    send(&producer, "a").await.await.unwrap();
    fake.lock().topics.clear();
    let error = send(&producer, "b").await.await.unwrap_err();
    assert!(matches!(error, ClientError::UnknownTopic { .. }), "{error:?}");
}

#[tokio::test]
async fn time_runs_out_with_a_typed_error_that_knows_what_may_be_stored() {
    let fake = Fake::with_topic(1, 1).await;
    let options = || ProducerOptions { delivery_timeout: Duration::from_millis(150), ..single() };
    // Answered with a refusal each time: certainly not stored.
    let refused = producer(&fake, options()).await;
    let refusals = std::iter::repeat_n(Fault::Refuse(ErrorCode::Unavailable), 50);
    fake.lock().faults.extend(refusals);
    let error = send(&refused, "a").await.await.unwrap_err();
    assert!(matches!(error, ClientError::Timeout { maybe_done: false, .. }), "{error:?}");
    assert_eq!(error.kind(), ErrorKind::Retry);
    // Never answered: nobody knows.
    let forgotten = producer(&fake, options()).await;
    fake.lock().faults.clear();
    fake.lock().faults.push_back(Fault::Forget);
    let error = send(&forgotten, "b").await.await.unwrap_err();
    assert!(matches!(error, ClientError::Timeout { maybe_done: true, .. }), "{error:?}");
    assert_eq!(error.kind(), ErrorKind::UnknownOutcome);
    // Both go on.
    send(&refused, "c").await.await.unwrap();
    send(&forgotten, "d").await.await.unwrap();
    assert_eq!(fake.values(0), ["c", "d"]);
}

#[tokio::test]
async fn what_follows_a_batch_of_unknown_outcome_is_not_taken_for_it() {
    let fake = Fake::with_topic(1, 1).await;
    let options = ProducerOptions { delivery_timeout: Duration::from_millis(150), ..single() };
    let producer = producer(&fake, options).await;
    fake.lock().faults.push_back(Fault::StoreAndForget);
    let error = send(&producer, "a").await.await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnknownOutcome);
    // Under the sequence of `a` the server would call it a duplicate and drop it.
    assert_eq!(send(&producer, "b").await.await.unwrap().offset, Offset::new(1));
    assert_eq!(fake.values(0), ["a", "b"]);
}

#[tokio::test]
async fn send_waits_while_the_bound_is_used_up() {
    let fake = Fake::with_topic(1, 1).await;
    let in_flight_bytes = 1_000;
    let options = ProducerOptions { in_flight_bytes, linger: Duration::ZERO, ..fast() };
    let producer = producer(&fake, options).await;
    let gate = Arc::new(Semaphore::new(0));
    fake.lock().faults.push_back(Fault::Hold(Arc::clone(&gate)));
    let value = "x".repeat(100);
    let mut deliveries = Vec::new();
    let mut waiting = loop {
        assert!(deliveries.len() < 10, "ten records of 100 bytes are over 1,000");
        let mut next = Box::pin(producer.send(record(0, &value)));
        match next.as_mut().now_or_never() {
            Some(delivery) => deliveries.push(delivery.unwrap()),
            None => break Box::pin(producer.send(record(0, &value))),
        }
    };
    assert!(producer.room_bytes() < 130);
    assert!(waiting.as_mut().now_or_never().is_none());
    gate.add_permits(1);
    deliveries.push(waiting.await.unwrap());
    let sent = deliveries.len();
    for delivery in deliveries {
        delivery.await.unwrap();
    }
    assert_eq!(fake.values(0).len(), sent);
    assert_eq!(producer.room_bytes(), in_flight_bytes);
}

/// A value of which no two go in one request.
fn large(number: usize) -> String {
    format!("{number}{}", "0".repeat(limits::REQUEST_BYTES / 2))
}

#[tokio::test]
async fn keys_stay_together_and_records_without_a_key_spread() {
    let fake = Fake::with_topic(1, 4).await;
    let producer = producer(&fake, single()).await;
    for i in 0..64 {
        let delivery = producer.send(ProducerRecord::new(format!("{i}"))).await.unwrap();
        delivery.await.unwrap();
    }
    let spread: Vec<usize> = (0..4).map(|partition| fake.values(partition).len()).collect();
    assert!(spread.iter().all(|count| *count > 2), "{spread:?}");
    let mut places = BTreeSet::new();
    for i in 0..8 {
        let record = ProducerRecord::new(format!("{i}")).key("foobar");
        places.insert(producer.send(record).await.unwrap().await.unwrap().partition);
    }
    assert_eq!(places, BTreeSet::from([partition_for_key(b"foobar", 4)]));
}

#[tokio::test]
async fn records_without_a_key_fill_one_batch_before_the_next_partition() {
    let fake = Fake::with_topic(1, 4).await;
    let linger = Duration::from_secs(3600);
    let options = ProducerOptions {
        linger,
        batch_bytes: 1_000,
        delivery_timeout: linger * 2,
        ..ProducerOptions::default()
    };
    let producer = producer(&fake, options).await;
    let mut places = Vec::new();
    for i in 0..100 {
        let record = ProducerRecord::new(format!("{i:050}"));
        places.push(producer.send(record).await.unwrap().partition());
    }
    let changes = places.windows(2).filter(|pair| pair[0] != pair[1]).count();
    assert!((4..=10).contains(&changes), "{places:?}");
    // Nothing lingers once it is to be flushed.
    producer.flush().await;
    assert_eq!((0..4).map(|partition| fake.values(partition).len()).sum::<usize>(), 100);
}

#[tokio::test]
async fn without_idempotence_what_may_be_stored_is_not_sent_again() {
    let fake = Fake::with_topic(1, 1).await;
    let options = ProducerOptions { idempotent: false, ..single() };
    let producer = producer(&fake, options).await;
    fake.lock().faults.extend([
        Fault::Refuse(ErrorCode::Unavailable),
        Fault::None,
        Fault::StoreAndDrop,
    ]);
    let [a, b, c] = [0, 1, 2].map(large);
    let a = send(&producer, &a).await;
    let b = send(&producer, &b).await;
    let c = send(&producer, &c).await;
    a.await.unwrap();
    assert_eq!(b.await.unwrap_err().kind(), ErrorKind::UnknownOutcome);
    c.await.unwrap();
    assert_eq!(fake.values(0), [0, 1, 2].map(large));
}

#[tokio::test]
async fn a_closed_producer_takes_nothing_and_a_dropped_one_answers_everything() {
    let fake = Fake::with_topic(1, 1).await;
    let first = producer(&fake, fast()).await;
    let clone = first.clone();
    let a = send(&first, "a").await;
    first.close().await.unwrap();
    assert!(a.now_or_never().unwrap().is_ok(), "close has flushed");
    let error = clone.send(record(0, "b")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed);

    let second = producer(&fake, fast()).await;
    let gate = Arc::new(Semaphore::new(0));
    fake.lock().faults.push_back(Fault::Hold(gate));
    let (c, d) = (send(&second, "c").await, send(&second, "d").await);
    drop(second);
    for delivery in [c, d] {
        assert_eq!(delivery.await.unwrap_err().kind(), ErrorKind::Closed);
    }
}

#[tokio::test]
async fn bad_records_and_options_are_refused_before_anything_is_sent() {
    let fake = Fake::with_topic(1, 2).await;
    let client = fake.client().await;
    let producer = client.producer("t", fast()).await.unwrap();
    let error = producer.send(record(2, "a")).await.unwrap_err();
    assert!(matches!(error, ClientError::UnknownPartition { .. }), "{error:?}");
    let error = producer.send(record(0, &"x".repeat(1 << 20))).await.unwrap_err();
    assert!(matches!(error, ClientError::RecordTooLarge { .. }), "{error:?}");
    let error = client.producer("none", fast()).await.unwrap_err();
    assert!(matches!(error, ClientError::UnknownTopic { .. }), "{error:?}");
    let options = ProducerOptions { requests_in_flight: 6, ..fast() };
    let error = client.producer("t", options).await.unwrap_err();
    let expected = "requests_in_flight";
    assert!(matches!(error, ClientError::InvalidOption { option, .. } if option == expected));
    assert!(fake.lock().produce_requests.is_empty());
}

#[tokio::test]
async fn sends_of_many_tasks_share_a_producer() {
    let fake = Fake::with_topic(2, 2).await;
    let producer = producer(&fake, fast()).await;
    let mut tasks = Vec::new();
    for task in 0..8 {
        let producer = producer.clone();
        tasks.push(fake.env.tasks.critical("test-sender", async move {
            for i in 0..50 {
                let record = ProducerRecord::new(format!("{task} {i}")).key(format!("{task}"));
                producer.send(record).await.unwrap().await.unwrap();
            }
        }));
    }
    for task in tasks {
        task.join().await.unwrap();
    }
    let mut stored: Vec<String> = [fake.values(0), fake.values(1)].concat();
    for task in 0..8 {
        let of_task = stored.iter().filter(|value| value.starts_with(&format!("{task} ")));
        let expected: Vec<String> = (0..50).map(|i| format!("{task} {i}")).collect();
        assert_eq!(of_task.cloned().collect::<Vec<_>>(), expected);
    }
    stored.dedup();
    assert_eq!(stored.len(), 400);
}
