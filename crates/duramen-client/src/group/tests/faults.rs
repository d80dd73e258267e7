//! Coordinators that move, answers that are lost, and everything at once.

use std::collections::BTreeMap;

use duramen_env::SeededRandom;

use super::*;
use crate::fake::draw;

#[tokio::test(start_paused = true)]
async fn the_member_follows_its_coordinator_and_goes_on() {
    let fake = fake(1, &[0]).await;
    let mut consumer = consumer(&fake, GroupOptions::default()).await;
    take(&mut consumer, 2).await;
    let streams = fake.lock().fetch_streams;
    for node in [2, 3, 1] {
        let before = told(&fake).len();
        fake.move_coordinator(node);
        fake.until(|group| group.seen[before..].contains(&Seen::GoOn(1)).then_some(())).await;
    }
    assert_eq!(take(&mut consumer, 2).await, [(0, 2), (0, 3)]);
    assert!(is_quiet(&mut consumer, seconds(1)).await || consumer.is_sure());
    assert_eq!(fake.with_group(|group| group.ids.len()), 1);
    assert_eq!(fake.lock().fetch_streams, streams);
    assert_eq!(fake.lock().coordinator_questions, 1, "each told of the next");
}

#[tokio::test(start_paused = true)]
async fn a_coordinator_that_falls_silent_is_looked_for_anew() {
    let fake = fake(1, &[0]).await;
    let mut consumer = consumer(&fake, GroupOptions::default()).await;
    take(&mut consumer, 1).await;
    fake.with_group(|group| group.silent = true);
    fake.until(|group| group.seen.contains(&Seen::GoOn(1)).then_some(())).await;
    assert!(fake.lock().coordinator_questions >= 2);
    fake.with_group(|group| group.silent = false);
    tokio::time::sleep(seconds(20)).await;
    assert!(consumer.is_sure());
}

#[tokio::test(start_paused = true)]
async fn a_coordinator_is_told_to_be_missing_when_it_is_for_longer_than_an_election() {
    for (refused, is_told) in [(3, false), (30, true)] {
        let fake = fake(1, &[0]).await;
        fake.with_group(|group| group.joins_refused = refused);
        let consumer = consumer(&fake, GroupOptions::default()).await;
        let events = events(&consumer);
        let told = events.iter().any(|event| matches!(event, GroupEvent::Disconnected(_)));
        assert_eq!(told, is_told, "{refused} refused: {events:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_commit_whose_answer_was_lost_is_sent_again_for_who_waits() {
    let fake = fake(1, &[0]).await;
    let mut consumer = consumer(&fake, GroupOptions::default().manual_commits()).await;
    take(&mut consumer, 3).await;
    let faults = [
        CommitFault::DoneAndBreak,
        CommitFault::Refuse(ErrorCode::Unavailable),
        CommitFault::Refuse(ErrorCode::NotLeader),
    ];
    fake.with_group(|group| group.commit_faults.extend(faults));
    let outcomes = consumer.commit().await.unwrap();
    assert!(outcomes.len() == 1 && outcomes[0].result.is_ok(), "{outcomes:?}");
    assert_eq!(fake.with_group(|group| group.commits().len()), 4);
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_a_commit_hears_that_it_is_no_member_any_more() {
    let fake = fake(1, &[0]).await;
    let mut consumer = consumer(&fake, GroupOptions::default().manual_commits()).await;
    take(&mut consumer, 3).await;
    fake.with_group(|group| {
        group.commit_faults.push_back(CommitFault::Refuse(ErrorCode::UnknownMember));
    });
    let error = consumer.commit().await.unwrap_err();
    assert!(matches!(error, ClientError::GroupFenced { .. }), "{error:?}");
    fake.until(|group| (group.ids.len() == 2).then_some(())).await;
}

#[tokio::test(start_paused = true)]
async fn another_subscription_is_told_at_once_and_again_if_it_met_an_assignment() {
    let fake = fake(1, &[0]).await;
    let consumer = consumer(&fake, GroupOptions::default()).await;
    consumer.subscribe(GroupSubscription::topics(["u"])).unwrap();
    let told_of = |name: &str, epoch: u64| Seen::Subscribe(epoch, vec![name.to_owned()]);
    fake.until(|group| group.seen.contains(&told_of("u", 1)).then_some(())).await;
    // The member's epoch is another one by the time that it arrives.
    fake.with_group(|group| {
        group.fence += 1;
        group.members.values_mut().next().unwrap().epoch = group.fence;
    });
    consumer.subscribe(GroupSubscription::topics(["v"])).unwrap();
    fake.until(|group| group.seen.contains(&told_of("v", 2)).then_some(())).await;
    assert_eq!(fake.with_group(|group| group.ids.len()), 1, "it is a member still");
    let error = consumer.subscribe(GroupSubscription::default()).unwrap_err();
    assert!(matches!(error, ClientError::InvalidOption { .. }), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn a_join_that_cannot_work_is_an_error_at_once() {
    let fake = fake(1, &[0]).await;
    let client = fake.client().await;
    let topics = || GroupSubscription::topics(["t"]);
    let short = GroupOptions { session: MOMENT, ..GroupOptions::default() };
    let error = client.group_consumer("g", topics(), short).await.unwrap_err();
    assert!(matches!(error, ClientError::InvalidOption { option: "session", .. }), "{error:?}");
    fake.lock().admin_faults.push_back(crate::fake::Fault::Refuse(ErrorCode::Denied));
    let started = Instant::now();
    let error = client.group_consumer("g", topics(), GroupOptions::default()).await.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::Denied));
    assert!(started.elapsed() < MOMENT);
}

/// The promises, under faults drawn from a seed: of every partition records come in order, those
/// of one life of it each once, and what is committed was processed.
async fn random_faults(seed: u64) {
    let random = SeededRandom::new(seed);
    let fake = fake(3, &[0, 1, 2]).await;
    fake.with_group(|group| group.grants.extend((0..50).map(|_| vec![0, 1, 2])));
    let mut consumer = consumer(&fake, GroupOptions::default().explicit()).await;
    let mut out: Vec<GroupRecord> = Vec::new();
    let mut processed: BTreeMap<u32, BTreeSet<u64>> = BTreeMap::new();
    let deadline = Instant::now() + seconds(3_600);
    loop {
        assert!(Instant::now() < deadline, "seed {seed}: it makes no progress");
        let record = tokio::time::timeout(Duration::from_millis(300), consumer.next()).await;
        if let Ok(record) = record {
            out.push(record.unwrap().unwrap());
        }
        while !out.is_empty() && (out.len() > 4 || draw(&random, 3) > 0) {
            let at = draw(&random, u32::try_from(out.len()).unwrap()) as usize;
            let record = out.swap_remove(at);
            processed.entry(record.partition.get()).or_default().insert(record.offset.get());
            record.done();
        }
        let committed: Vec<u64> = fake.with_group(|group| {
            (0..3).map(|partition| group.committed_offset(partition).unwrap()).collect()
        });
        for (partition, committed) in (0..3).zip(&committed) {
            let done = processed.get(&partition);
            let all = (0..*committed).all(|at| done.is_some_and(|done| done.contains(&at)));
            assert!(all, "seed {seed}: {partition} is committed at {committed}");
        }
        if committed == [10, 10, 10] {
            return;
        }
        let id = fake.member();
        let is_member = fake.with_group(|group| group.members.contains_key(&id));
        let fault = if draw(&random, 3) == 0 { draw(&random, 8) } else { 8 };
        let partition = draw(&random, 3);
        match fault {
            0 => fake.with_group(|group| group.commit_faults.push_back(CommitFault::Break)),
            1 => fake.with_group(|group| group.commit_faults.push_back(CommitFault::DoneAndBreak)),
            2 => fake.move_coordinator((1 + draw(&random, 3)).into()),
            3 if is_member && draw(&random, 3) == 0 => fake.expire(&id),
            4 if is_member => {
                let has = |group: &mut crate::fake::groups::FakeGroup| {
                    group.members[&id].granted.contains_key(&partition)
                };
                if fake.with_group(has) {
                    fake.assign(&id, &[], &[partition]);
                }
            }
            5 => fake.with_group(|group| {
                group.commit_faults.push_back(CommitFault::Refuse(ErrorCode::Unavailable));
            }),
            6 => fake.with_group(|group| group.silent ^= true),
            _ => {}
        }
        if fault != 6 && draw(&random, 4) == 0 {
            fake.with_group(|group| group.silent = false);
        }
        // What was given back comes again.
        if is_member && draw(&random, 3) == 0 {
            let free: Vec<u32> = fake.with_group(|group| {
                let Some(member) = group.members.get(&id) else { return Vec::new() };
                let held =
                    |at: &u32| member.granted.contains_key(at) || member.revoked.contains_key(at);
                (0..3).filter(|at| !held(at)).collect()
            });
            if !free.is_empty() {
                fake.assign(&id, &free, &[]);
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn no_fault_commits_what_was_not_processed_or_stops_it_for_good() {
    for seed in 0..40 {
        random_faults(seed).await;
    }
}
