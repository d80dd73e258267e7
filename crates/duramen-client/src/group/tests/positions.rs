//! Where it reads: initial positions, resets, what is not kept any more, pauses, seeks.

use super::*;
use crate::Start;

#[tokio::test(start_paused = true)]
async fn an_initial_position_is_committed_before_anything_is_handed_out() {
    let expected = [(Start::First, 0), (Start::Last(0), 10), (Start::Last(3), 7)];
    let timestamp = duramen_types::Timestamp::from_millis(450);
    for (start, first) in expected.into_iter().chain([(Start::Timestamp(timestamp), 5)]) {
        let fake = fake(1, &[0]).await;
        fake.with_group(|group| {
            group.committed.clear();
            group.commit_faults.push_back(CommitFault::Forget);
        });
        let mut consumer = consumer(&fake, GroupOptions::default().start(start)).await;
        fake.until(|group| group.seen.contains(&Seen::Commit(1, vec![(0, first)])).then_some(()))
            .await;
        assert!(is_quiet(&mut consumer, MOMENT).await, "not yet known to be committed");
        // The stream is given up, and the next commit is answered.
        fake.until(|group| (group.committed_offset(0) == Some(first)).then_some(())).await;
        fake.store(0, &["new"], Compression::None);
        assert_eq!(take(&mut consumer, 1).await, [(0, first)], "{start:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_initial_position_is_committed_also_by_hand() {
    let fake = fake(1, &[0]).await;
    fake.with_group(|group| group.committed.clear());
    let mut consumer = consumer(&fake, GroupOptions::default().manual_commits()).await;
    take(&mut consumer, 3).await;
    tokio::time::sleep(seconds(30)).await;
    assert_eq!(fake.with_group(|group| group.commits()), [(1, vec![(0, 0)])]);
    let outcomes = consumer.commit().await.unwrap();
    assert_eq!((outcomes.len(), outcomes[0].offset), (1, Offset::new(2)));
    assert!(outcomes[0].result.is_ok());
    assert!(consumer.commit().await.unwrap().is_empty(), "nothing new");
    take(&mut consumer, 2).await;
    consumer.commit_soon();
    fake.until(|group| (group.committed_offset(0) == Some(4)).then_some(())).await;
    take(&mut consumer, 2).await;
    consumer.close().await.unwrap();
    assert_eq!(fake.with_group(|group| group.committed_offset(0)), Some(4));
}

#[tokio::test(start_paused = true)]
async fn a_reset_drops_the_position_and_what_was_read_before_is_not_committed() {
    let fake = fake(2, &[0, 1]).await;
    let mut consumer = consumer(&fake, GroupOptions::default().explicit()).await;
    let mut out = Vec::new();
    for _ in 0..6 {
        out.push(next(&mut consumer).await);
    }
    let of_p1 = out.iter().filter(|record| record.partition == P1).count();
    fake.reset(0, 8);
    tokio::time::sleep(MOMENT).await;
    for record in &out {
        assert_eq!(record.is_current(), record.partition == P1);
        record.done();
    }
    tokio::time::sleep(seconds(2)).await;
    let of_p1 = u64::try_from(of_p1).unwrap();
    let committed = fake.with_group(|group| (group.committed_offset(0), group.committed_offset(1)));
    assert_eq!(committed, (Some(8), Some(of_p1)));
    let places = take(&mut consumer, 2 + 10 - usize::try_from(of_p1).unwrap()).await;
    assert_eq!(offsets(&places, 0), [8, 9]);
    assert_eq!(offsets(&places, 1), (of_p1..10).collect::<Vec<_>>());
    let events = events(&consumer);
    assert!(
        events.iter().any(|event| matches!(event, GroupEvent::Reset(one) if one.partition == P0))
    );
    assert!(!events.iter().any(|event| matches!(event, GroupEvent::Lost(_))));
}

#[tokio::test(start_paused = true)]
async fn a_commit_that_met_a_reset_is_fenced() {
    let fake = fake(1, &[0]).await;
    let mut consumer = consumer(&fake, GroupOptions::default().manual_commits()).await;
    take(&mut consumer, 3).await;
    // The reset is done, and the member has not heard of it.
    fake.with_group(|group| {
        group.commit(0, 9);
        group.fence += 1;
        let fence = group.fence;
        let member = group.members.values_mut().next().unwrap();
        (member.epoch, _) = (fence, member.granted.insert(0, fence));
    });
    let outcomes = consumer.commit().await.unwrap();
    let error = outcomes[0].result.clone().unwrap_err();
    assert!(matches!(error, ClientError::GroupFenced { code: ErrorCode::PartitionNotHeld, .. }));
    assert_eq!(error.kind(), ErrorKind::Fenced);
    assert!(is_quiet(&mut consumer, seconds(1)).await, "what it reads is void");
    let id = fake.member();
    fake.lock().tell("g", &id);
    assert_eq!(take(&mut consumer, 1).await, [(0, 9)]);
    assert!(events(&consumer).iter().any(|event| matches!(event, GroupEvent::Fenced { .. })));
}

#[tokio::test(start_paused = true)]
async fn a_committed_offset_that_is_not_kept_is_an_event_and_goes_on_where_it_should() {
    for (policy, first) in [(OutOfRange::First, Some(4)), (OutOfRange::Last, None)] {
        let fake = fake(1, &[0]).await;
        {
            let mut state = fake.lock();
            let partition = state.partition("t", 0);
            partition.log_start = 4;
            partition.batches.drain(..4);
        }
        let options = GroupOptions { out_of_range: policy, ..GroupOptions::default() };
        let mut consumer = consumer(&fake, options).await;
        if first.is_none() {
            assert!(is_quiet(&mut consumer, seconds(1)).await);
            fake.store(0, &["new"], Compression::None);
        }
        let first = first.unwrap_or(10);
        assert_eq!(take(&mut consumer, 1).await, [(0, first)]);
        let jumped = |event: &GroupEvent| match event {
            GroupEvent::Jumped { from, to, .. } => Some((from.get(), to.get())),
            _ => None,
        };
        assert_eq!(events(&consumer).iter().find_map(jumped), Some((0, first)));
    }
}

#[tokio::test(start_paused = true)]
async fn a_partition_that_fails_is_an_error_and_a_seek_starts_it_again() {
    let fake = fake(2, &[0, 1]).await;
    fake.lock().partition("t", 0).log_start = 4;
    let options = GroupOptions { out_of_range: OutOfRange::Error, ..GroupOptions::default() };
    let mut consumer = consumer(&fake, options).await;
    let mut failed = None;
    for _ in 0..11 {
        match consumer.next().await.unwrap() {
            Ok(record) => assert_eq!(record.partition, P1, "the other one goes on"),
            Err(error) => assert!(failed.replace(error).is_none()),
        }
    }
    let failed = failed.unwrap();
    assert!(matches!(failed, ClientError::OffsetOutOfRange { .. }), "{failed:?}");
    consumer.seek("t", P0, Start::First).await.unwrap();
    assert_eq!(take(&mut consumer, 1).await, [(0, 4)]);
}

#[tokio::test(start_paused = true)]
async fn a_paused_partition_keeps_its_place_and_its_member() {
    let fake = fake(2, &[0, 1]).await;
    let mut consumer = consumer(&fake, GroupOptions::default()).await;
    let before = take(&mut consumer, 3).await;
    consumer.pause("t", P0).unwrap();
    let meanwhile = take(&mut consumer, 10 - offsets(&before, 1).len()).await;
    assert!(offsets(&meanwhile, 0).is_empty());
    assert!(is_quiet(&mut consumer, seconds(20)).await);
    let position = consumer.position("t", P0).unwrap().unwrap().get();
    assert_eq!(position, u64::try_from(offsets(&before, 0).len()).unwrap());
    assert!(consumer.is_sure());
    // A reset does not resume it.
    fake.reset(0, 6);
    assert!(is_quiet(&mut consumer, seconds(1)).await);
    consumer.resume("t", P0).unwrap();
    assert_eq!(take(&mut consumer, 1).await, [(0, 6)]);
    let error = consumer.pause("t", PartitionId::new(7)).unwrap_err();
    assert!(matches!(error, ClientError::NotAssigned { .. }), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn a_seek_goes_anywhere_and_never_takes_a_commit_back() {
    let fake = fake(1, &[0]).await;
    let mut consumer = consumer(&fake, GroupOptions::default()).await;
    take(&mut consumer, 6).await;
    fake.until(|group| (group.committed_offset(0) == Some(5)).then_some(())).await;
    consumer.seek("t", P0, Start::Offset(Offset::new(1))).await.unwrap();
    assert_eq!(consumer.position("t", P0).unwrap(), Some(Offset::new(1)));
    assert_eq!(take(&mut consumer, 3).await, [(0, 1), (0, 2), (0, 3)]);
    tokio::time::sleep(seconds(2)).await;
    assert_eq!(fake.with_group(|group| group.commits().len()), 1);
    consumer.seek("t", P0, Start::Last(1)).await.unwrap();
    assert_eq!(take(&mut consumer, 1).await, [(0, 9)]);
    fake.until(|group| (group.committed_offset(0) == Some(9)).then_some(())).await;
}
