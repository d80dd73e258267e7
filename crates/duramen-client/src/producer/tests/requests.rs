//! Requests: how many are under way, and which batches share one.

use super::*;

#[tokio::test]
async fn a_batch_that_is_refused_for_good_does_not_hold_up_the_others() {
    let fake = Fake::with_topic(1, 1).await;
    let producer = producer(&fake, single()).await;
    fake.lock().too_large = Some("heartwood");
    // The first request is held until all others wait, so that they go in one.
    let gate = Arc::new(Semaphore::new(0));
    let options = ProducerOptions { requests_in_flight: 1, ..single() };
    let together = super::producer(&fake, options).await;
    for producer in [producer, together] {
        fake.lock().faults.push_back(Fault::Hold(Arc::clone(&gate)));
        let before = fake.values(0).len() as u64;
        let mut outcomes = Vec::new();
        let mut deliveries = Vec::new();
        for value in ["a", "b", "heartwood", "c", "d"] {
            deliveries.push(send(&producer, value).await);
        }
        gate.add_permits(1);
        for delivery in deliveries {
            outcomes.push(delivery.await.map(|stored| stored.offset.get() - before));
        }
        let [Ok(0), Ok(1), Err(error), Ok(2), Ok(3)] = &outcomes[..] else {
            panic!("{outcomes:?}")
        };
        assert_eq!(error.code(), Some(ErrorCode::RecordTooLarge));
        assert_eq!(error.kind(), ErrorKind::Invalid);
    }
    assert_eq!(fake.values(0), ["a", "b", "c", "d", "a", "b", "c", "d"]);
}

#[tokio::test]
async fn batches_that_wait_for_their_turn_share_a_request_and_keep_it_when_sent_again() {
    let fake = Fake::with_topic(1, 1).await;
    let producer = producer(&fake, ProducerOptions { requests_in_flight: 1, ..single() }).await;
    let gate = Arc::new(Semaphore::new(0));
    // The second request is stored, and its answer lost; what comes meanwhile must not join it.
    let second = [Fault::Hold(Arc::clone(&gate)), Fault::StoreAndDrop];
    fake.lock().faults.extend(second);
    let first = send(&producer, "0").await;
    while fake.lock().produce_requests.is_empty() {
        tokio::task::yield_now().await;
    }
    let mut deliveries = Vec::new();
    for i in 1..8 {
        deliveries.push(send(&producer, &i.to_string()).await);
    }
    gate.add_permits(1);
    first.await.unwrap();
    for i in 8..12 {
        deliveries.push(send(&producer, &i.to_string()).await);
    }
    for (delivery, offset) in deliveries.into_iter().zip(1..) {
        assert_eq!(delivery.await.unwrap().offset, Offset::new(offset));
    }
    let sequences = fake.lock().produce_sequences.clone();
    assert_eq!(sequences, [0, 1, 1, 8], "first, the rest, the same again, what came later");
    assert_eq!(fake.values(0), (0..12).map(|i| i.to_string()).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn a_batch_whose_time_is_over_does_not_take_those_behind_it_along() {
    let fake = Fake::with_topic(1, 1).await;
    let delivery_timeout = Duration::from_secs(60);
    let options = ProducerOptions { delivery_timeout, requests_in_flight: 1, ..single() };
    let producer = producer(&fake, options).await;
    // The first request is never answered; what comes meanwhile waits for its end.
    fake.lock().faults.extend(std::iter::repeat_n(Fault::Forget, 1_000));
    let first = send(&producer, "a").await;
    while fake.lock().produce_requests.is_empty() {
        tokio::task::yield_now().await;
    }
    let early = send(&producer, "b").await;
    tokio::time::advance(delivery_timeout / 2).await;
    let late = send(&producer, "c").await;
    for (delivery, is_unknown) in [(first, true), (early, false)] {
        let error = delivery.await.unwrap_err();
        let ClientError::Timeout { maybe_done, .. } = error else { panic!("{error:?}") };
        assert_eq!(maybe_done, is_unknown);
    }
    fake.lock().faults.clear();
    late.await.unwrap();
    assert_eq!(fake.values(0), ["c"]);
}

#[tokio::test]
async fn at_most_five_requests_of_a_partition_are_under_way() {
    let fake = Fake::with_topic(1, 1).await;
    let producer = producer(&fake, single()).await;
    let gate = Arc::new(Semaphore::new(0));
    fake.lock().faults.extend(std::iter::repeat_n(Fault::Hold(Arc::clone(&gate)), 20));
    let mut deliveries = Vec::new();
    for i in 0..20 {
        deliveries.push(send(&producer, &large(i)).await);
    }
    // The fake takes requests one by one; whatever it has not answered is at most the window.
    for (i, delivery) in deliveries.into_iter().enumerate() {
        gate.add_permits(1);
        delivery.await.unwrap();
        let seen = fake.lock().produce_requests.len();
        assert!(
            seen <= i + 1 + limits::REQUESTS_IN_FLIGHT,
            "{seen} requests after {} answers",
            i + 1
        );
    }
}

/// What is refused for want of room was carried for nothing, so less is sent each time.
#[tokio::test]
async fn a_producer_that_is_refused_has_less_under_way_each_time() {
    let fake = Fake::with_topic(1, 1).await;
    let producer = producer(&fake, single()).await;
    fake.lock().faults.extend(std::iter::repeat_n(Fault::Refuse(ErrorCode::Overloaded), 100));
    let mut deliveries = Vec::new();
    for i in 0..20 {
        deliveries.push(send(&producer, &large(i)).await);
    }
    // Each attempt begins with the first record.
    let attempts = loop {
        let sequences = fake.lock().produce_sequences.clone();
        let attempts: Vec<usize> =
            sequences.chunk_by(|_, next| *next != 0).map(<[u32]>::len).collect();
        if attempts.len() > 3 {
            break attempts;
        }
        tokio::task::yield_now().await;
    };
    assert!(attempts[1] <= limits::REQUESTS_IN_FLIGHT / 2 && attempts[2] == 1, "{attempts:?}");
    fake.lock().faults.clear();
    for delivery in deliveries {
        delivery.await.unwrap();
    }
    assert_eq!(fake.values(0), (0..20).map(large).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_request_has_so_many_batches_and_no_more() {
    let fake = Fake::with_topic(1, 1).await;
    let producer = producer(&fake, ProducerOptions { requests_in_flight: 1, ..single() }).await;
    let gate = Arc::new(Semaphore::new(0));
    fake.lock().faults.push_back(Fault::Hold(Arc::clone(&gate)));
    let mut deliveries = vec![send(&producer, "first").await];
    while fake.lock().produce_requests.is_empty() {
        tokio::task::yield_now().await;
    }
    for _ in 0..=limits::REQUEST_BATCHES {
        deliveries.push(send(&producer, "").await);
    }
    gate.add_permits(1);
    for (delivery, offset) in deliveries.into_iter().zip(0..) {
        assert_eq!(delivery.await.unwrap().offset, Offset::new(offset));
    }
    let last = u32::try_from(limits::REQUEST_BATCHES).unwrap() + 1;
    assert_eq!(fake.lock().produce_sequences, [0, 1, last]);
}
