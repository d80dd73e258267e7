//! The group consumer against a fake coordinator, in paused time: nothing here waits for real.

use std::collections::BTreeSet;
use std::time::Duration;

use duramen_proto::v1::ErrorCode;
use duramen_types::PartitionId;
use futures::FutureExt as _;

use super::*;
use crate::fake::Fake;
use crate::fake::groups::{CommitFault, Seen};
use crate::{Compression, ErrorKind, OutOfRange};

mod faults;
mod positions;

const P0: PartitionId = PartitionId::new(0);
const P1: PartitionId = PartitionId::new(1);

/// Longer than anything takes that needs no timer of a consumer.
const MOMENT: Duration = Duration::from_millis(50);

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// So many partitions with ten records each, one to a batch, committed at zero; whoever joins
/// first gets `grant`.
async fn fake(partitions: u32, grant: &[u32]) -> Fake {
    let fake = Fake::in_memory(3, partitions).await;
    for partition in 0..partitions {
        for value in 0..10 {
            fake.store(partition, &[&value.to_string()], Compression::None);
        }
        fake.with_group(|group| group.commit(partition, 0));
    }
    fake.with_group(|group| group.grants.push_back(grant.to_vec()));
    fake
}

async fn consumer(fake: &Fake, options: GroupOptions) -> GroupConsumer {
    let topics = GroupSubscription::topics(["t"]);
    fake.client().await.group_consumer("g", topics, options).await.unwrap()
}

async fn next(consumer: &mut GroupConsumer) -> GroupRecord {
    consumer.next().await.unwrap().unwrap()
}

/// The partition and offset of the next so many records.
async fn take(consumer: &mut GroupConsumer, count: usize) -> Vec<(u32, u64)> {
    let mut places = Vec::new();
    while places.len() < count {
        let record = next(consumer).await;
        places.push((record.partition.get(), record.offset.get()));
    }
    places
}

/// Whether nothing comes for a while.
async fn is_quiet(consumer: &mut GroupConsumer, time: Duration) -> bool {
    tokio::time::timeout(time, consumer.next()).await.is_err()
}

fn offsets(places: &[(u32, u64)], partition: u32) -> Vec<u64> {
    places.iter().filter(|(of, _)| *of == partition).map(|(_, offset)| *offset).collect()
}

fn events(consumer: &GroupConsumer) -> Vec<GroupEvent> {
    let events = consumer.events();
    std::iter::from_fn(|| events.try_next()).collect()
}

/// What the coordinator was told, heartbeats left out.
fn told(fake: &Fake) -> Vec<Seen> {
    fake.with_group(|group| {
        let told = group.seen.iter().filter(|seen| !matches!(seen, Seen::Heartbeat(_)));
        told.cloned().collect()
    })
}

#[tokio::test(start_paused = true)]
async fn records_come_in_order_from_partitions_in_turn_and_what_was_processed_is_committed() {
    let fake = fake(2, &[0, 1]).await;
    let mut consumer = consumer(&fake, GroupOptions::default()).await;
    assert_eq!(consumer.assignment().len(), 2);
    let first = next(&mut consumer).await;
    assert_eq!((&*first.topic, first.leader_epoch().get()), ("t", 1));
    assert_eq!(first.value.as_deref(), Some(&b"0"[..]));
    let places = take(&mut consumer, 11).await;
    assert!(offsets(&places, 0).is_sorted() && offsets(&places, 1).is_sorted());
    assert!(offsets(&places, 0).len() >= 5 && offsets(&places, 1).len() >= 5, "{places:?}");
    tokio::time::sleep(seconds(2)).await;
    // The last one is still out.
    let committed = fake.with_group(|group| {
        group.committed_offset(0).unwrap() + group.committed_offset(1).unwrap()
    });
    assert_eq!(committed, 11);
    let rest = take(&mut consumer, 8).await;
    assert_eq!(rest.len(), 8);
    assert!(is_quiet(&mut consumer, seconds(2)).await);
    let committed = |group: &mut crate::fake::groups::FakeGroup| {
        (group.committed_offset(0), group.committed_offset(1))
    };
    assert_eq!(fake.with_group(committed), (Some(10), Some(10)));
    fake.store(1, &["new"], Compression::None);
    assert_eq!(take(&mut consumer, 1).await, [(1, 10)]);
}

#[tokio::test(start_paused = true)]
async fn a_partition_that_stays_is_not_disturbed_by_one_that_goes() {
    let fake = fake(2, &[0, 1]).await;
    let mut consumer = consumer(&fake, GroupOptions::default()).await;
    let mut places = take(&mut consumer, 4).await;
    let streams = fake.lock().fetch_streams;
    let id = fake.member();
    let epoch = fake.assign(&id, &[], &[1]);
    tokio::time::sleep(MOMENT).await;
    // Asking for another one says that the last is processed.
    places.extend(take(&mut consumer, 1).await);
    fake.until(|group| group.seen.contains(&Seen::Acknowledge(epoch)).then_some(())).await;
    while offsets(&places, 0).len() < 10 {
        places.extend(take(&mut consumer, 1).await);
    }
    assert_eq!(offsets(&places, 0), (0..10).collect::<Vec<_>>(), "no gap and none twice");
    assert!(is_quiet(&mut consumer, seconds(1)).await);
    assert_eq!(fake.lock().fetch_streams, streams, "no fetch was restarted");
    // It comes back, and goes on where it was committed.
    let read = u64::try_from(offsets(&places, 1).len()).unwrap();
    fake.assign(&id, &[1], &[]);
    assert_eq!(take(&mut consumer, 1).await, [(1, read)]);
    assert_eq!(fake.lock().fetch_streams, streams + 1);
}

#[tokio::test(start_paused = true)]
async fn a_partition_is_processed_then_committed_then_given_back() {
    let fake = fake(1, &[0]).await;
    let mut consumer = consumer(&fake, GroupOptions::default().explicit()).await;
    let (first, second) = (next(&mut consumer).await, next(&mut consumer).await);
    let epoch = fake.assign(&fake.member(), &[], &[0]);
    tokio::time::sleep(MOMENT).await;
    assert!(is_quiet(&mut consumer, seconds(5)).await, "nothing more is handed out");
    assert!(!told(&fake).contains(&Seen::Acknowledge(epoch)), "it is processed still");
    first.done();
    tokio::time::sleep(seconds(2)).await;
    assert!(!told(&fake).contains(&Seen::Acknowledge(epoch)));
    assert!(second.is_current());
    second.done();
    fake.until(|group| group.members.values().all(|m| m.revoked.is_empty()).then_some(())).await;
    let told = told(&fake);
    let [.., commit, acknowledge] = &told[..] else { panic!("{told:?}") };
    assert_eq!(*commit, Seen::Commit(epoch, vec![(0, 2)]));
    assert_eq!(*acknowledge, Seen::Acknowledge(epoch));
    tokio::time::sleep(MOMENT).await;
    let events = events(&consumer);
    let names = events.iter().map(|event| match event {
        GroupEvent::Joined { .. } => "joined",
        GroupEvent::Granted(_) => "granted",
        GroupEvent::Revoked(_) => "revoked",
        GroupEvent::Released(_) => "released",
        _ => "another",
    });
    assert_eq!(names.collect::<Vec<_>>(), ["joined", "granted", "revoked", "released"]);
}

#[tokio::test(start_paused = true)]
async fn a_commit_that_is_under_way_holds_up_what_is_given_back() {
    let fake = fake(1, &[0]).await;
    let mut consumer = consumer(&fake, GroupOptions::default()).await;
    next(&mut consumer).await.done();
    fake.with_group(|group| group.commit_faults.push_back(CommitFault::Break));
    let epoch = fake.assign(&fake.member(), &[], &[0]);
    fake.until(|group| group.seen.contains(&Seen::Acknowledge(epoch)).then_some(())).await;
    let told = told(&fake);
    let [.., lost, again, commit, acknowledge] = &told[..] else { panic!("{told:?}") };
    assert_eq!(*lost, Seen::Commit(epoch, vec![(0, 1)]));
    assert_eq!(*again, Seen::GoOn(epoch));
    assert_eq!(*commit, Seen::Commit(epoch, vec![(0, 1)]));
    assert_eq!(*acknowledge, Seen::Acknowledge(epoch));
}

#[tokio::test(start_paused = true)]
async fn nothing_is_handed_out_once_the_session_may_have_ended() {
    let fake = fake(1, &[0]).await;
    let mut consumer = consumer(&fake, GroupOptions::default()).await;
    assert_eq!(take(&mut consumer, 2).await, [(0, 0), (0, 1)]);
    fake.with_group(|group| group.silent = true);
    tokio::time::sleep(seconds(5)).await;
    assert_eq!(take(&mut consumer, 1).await, [(0, 2)], "the session goes on for a while");
    tokio::time::sleep(seconds(6)).await;
    assert!(!consumer.is_sure());
    assert!(is_quiet(&mut consumer, seconds(30)).await);
    fake.with_group(|group| group.silent = false);
    assert_eq!(take(&mut consumer, 1).await, [(0, 3)]);
    assert_eq!(fake.with_group(|group| group.ids.len()), 1, "it was a member all the time");
}

#[tokio::test(start_paused = true)]
async fn a_process_that_was_paused_hands_out_nothing_before_a_confirmed_heartbeat() {
    let fake = fake(1, &[0]).await;
    let mut consumer = consumer(&fake, GroupOptions::default()).await;
    take(&mut consumer, 2).await;
    fake.with_group(|group| group.silent = true);
    // Nothing runs meanwhile: what is buffered is there, and so is every answer from before.
    tokio::time::advance(seconds(11)).await;
    assert!(consumer.next().now_or_never().is_none());
    fake.with_group(|group| group.silent = false);
    assert_eq!(take(&mut consumer, 1).await, [(0, 2)]);
}

#[tokio::test(start_paused = true)]
async fn a_coordinator_that_is_not_sure_itself_shortens_the_lease() {
    let fake = fake(1, &[0]).await;
    fake.with_group(|group| group.unsure_ms = 9_000);
    let mut consumer = consumer(&fake, GroupOptions::default()).await;
    // The join itself is sure for ten seconds; heartbeats, every three, for one each.
    tokio::time::sleep(Duration::from_millis(12_100)).await;
    let sure = consumer.is_sure();
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert!(sure != consumer.is_sure(), "for a second of every three");
    assert_eq!(take(&mut consumer, 1).await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_broken_stream_is_opened_again_with_the_epoch_and_disturbs_nothing() {
    let fake = fake(1, &[0]).await;
    let mut consumer = consumer(&fake, GroupOptions::default()).await;
    assert_eq!(take(&mut consumer, 3).await.len(), 3);
    let streams = fake.lock().fetch_streams;
    fake.with_group(|group| group.commit_faults.push_back(CommitFault::DoneAndBreak));
    fake.until(|group| group.seen.contains(&Seen::GoOn(1)).then_some(())).await;
    assert_eq!(take(&mut consumer, 7).await, (3..10).map(|at| (0, at)).collect::<Vec<_>>());
    assert!(is_quiet(&mut consumer, seconds(2)).await);
    assert_eq!(fake.with_group(|group| group.committed_offset(0)), Some(10));
    assert_eq!(fake.with_group(|group| group.ids.len()), 1);
    assert_eq!(fake.lock().fetch_streams, streams);
    assert!(!events(&consumer).iter().any(|event| matches!(event, GroupEvent::Lost(_))));
}

#[tokio::test(start_paused = true)]
async fn a_member_that_is_none_any_more_drops_everything_and_joins_under_another_id() {
    let fake = fake(1, &[0]).await;
    fake.with_group(|group| group.grants.push_back(vec![0]));
    let mut consumer = consumer(&fake, GroupOptions::default().explicit()).await;
    let old: Vec<GroupRecord> = vec![next(&mut consumer).await, next(&mut consumer).await];
    let id = consumer.member_id();
    fake.expire(&id);
    fake.until(|group| (group.ids.len() == 2).then_some(())).await;
    tokio::time::sleep(MOMENT).await;
    assert_ne!(consumer.member_id(), id);
    assert!(old.iter().all(|record| !record.is_current()));
    old.iter().for_each(GroupRecord::done);
    tokio::time::sleep(seconds(3)).await;
    assert_eq!(fake.with_group(|group| group.commits()), [], "nothing of the old life");
    let again = next(&mut consumer).await;
    assert_eq!(again.offset, Offset::ZERO);
    again.done();
    fake.until(|group| (group.committed_offset(0) == Some(1)).then_some(())).await;
    let events = events(&consumer);
    assert!(events.iter().any(|event| matches!(event, GroupEvent::Lost(lost) if lost.len() == 1)));
    assert!(!events.iter().any(|event| matches!(event, GroupEvent::GivenUp { .. })));
}

#[tokio::test(start_paused = true)]
async fn a_session_that_ended_while_nobody_listened_is_heard_of_at_the_next_stream() {
    let fake = fake(1, &[0]).await;
    fake.with_group(|group| group.grants.push_back(vec![0]));
    let mut consumer = consumer(&fake, GroupOptions::default()).await;
    take(&mut consumer, 3).await;
    fake.with_group(|group| group.members.clear());
    fake.until(|group| (group.ids.len() == 2).then_some(())).await;
    let committed = fake.with_group(|group| group.committed_offset(0)).unwrap();
    assert_eq!(take(&mut consumer, 1).await, [(0, committed)]);
}

#[tokio::test(start_paused = true)]
async fn records_done_out_of_order_are_committed_up_to_the_first_that_is_not() {
    let fake = fake(1, &[0]).await;
    let mut consumer = consumer(&fake, GroupOptions::default().explicit()).await;
    let mut records = Vec::new();
    for _ in 0..5 {
        records.push(next(&mut consumer).await);
    }
    records[2].done();
    records[4].done();
    tokio::time::sleep(seconds(3)).await;
    assert_eq!(fake.with_group(|group| group.commits()), []);
    records[0].done();
    tokio::time::sleep(seconds(2)).await;
    records[1].done();
    tokio::time::sleep(seconds(2)).await;
    assert_eq!(fake.with_group(|group| group.commits()), [(1, vec![(0, 1)]), (1, vec![(0, 3)])]);
    // What is dropped unprocessed is read again by somebody else: nothing behind it is committed.
    let (_, ticket) = records.remove(3).into_parts();
    drop(ticket);
    next(&mut consumer).await.done();
    tokio::time::sleep(seconds(2)).await;
    assert_eq!(fake.with_group(|group| group.committed_offset(0)), Some(3));
    let given_up = |event: &GroupEvent| matches!(event, GroupEvent::GivenUp { offset, .. } if offset.get() == 3);
    assert!(events(&consumer).iter().any(given_up));
    // Giving up holds nothing up.
    let epoch = fake.assign(&fake.member(), &[], &[0]);
    fake.until(|group| group.seen.contains(&Seen::Acknowledge(epoch)).then_some(())).await;
}

#[tokio::test(start_paused = true)]
async fn no_more_is_handed_out_than_may_be_unprocessed() {
    let fake = fake(2, &[0, 1]).await;
    let options = GroupOptions { unprocessed_max: 3, ..GroupOptions::default().explicit() };
    let mut consumer = consumer(&fake, options).await;
    let mut out = Vec::new();
    for _ in 0..3 {
        out.push(next(&mut consumer).await);
    }
    assert!(is_quiet(&mut consumer, seconds(1)).await);
    out[0].done();
    out.push(next(&mut consumer).await);
    assert!(consumer.next().now_or_never().is_none());
}

#[tokio::test(start_paused = true)]
async fn heartbeats_go_on_while_a_record_is_processed() {
    let fake = fake(1, &[0]).await;
    let mut consumer = consumer(&fake, GroupOptions::default()).await;
    next(&mut consumer).await;
    tokio::time::sleep(seconds(60)).await;
    let beats = fake.with_group(|group| {
        group.seen.iter().filter(|seen| matches!(seen, Seen::Heartbeat(_))).count()
    });
    assert!((18..=22).contains(&beats), "{beats} in a minute");
    assert!(consumer.is_sure());
    assert_eq!(next(&mut consumer).await.offset, Offset::new(1));
}

#[tokio::test(start_paused = true)]
async fn who_takes_too_long_leaves_and_joins_anew_with_the_next_call() {
    let fake = fake(1, &[0]).await;
    fake.with_group(|group| group.grants.push_back(vec![0]));
    let options = GroupOptions { max_processing: seconds(20), ..GroupOptions::default() };
    let mut consumer = consumer(&fake, options).await;
    take(&mut consumer, 3).await;
    let id = consumer.member_id();
    tokio::time::sleep(seconds(19)).await;
    assert!(!told(&fake).contains(&Seen::Leave(false)));
    tokio::time::sleep(seconds(60)).await;
    assert!(told(&fake).contains(&Seen::Leave(false)));
    assert_eq!(fake.with_group(|group| (group.ids.len(), group.committed_offset(0))), (1, Some(2)));
    let error = consumer.next().await.unwrap().unwrap_err();
    let ClientError::ProcessingTimeout { offset, .. } = &error else { panic!("{error:?}") };
    assert_eq!((offset.get(), error.kind()), (2, ErrorKind::Retry));
    assert_eq!(take(&mut consumer, 2).await, [(0, 2), (0, 3)]);
    assert_ne!(consumer.member_id(), id);
}

#[tokio::test(start_paused = true)]
async fn close_commits_and_leaves_at_once() {
    let fake = fake(1, &[0]).await;
    let mut consumer = consumer(&fake, GroupOptions::default()).await;
    take(&mut consumer, 3).await;
    let listening = consumer.events();
    let started = Instant::now();
    consumer.close().await.unwrap();
    assert!(started.elapsed() < MOMENT);
    let told = told(&fake);
    assert_eq!(told[told.len() - 2..], [Seen::Commit(1, vec![(0, 2)]), Seen::Leave(false)]);
    assert!(fake.with_group(|group| group.members.is_empty()));
    while let Some(event) = listening.next().await {
        assert!(!matches!(event, GroupEvent::Lost(_)));
    }
    tokio::time::sleep(seconds(60)).await;
    assert_eq!(fake.lock().group("g").ids.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn close_does_not_wait_for_a_coordinator_that_is_gone() {
    let fake = fake(1, &[0]).await;
    let mut consumer = consumer(&fake, GroupOptions::default()).await;
    take(&mut consumer, 3).await;
    fake.with_group(|group| group.commit_faults.extend([CommitFault::Forget; 3]));
    let started = Instant::now();
    let error = consumer.close().await.unwrap_err();
    assert!(matches!(error, ClientError::Timeout { .. }), "{error:?}");
    assert_eq!(started.elapsed().as_secs(), 5);
}

#[tokio::test(start_paused = true)]
async fn a_static_member_says_that_it_will_be_back() {
    let fake = fake(1, &[0]).await;
    let consumer = consumer(&fake, GroupOptions::default().instance_id("i")).await;
    consumer.close_for_restart().await.unwrap();
    assert_eq!(told(&fake).last(), Some(&Seen::Leave(true)));
}

#[tokio::test(start_paused = true)]
async fn two_lives_of_one_instance_do_not_rob_each_other_at_once() {
    let fake = fake(1, &[0]).await;
    let consumer = consumer(&fake, GroupOptions::default().instance_id("i")).await;
    tokio::time::sleep(seconds(4)).await;
    fake.expire(&consumer.member_id());
    tokio::time::sleep(seconds(9)).await;
    assert_eq!(fake.with_group(|group| group.ids.len()), 1);
    tokio::time::sleep(seconds(2)).await;
    assert_eq!(fake.with_group(|group| group.ids.len()), 2);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_consumer_says_nothing_more() {
    let fake = fake(1, &[0]).await;
    let mut consumer = consumer(&fake, GroupOptions::default().explicit()).await;
    let record = next(&mut consumer).await;
    drop(consumer);
    record.done();
    assert!(!record.is_current());
    tokio::time::sleep(MOMENT).await;
    let seen = fake.with_group(|group| group.seen.len());
    tokio::time::sleep(seconds(30)).await;
    assert_eq!(fake.with_group(|group| group.seen.len()), seen);
    assert!(!told(&fake).contains(&Seen::Leave(false)));
}

#[derive(Clone, Default)]
struct Listener(Arc<std::sync::Mutex<Vec<String>>>);

impl Listener {
    fn note(&self, what: &str, partitions: &[NamedPartition]) {
        let names = partitions.iter().map(|one| format!("{what} {one}"));
        self.0.lock().unwrap().extend(names);
    }
}

impl RebalanceListener for Listener {
    fn granted(&mut self, partitions: &[NamedPartition]) {
        self.note("granted", partitions);
    }

    fn revoked(&mut self, partitions: &[NamedPartition]) {
        self.note("revoked", partitions);
    }

    fn lost(&mut self, partitions: &[NamedPartition]) {
        self.note("lost", partitions);
    }

    fn reset(&mut self, partition: &NamedPartition) {
        self.note("reset", std::slice::from_ref(partition));
    }
}

#[tokio::test(start_paused = true)]
async fn a_listener_hears_of_everything_in_order() {
    let fake = fake(2, &[0, 1]).await;
    let mut consumer = consumer(&fake, GroupOptions::default()).await;
    let listener = Listener::default();
    consumer.listen(listener.clone());
    let id = fake.member();
    fake.assign(&id, &[], &[1]);
    tokio::time::sleep(MOMENT).await;
    fake.reset(0, 5);
    tokio::time::sleep(MOMENT).await;
    fake.expire(&id);
    tokio::time::sleep(MOMENT).await;
    consumer.close().await.unwrap();
    let heard = listener.0.lock().unwrap().clone();
    assert_eq!(heard, ["granted t-0", "granted t-1", "revoked t-1", "reset t-0", "lost t-0"]);
}
